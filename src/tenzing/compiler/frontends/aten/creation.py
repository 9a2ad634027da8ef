"""ATen operations that make tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.translator import Number, Result, Translator, aten
from tenzing.compiler.graph import TensorType, Value


@aten("arange.start_step", "arange.start", "arange.default")
def _arange(t: Translator, *bounds: Number, **_: object) -> Result:
    (size,) = t.result.shape
    start, step = (0, 1) if len(bounds) == 1 else (bounds[0], (*bounds, 1)[2])
    line = t.emit(ops.Iota((size,), t.result.dtype, 0))
    if step != 1:
        line = t.emit(ops.Multiply(), line, t.splat(step, line.type))
    return line if start == 0 else t.emit(ops.Add(), line, t.splat(start, line.type))


@aten("full.default", "full_like.default", "new_full.default")
def _full(t: Translator, _: object, *rest: Number, **named: Number) -> Result:
    number = named.get("fill_value", rest[-1] if rest else 0)
    return t.splat(number, t.result)


@aten(
    "zeros.default",
    "zeros_like.default",
    "new_zeros.default",
    "empty.memory_format",
    "empty_like.default",
    "new_empty.default",
    "empty_strided.default",
    "new_empty_strided.default",
    "empty_permuted.default",
)
def _zeros(t: Translator, *_: object, **__: object) -> Result:
    return t.splat(0, t.result)


@aten("ones.default", "ones_like.default", "new_ones.default")
def _ones(t: Translator, *_: object, **__: object) -> Result:
    return t.splat(1, t.result)


@aten("scalar_tensor.default")
def _scalar(t: Translator, number: Number, **_: object) -> Result:
    return t.splat(number, t.result)


@aten("fill.Scalar")
def _fill(t: Translator, _: Value, number: Number) -> Result:
    return t.splat(number, t.result)


@aten("copy.default")
def _copy(t: Translator, _: Value, source: Value) -> Result:
    return t.tensor(source, t.result.shape, t.result.dtype)


@aten("tril.default")
def _tril(t: Translator, x: Value, diagonal: int = 0) -> Result:
    return _triangle(t, x, "le", diagonal)


@aten("triu.default")
def _triu(t: Translator, x: Value, diagonal: int = 0) -> Result:
    return _triangle(t, x, "ge", diagonal)


def _triangle(t: Translator, x: Value, direction: str, diagonal: int) -> Value:
    index = TensorType(x.shape[-2:], np.dtype(np.int32))
    row = t.emit(ops.Iota(index.shape, index.dtype, 0))
    column = t.emit(ops.Iota(index.shape, index.dtype, 1))
    edge = t.emit(ops.Add(), row, t.splat(diagonal, index))
    kept = t.broadcast(t.emit(ops.Compare(direction), column, edge), x.shape)
    return t.emit(ops.Select(), kept, x, t.splat(0, x.type))


@aten("eye.default", "eye.m")
def _eye(t: Translator, *_: Sequence[int], **__: object) -> Result:
    index = TensorType(t.result.shape, np.dtype(np.int32))
    row, column = (t.emit(ops.Iota(index.shape, index.dtype, dim)) for dim in (0, 1))
    return t.convert(t.emit(ops.Compare("eq"), row, column), t.result.dtype)


@aten("tril_indices.default")
def _tril_indices(t: Translator, rows: int, columns: int, offset: int = 0, **_: object) -> Result:
    places = np.stack(np.tril_indices(rows, offset, columns))
    return t.emit(ops.Constant.of(places.astype(t.result.dtype)))


@aten("triu_indices.default")
def _triu_indices(t: Translator, rows: int, columns: int, offset: int = 0, **_: object) -> Result:
    places = np.stack(np.triu_indices(rows, offset, columns))
    return t.emit(ops.Constant.of(places.astype(t.result.dtype)))
