"""Every kernel of the library equals NumPy, on odd sizes too, and is legal on every chip."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tenzing import facts, kernels

from .running import normal, run

BF16 = np.dtype(ml_dtypes.bfloat16)
CHIPS = facts.chips()


@pytest.mark.parametrize("columns", [384, 700])
def test_layer_norm(columns: int) -> None:
    x, extra = normal(150, columns), normal(150, columns, seed=1)
    gamma, beta = normal(columns, seed=2), normal(columns, seed=3)
    result = run(kernels.layer_norm, x, gamma, beta, 1e-12, extra)
    y = x.astype(np.float64) + extra
    expected = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(result, expected * gamma + beta, rtol=1e-4, atol=1e-4)


def test_softmax() -> None:
    x = normal(130, 77) * 5
    y = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(
        run(kernels.softmax, x), y / y.sum(1, keepdims=True), rtol=1e-5, atol=1e-6
    )


def test_gather_rows() -> None:
    table, rows = normal(1000, 48), np.random.default_rng(0).integers(0, 1000, 300).astype(np.int32)
    np.testing.assert_array_equal(run(kernels.gather_rows, table, rows), table[rows])


@pytest.mark.parametrize("chip", CHIPS)
def test_linear_is_legal_and_the_same_on_every_chip(chip: str) -> None:
    x, w = normal(32, 128), normal(128, 64, seed=1)
    reference = run(kernels.linear, x, w)
    np.testing.assert_array_equal(run(kernels.linear, x, w, target=chip), reference)
