"""Row reductions: the fixed order, its bound, and what has no order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.isa import numerics

COMBINE = {"add": lambda x, y: x + y, "multiply": lambda x, y: x * y}


def by_definition(op: str, row: np.ndarray) -> np.float32:
    """One row, one number at a time."""
    lanes: dict[int, np.float32] = {}
    with np.errstate(all="ignore"):
        for i, value in enumerate(row):
            lane = i % 16
            lanes[lane] = COMBINE[op](lanes[lane], value) if lane in lanes else value
        for half in (8, 4, 2, 1):
            for lane in range(half):
                if lane + half in lanes:
                    lanes[lane] = COMBINE[op](lanes[lane], lanes.pop(lane + half))
    return lanes[0]


@pytest.mark.parametrize("op", COMBINE)
@pytest.mark.parametrize("rows", [1, 3, 130])
@pytest.mark.parametrize("count", [1, 2, 7, 15, 16, 17, 31, 32, 33, 100, 513])
def test_bits_follow_the_definition(op: str, rows: int, count: int) -> None:
    values = np.random.default_rng(count).standard_normal((rows, count)).astype(np.float32)
    values += np.float32(1)
    found = numerics.row_reduce(op, values)
    picked = list(range(0, rows, 50))
    expected = [by_definition(op, values[i]) for i in picked]
    assert found.shape == (rows,)
    assert found[picked].tolist() == [float(x) for x in expected]


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 2000))
def test_sums_stay_within_the_stated_bound(seed: int, rows: int, count: int) -> None:
    values = np.random.default_rng(seed).standard_normal((rows, count)).astype(np.float32)
    exact = values.astype(np.float64)
    error = np.abs(numerics.row_sum(values) - exact.sum(axis=1))
    assert np.all(error <= count * 2.0**-24 * np.abs(exact).sum(axis=1))


def test_a_row_does_not_depend_on_how_many_there_are() -> None:
    values = np.random.default_rng(0).standard_normal((128, 1000)).astype(np.float32)
    whole = numerics.row_sum(values)
    assert np.array_equal(whole[:3], numerics.row_sum(values[:3]))
    assert np.array_equal(whole, numerics.row_sum(np.asfortranarray(values)))


def test_trailing_axes_are_flattened_in_order() -> None:
    values = np.random.default_rng(1).standard_normal((4, 3, 5, 7)).astype(np.float32)
    flat = numerics.row_sum(values.reshape(12, 35)).reshape(4, 3)
    assert np.array_equal(numerics.row_sum(values, (2, 3)), flat)
    assert np.array_equal(numerics.row_sum(values, (3, -2)), flat)
    kept = numerics.row_sum(values, (2, 3), keepdims=True)
    assert kept.shape == (4, 3, 1, 1)
    assert np.array_equal(kept[..., 0, 0], flat)
    assert numerics.row_sum(values, (0, 1, 2, 3)).shape == ()


@pytest.mark.parametrize("op", ["max", "min"])
def test_maximum_and_minimum_are_exact_and_keep_nan(op: str) -> None:
    values = np.random.default_rng(2).standard_normal((20, 77)).astype(np.float32)
    found = numerics.row_reduce(op, values)
    assert np.array_equal(found, getattr(np, op)(values, axis=1))
    values[5, 3] = np.nan
    assert np.isnan(numerics.row_reduce(op, values)).nonzero()[0].tolist() == [5]


def test_other_operators_go_in_sequence() -> None:
    values = np.float32([[10, 1, 2, 3], [1, 1, 0, 1]])
    assert numerics.row_reduce("subtract", values).tolist() == [4, -1]
    assert numerics.row_reduce("logical_and", values).tolist() == [1, 0]
    assert numerics.row_reduce("logical_xor", values).tolist() == [0, 1]
    assert numerics.row_reduce("average", values).tolist() == [4, 0.75]


def test_typed_input_is_widened_first() -> None:
    values = np.full((2, 300), 200, np.uint8)
    assert numerics.row_sum(values).tolist() == [60000, 60000]


def test_nan_and_infinity_spread() -> None:
    values = np.ones((3, 40), np.float32)
    values[0, 20], values[1, 20] = np.nan, np.inf
    found = numerics.row_sum(values)
    assert np.isnan(found[0])
    assert found[1:].tolist() == [np.inf, 40]


@pytest.mark.parametrize("op", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bitwise_reductions_keep_the_dtype(op: str) -> None:
    values = np.random.default_rng(3).integers(-(2**31), 2**31, (5, 3, 9), np.int32)
    expected = getattr(np, op).reduce(values.reshape(5, 27), axis=1)
    found = numerics.bit_reduce(op, values, (1, 2))
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)


def test_wrong_reductions_are_refused() -> None:
    values = np.ones((2, 3, 4), np.float32)
    with pytest.raises(UsageError, match="must be the last ones of 3; got 1"):
        numerics.row_reduce("add", values, 1)
    with pytest.raises(UsageError, match="not an arithmetic operator"):
        numerics.row_reduce("bitwise_and", values)
    with pytest.raises(UsageError, match="not an arithmetic operator"):
        numerics.row_reduce("square", values)
    with pytest.raises(UsageError, match="got add of float32"):
        numerics.bit_reduce("add", values)
    with pytest.raises(UsageError, match="nothing to reduce"):
        numerics.row_sum(np.ones((2, 0), np.float32))
