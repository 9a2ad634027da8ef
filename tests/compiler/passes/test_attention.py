"""Attention written out is found again, repeated key heads are shared, masks become bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing.compiler import ops
from tenzing.compiler.graph import BOOL, F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import (
    DeadCode,
    MasksAsBands,
    Pipeline,
    RecogniseAttention,
    ShareKeyHeads,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run

INT = np.dtype(np.int32)
BATCH, HEADS, KV_HEADS, LENGTH, WIDTH = 2, 4, 2, 6, 8


def splat(builder: GraphBuilder, like: Value, number: float) -> Value:
    return builder.add(ops.Constant.splat(number, like.shape, like.dtype))


def repeated(builder: GraphBuilder, x: Value) -> Value:
    """transformers' repeat_kv."""
    wide = (BATCH, KV_HEADS, HEADS // KV_HEADS, LENGTH, WIDTH)
    lone = builder.add(ops.Reshape((BATCH, KV_HEADS, 1, LENGTH, WIDTH)), x)
    wider = builder.add(ops.BroadcastInDim(wide, (0, 1, 2, 3, 4)), lone)
    return builder.add(ops.Reshape((BATCH, HEADS, LENGTH, WIDTH)), wider)


def written_out(*, soft_cap: float = 0.0, watched: bool = False, flat: bool = False) -> Graph:
    """Scaled, capped, masked softmax between two products, key heads repeated."""
    builder = GraphBuilder("attention")
    q = builder.input("q", (BATCH, HEADS, LENGTH, WIDTH), F32)
    k, v = (builder.input(n, (BATCH, KV_HEADS, LENGTH, WIDTH), F32) for n in "kv")
    mask = builder.input("mask", (BATCH, 1, LENGTH, LENGTH), F32)
    k, v = repeated(builder, k), repeated(builder, v)
    k = builder.add(ops.Transpose((0, 1, 3, 2)), k)
    lead: tuple[int, ...] = (0, 1)
    if flat:
        lead = (0,)
        q, k, v = (builder.add(ops.Reshape((BATCH * HEADS, *x.shape[2:])), x) for x in (q, k, v))
    rank = len(lead)
    scores = builder.add(ops.DotGeneral((lead, lead), ((rank + 1,), (rank,))), q, k)
    if flat:
        scores = builder.add(ops.Reshape((BATCH, HEADS, LENGTH, LENGTH)), scores)
    scores = builder.add(ops.Multiply(), scores, splat(builder, scores, 0.25))
    if soft_cap:
        bent = builder.add(ops.Divide(), scores, splat(builder, scores, soft_cap))
        bent = builder.add(ops.Tanh(), bent)
        scores = builder.add(ops.Multiply(), bent, splat(builder, bent, soft_cap))
    wide = builder.add(ops.BroadcastInDim(scores.shape, (0, 1, 2, 3)), mask)
    weights = builder.add(ops.Softmax(), builder.add(ops.Add(), scores, wide))
    if flat:
        weights = builder.add(ops.Reshape((BATCH * HEADS, LENGTH, LENGTH)), weights)
    out = builder.add(ops.DotGeneral((lead, lead), ((rank + 1,), (rank,))), weights, v)
    return builder.build([out, weights] if watched else [out])


def after(graph: Graph, *passes: Pass) -> Graph:
    return Pipeline(tuple(p for each in passes for p in (each, DeadCode()))).run(graph)


def same_values(one: Graph, other: Graph) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=v.shape).astype(v.dtype) for v in one.inputs]
    np.testing.assert_allclose(
        run(one, arrays, {})[0], run(other, arrays, {})[0], rtol=1e-5, atol=1e-6
    )


def test_recognised(golden: Any) -> None:
    graph = written_out(soft_cap=5.0)
    final = after(graph, RecogniseAttention(), ShareKeyHeads())
    same_values(graph, final)
    golden(to_text(final))


def test_recognised_with_batch_and_heads_in_one_dim(golden: Any) -> None:
    graph = written_out(flat=True)
    final = after(graph, RecogniseAttention())
    same_values(graph, final)
    golden(to_text(final))


