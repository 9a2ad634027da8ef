"""Unrolled loops become one scan, or one operation over all iterations."""

from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import DeadCode, JoinIterations, Pipeline, RollRecurrences, Simplify
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run

PASSES = Pipeline((RollRecurrences(), JoinIterations(), Simplify(), DeadCode()))


def pick(builder: GraphBuilder, value: Value, dim: int, at: int) -> Value:
    """Element ``at`` of a dim, which disappears."""
    rank = len(value.shape)
    start, limit = [0] * rank, list(value.shape)
    start[dim], limit[dim] = at, at + 1
    part = builder.add(ops.Slice(tuple(start), tuple(limit), (1,) * rank), value)
    return builder.add(ops.Reshape(value.shape[:dim] + value.shape[dim + 1 :]), part)


def state_space(steps: int, *, swapped: bool = False, broken: bool = False) -> Graph:
    """h = a[:, t] * h + b[:, t]; y[t] = h . c[t], written step by step."""
    builder = GraphBuilder("ssm")
    a, b = (builder.input(name, (3, steps, 4), F32) for name in "ab")
    c = builder.input("c", (steps, 4), F32)
    state = builder.input("start", (3, 4), F32)
    outputs = []
    for t in range(steps):
        factor = pick(builder, a, 1, 0 if broken and t == 2 else t)
        parts = (state, factor) if swapped else (factor, state)
        product = builder.add(ops.Multiply(), *parts)
        terms = (product, pick(builder, b, 1, t))
        state = builder.add(ops.Add(), *(terms[::-1] if swapped else terms))
        column = builder.add(ops.Reshape((4, 1)), pick(builder, c, 0, t))
        outputs.append(builder.add(ops.DotGeneral(((), ()), ((1,), (0,))), state, column))
    joined = builder.add(ops.Concatenate(1), *outputs)
    return builder.build([joined, state])


def values(graph: Graph) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(-1, 1, v.shape).astype(np.float32) for v in graph.inputs]


def test_state_space(golden: Any) -> None:
    golden(to_text(PASSES.run(state_space(6))))


@pytest.mark.parametrize("swapped", [False, True])
def test_means_the_same_and_has_no_loop(swapped: bool) -> None:
    graph = state_space(9, swapped=swapped)
    final = PASSES.run(graph)
    kinds = final.count()
    assert kinds["linear_scan"] == kinds["dot_general"] == 1
    assert "concatenate" not in kinds
    arrays = values(graph)
    for got, expected in zip(run(final, arrays, {}), run(graph, arrays, {}), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_chain_with_one_foreign_step_stays() -> None:
    graph = state_space(6, broken=True)
    final = PASSES.run(graph)
    assert "linear_scan" not in final.count()
    arrays = values(graph)
    np.testing.assert_allclose(run(final, arrays, {})[0], run(graph, arrays, {})[0], rtol=1e-6)


def test_short_loops_stay() -> None:
    assert "linear_scan" not in PASSES.run(state_space(3)).count()


def test_products_with_one_shared_matrix_are_not_joined() -> None:
    builder = GraphBuilder("shared")
    x, w = builder.input("x", (5, 2, 4), F32), builder.input("w", (4, 3), F32)
    op = ops.DotGeneral(((), ()), ((1,), (0,)))
    parts = [builder.add(op, pick(builder, x, 0, t), w) for t in range(5)]
    graph = builder.build([builder.add(ops.Concatenate(0), *parts)])
    assert PASSES.run(graph).count()["dot_general"] == 5


def test_elementwise_iterations_join() -> None:
    builder = GraphBuilder("rows")
    x = builder.input("x", (5, 6), F32)
    parts = [builder.add(ops.Tanh(), pick(builder, x, 1, t)) for t in range(6)]
    parts = [builder.add(ops.Reshape((5, 1)), part) for part in parts]
    graph = builder.build([builder.add(ops.Concatenate(1), *parts)])
    final = PASSES.run(graph)
    assert final.count()["tanh"] == 1
    (array,) = values(graph)
    np.testing.assert_array_equal(
        run(final, [array], {})[0], np.tanh(array.astype(np.float64)).astype(np.float32)
    )
