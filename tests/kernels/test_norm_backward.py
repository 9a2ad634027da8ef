"""The backward form of norms equals float64 formulas, for odd sizes and rows wider than a block."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tenzing.compiler.ops import NormBackward
from tenzing.kernels.norm_backward import norm_backward

from .running import normal, run

BF16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (130, 77), (257, 64), (5, 2500)])
@pytest.mark.parametrize("centred", [True, False])
def test_norm_backward(rows: int, columns: int, centred: bool) -> None:
    x, grad = normal(rows, columns) * 3 + 1, normal(rows, columns, seed=1)
    gamma, extra = normal(columns, seed=2), normal(rows, columns, seed=3)
    mean = x.mean(1) if centred else None
    rstd = 1 / np.sqrt(((x - (0 if mean is None else mean[:, None])) ** 2).mean(1) + 1e-5)
    found = run(norm_backward, grad, x, mean, rstd, gamma, centred, extra)
    op = NormBackward(centred, weighted=True, biased=centred, residual=True)
    given = [grad, x, *([] if mean is None else [mean]), rstd, gamma, extra]
    for mine, theirs in zip(found, op.reference(*given), strict=True):
        np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, rtol=2e-4, atol=2e-4)


def test_norm_backward_in_bf16_without_weight() -> None:
    x, grad = normal(40, 96).astype(BF16), normal(40, 96, seed=1).astype(BF16)
    rstd = normal(40, seed=2) ** 2 + 1
    (found,) = run(norm_backward, grad, x, None, rstd)
    (expected,) = NormBackward(False).reference(grad, x, rstd)
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol=1e-2,
                               atol=1e-2)  # fmt: skip
