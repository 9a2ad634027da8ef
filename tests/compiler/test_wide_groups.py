"""Fused groups of any shape: rows wider than SBUF, a single row, many thin rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import prepare, run
from tenzing.machine import analyse

from .ops.samples import floats
from .test_machine_laws import assert_agree


def chain(builder: GraphBuilder, x: Value) -> Value:
    """Elementwise work with a broadcast row."""
    row = builder.input("row", x.shape[-1:], F32)
    stretched = builder.add(ops.BroadcastInDim(x.shape, (len(x.shape) - 1,)), row)
    scaled = builder.add(ops.Multiply(), builder.add(ops.Tanh(), x), stretched)
    return builder.add(ops.Add(), scaled, x)


def plain(builder: GraphBuilder, x: Value) -> Value:
    """Elementwise work on one dense tensor."""
    return builder.add(ops.Multiply(), builder.add(ops.Exponential(), x), x)


def softmax(builder: GraphBuilder, x: Value) -> Value:
    """A composite with two reductions."""
    return builder.add(ops.Multiply(), builder.add(ops.Softmax(), x), x)


def layer_norm(builder: GraphBuilder, x: Value) -> Value:
    """A composite with weights along the columns."""
    weight = builder.input("weight", x.shape[-1:], F32)
    return builder.add(ops.LayerNorm(1e-5), x, weight)


def spread(builder: GraphBuilder, x: Value) -> Value:
    """Numbers per row that come back to the columns and leave the group too."""
    low = builder.add(ops.Reduce("minimum", (1,)), x)
    high = builder.add(ops.Reduce("maximum", (1,)), x)
    width = builder.add(ops.Subtract(), high, low)
    return builder.add(ops.Divide(), x, builder.add(ops.BroadcastInDim(x.shape, (0,)), width))


def graph_of(make, *shape: int) -> Graph:
    builder = GraphBuilder("wide")
    return builder.build([make(builder, builder.input("x", shape, F32))])


CASES = [
    (chain, (3, 60000)), (chain, (1, 30000)), (plain, (1, 53248)), (plain, (2, 99991)),
    (plain, (40000, 3)), (plain, (70000,)), (softmax, (2, 50257)), (layer_norm, (2, 40000)),
    (spread, (130, 16001)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), CASES, ids=[f"{m.__name__}-{s}" for m, s in CASES])
def test_group_of_any_size_equals_its_reference(make, shape: tuple[int, ...]) -> None:
    graph = graph_of(make, *shape)
    arrays = [floats(*v.shape, seed=k, low=0.1) for k, v in enumerate(graph.inputs)]
    compiled = default_pipeline().run(graph)
    assert [node.op.name for node in compiled.nodes] == ["fused"]
    outputs, program = run_graph(compiled, arrays, {}, "trn2")
    found = analyse(program)
    assert [f.message for f in found.findings] == []
    assert_agree(outputs[0], run(graph, arrays, {})[0])


@pytest.mark.parametrize("shape", [(1, 53248), (40000, 3)])
def test_a_thin_or_crowded_group_fills_the_partitions(shape: tuple[int, ...]) -> None:
    compiled = default_pipeline().run(graph_of(plain, *shape))
    program = run_graph(compiled, [floats(*shape)], {}, "trn2")[1]
    assert len(program.rows) < 20


def test_blocks_of_rows_share_the_tables_of_functions() -> None:
    """Two functions in turns: eight blocks of rows load each table once, not once each."""
    builder = GraphBuilder("softplus")
    x = builder.input("x", (1024, 64), F32)
    row = builder.input("row", (64,), F32)
    shifted = builder.add(ops.Add(), x, builder.add(ops.BroadcastInDim(x.shape, (1,)), row))
    power = builder.add(ops.Exponential(), shifted)
    graph = builder.build([builder.add(ops.LogPlusOne(), power)])
    arrays = [floats(*v.shape, seed=k, low=0.1) for k, v in enumerate(graph.inputs)]
    outputs, program = run_graph(default_pipeline().run(graph), arrays, {}, "trn2")
    assert_agree(outputs[0], run(graph, arrays, {})[0])
    tables = [program.template(k).cost.table for k in range(len(program))]
    used = [table for table in tables if table]
    assert len(set(used)) == 2
    assert sum(a != b for a, b in itertools.pairwise(used)) == 1


def test_a_large_iota_is_one_line_in_memory() -> None:
    builder = GraphBuilder("labels")
    labels = builder.input("labels", (300,), np.int32)
    place = builder.add(ops.Iota((300, 9000), np.dtype(np.int32), 1))
    wanted = builder.add(ops.BroadcastInDim(place.shape, (0,)), labels)
    hit = builder.add(ops.Convert(F32), builder.add(ops.Compare("eq"), wanted, place))
    graph = builder.build([builder.add(ops.Reduce("add", (0,)), hit)])
    compiled = default_pipeline().run(graph)
    assert {n.output.shape for n in compiled.nodes if n.op.name == "iota"} == {(9000,)}
    arrays = [np.arange(300, dtype=np.int32) * 31]
    outputs = run_graph(compiled, arrays, prepare(compiled, {}), "trn2")[0]
    assert_agree(outputs[0], run(graph, arrays, {})[0])
