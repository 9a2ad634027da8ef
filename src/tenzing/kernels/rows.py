"""Row-wise work on tiles already in SBUF: statistics, normalisation, softmax."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.tiles import spans
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

STATS_FREE_MAX = 512  # elements one bn_stats call takes (vector.bn_stats_free_max)
STATS_WIDTH = 6  # statistics bn_stats writes per call


def row_statistics(tile: NkiTensor, epsilon: float) -> tuple[NkiTensor, NkiTensor]:
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
    # power on GpSimd: rsqrt on Scalar would swap the activation table for every row block
    nisa.tensor_scalar(
        dst=rstd, data=both[0:count, 1:2], op0=nl.add, operand0=epsilon,
        op1=nl.power, operand1=-0.5,
    )  # fmt: skip
    return both[0:count, 0:1], rstd


def normalise_rows(
    tile: NkiTensor, scale: NkiTensor | None, shift: NkiTensor | None, epsilon: float, dtype: Any
) -> tuple[NkiTensor, NkiTensor, NkiTensor]:
    """Layer norm, mean and one over the deviation of every row.

    ``scale`` and ``shift`` are tiles of at least as many rows.

    Vector takes the statistics and ``(x - mean) * scale``, Scalar the division by the deviation
    and GpSimd the shift, so that three engines work on three blocks of rows at a time.
    """
    count, columns = tile.shape
    mean, rstd = row_statistics(tile, epsilon)

    def fresh(last: bool) -> NkiTensor:
        return nl.ndarray((count, columns), dtype=dtype if last else nl.float32, buffer=nl.sbuf)

    normal = fresh(shift is None)
    if scale is None:
        nisa.tensor_scalar(
            dst=normal, data=tile, op0=nl.subtract, operand0=mean, op1=nl.multiply, operand1=rstd
        )
    else:
        centred = fresh(False)
        nisa.scalar_tensor_tensor(
            dst=centred, data=tile, op0=nl.subtract, operand0=mean, op1=nl.multiply,
            operand1=scale[0:count, 0:columns],
        )  # fmt: skip
        nisa.activation(dst=normal, op=nl.copy, data=centred, scale=rstd)
    if shift is None:
        return normal, mean, rstd
    done = fresh(True)
    nisa.tensor_tensor(
        dst=done, data1=normal, data2=shift[0:count, 0:columns], op=nl.add,
        engine=nisa.engine.gpsimd,
    )  # fmt: skip
    return done, mean, rstd


def rms_rows(
    tile: NkiTensor, scale: NkiTensor | None, epsilon: float, dtype: Any
) -> tuple[NkiTensor, NkiTensor]:
    """``x / sqrt(mean(x * x) + epsilon) * scale`` of every row, and one over its root."""
    count, columns = tile.shape
    squares = nl.ndarray((count, columns), dtype=nl.float32, buffer=nl.sbuf)
    total = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(
        dst=squares, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )  # fmt: skip
    mean, inverse = (nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf) for _ in range(2))
    nisa.tensor_scalar(
        dst=mean, data=total, op0=nl.multiply, operand0=1.0 / columns, op1=nl.add, operand1=epsilon
    )
    nisa.tensor_scalar(dst=inverse, data=mean, op0=nl.power, operand0=-0.5)
    done = nl.ndarray((count, columns), dtype=dtype, buffer=nl.sbuf)
    if scale is None:
        nisa.tensor_scalar(dst=done, data=tile, op0=nl.multiply, operand0=inverse)
    else:
        nisa.scalar_tensor_tensor(
            dst=done, data=tile, op0=nl.multiply, operand0=inverse, op1=nl.multiply,
            operand1=scale[0:count, 0:columns],
        )  # fmt: skip
    return done, inverse


def softmax_rows(tile: NkiTensor, dtype: Any) -> NkiTensor:
    """``exp(x - max) / sum`` of every row."""
    count, columns = tile.shape
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
    done = nl.ndarray((count, columns), dtype=dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=done, data=powers, op0=nl.multiply, operand0=inverse)
    return done
