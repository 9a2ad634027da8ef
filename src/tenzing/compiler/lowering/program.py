"""A graph as kernel calls on the active core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tenzing.compiler.graph import Array, Graph, Node, Value
from tenzing.compiler.lowering.registry import CONTROL, IN_PLACE, RULES, Known, unsupported
from tenzing.compiler.lowering.reuse import lowered
from tenzing.errors import TenzingError
from tenzing.nki import NkiTensor

Tensors = dict[Value, NkiTensor]
Arrays = dict[Value, Array]
Progress = Callable[[int, int], None]
FOLLOWED_ELEMENTS: Final = 64  # counters and conditions are small; tensors are not folded here


def lower_graph(graph: Graph, bound: Tensors, progress: Progress | None = None) -> list[NkiTensor]:
    """Issue the kernels of every node on the active core; HBM tensors of the outputs.

    ``bound`` holds an HBM tensor for each input and parameter.
    """
    follow = any(node.op.name in CONTROL for node in graph.nodes)
    return lower_region(graph, bound, {} if follow else None, progress)[0]


def lower_region(
    graph: Graph, bound: Tensors, known: Arrays | None, progress: Progress | None = None
) -> tuple[list[NkiTensor], Known]:
    """As :func:`lower_graph`, and what is ``known`` of the outputs from constants alone.

    With ``known`` of None nothing is followed: only graphs with branches and loops need it.
    """
    tensors = dict(bound)
    memory = _Memory(graph, bound)
    for number, node in enumerate(graph.nodes):
        inputs = [tensors[v] for v in node.inputs]
        try:
            if node.op.name in CONTROL:
                given = [(known or {}).get(v) for v in node.inputs]
                results, found = CONTROL[node.op.name](node, inputs, given)
            else:
                results = _lowered(node, inputs, memory, number)
                found = _folded(node, known)
        except TenzingError as error:
            raise error.at(node.loc) from None
        for value, result in zip(node.outputs, results, strict=True):
            tensors[value] = result.reshape(value.shape or (1,))
            memory.holds(value, tensors[value])
        if known is not None:
            pairs = zip(node.outputs, found, strict=False)
            known.update((value, array) for value, array in pairs if array is not None)
        if progress is not None:
            progress(number + 1, len(graph.nodes))
    return [tensors[v] for v in graph.outputs], [(known or {}).get(v) for v in graph.outputs]


def _folded(node: Node, known: Arrays | None) -> Known:
    """Small results that constants alone decide, such as the counter of a loop."""
    if known is None or any(v not in known for v in node.inputs):
        return ()
    if any(v.type.elements > FOLLOWED_ELEMENTS for v in node.outputs):
        return ()
    return node.op.reference(*(known[v] for v in node.inputs))


def _lowered(node: Node, inputs: list[NkiTensor], memory: _Memory, number: int) -> list[NkiTensor]:
    name = node.op.name
    if name in IN_PLACE and memory.ends_at(inputs[0], number):
        return lowered(IN_PLACE[name], node, inputs)
    rule = RULES.get(name)
    if rule is None:
        raise unsupported(node)
    return lowered(rule, node, inputs)


class _Memory:
    """Until which node the bytes of each HBM tensor are read, whatever values share them."""

    def __init__(self, graph: Graph, bound: Tensors) -> None:
        self.last = {v: number for number, n in enumerate(graph.nodes) for v in n.inputs}
        self.last.update((value, len(graph.nodes)) for value in graph.outputs)
        self.until: dict[int, int] = {}
        replaced = {alias.target for alias in graph.aliases}
        for value, tensor in bound.items():
            self.holds(value, tensor)
            if value.name not in replaced:  # a weight or an input outlives the program
                self.until[id(tensor.storage)] = len(graph.nodes)

    def holds(self, value: Value, tensor: NkiTensor) -> None:
        """``value`` lies in the memory of ``tensor``."""
        key = id(tensor.storage)
        self.until[key] = max(self.until.get(key, -1), self.last.get(value, -1))

    def ends_at(self, tensor: NkiTensor, number: int) -> bool:
        """Whether node ``number`` is the last to read the memory, so that it may write there."""
        return self.until[id(tensor.storage)] <= number
