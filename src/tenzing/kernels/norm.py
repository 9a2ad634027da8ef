"""Normalisation over the last dim: rows on partitions, statistics on Vector."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.rows import normalise_rows, rms_rows, softmax_rows
from tenzing.kernels.tiles import load_row_broadcast, load_rows, move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor


@jit
def layer_norm(
    x: NkiTensor,
    gamma: NkiTensor | None,
    beta: NkiTensor | None,
    epsilon: float,
    residual: NkiTensor | None = None,
    out_dtype: Any = None,
) -> NkiTensor:
    """``(y - mean(y)) / sqrt(var(y) + epsilon) * gamma + beta`` with ``y = x + residual``.

    x, residual [rows, columns]; gamma, beta [columns].
    """
    rows, columns = x.shape
    pmax = nl.tile_size.pmax
    out = nl.ndarray((rows, columns), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    high = min(rows, pmax)
    scale = None if gamma is None else load_row_broadcast(gamma, 0, columns, high)
    shift = None if beta is None else load_row_broadcast(beta, 0, columns, high)
    for start, count in spans(rows, pmax):
        tile = load_rows(x, start, count)
        if residual is not None:
            extra = load_rows(residual, start, count)
            both = nl.ndarray((count, columns), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_tensor(dst=both, data1=tile, data2=extra, op=nl.add)
            tile = both
        done, _, _ = normalise_rows(tile, scale, shift, epsilon, out.dtype)
        move(out[start : start + count, 0:columns], done)
    return out


@jit
def rms_norm(
    x: NkiTensor, gamma: NkiTensor | None, epsilon: float, out_dtype: Any = None
) -> NkiTensor:
    """``x / sqrt(mean(x * x) + epsilon) * gamma``: x [rows, columns], gamma [columns].

    Scalar sums the squares of one block of rows while Vector scales the one before.
    """
    rows, columns = x.shape
    pmax = nl.tile_size.pmax
    out = nl.ndarray((rows, columns), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    scale = None if gamma is None else load_row_broadcast(gamma, 0, columns, min(rows, pmax))
    for start, count in spans(rows, pmax):
        done, _ = rms_rows(load_rows(x, start, count), scale, epsilon, out.dtype)
        move(out[start : start + count, 0:columns], done)
    return out


@jit
def softmax(x: NkiTensor, out_dtype: Any = None) -> NkiTensor:
    """``exp(x - max) / sum`` over the last dim of x [rows, columns]."""
    rows, columns = x.shape
    out = nl.ndarray((rows, columns), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    for start, count in spans(rows, nl.tile_size.pmax):
        done = softmax_rows(load_rows(x, start, count), out.dtype)
        move(out[start : start + count, 0:columns], done)
    return out
