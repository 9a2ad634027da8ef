"""Values of a sharded graph: all ranks step by step, collectives between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import Array, Graph, Node, Value
from tenzing.compiler.ops import CollectiveOp
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.passes.sharding import Sharded
from tenzing.compiler.reference import prepare, run_prepared


class Ranks:
    """All ranks of a sharded graph; what lies between collectives is optimised once.

    ``graph`` evaluates the meaning of every operation; ``instruction`` runs each piece as a program
    on simulated cores, one core per rank.
    """

    def __init__(
        self, sharded: Sharded, *, numerics: str = "graph", target: str = "trn2",
        autocast: str = "none", autocast_dtype: str = "bf16",
    ) -> None:  # fmt: skip
        self.sharded = sharded
        self.target = target if numerics == "instruction" else ""
        pipeline = default_pipeline(autocast, autocast_dtype)
        self.pieces = [
            (piece, pipeline.run(piece), collective) for piece, collective in _pieces(sharded.graph)
        ]

    def run(self, whole: Mapping[str, Array]) -> list[list[Array]]:
        """Outputs of every rank for whole inputs and weights by name."""
        graph = self.sharded.graph
        known: list[dict[Value, Array]] = []
        for rank in range(self.sharded.ranks):
            arrays = self.sharded.arrays(whole, rank)
            known.append({v: arrays[v.name] for v in (*graph.inputs, *graph.parameters)})
        for piece, ready, collective in self.pieces:
            for values in known:
                found = self._evaluate(ready, [values[v] for v in piece.inputs])
                values.update(zip(piece.outputs, found, strict=True))
            if collective is not None:
                self._exchange(collective, known)
        return [[values[v] for v in graph.outputs] for values in known]

    def joined(self, whole: Mapping[str, Array]) -> list[Array]:
        """Whole outputs for whole inputs and weights by name."""
        return self.sharded.joined(self.run(whole))

    def _exchange(self, node: Node, known: Sequence[dict[Value, Array]]) -> None:
        """What a collective makes of one value of every rank, group by group."""
        assert isinstance(node.op, CollectiveOp)
        for group in self.sharded.mesh.groups(node.op.axes):
            given = [known[rank][v] for rank in group for v in node.inputs]
            for rank, array in zip(group, node.op.over_ranks(given), strict=True):
                known[rank][node.outputs[0]] = array

    def _evaluate(self, graph: Graph, arrays: Sequence[Array]) -> Sequence[Array]:
        weights = prepare(graph, {})
        if self.target:
            return run_graph(graph, arrays, weights, self.target)[0]
        return run_prepared(graph, arrays, weights)


def run_ranks(sharded: Sharded, whole: Mapping[str, Array], **options: str) -> list[list[Array]]:
    """Outputs of every rank, once; the options are those of ``Ranks``."""
    return Ranks(sharded, **options).run(whole)


def _pieces(graph: Graph) -> list[tuple[Graph, Node | None]]:
    """What lies between collectives, each as a graph of its own, with the collective behind it."""
    places = [k for k, n in enumerate(graph.nodes) if isinstance(n.op, CollectiveOp)]
    pieces: list[tuple[Graph, Node | None]] = []
    start = 0
    for place in (*places, len(graph.nodes)):
        collective = graph.nodes[place] if place < len(graph.nodes) else None
        pieces.append((_piece(graph, start, place), collective))
        start = place + 1
    return pieces


def _piece(graph: Graph, start: int, end: int) -> Graph:
    nodes = graph.nodes[start:end]
    made = {v for node in nodes for v in node.outputs}
    read = dict.fromkeys(v for node in nodes for v in node.inputs if v not in made)
    later = {v for node in graph.nodes[end:] for v in node.inputs}.union(graph.outputs)
    wanted = tuple(v for node in nodes for v in node.outputs if v in later)
    return replace(graph, inputs=tuple(read), parameters=(), nodes=nodes, outputs=wanted,
                   aliases=(), preparation=None)  # fmt: skip


__all__ = ["Ranks", "run_ranks"]
