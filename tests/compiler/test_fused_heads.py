"""Projections that hold queries, keys and values at once are cut by heads, never gathered."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import recognise, shard
from tenzing.compiler.passes.cleanup import Simplify
from tenzing.compiler.passes.sharding import Section
from tenzing.compiler.ranks import Ranks
from tenzing.compiler.reference import run
from tenzing.fabric import Mesh

from .test_sharding import arrays

WIDTH = 4
TOKENS = 3


def attention(heads: int, keys: int, form: str) -> Graph:
    """x [2, tokens, 8] through a fused projection, attention and an output projection."""
    builder = GraphBuilder(form)
    add = builder.add
    x = builder.input("x", (2, TOKENS, 8), F32)
    columns = (heads + 2 * keys) * WIDTH
    bias = builder.parameter("qkv.bias", (columns,), F32)
    weight = builder.parameter("qkv.weight", (columns, 8), F32)
    rows = add(ops.Linear(), x, weight, bias)
    apart = {"sections": _sections, "thirds": _thirds, "per_head": _per_head}[form]
    parts = apart(builder, rows, heads, keys)
    op = ops.Attention(0.5, heads, keys, causal=True)
    mixed = add(op, *(add(ops.Transpose((0, 2, 1, 3)), part) for part in parts))
    turned = add(ops.Transpose((0, 2, 1, 3)), mixed)
    joined = add(ops.Reshape((2, TOKENS, heads * WIDTH)), turned)
    down = builder.parameter("out.weight", (8, heads * WIDTH), F32)
    return builder.build(
        [add(ops.Linear(), joined, down, builder.parameter("out.bias", (8,), F32))]
    )


def _range(builder: GraphBuilder, x: Value, dim: int, start: int, limit: int) -> Value:
    low, high = [0] * len(x.shape), list(x.shape)
    low[dim], high[dim] = start, limit
    return builder.add(ops.Slice(tuple(low), tuple(high), (1,) * len(low)), x)


def _sections(builder: GraphBuilder, rows: Value, heads: int, keys: int) -> list[Value]:
    """[queries | keys | values], as GPT-2 and Phi-3 do."""
    edges = [0, heads * WIDTH, (heads + keys) * WIDTH, (heads + 2 * keys) * WIDTH]
    cuts = [_range(builder, rows, 2, a, b) for a, b in itertools.pairwise(edges)]
    return [
        builder.add(ops.Reshape((2, TOKENS, n, WIDTH)), cut)
        for cut, n in zip(cuts, (heads, keys, keys), strict=True)
    ]


def _thirds(builder: GraphBuilder, rows: Value, heads: int, keys: int) -> list[Value]:
    """[3, heads, width], as vision transformers do."""
    wide = builder.add(ops.Reshape((2, TOKENS, 3, heads, WIDTH)), rows)
    cuts = (_range(builder, wide, 2, k, k + 1) for k in range(3))
    return [builder.add(ops.Reshape((2, TOKENS, heads, WIDTH)), cut) for cut in cuts]


def _per_head(builder: GraphBuilder, rows: Value, heads: int, keys: int) -> list[Value]:
    """[heads, 3 x width], as GPT-NeoX does."""
    wide = builder.add(ops.Reshape((2, TOKENS, heads, 3 * WIDTH)), rows)
    return [_range(builder, wide, 3, k * WIDTH, (k + 1) * WIDTH) for k in range(3)]


@pytest.mark.parametrize(("heads", "keys", "ranks", "form"), [
    (8, 8, 4, "sections"), (6, 6, 4, "sections"), (8, 2, 4, "sections"), (4, 1, 4, "sections"),
    (5, 5, 2, "sections"), (4, 4, 2, "thirds"), (6, 6, 4, "thirds"), (4, 4, 4, "per_head"),
    (6, 6, 4, "per_head"),
])  # fmt: skip
def test_a_fused_projection_is_cut_by_heads(heads: int, keys: int, ranks: int, form: str) -> None:
    graph = attention(heads, keys, form)
    given = arrays(graph)
    (expected,) = run(graph, [given["x"]], given)
    sharded = shard(graph, Mesh.of({"tp": ranks}))
    counts = sharded.graph.count()
    assert (counts.get("all_gather", 0), counts["all_reduce"]) == (0, 1)
    own = next(n.op for n in sharded.graph.nodes if isinstance(n.op, ops.Attention))
    assert (own.heads, own.kv_heads) == (-(-heads // ranks), -(-keys // ranks))
    for (got,) in Ranks(sharded).run(given):
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("heads", "ranks"), [(4, 2), (6, 4)])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_norm_over_all_heads_sums_one_number_per_row(
    heads: int, ranks: int, dtype: np.dtype[Any]
) -> None:
    builder = GraphBuilder("norm")
    add, width = builder.add, heads * WIDTH
    x = builder.input("x", (2, TOKENS, 8), dtype)
    parts = []
    for name in ("q", "k", "v"):
        rows = add(ops.Linear(), x, builder.parameter(f"{name}.weight", (width, 8), dtype))
        if name != "v":
            norm = builder.parameter(f"{name}.norm", (width,), dtype)
            rows = add(ops.RmsNorm(1e-5), rows, norm)
        apart = add(ops.Reshape((2, TOKENS, heads, WIDTH)), rows)
        parts.append(add(ops.Transpose((0, 2, 1, 3)), apart))
    mixed = add(ops.Attention(0.5, heads, heads), *parts)
    graph = builder.build([add(ops.Transpose((0, 2, 1, 3)), mixed)])
    given = {name: array.astype(dtype) for name, array in arrays(graph).items()}
    (expected,) = run(graph, [given["x"]], given)
    sharded = shard(graph, Mesh.of({"tp": ranks}))
    sums = [n for n in sharded.graph.nodes if n.op.name == "all_reduce"]
    assert [n.output.shape for n in sums] == [(2, TOKENS)] * 2
    assert "all_gather" not in sharded.graph.count()
    got = Ranks(sharded).joined(given)[0].astype(np.float64)
    tolerance = 1e-5 if dtype == F32 else 2e-2
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).astype(float).max())


@pytest.mark.parametrize(("section", "step", "padded"), [
    (Section(24, 4, 4), 8, True), (Section(24, 3, 4), 8, False), (Section(10, 4), 3, True),
    (Section(8, 1), 8, False),
])  # fmt: skip
def test_sections_are_cut_in_whole_units(section: Section, step: int, padded: bool) -> None:
    assert (section.step, section.padded) == (step, padded)


def test_a_product_with_a_turned_matrix_is_a_linear() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (2, 3, 8), F32)
    turned = builder.add(ops.Transpose((1, 0)), builder.parameter("w", (5, 8), F32))
    op = ops.DotGeneral(((), ()), ((2,), (0,)))
    graph = recognise(builder.build([builder.add(op, x, turned)]))
    assert [n.op for n in graph.nodes] == [ops.Linear("nk")]


@pytest.mark.parametrize(("places", "kind"), [
    ([2, 3, 4], "slice"), ([6], "slice"), ([2, 4], "gather"), ([3, 2], "gather"),
    ([6, 7], "gather"), ([-1, 0], "gather"),
])  # fmt: skip
def test_a_gather_of_neighbours_is_a_slice(places: list[int], kind: str) -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (2, 7), F32)
    index = builder.add(ops.Constant.of(np.array(places, np.int32)))
    graph = builder.build([builder.add(ops.Gather(1), x, index)])
    after = Simplify().apply(graph)
    assert after.nodes[-1].op.name == kind
    array = np.arange(14, dtype=np.float32).reshape(2, 7)
    np.testing.assert_array_equal(run(after, [array], {})[0], run(graph, [array], {})[0])
