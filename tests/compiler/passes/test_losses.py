"""Cross entropy without rows of log-probabilities, and products without transposes in HBM."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.artifact import run_graph
from tenzing.compiler.graph import F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import (
    CommonSubexpressions,
    DeadCode,
    IotaAsLine,
    Pipeline,
    RowLosses,
    TransposesIntoProducts,
    default_pipeline,
)
from tenzing.compiler.reference import run

INT = np.dtype(np.int32)
ROWS, WORDS = 6, 50


def rows_of(builder: GraphBuilder, value: Value, shape: tuple[int, ...]) -> Value:
    return builder.add(ops.BroadcastInDim(shape, (0, 1)), value)


def loss(shifted_too: bool = True) -> Graph:
    """A row's log-probability at an index, and its gradient for one number per row."""
    b = GraphBuilder("g")
    shape = (ROWS, WORDS)
    x, index = b.input("x", shape, F32), b.input("i", (ROWS, 1), INT)
    given = b.input("g", (ROWS, 1), F32)
    column = ops.Reshape((ROWS, 1))
    top = b.add(column, b.add(ops.Reduce("maximum", (1,)), x))
    shifted = b.add(ops.Subtract(), x, rows_of(b, top, shape))
    inside = shifted if shifted_too else x
    total = b.add(ops.Reduce("add", (1,)), b.add(ops.Exponential(), inside))
    log = b.add(ops.Log(), b.add(column, total))
    likely = b.add(ops.Subtract(), shifted, rows_of(b, log, shape))
    taken = b.add(ops.TakeAlong(1), likely, index)
    place = b.add(ops.Iota(shape, INT, 1))
    hot = b.add(ops.Compare("eq"), rows_of(b, index, shape), place)
    minus, zero = (b.add(ops.Constant.splat(n, shape, F32)) for n in (-1.0, 0.0))
    back = b.add(ops.Multiply(), b.add(ops.Select(), hot, minus, zero), rows_of(b, given, shape))
    whole = b.add(column, b.add(ops.Reduce("add", (1,)), back))
    chance = b.add(ops.Exponential(), likely)
    spread = b.add(ops.Multiply(), chance, rows_of(b, whole, shape))
    return b.build([taken, b.add(ops.Subtract(), back, spread)])


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((ROWS, WORDS)).astype(np.float32)
    x[:, 7] = -np.inf  # a word that cannot come
    index = rng.integers(8, WORDS, (ROWS, 1)).astype(INT)
    return [x, index, rng.standard_normal((ROWS, 1)).astype(np.float32)]


def test_losses_keep_their_values_and_store_no_log_probabilities() -> None:
    graph = loss()
    expected = run(graph, arrays(), {})
    changed = Pipeline((RowLosses(), DeadCode())).run(graph)
    for one, other in zip(run(changed, arrays(), {}), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert changed.count()["reduce"] == graph.count()["reduce"] - 1
    final = default_pipeline().run(graph)
    taken = next(n for n in final.nodes if n.op.name == "take_along")
    assert taken.inputs[0] in final.inputs
    written = [v for n in final.nodes for v in n.outputs if v.shape == (ROWS, WORDS)]
    assert len(written) == 1
    for one, other in zip(run_graph(final, arrays(), {}, "trn2")[0], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_something_else_than_log_softmax_stays() -> None:
    changed = Pipeline((RowLosses(), DeadCode())).run(loss(shifted_too=False))
    taken = next(n for n in changed.nodes if n.op.name == "take_along")
    assert taken.inputs[0] not in changed.inputs


def test_a_constant_with_equal_rows_becomes_a_line() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (4, 9), F32)
    line = np.broadcast_to(np.arange(9, dtype=np.float32), (4, 9))
    other = np.arange(36, dtype=np.float32).reshape(4, 9)
    total = b.add(ops.Add(), x, b.add(ops.Constant.of(line)))
    graph = b.build([b.add(ops.Add(), total, b.add(ops.Constant.of(other)))])
    changed = IotaAsLine().apply(graph)
    shapes = [n.outputs[0].shape for n in changed.nodes if isinstance(n.op, ops.Constant)]
    assert sorted(shapes) == [(4, 9), (9,)]
    x_array = [np.ones((4, 9), np.float32)]
    np.testing.assert_array_equal(run(changed, x_array, {})[0], run(graph, x_array, {})[0])


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("turned", ["left", "right", "both", "result", "all"])
def test_transposes_join_the_product(turned: str, batch: int) -> None:
    b = GraphBuilder("g")
    lead = (3, 2)[:batch]
    swap = ops.Transpose((*range(batch), batch + 1, batch))
    sides = []
    for name, rows, columns in (("left", 5, 7), ("right", 7, 4)):
        flipped = turned in (name, "both", "all")
        shape = (columns, rows) if flipped else (rows, columns)
        value = b.input(name, (*lead, *shape), F32)
        sides.append(b.add(swap, value) if flipped else value)
    every = tuple(range(batch))
    out = b.add(ops.DotGeneral((every, every), ((batch + 1,), (batch,))), *sides)
    graph = b.build([b.add(swap, out) if turned in ("result", "all") else out])
    changed = Pipeline((DeadCode(), TransposesIntoProducts(), CommonSubexpressions(),
                        DeadCode())).run(graph)  # fmt: skip
    assert changed.count() == {"dot_general": 1}
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    expected = run(graph, inputs, {})[0]
    np.testing.assert_allclose(run(changed, inputs, {})[0], expected, rtol=1e-5, atol=1e-6)
    on_chip = run_graph(default_pipeline().run(graph), inputs, {}, "trn2")[0][0]
    np.testing.assert_allclose(on_chip, expected, rtol=1e-5, atol=1e-5)


def test_free_dims_in_another_order_stay_turned() -> None:
    b = GraphBuilder("g")
    x, w = b.input("x", (4, 3, 5), F32), b.input("w", (5, 2), F32)
    turned = b.add(ops.Transpose((1, 0, 2)), x)
    graph = b.build([b.add(ops.DotGeneral(((), ()), ((2,), (0,))), turned, w)])
    changed = Pipeline((DeadCode(), TransposesIntoProducts())).run(graph)
    assert changed.count()["transpose"] == 1
