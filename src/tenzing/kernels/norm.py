"""Normalisation over the last dim: rows on partitions, statistics on Vector."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.tiles import load_row_broadcast, load_rows, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

STATS_FREE_MAX = 512  # elements one bn_stats call takes (vector.bn_stats_free_max)
STATS_WIDTH = 6  # statistics bn_stats writes per call


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
        mean, rstd = _statistics(tile, epsilon)
        last = scale is None and shift is None
        normal = nl.ndarray(
            (count, columns), dtype=out.dtype if last else nl.float32, buffer=nl.sbuf
        )
        nisa.tensor_scalar(
            dst=normal, data=tile, op0=nl.subtract, operand0=mean, op1=nl.multiply, operand1=rstd
        )
        for number, (vector, op) in enumerate(((scale, nl.multiply), (shift, nl.add))):
            if vector is None:
                continue
            final = number == 1 or shift is None
            target = nl.ndarray(
                (count, columns), dtype=out.dtype if final else nl.float32, buffer=nl.sbuf
            )
            nisa.tensor_tensor(
                dst=target, data1=normal, data2=vector[0:count, 0:columns], op=op
            )
            normal = target
        nisa.dma_copy(dst=out[start : start + count, 0:columns], src=normal)
    return out


def _statistics(tile: NkiTensor, epsilon: float) -> tuple[NkiTensor, NkiTensor]:
    """Mean and ``1 / sqrt(variance + epsilon)`` of every row, each [rows, 1]."""
    count, columns = tile.shape
    parts = list(spans(columns, STATS_FREE_MAX))
    stats = nl.ndarray((count, len(parts) * STATS_WIDTH), dtype=nl.float32, buffer=nl.sbuf)
    for number, (at, size) in enumerate(parts):
        place = number * STATS_WIDTH
        nisa.bn_stats(
            dst=stats[0:count, place : place + STATS_WIDTH], data=tile[0:count, at : at + size]
        )
    both = nl.ndarray((count, 2), dtype=nl.float32, buffer=nl.sbuf)
    nisa.bn_aggr(dst=both, data=stats)
    rstd = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
    # power on Vector: rsqrt on Scalar would swap the activation table for every row block
    nisa.tensor_scalar(
        dst=rstd, data=both[0:count, 1:2], op0=nl.add, operand0=epsilon,
        op1=nl.power, operand1=-0.5,
    )  # fmt: skip
    return both[0:count, 0:1], rstd


@jit
def softmax(x: NkiTensor, out_dtype: Any = None) -> NkiTensor:
    """``exp(x - max) / sum`` over the last dim of x [rows, columns]."""
    rows, columns = x.shape
    out = nl.ndarray((rows, columns), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    for start, count in spans(rows, nl.tile_size.pmax):
        tile = load_rows(x, start, count)
        lowest = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=lowest, op=nl.maximum, data=tile, axis=1, negate=True)
        powers = nl.ndarray((count, columns), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(
            dst=powers, op=nl.exp, data=tile, bias=lowest, reduce_op=nl.add, reduce_res=total,
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
        )  # fmt: skip
        inverse = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=total)
        done = nl.ndarray((count, columns), dtype=out.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=done, data=powers, op0=nl.multiply, operand0=inverse)
        nisa.dma_copy(dst=out[start : start + count, 0:columns], src=done)
    return out
