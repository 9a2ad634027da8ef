"""Values of a sharded graph: all ranks step by step, collectives between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import Array, Graph, Node, Value
from tenzing.compiler.ops import CollectiveOp
from tenzing.compiler.passes import Pipeline, default_pipeline
from tenzing.compiler.passes.sharding import Sharded
from tenzing.compiler.reference import prepare, run_prepared


def run_ranks(
    sharded: Sharded, whole: Mapping[str, Array], *, numerics: str = "graph", target: str = "trn2",
    autocast: str = "none", autocast_dtype: str = "bf16",
) -> list[list[Array]]:  # fmt: skip
    """Outputs of every rank for whole inputs and weights by name.

    ``graph`` evaluates the meaning of every operation; ``instruction`` runs what lies between two
    collectives as programs on simulated cores, one core per rank.
    """
    graph = sharded.graph
    pipeline = default_pipeline(autocast, autocast_dtype)
    run = _Runner(pipeline, target if numerics == "instruction" else "").run
    known: list[dict[Value, Array]] = []
    for rank in range(sharded.ranks):
        arrays = sharded.arrays(whole, rank)
        known.append({v: arrays[v.name] for v in (*graph.inputs, *graph.parameters)})
    for piece, collective in _pieces(graph):
        if piece.nodes:
            for values in known:
                found = run(piece, [values[v] for v in piece.inputs])
                values.update(zip(piece.outputs, found, strict=True))
        if collective is not None:
            assert isinstance(collective.op, CollectiveOp)
            source, target_value = collective.inputs[0], collective.outputs[0]
            results = collective.op.over_ranks([values[source] for values in known])
            for values, array in zip(known, results, strict=True):
                values[target_value] = array
    return [[values[v] for v in graph.outputs] for values in known]


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


class _Runner:
    """Runs pieces after the passes, each optimised once: all ranks share them."""

    def __init__(self, pipeline: Pipeline, target: str) -> None:
        self.pipeline, self.target = pipeline, target
        self.ready: dict[int, tuple[Graph, Graph]] = {}

    def run(self, graph: Graph, arrays: Sequence[Array]) -> Sequence[Array]:
        if id(graph) not in self.ready:
            self.ready[id(graph)] = graph, self.pipeline.run(graph)
        done = self.ready[id(graph)][1]
        weights = prepare(done, {})
        if self.target:
            return run_graph(done, arrays, weights, self.target)[0]
        return run_prepared(done, arrays, weights)


__all__ = ["run_ranks"]
