"""Moves work that depends on weights alone to the time when the weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, Node, Value
from tenzing.compiler.ops import BroadcastInDim, Constant, Iota
from tenzing.compiler.passes.pipeline import Pass

FREE = (Constant, Iota, BroadcastInDim)  # cheaper to make again than to load from memory


@dataclass(frozen=True)
class HoistPreparation(Pass):
    """Split off every node whose inputs are only parameters and constants.

    The results become parameters; ``Graph.preparation`` says how to compute them once.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        early, late = self._split(graph)
        if not early:
            return graph
        made_early = {value for node in early for value in node.outputs}
        fixed = {value for node in late for value in node.inputs} | set(graph.outputs)
        prepared = [v for v in dict.fromkeys(_outputs(early)) if v in fixed]
        late, copied = _copy_free(early, late, prepared)
        prepared = [v for v in prepared if v not in copied]
        if not prepared:
            return graph
        raw = tuple(p for p in graph.parameters if p in fixed or p not in made_early)
        preparation = self._preparation(graph, early, prepared)
        return replace(
            graph,
            parameters=(*raw, *prepared),
            nodes=tuple(late),
            preparation=preparation,
        )

    def _split(self, graph: Graph) -> tuple[list[Node], list[Node]]:
        """Nodes that weights alone determine, then all others."""
        written = {alias.target for alias in graph.aliases}  # state differs at every call
        fixed = {p for p in graph.parameters if p.name not in written}
        early: list[Node] = []
        late: list[Node] = []
        for node in graph.nodes:
            if fixed.issuperset(node.inputs):
                early.append(node)
                fixed.update(node.outputs)
            else:
                late.append(node)
        return early, late

    def _preparation(self, graph: Graph, early: list[Node], prepared: list[Value]) -> Graph:
        nodes = _needed(early, prepared)
        read = {value for node in nodes for value in node.inputs}
        name = f"{graph.name}_preparation"
        return Graph(
            name,
            (),
            tuple(p for p in graph.parameters if p in read),
            tuple(nodes),
            tuple(prepared),
            preparation=graph.preparation,
        )


def _outputs(nodes: list[Node]) -> list[Value]:
    return [value for node in nodes for value in node.outputs]


def _needed(nodes: list[Node], wanted: list[Value]) -> list[Node]:
    needed = set(wanted)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _copy_free(
    early: list[Node], late: list[Node], prepared: list[Value]
) -> tuple[list[Node], set[Value]]:
    """Put free nodes that late nodes read back in front of them; what they read is prepared."""
    made_by = {value: node for node in early for value in node.outputs}
    wanted = list(prepared)
    copied: dict[Value, Node] = {}
    for value in wanted:
        node = made_by.get(value)
        if node is None or not isinstance(node.op, FREE) or value in copied:
            continue
        copied[value] = node
        for source in node.inputs:
            if source in made_by and source not in wanted:
                wanted.append(source)
                prepared.append(source)
    front = [node for node in early if node.outputs[0] in copied]
    return [*front, *late], set(copied)
