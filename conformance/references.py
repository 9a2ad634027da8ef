"""What the sample kernels compute, in NumPy and float64 where it costs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def matmul(lhs_transposed: Array, rhs: Array) -> Array:
    """``lhsT.T @ rhs`` in float64."""
    return lhs_transposed.astype(np.float64).T @ rhs.astype(np.float64)


def attention(q: Array, k: Array, v: Array) -> Array:
    """Softmax attention without scaling; operands are ``[d_head, seqlen]``."""
    scores = q.astype(np.float64).T @ k.astype(np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True) @ v.astype(np.float64).T


def selective_scan(delta: Array, u: Array, a: Array, b: Array, c: Array) -> Array:
    """The Mamba recurrence: ``h[t] = exp(delta a) h[t-1] + delta b u``, ``y = sum_s c h``."""
    batch, channels, length = delta.shape
    out = np.zeros((batch, channels, length))
    for n in range(batch):
        state = np.zeros((channels, a.shape[1]))
        for t in range(length):
            step = delta[n, :, t, None].astype(np.float64)
            drive = step * b[n, :, t][None, :] * u[n, :, t, None]
            state = np.exp(step * a) * state + drive
            out[n, :, t] = state @ c[n, :, t].astype(np.float64)
    return out


def max_pool(image: Array, size: int) -> Array:
    """Maximum of every ``size x size`` window, stride 1."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    return windows.max((2, 3)).astype(np.float64)


def upsample(values: Array) -> Array:
    """Twice the size in every dim after the first two, linear between pixel centres."""
    out = values.astype(np.float64)
    for axis in range(2, out.ndim):
        count = out.shape[axis]
        before = np.take(out, np.maximum(np.arange(count) - 1, 0), axis)
        after = np.take(out, np.minimum(np.arange(count) + 1, count - 1), axis)
        pair = np.stack([0.25 * before + 0.75 * out, 0.75 * out + 0.25 * after], axis + 1)
        out = pair.reshape(*out.shape[:axis], 2 * count, *out.shape[axis + 1 :])
    return out


def relative_error(result: Array, expected: Array) -> float:
    """Largest difference over the largest expected magnitude; NaN counts as infinite."""
    difference = np.abs(np.asarray(result, np.float64) - expected)
    if not np.isfinite(difference).all():
        return float("inf")
    return float(difference.max() / max(float(np.abs(expected).max()), np.finfo(np.float64).tiny))
