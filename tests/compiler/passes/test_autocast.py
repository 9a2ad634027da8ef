"""Narrower products: what each dtype keeps, and how fp8 weights are scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.artifact import run_graph
from tenzing.compiler.graph import F32, Alias, Graph, GraphBuilder, GraphError
from tenzing.compiler.ops.window import Window
from tenzing.compiler.passes import Autocast, DeadCode, Pipeline, default_pipeline
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import prepare, run

RELATIVE = {"bf16": 2**-8, "fp16": 2**-11, "tf32": 2**-11, "fp8_e4m3": 2**-4}  # of one rounding


def layer(layout: str = "nk", given: bool = False) -> Graph:
    """tanh(x @ W + b) with a weight that is known beforehand, or an input."""
    b = GraphBuilder("g")
    x = b.input("x", (5, 160), F32)
    shape = (24, 160) if layout == "nk" else (160, 24)
    weight = b.input("w", shape, F32) if given else b.parameter("w", shape, F32)
    bias = b.parameter("bias", (24,), F32)
    return b.build([b.add(ops.Linear(layout, "tanh"), x, weight, bias)])


def arrays(graph: Graph) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    weights = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.parameters}
    for name, size in (("bias", 4), ("w", 40)):
        if name in weights:
            weights[name] /= size
    return inputs, weights


@pytest.mark.parametrize("mode", ["matmult", "all"])
@pytest.mark.parametrize("dtype", list(RELATIVE))
@pytest.mark.parametrize("layout", ["nk", "kn"])
def test_products_round_as_their_dtype_does(mode: str, dtype: str, layout: str) -> None:
    graph = layer(layout)
    inputs, weights = arrays(graph)
    exact = run(graph, inputs, weights)[0]
    final = default_pipeline(mode, dtype).run(graph)
    assert [v.type for v in final.outputs] == [v.type for v in graph.outputs]
    by_graph = run(final, inputs, weights)[0]
    on_chip = run_graph(final, inputs, prepare(final, weights), "trn2")[0][0]
    error = np.abs(by_graph - exact).max()
    assert 0 < error < 8 * RELATIVE[dtype]
    np.testing.assert_allclose(on_chip, by_graph, rtol=0, atol=4 * RELATIVE[dtype])


def test_a_scale_per_column_serves_columns_of_any_size() -> None:
    graph = layer()
    inputs, weights = arrays(graph)
    sizes = np.logspace(-4, 4, 24, dtype=np.float32)
    weights["w"] = weights["w"] * sizes[:, None]
    weights["w"][7] = 0
    final = Pipeline((Autocast("matmult", "fp8_e4m3"), DeadCode())).run(graph)
    linear = next(n for n in final.nodes if isinstance(n.op, ops.Linear))
    plain = ops.Linear(linear.op.weight, "")
    exact = plain.reference(inputs[0], weights["w"])[0]
    b = GraphBuilder("h")
    x, w = b.input("x", (5, 160), F32), b.parameter("w", (24, 160), F32)
    bare = Autocast("matmult", "fp8_e4m3").apply(b.build([b.add(plain, x, w)]))
    got = run(bare, inputs, weights)[0]
    spread = np.linalg.norm(exact, axis=0) + 1e-30
    assert (np.linalg.norm(got - exact, axis=0) / spread < 0.1).all()
    assert (got[:, 7] == 0).all()


def test_large_inputs_are_held_within_fp8() -> None:
    graph = layer()
    inputs, weights = arrays(graph)
    inputs[0][0, 0] = 1e6
    final = default_pipeline("matmult", "fp8_e4m3").run(graph)
    assert np.isfinite(run_graph(final, inputs, prepare(final, weights), "trn2")[0][0]).all()


def test_fp8_leaves_products_of_two_inputs_in_bf16() -> None:
    final = default_pipeline("matmult", "fp8_e4m3").run(layer("kn", given=True))
    (linear,) = (n for n in final.nodes if isinstance(n.op, ops.Linear))
    assert {v.dtype.name for v in linear.inputs[:2]} == {"bfloat16"}


def test_fp8_is_prepared_when_weights_are_loaded(golden: Callable[[str], None]) -> None:
    golden(to_text(default_pipeline("matmult", "fp8_e4m3").run(layer())))


def test_tf32_rounds_both_sides(golden: Callable[[str], None]) -> None:
    golden(to_text(default_pipeline("matmult", "tf32").run(layer())))


def test_convolutions_and_attention_round_to_tf32_too() -> None:
    b = GraphBuilder("g")
    q = b.input("q", (1, 2, 9, 16), F32)
    x = b.input("x", (1, 3, 6, 6), F32)
    weight = b.parameter("w", (4, 3, 3, 3), F32)
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1))
    graph = b.build([
        b.add(ops.Attention(0.25, 2, 2, causal=True), q, q, q),
        b.add(ops.Convolution(window), x, weight),
    ])  # fmt: skip
    inputs, weights = arrays(graph)
    exact = run(graph, inputs, weights)
    final = default_pipeline("matmult", "tf32").run(graph)
    by_graph = run(final, inputs, weights)
    on_chip = run_graph(final, inputs, prepare(final, weights), "trn2")[0]
    for one, other, truth in zip(by_graph, on_chip, exact, strict=True):
        assert 0 < np.abs(one - truth).max() < 8 * RELATIVE["tf32"] * np.abs(truth).max()
        np.testing.assert_allclose(other, one, rtol=0, atol=4 * RELATIVE["tf32"])


def test_weights_that_an_optimizer_writes_are_not_scaled_beforehand() -> None:
    graph = layer()
    b = GraphBuilder("g", [v.name for v in graph.values()])
    stepped = b.add(ops.Negate(), graph.parameters[0])
    graph = replace(
        graph, nodes=(*graph.nodes, *b.nodes), outputs=(*graph.outputs, stepped),
        aliases=(Alias(1, graph.parameters[0].name),),
    )  # fmt: skip
    kinds = {v.dtype.name for n in Autocast("matmult", "fp8_e4m3").apply(graph).nodes
             if isinstance(n.op, ops.Linear) for v in n.inputs[:2]}  # fmt: skip
    assert kinds == {"bfloat16"}


@pytest.mark.parametrize(("mode", "dtype"), [("some", "bf16"), ("all", "int8")])
def test_unknown_modes_and_dtypes_are_refused(mode: str, dtype: str) -> None:
    with pytest.raises(GraphError, match="autocast"):
        Autocast(mode, dtype).apply(layer())
