"""Whole numbers on the chip wrap and keep every bit, as NumPy's do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import BOOL, GraphBuilder
from tenzing.compiler.passes import default_pipeline


def on_chip(make: Callable[..., Any], *arrays: Any) -> tuple[Any, dict[str, int]]:
    builder = GraphBuilder("whole")
    inputs = [builder.input(f"x{n}", a.shape, a.dtype) for n, a in enumerate(arrays)]
    graph = default_pipeline().run(builder.build([make(builder, *inputs)]))
    return run_graph(graph, arrays, {}, "trn2")[0][0], graph.count()


def drawn(shape: tuple[int, ...], dtype: Any) -> Any:
    limits = np.iinfo(dtype)
    generator = np.random.default_rng(0)
    return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
@pytest.mark.parametrize("shape", [(3, 5), (2, 300), (1, 1)])
def test_sums_of_words_wrap(dtype: Any, shape: tuple[int, int]) -> None:
    x = drawn(shape, dtype)
    for dims in ((0,), (1,), (0, 1)):
        got, _ = on_chip(lambda b, v, dims=dims: b.add(ops.Reduce("add", dims), v), x)
        np.testing.assert_array_equal(got, x.sum(dims, dtype=dtype))
    for dim in (0, 1):
        got, _ = on_chip(lambda b, v, dim=dim: b.add(ops.Cumulative("add", dim), v), x)
        np.testing.assert_array_equal(got, x.cumsum(dim, dtype=dtype))


def test_the_largest_words_of_a_long_row_add_up() -> None:
    x = np.full((1, 4097), np.iinfo(np.uint32).max, np.uint32)
    got, _ = on_chip(lambda b, v: b.add(ops.Reduce("add", (1,)), v), x)
    np.testing.assert_array_equal(got, x.sum(1, dtype=np.uint32))


def test_counts_of_truths_stay_one_sum() -> None:
    def count(builder: Any, x: Any) -> Any:
        return builder.add(ops.Reduce("add", (1,)), builder.add(ops.Convert(np.dtype(np.int32)), x))

    x = drawn((4, 9), np.int32) > 0
    assert x.dtype == BOOL
    got, kinds = on_chip(count, x)
    np.testing.assert_array_equal(got, x.sum(1))
    assert kinds == {"fused": 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32])
@pytest.mark.parametrize("shape", [(7,), (5, 1), (3, 4, 5)])
def test_not_inverts_every_bit(dtype: Any, shape: tuple[int, ...]) -> None:
    x = drawn(shape, dtype)
    got, _ = on_chip(lambda b, v: b.add(ops.Not(), v), x)
    np.testing.assert_array_equal(got, ~x)