def test_masks_of_windows_and_of_heads_join() -> None:
    """Swin: a bias for every head, then a mask for every window of an image, one rank higher."""
    windows = 3
    builder = GraphBuilder("windows")
    q, k, v = (builder.input(n, (BATCH * windows, HEADS, LENGTH, WIDTH), F32) for n in "qkv")
    bias = builder.input("bias", (1, HEADS, LENGTH, LENGTH), F32)
    mask = builder.input("mask", (1, windows, 1, LENGTH, LENGTH), F32)
    scores = builder.add(ops.DotGeneral(((0, 1), (0, 1)), ((3,), (3,))), q, k)
    wide = builder.add(ops.BroadcastInDim(scores.shape, (0, 1, 2, 3)), bias)
    scores = builder.add(ops.Add(), scores, wide)
    apart = (BATCH, windows, HEADS, LENGTH, LENGTH)
    turned = builder.add(ops.Reshape(apart), scores)
    hidden = builder.add(ops.BroadcastInDim(apart, (0, 1, 2, 3, 4)), mask)
    back = builder.add(ops.Reshape(scores.shape), builder.add(ops.Add(), turned, hidden))
    weights = builder.add(ops.Softmax(), back)
    out = builder.add(ops.DotGeneral(((0, 1), (0, 1)), ((3,), (2,))), weights, v)
    graph = builder.build([out])
    final = after(graph, RecogniseAttention())
    assert final.count()["attention"] == 1
    same_values(graph, final)


def test_a_mask_of_keys_is_not_repeated_for_heads_and_queries() -> None:
    builder = GraphBuilder("keys")
    q, k, v = (builder.input(n, (BATCH, HEADS, LENGTH, WIDTH), F32) for n in "qkv")
    seen = builder.input("seen", (BATCH, LENGTH), np.dtype(np.bool_))
    scores = builder.add(ops.DotGeneral(((0, 1), (0, 1)), ((3,), (3,))), q, k)
    wide = builder.add(ops.BroadcastInDim(scores.shape, (0, 3)), seen)
    hidden = splat(builder, scores, -1e30)
    weights = builder.add(ops.Softmax(), builder.add(ops.Select(), wide, scores, hidden))
    graph = builder.build([builder.add(ops.DotGeneral(((0, 1), (0, 1)), ((3,), (2,))), weights, v)])
    final = after(graph, RecogniseAttention())
    same_values(graph, final)
    (attention,) = (n for n in final.nodes if isinstance(n.op, ops.Attention))
    assert attention.inputs[3].shape == (BATCH, 1, 1, LENGTH)


def test_probabilities_that_others_read_stay() -> None:
    names = after(written_out(watched=True), RecogniseAttention()).count()
    assert "attention" not in names
    assert names["softmax"] == 1


def masked(make: Any, queries: int = 5, keys: int = 7) -> Graph:
    """Attention under the mask that ``make`` builds from query and key positions."""
    builder = GraphBuilder("masked")
    q = builder.input("q", (BATCH, 2, queries, WIDTH), F32)
    k, v = (builder.input(n, (BATCH, 2, keys, WIDTH), F32) for n in "kv")
    padding = builder.input("padding", (BATCH, 1, 1, keys), F32)
    shape = (1, 1, queries, keys)
    line = builder.add(ops.Iota((queries, 1), INT, 0))
    rows = builder.add(ops.BroadcastInDim(shape, (2, 3)), line)
    columns = builder.add(ops.Iota(shape, INT, 3))
    mask = make(builder, rows, columns, padding)
    graph = builder.build([builder.add(ops.Attention(0.3, 2, 2), q, k, v, mask)])
    return DeadCode().apply(graph)


def shifted(builder: GraphBuilder, x: Value, by: int) -> Value:
    return builder.add(ops.Add(), x, splat(builder, x, by))


def test_causal_window_and_padding_part(golden: Any) -> None:
    def make(builder: GraphBuilder, rows: Value, columns: Value, padding: Value) -> Value:
        causal = builder.add(ops.Compare("le"), columns, rows)
        near = builder.add(ops.Compare("gt"), columns, shifted(builder, rows, -3))
        full = (BATCH, 1, 5, 7)
        zero = splat(builder, padding, 0.0)
        seen = builder.add(ops.Compare("ge"), padding, zero)
        wide = [
            builder.add(ops.BroadcastInDim(full, (0, 1, 2, 3)), x)
            for x in (builder.add(ops.And(), causal, near), seen)
        ]
        return builder.add(ops.And(), *wide)

    graph = masked(make)
    final = after(graph, MasksAsBands())
    same_values(graph, final)
    golden(to_text(final))


