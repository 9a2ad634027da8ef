"""Norms that models spell out, and linears joined with what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import (
    AddResiduals,
    BiasBeforeReshape,
    DeadCode,
    GateProducts,
    MatmulEpilogue,
    Pipeline,
    RecogniseNorms,
    ReshapeBeforeLinear,
    Simplify,
    SplitLinear,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run

EPSILON = 1e-3


def start(*shape: int) -> tuple[GraphBuilder, Value]:
    builder = GraphBuilder("g")
    return builder, builder.input("x", shape or (2, 6, 8), F32)


def applied(graph: Graph, *passes: Pass) -> Graph:
    """The graph after the passes, which keep what it computes."""
    final = Pipeline((DeadCode(), *(p for each in passes for p in (each, DeadCode())))).run(graph)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape).astype(v.dtype) for v in graph.inputs]
    weights = {v.name: rng.standard_normal(v.shape).astype(v.dtype) for v in graph.parameters}
    for a, b in zip(run(graph, inputs, weights), run(final, inputs, weights), strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), rtol=1e-5, atol=1e-5)
    return final


def kinds(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def splat(b: GraphBuilder, number: float, like: Value) -> Value:
    return b.add(ops.Constant.splat(number, like.shape, like.dtype))


def along_rows(b: GraphBuilder, row: Value, like: Value, keep: bool) -> Value:
    """A number per row repeated along the last dim, by way of [..., 1] or not."""
    if keep:
        row = b.add(ops.Reshape((*row.shape, 1)), row)
    return b.add(ops.BroadcastInDim(like.shape, tuple(range(len(row.shape)))), row)


def mean(b: GraphBuilder, x: Value, divide: bool = False) -> Value:
    total = b.add(ops.Reduce("add", (len(x.shape) - 1,)), x)
    count = x.shape[-1]
    if divide:
        return b.add(ops.Divide(), total, splat(b, count, total))
    return b.add(ops.Multiply(), total, splat(b, 1 / count, total))


def spelled_norm(
    b: GraphBuilder, x: Value, *, centred: bool, divide: bool = False, keep: bool = False,
    power: bool = False,
) -> Value:  # fmt: skip
    if centred:
        x = b.add(ops.Subtract(), x, along_rows(b, mean(b, x, divide), x, keep))
    square = b.add(ops.Power(), x, splat(b, 2.0, x)) if power else b.add(ops.Multiply(), x, x)
    inner = mean(b, square, divide)
    safe = b.add(ops.Add(), inner, splat(b, EPSILON, inner))
    if divide:
        return b.add(ops.Divide(), x, along_rows(b, b.add(ops.Sqrt(), safe), x, keep))
    return b.add(ops.Multiply(), along_rows(b, b.add(ops.Rsqrt(), safe), x, keep), x)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("power", [False, True])
def test_every_spelling_of_a_norm(centred: bool, divide: bool, keep: bool, power: bool) -> None:
    b, x = start()
    graph = b.build([spelled_norm(b, x, centred=centred, divide=divide, keep=keep, power=power)])
    final = applied(graph, RecogniseNorms())
    assert kinds(final) == ["layer_norm" if centred else "rms_norm"]
    assert final.nodes[0].attrs["epsilon"] == pytest.approx(EPSILON)


def test_rows_along_another_dim_are_no_norm() -> None:
    b, x = start(8, 8)
    total = mean(b, b.add(ops.Multiply(), x, x))
    scale = b.add(ops.Rsqrt(), b.add(ops.Add(), total, splat(b, EPSILON, total)))
    across = b.add(ops.BroadcastInDim((8, 8), (1,)), scale)
    final = applied(b.build([b.add(ops.Multiply(), x, across)]), RecogniseNorms())
    assert "rms_norm" not in kinds(final)


def test_norm_of_something_else_is_no_norm() -> None:
    b, x = start()
    other = b.add(ops.Tanh(), x)
    total = mean(b, b.add(ops.Multiply(), other, other))
    scale = b.add(ops.Rsqrt(), b.add(ops.Add(), total, splat(b, EPSILON, total)))
    final = applied(
        b.build([b.add(ops.Multiply(), x, along_rows(b, scale, x, False))]), RecogniseNorms()
    )
    assert "rms_norm" not in kinds(final)


def test_one_plus_weight_and_bias_join_their_norms(golden: Callable[[str], None]) -> None:
    b, x = start()
    weight, bias = b.parameter("weight", (8,), F32), b.parameter("bias", (8,), F32)
    more = b.add(ops.Add(), splat(b, 1.0, weight), weight)
    rows = [b.add(ops.BroadcastInDim(x.shape, (2,)), v) for v in (more, weight, bias)]
    rms = b.add(ops.Multiply(), spelled_norm(b, x, centred=False), rows[0])
    scaled = b.add(ops.Multiply(), rows[1], spelled_norm(b, x, centred=True))
    layer = b.add(ops.Add(), scaled, rows[2])
    golden(to_text(applied(b.build([rms, layer]), RecogniseNorms())))


@pytest.mark.parametrize("epsilon_of", ["x", "other"])
def test_a_layer_norm_as_scale_and_shift(epsilon_of: str) -> None:
    b, x = start()
    weight, bias = b.parameter("weight", (8,), F32), b.parameter("bias", (8,), F32)
    other = b.input("other", x.shape, F32)
    gamma, beta = (b.add(ops.BroadcastInDim(x.shape, (2,)), v) for v in (weight, bias))
    middle = mean(b, x)
    source = x if epsilon_of == "x" else other
    centred = b.add(ops.Subtract(), source, along_rows(b, mean(b, source), x, False))
    spread = mean(b, b.add(ops.Multiply(), centred, centred))
    safe = b.add(ops.Add(), spread, splat(b, EPSILON, spread))
    root = along_rows(b, b.add(ops.Rsqrt(), safe), x, False)
    scale = b.add(ops.Multiply(), root, gamma)
    lowered = along_rows(b, b.add(ops.Negate(), middle), x, False)
    shift = b.add(ops.Add(), b.add(ops.Multiply(), lowered, scale), beta)
    graph = b.build([b.add(ops.Add(), b.add(ops.Multiply(), x, scale), shift)])
    final = applied(graph, RecogniseNorms())
    if epsilon_of == "other":
        assert "layer_norm" not in kinds(final)
        return
    assert kinds(final) == ["layer_norm"]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    weights = {n: rng.standard_normal(8).astype(np.float32) for n in ("weight", "bias")}
    expected, got = (run(g, arrays, weights)[0] for g in (graph, final))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_bias_of_heads_joins_the_product() -> None:
    b = GraphBuilder("heads")
    x = b.input("x", (2, 3, 8), F32)
    weight, bias = b.parameter("weight", (8, 8), F32), b.parameter("bias", (2, 4), F32)
    made = b.add(ops.Linear("kn"), x, weight)
    heads = b.add(ops.Reshape((2, 3, 2, 4)), made)
    wide = b.add(ops.BroadcastInDim(heads.shape, (2, 3)), bias)
    graph = b.build([b.add(ops.Add(), wide, heads)])
    final = applied(graph, BiasBeforeReshape(), MatmulEpilogue())
    assert "add" not in kinds(final)
    rng = np.random.default_rng(0)
    given = rng.standard_normal((2, 3, 8)).astype(np.float32)
    weights = {p.name: rng.standard_normal(p.shape).astype(np.float32) for p in graph.parameters}
    np.testing.assert_allclose(
        run(final, [given], weights)[0], run(graph, [given], weights)[0], atol=1e-5
    )


def test_a_norm_in_float32_of_bf16_rows_needs_no_converts() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (2, 6, 8), BF16)
    weight = b.parameter("weight", (8,), BF16)
    norm = b.add(ops.Convert(BF16), spelled_norm(b, b.add(ops.Convert(F32), x), centred=False))
    row = b.add(ops.BroadcastInDim(x.shape, (2,)), weight)
    graph = b.build([b.add(ops.Multiply(), row, norm)])
    final = Pipeline((DeadCode(), RecogniseNorms(), DeadCode())).run(graph)
    assert kinds(final) == ["rms_norm"]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.shape).astype(BF16) for v in (x, weight)]
    before, after = (run(g, arrays[:1], {"weight": arrays[1]})[0] for g in (graph, final))
    close = {"rtol": 2**-7, "atol": 1e-6}  # one rounding to bf16 less
    np.testing.assert_allclose(before.astype(F32), after.astype(F32), **close)


def test_softmax_is_put_together() -> None:
    b, x = start()
    top = b.add(ops.Reduce("maximum", (2,)), x)
    power = b.add(ops.Exponential(), b.add(ops.Subtract(), x, along_rows(b, top, x, True)))
    total = along_rows(b, b.add(ops.Reduce("add", (2,)), power), x, True)
    final = applied(b.build([b.add(ops.Divide(), power, total)]), RecogniseNorms())
    assert kinds(final) == ["softmax"]


def projection(b: GraphBuilder, x: Value, name: str, width: int, **op: Any) -> Value:
    weight = b.parameter(name, (x.shape[-1], width), x.dtype)
    return b.add(ops.Linear("kn", **op), x, weight)


def test_joined_projections_come_apart(golden: Callable[[str], None]) -> None:
    b, x = start()
    flat = b.add(ops.Reshape((12, 8)), x)
    weight, bias = b.parameter("qkv", (8, 12), F32), b.parameter("bias", (12,), F32)
    joined = b.add(ops.Linear("kn"), flat, weight, bias)
    apart = b.add(ops.Reshape((2, 6, 12)), joined)
    parts = [
        b.add(ops.Slice((0, 0, low), (2, 6, high), (1, 1, 1)), apart)
        for low, high in ((0, 4), (4, 8), (8, 12))
    ]
    golden(to_text(applied(b.build(parts), ReshapeBeforeLinear(), Simplify(), SplitLinear())))


@pytest.mark.parametrize("reason", ["returned", "rows", "input"])
def test_a_linear_that_is_needed_whole_stays_whole(reason: str) -> None:
    b, x = start()
    weight = b.input("w", (8, 4), F32) if reason == "input" else b.parameter("w", (8, 4), F32)
    whole = b.add(ops.Linear("kn"), x, weight)
    limit = (2, 3, 2) if reason == "rows" else (2, 6, 2)
    part = b.add(ops.Slice((0, 0, 0), limit, (1, 1, 1)), whole)
    graph = b.build([part, whole] if reason == "returned" else [part])
    assert kinds(applied(graph, SplitLinear())) == ["linear", "slice"]


def test_gate_and_product_become_one(golden: Callable[[str], None]) -> None:
    b, x = start()
    gate, up = projection(b, x, "gate", 16), projection(b, x, "up", 16)
    product = b.add(ops.Multiply(), b.add(ops.Silu(), gate), up)
    graph = b.build([b.add(ops.Convert(BF16), product)])
    golden(to_text(applied(graph, MatmulEpilogue(), GateProducts(), MatmulEpilogue())))


def test_products_of_other_inputs_are_no_gate() -> None:
    b, x = start()
    other = b.add(ops.Tanh(), x)
    gate, up = projection(b, x, "gate", 16, activation="silu"), projection(b, other, "up", 16)
    final = applied(b.build([b.add(ops.Multiply(), gate, up)]), GateProducts())
    assert "gated_linear" not in kinds(final)


def test_a_sum_joins_the_linear_that_only_it_reads(golden: Callable[[str], None]) -> None:
    b, x = start()
    first = b.add(ops.Add(), x, projection(b, x, "one", 8))
    second = projection(b, first, "two", 8)
    graph = b.build([b.add(ops.Add(), second, first), b.add(ops.Tanh(), second)])
    golden(to_text(applied(graph, AddResiduals())))


def test_a_repeated_row_stays_a_bias() -> None:
    b, x = start()
    row = b.add(ops.BroadcastInDim((2, 6, 8), (2,)), b.parameter("bias", (8,), F32))
    graph = b.build([b.add(ops.Add(), projection(b, x, "w", 8), row)])
    assert applied(graph, MatmulEpilogue(), AddResiduals()).nodes[-1].op == ops.Linear("kn")
