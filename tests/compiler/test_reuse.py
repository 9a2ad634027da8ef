"""A kernel recorded before is copied: the record is the one it would have been, for less work."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.execution import record_graph, run_graph
from tenzing.compiler.graph import F32, Graph, GraphBuilder, Node
from tenzing.compiler.lowering import RULES, Recordings
from tenzing.compiler.lowering.registry import Rule
from tenzing.compiler.models import Experts, Router, decode_graph, llama, prefill_graph
from tenzing.compiler.passes import default_pipeline
from tenzing.isa import Program
from tenzing.machine import analyse
from tenzing.nki import NkiTensor

LAYERS = 3
SIZES = (64, 4, 2, 16, 96, 80)
MIXTURE = Experts(Router(4, 2), 32)
GRAPHS = {
    "prefill": prefill_graph(llama(LAYERS, *SIZES), 1, 32),
    "decode": decode_graph(llama(LAYERS, *SIZES), 2, 32),
    "experts": decode_graph(llama(LAYERS, *SIZES, experts=MIXTURE), 2, 32),
}


def with_values(graph: Graph) -> Program:
    """The record of a graph that runs on zeros: nothing of it is copied."""
    inputs = [np.zeros(v.shape, v.dtype) for v in graph.inputs]
    weights = {v.name: np.zeros(v.shape, v.dtype) for v in graph.parameters}
    return run_graph(graph, inputs, weights, "trn2")[1]


def storages(program: Program) -> list[tuple[object, ...]]:
    return [(s.id, s.space, s.shape, s.dtype, s.origin, s.loc_key) for s in program.storages]


@pytest.mark.parametrize("name", GRAPHS)
def test_copies_are_the_record(name: str) -> None:
    graph = default_pipeline().run(GRAPHS[name])
    plain = with_values(graph)
    shared = Recordings()
    for found in (record_graph(graph, "trn2", recordings=shared) for _ in range(2)):
        assert storages(found) == storages(plain)
        assert found.text() == plain.text()
        assert analyse(found).total_ps == analyse(plain).total_ps


def test_layers_cost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the layers record no more kernels."""
    called: list[str] = []

    def counting(rule: Rule) -> Rule:
        def counted(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
            called.append(node.op.name)
            return rule(node, inputs)

        return counted

    for name, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, name, counting(rule))
    calls = []
    for layers in (LAYERS, 2 * LAYERS):
        graph = default_pipeline().run(prefill_graph(llama(layers, *SIZES), 1, 32))
        called.clear()
        record_graph(graph, "trn2")
        calls.append(len(called))
    assert calls[0] == calls[1]


def test_operands_that_share_memory_are_not_taken_for_two() -> None:
    """``x @ x`` and ``x @ y`` are one operation on operands that lie otherwise."""
    builder = GraphBuilder("products")
    x, y = (builder.input(name, (128, 128), F32) for name in "xy")
    op = ops.DotGeneral(((), ()), ((1,), (0,)))
    results = [builder.add(op, x, y), builder.add(op, x, x), builder.add(op, y, x)]
    graph = default_pipeline().run(builder.build(results))
    assert record_graph(graph, "trn2").text() == with_values(graph).text()
