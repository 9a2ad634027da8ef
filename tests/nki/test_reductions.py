"""Reductions and norms against NumPy, over the axes a tile can reduce."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nki.kernels_for_tests import ones, programs, run

from tenzing.errors import KernelError
from tenzing.nki import language as nl

F32 = np.float32


def values(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(F32)


def as_tile(result: Any) -> Any:
    """A tile has at least two dims."""
    return result[:, None] if result.ndim == 1 else result


@pytest.mark.parametrize("name", ["sum", "max", "min", "prod", "mean"])
@pytest.mark.parametrize("axis", [1, 2, -1, (1, 2), [2, 1]])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_agree_with_numpy(name: str, axis: Any, keepdims: bool) -> None:
    x = values(4, 3, 8)
    result = run(lambda t: getattr(nl, name)(t, axis, keepdims=keepdims), x)
    axes = tuple(axis) if isinstance(axis, list) else axis
    expected = as_tile(getattr(np, name)(x, axis=axes, keepdims=keepdims))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert result.shape == expected.shape


def test_reducing_dims_that_are_not_last_permutes_the_view() -> None:
    x = values(4, 2, 3, 5)
    np.testing.assert_allclose(run(lambda t: nl.sum(t, (1, 3)), x), x.sum((1, 3)), rtol=1e-6)


def test_all_is_one_where_nothing_is_zero() -> None:
    x = ones(3, 8)
    x[1, 4] = 0
    np.testing.assert_array_equal(run(lambda t: nl.all(t, 1), x), [[1], [0], [1]])


@pytest.mark.parametrize("free", [8, 512, 1100])
def test_variance_by_statistics(free: int) -> None:
    x = values(4, free)
    result = run(lambda t: nl.var(t, 1), x)
    np.testing.assert_allclose(result, x.var(1, keepdims=True), rtol=1e-4)


def test_variance_along_one_of_two_dims_keeps_it() -> None:
    x = values(4, 3, 16)
    result = run(lambda t: nl.var(t, 2), x)
    np.testing.assert_allclose(result, x.var(2, keepdims=True), rtol=1e-4)


def softmax(x: Any, axis: Any) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 8), st.integers(1, 64), st.floats(-50, 50))
def test_softmax_rows_sum_to_one_and_ignore_a_shift(rows: int, columns: int, shift: float) -> None:
    x = values(rows, columns)
    result = run(nl.softmax, x)
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(run(nl.softmax, x + F32(shift)), result, rtol=1e-4)


def test_softmax_over_chosen_axes() -> None:
    x = values(4, 3, 8)
    np.testing.assert_allclose(run(lambda t: nl.softmax(t, 2), x), softmax(x, 2), rtol=1e-5)
    np.testing.assert_allclose(run(lambda t: nl.softmax(t, (1, 2)), x), softmax(x, (1, 2)),
                               rtol=1e-5)  # fmt: skip


def test_softmax_sums_for_free_with_the_exponential() -> None:
    def kernel(x: Any) -> None:
        nl.softmax(nl.load(x))

    expected = ["dma_copy", "tensor_reduce", "activation", "reciprocal", "tensor_scalar"]
    assert programs(kernel, ones(4, 8)) == [expected]


def test_rms_norm() -> None:
    x, w = values(4, 16), values(4, 16)
    result = run(lambda t, g: nl.rms_norm(t, g, axis=1, n=16), x, w)
    expected = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6) * w
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_reductions_round_to_the_dtype_asked_for() -> None:
    x = values(4, 16).astype(ml_dtypes.bfloat16)
    assert run(lambda t: nl.sum(t, 1), x).dtype == ml_dtypes.bfloat16
    assert run(lambda t: nl.sum(t, 1, dtype=nl.float32), x).dtype == F32


@pytest.mark.parametrize("axis", [0, (0, 1), 2, -2, ()])
def test_the_partition_dim_cannot_be_reduced(axis: Any) -> None:
    with pytest.raises(KernelError, match="free dims 1 to 1") as caught:
        run(lambda t: nl.sum(t, axis), ones(4, 8))
    assert "nl.matmul of a tile of ones" in caught.value.render()
