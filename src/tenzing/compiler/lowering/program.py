"""A graph as kernel calls on the active core."""

from __future__ import annotations

from collections.abc import Callable

from tenzing.compiler.graph import Graph, Value
from tenzing.compiler.lowering.registry import RULES, unsupported
from tenzing.errors import TenzingError
from tenzing.nki import NkiTensor

Tensors = dict[Value, NkiTensor]
Progress = Callable[[int, int], None]


def lower_graph(graph: Graph, bound: Tensors, progress: Progress | None = None) -> list[NkiTensor]:
    """Issue the kernels of every node on the active core; HBM tensors of the outputs.

    ``bound`` holds an HBM tensor for each input and parameter.
    """
    tensors = dict(bound)
    for number, node in enumerate(graph.nodes):
        rule = RULES.get(node.op.name)
        if rule is None:
            raise unsupported(node)
        try:
            results = rule(node, [tensors[v] for v in node.inputs])
        except TenzingError as error:
            raise error.at(node.loc) from None
        for value, result in zip(node.outputs, results, strict=True):
            tensors[value] = result.reshape(value.shape or (1,))
        if progress is not None:
            progress(number + 1, len(graph.nodes))
    return [tensors[v] for v in graph.outputs]