@given(
    direction=st.sampled_from(["le", "lt", "ge", "gt", "eq"]),
    by=st.integers(-4, 8),
    flipped=st.booleans(),
    negated=st.booleans(),
    constant=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_comparison_of_positions_keeps_its_meaning(
    direction: str, by: int, flipped: bool, negated: bool, constant: bool
) -> None:
    def make(builder: GraphBuilder, rows: Value, columns: Value, padding: Value) -> Value:
        pair = (columns, shifted(builder, rows, by))
        mask = builder.add(ops.Compare(direction), *(pair[::-1] if flipped else pair))
        if negated:
            mask = builder.add(ops.Not(), mask)
        return mask

    graph = masked(make)
    if constant:
        values = {v.name: np.zeros(v.shape, v.dtype) for v in graph.inputs}
        inside = Graph("mask", graph.inputs, (), graph.nodes[:-1], (graph.nodes[-1].inputs[3],))
        array = run(inside, list(values.values()), {})[0]
        graph = masked(lambda builder, *_: builder.add(ops.Constant.of(array)))
    final = after(graph, MasksAsBands())
    same_values(graph, final)
    if direction != "eq" and not constant:
        assert len(final.nodes) == 1, "no mask is left"


def test_distance_and_numbers_to_add_are_bands_too() -> None:
    def near(builder: GraphBuilder, rows: Value, columns: Value, padding: Value) -> Value:
        apart = builder.add(ops.Abs(), builder.add(ops.Subtract(), rows, columns))
        return builder.add(ops.Compare("le"), apart, splat(builder, apart, 2))

    def added(builder: GraphBuilder, rows: Value, columns: Value, padding: Value) -> Value:
        seen = builder.add(ops.Compare("le"), columns, rows)
        shape = seen.shape
        zero, low = (builder.add(ops.Constant.splat(n, shape, F32)) for n in (0.0, -3e38))
        return builder.add(ops.Select(), seen, zero, low)

    for make in (near, added):
        graph = masked(make, 7, 7)
        final = after(graph, MasksAsBands())
        assert len(final.nodes) == 1
        same_values(graph, final)


@pytest.mark.parametrize("causal", [False, True])
def test_numbers_of_keys_part_from_the_band_they_are_joined_with(causal: bool) -> None:
    """ALiBi: a slope for each head times the key's position, repeated for all queries."""

    def added(builder: GraphBuilder, *_: Value) -> Value:
        slopes = np.float32([0.5, 0.25]).reshape(1, 2, 1, 1)
        numbers = np.broadcast_to(slopes * np.arange(7, dtype=np.float32), (BATCH, 2, 7, 7))
        hidden = np.triu(np.full((7, 7), -3e38 if causal else 0, np.float32), 1)
        return builder.add(ops.Constant.of(numbers + hidden))

    graph = masked(added, 7, 7)
    final = after(graph, MasksAsBands())
    attention = final.nodes[-1]
    assert attention.inputs[3].shape == (1, 2, 1, 7)
    assert attention.attrs["causal"] == causal
    same_values(graph, final)


def test_masks_from_values_and_biases_stay() -> None:
    def seen(builder: GraphBuilder, rows: Value, columns: Value, padding: Value) -> Value:
        return builder.add(ops.Compare("ge"), padding, splat(builder, padding, 0.0))

    def scattered(builder: GraphBuilder, *_: Value) -> Value:
        array = np.random.default_rng(0).random((1, 1, 5, 7)) > 0.5
        return builder.add(ops.Constant.of(array))

    def nothing(builder: GraphBuilder, rows: Value, columns: Value, padding: Value) -> Value:
        low = builder.add(ops.Compare("lt"), columns, shifted(builder, rows, -1))
        high = builder.add(ops.Compare("gt"), columns, rows)
        return builder.add(ops.And(), low, high)

    for make in (seen, scattered, nothing, lambda builder, rows, columns, padding: padding):
        graph = masked(make)
        assert after(graph, MasksAsBands()).nodes == graph.nodes


@pytest.mark.parametrize("dtype", [BOOL, F32])
def test_a_mask_of_nothing_disappears(dtype: np.dtype[Any]) -> None:
    number = 1.0 if dtype == BOOL else 0.0
    graph = masked(lambda builder, *_: builder.add(ops.Constant.splat(number, (1, 1, 5, 7), dtype)))
    assert len(after(graph, MasksAsBands()).nodes) == 1


def over_a_sink(*, masked: bool, less_top: bool, kept: bool = True) -> Graph:
    """A score of its own beside those of the keys, whose share is dropped behind the softmax."""
    builder = GraphBuilder("sink")
    q = builder.input("q", (BATCH, HEADS, LENGTH, WIDTH), F32)
    k, v = (
        repeated(builder, builder.input(n, (BATCH, KV_HEADS, LENGTH, WIDTH), F32)) for n in "kv"
    )
    sink = builder.input("sink", (HEADS,), F32)
    both = ((0, 1), (0, 1))
    scores = builder.add(ops.DotGeneral(both, ((3,), (3,)), F32), q, k)
    scores = builder.add(ops.Multiply(), scores, splat(builder, scores, 0.3))
    if masked:
        mask = builder.input("mask", (BATCH, 1, LENGTH, LENGTH), F32)
        wide = builder.add(ops.BroadcastInDim(scores.shape, (0, 1, 2, 3)), mask)
        scores = builder.add(ops.Add(), scores, wide)
    column = builder.add(ops.BroadcastInDim((*scores.shape[:3], 1), (1,)), sink)
    joined = builder.add(ops.Concatenate(3), scores, column)
    if less_top:
        top = builder.add(ops.Reduce("maximum", (3,)), joined)
        top = builder.add(ops.BroadcastInDim(joined.shape, (0, 1, 2)), top)
        joined = builder.add(ops.Subtract(), joined, top)
    share = builder.add(ops.Softmax(), joined)
    first = 0 if kept else 1
    cut = ops.Slice((0, 0, 0, first), (*share.shape[:3], LENGTH + first), (1,) * 4)
    out = builder.add(ops.DotGeneral(both, ((3,), (2,)), F32), builder.add(cut, share), v)
    return builder.build([out])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("less_top", [False, True])
def test_a_sink_is_a_key_of_zeros(masked: bool, less_top: bool) -> None:
    graph = over_a_sink(masked=masked, less_top=less_top)
    found = Pipeline((RecogniseAttention(), DeadCode())).run(graph)
    (node,) = [n for n in found.nodes if isinstance(n.op, ops.Attention)]
    assert node.op.kv_heads == KV_HEADS
    assert "softmax" not in found.count()
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    np.testing.assert_allclose(
        run(found, arrays, {})[0], run(graph, arrays, {})[0], rtol=1e-5, atol=1e-6
    )


def test_another_column_that_is_dropped_is_no_sink() -> None:
    graph = over_a_sink(masked=False, less_top=False, kept=False)
    assert "attention" not in Pipeline((RecogniseAttention(), DeadCode())).run(graph).count()


def test_attention_takes_over_a_factor_of_its_queries() -> None:
    builder = GraphBuilder("scaled")
    flat = builder.input("q", (BATCH, LENGTH, HEADS * WIDTH), F32)
    k, v = (builder.input(n, (BATCH, HEADS, LENGTH, WIDTH), F32) for n in "kv")
    scaled = builder.add(ops.Multiply(), flat, splat(builder, flat, 0.25))
    apart = builder.add(ops.Reshape((BATCH, LENGTH, HEADS, WIDTH)), scaled)
    q = builder.add(ops.Transpose((0, 2, 1, 3)), apart)
    graph = builder.build([builder.add(ops.Attention(0.5, HEADS, HEADS), q, k, v)])
    found = Pipeline((RecogniseAttention(), DeadCode())).run(graph)
    (node,) = [n for n in found.nodes if isinstance(n.op, ops.Attention)]
    assert node.op.scale == 0.125
    assert "multiply" not in found.count()
