"""Kernels that find, order and accumulate equal NumPy, on sizes beyond one tile too."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.kernels.indexing import (
    element_numbers,
    gather_columns,
    gather_rows,
    row_numbers,
)
from tenzing.kernels.reductions import reduce_middle
from tenzing.kernels.scans import cumulative
from tenzing.kernels.topk import top_k
from tenzing.nki import language as nl

from .test_kernels import normal, run

RANDOM = np.random.default_rng(5)


def whole(high: int, *shape: int) -> np.ndarray:
    return RANDOM.integers(0, high, shape).astype(np.int32)


def test_gather_clamps_indices_and_splits_wide_rows() -> None:
    table, index = normal(9, 8200), np.array([-3, 0, 8, 4, 99], np.int32)
    np.testing.assert_array_equal(run(gather_rows, table, index), table[[0, 0, 8, 4, 8]])


def test_gather_columns_takes_each_rows_own_places() -> None:
    x, index = normal(140, 20), whole(20, 140, 3)
    expected = np.take_along_axis(x, index, 1)
    np.testing.assert_array_equal(run(gather_columns, x, index), expected)


def test_row_and_element_numbers_keep_every_bit() -> None:
    size, inner = 2**20, 33
    index = np.array([[7], [2**20 - 1]], np.int32)
    rows = run(row_numbers, index, 3, size)
    np.testing.assert_array_equal(rows, np.arange(3)[:, None] * size + index.reshape(-1))
    places = run(element_numbers, np.broadcast_to(index[:, :, None], (2, 1, inner)).copy(), size,
                 inner)  # fmt: skip
    expected = (np.arange(2)[:, None, None] * size + index[:, :, None]) * inner + np.arange(inner)
    np.testing.assert_array_equal(places, expected)


@pytest.mark.parametrize(("columns", "k"), [(5, 5), (200, 20), (40000, 3), (33000, 17)])
@pytest.mark.parametrize("largest", [True, False])
def test_top_k_is_stable_on_rows_of_any_width(columns: int, k: int, largest: bool) -> None:
    x = np.random.default_rng(columns).integers(-50, 50, (3, columns)).astype(np.float32)
    x[0, :3] = -np.inf
    values, places = run(top_k, x, k, largest)
    order = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, 1))


@pytest.mark.parametrize("kind", ["add", "multiply", "maximum", "minimum"])
def test_cumulative_carries_over_blocks_of_columns(kind: str) -> None:
    x = normal(130, 4100) if kind != "multiply" else 1 + normal(3, 4100) / 1e3
    expected = getattr(np, kind).accumulate(x, axis=1)
    np.testing.assert_allclose(run(cumulative, x, kind), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 300, 7), (2, 5, 1000), (200, 3, 4), (3, 9000, 10)])
def test_reduce_middle(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    result = run(reduce_middle, x, nl.add)
    np.testing.assert_allclose(result, x.sum(1, dtype=np.float64), atol=1e-5 * shape[1] ** 0.5)
    np.testing.assert_array_equal(run(reduce_middle, x, nl.maximum), x.max(1))
