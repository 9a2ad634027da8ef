"""ONNX quantisation: numbers of few bits with a scale and a zero point.

The chip has no 8-bit integer products: quantised numbers are widened, and what they stand for is
computed in float32, as the model defines it.
"""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.onnx_ops.contraction import product
from tenzing.compiler.frontends.onnx_ops.elementwise import converted
from tenzing.compiler.frontends.onnx_ops.translator import Item, Translator, onnx
from tenzing.compiler.graph import F32, Value, is_float

UINT8: Final = np.dtype(np.uint8)


def _spread(t: Translator, x: Value, row: Value, axis: int, block: int) -> Value:
    """A scale or zero point beside every element: one for all, per axis or per block."""
    if len(row.shape) == len(x.shape) and block:
        dim = t.axis(axis, len(x.shape))
        wide = (*row.shape[: dim + 1], block, *row.shape[dim + 1 :])
        dims = tuple(d for d in range(len(wide)) if d != dim + 1)
        joined = (*row.shape[:dim], row.shape[dim] * block, *row.shape[dim + 1 :])
        whole = t.reshape(t.emit(ops.BroadcastInDim(wide, dims), row), joined)
        start = (0,) * len(x.shape)
        return t.emit(ops.Slice(start, x.shape, (1,) * len(x.shape)), whole)
    if len(row.shape) == 1 and row.shape[0] > 1:
        return t.emit(ops.BroadcastInDim(x.shape, (t.axis(axis, len(x.shape)),)), row)
    return t.broadcast(t.reshape(row, ()) if row.type.elements == 1 else row, x.shape)


@onnx("DequantizeLinear", since=10)
def _dequantize(
    t: Translator, x: Value, scale: Value, zero: Value | None = None, *, axis: int = 1,
    block_size: int = 0, output_dtype: int = 0,
) -> Item:  # fmt: skip
    wide = t.convert(x, F32)
    if zero is not None and not _is_zero(t, zero):
        point = _spread(t, x, t.convert(zero, F32), axis, block_size)
        wide = t.emit(ops.Subtract(), wide, point)
    factor = _spread(t, x, t.convert(scale, F32), axis, block_size)
    result = t.emit(ops.Multiply(), wide, factor)
    return t.convert(result, t.dtype(output_dtype) if output_dtype else scale.dtype)


def _is_zero(t: Translator, value: Value) -> bool:
    known = t.known(value)
    return known is not None and not known.astype(np.float32).any()


@onnx("QuantizeLinear", since=10)
def _quantize(
    t: Translator, x: Value, scale: Value, zero: Value | None = None, *, axis: int = 1,
    block_size: int = 0, output_dtype: int = 0, saturate: int = 1, precision: int = 0,
) -> Item:  # fmt: skip
    dtype = t.dtype(output_dtype) if output_dtype else zero.dtype if zero is not None else UINT8
    factor = _spread(t, x, t.convert(scale, F32), axis, block_size)
    scaled = t.emit(ops.Divide(), t.convert(x, F32), factor)
    point = None if zero is None else _spread(t, x, t.convert(zero, F32), axis, block_size)
    return quantised(t, scaled, point, dtype, bool(saturate))


def quantised(
    t: Translator, scaled: Value, point: Value | None, dtype: np.dtype[Any], saturate: bool = True
) -> Value:
    """Scaled numbers rounded to even, moved by the zero point and held in the range of a dtype."""
    if is_float(dtype):
        total = scaled if point is None else t.emit(ops.Add(), scaled, point)
        return converted(t, total, dtype, saturate)
    total = t.emit(ops.RoundNearestEven(), scaled)
    if point is not None:
        total = t.emit(ops.Add(), total, point)
    limits = ml_dtypes.iinfo(dtype)
    return t.convert(t.apply(ops.Clamp(), float(limits.min), total, float(limits.max)), dtype)


@onnx("QLinearMatMul", since=10)
def _quantised_matmul(
    t: Translator, x: Value, x_scale: Value, x_zero: Value, y: Value, y_scale: Value,
    y_zero: Value, scale: Value, zero: Value,
) -> Item:  # fmt: skip
    left, right = (t.apply(ops.Subtract(), t.convert(v, F32), t.convert(z, F32))
                   for v, z in ((x, x_zero), (y, y_zero)))  # fmt: skip
    total = product(t, left, right)
    own = t.apply(ops.Multiply(), t.convert(x_scale, F32), t.convert(y_scale, F32))
    factor = t.apply(ops.Divide(), own, t.convert(scale, F32))
    scaled = t.apply(ops.Multiply(), total, factor)
    return quantised(t, scaled, t.broadcast(t.convert(zero, F32), scaled.shape), zero.dtype)
