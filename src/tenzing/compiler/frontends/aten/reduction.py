"""ATen operations along dims: sums, norms, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.elementwise import truth
from tenzing.compiler.frontends.aten.translator import Number, Result, Translator, aten
from tenzing.compiler.graph import F32, Shape, Value, is_float

Dims = Sequence[int] | int | None


def _keep(t: Translator, value: Value, shape: Shape, dims: Shape, keep: bool) -> Value:
    """The reduced value, with dims of size 1 put back when asked."""
    if not keep:
        return value
    return t.reshape(value, [1 if d in dims else n for d, n in enumerate(shape)])


def reduce(t: Translator, kind: str, x: Value, dims: Dims, keepdim: bool = False) -> Value:
    """One reduction with PyTorch's dims and keepdim."""
    chosen = t.dims(dims, len(x.shape))
    value = t.emit(ops.Reduce(kind, chosen), x) if chosen else x
    return _keep(t, value, x.shape, chosen, keepdim)


@aten("sum.default", "sum.dim_IntList")
def _sum(
    t: Translator, x: Value, dims: Dims = None, keepdim: bool = False, dtype: object = None
) -> Result:
    return reduce(t, "add", t.convert(x, t.result.dtype), dims, keepdim)


@aten("mean.default", "mean.dim")
def _mean(
    t: Translator, x: Value, dims: Dims = None, keepdim: bool = False, dtype: object = None
) -> Result:
    return mean(t, t.convert(x, t.result.dtype), dims, keepdim)


def mean(t: Translator, x: Value, dims: Dims, keepdim: bool, correction: Number = 0) -> Value:
    """Sum over dims divided by their number of elements less ``correction``."""
    count = math.prod(x.shape[d] for d in t.dims(dims, len(x.shape))) - correction
    total = reduce(t, "add", x, dims, keepdim)
    return t.emit(ops.Multiply(), total, t.splat(1.0 / count, total.type))


@aten("var.correction", "var.dim")
def _var(
    t: Translator,
    x: Value,
    dims: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: Number | None = None,
) -> Result:
    less = correction if correction is not None else int(unbiased)
    centre = t.broadcast(mean(t, x, dims, True), x.shape)
    apart = t.emit(ops.Subtract(), x, centre)
    return mean(t, t.emit(ops.Multiply(), apart, apart), dims, keepdim, less)


@aten("var_mean.correction")
def _var_mean(
    t: Translator,
    x: Value,
    dims: Dims = None,
    correction: Number | None = None,
    keepdim: bool = False,
) -> Result:
    variance = _var(t, x, dims, True, keepdim, correction)
    average = mean(t, x, dims, keepdim)
    return (variance, average) if isinstance(variance, Value) else None


def _extreme(kind: str) -> Callable[..., Result]:
    def rule(t: Translator, x: Value, dims: Dims = None, keepdim: bool = False) -> Result:
        return reduce(t, kind, x, dims, keepdim)

    return rule


aten("amax.default", "max.default")(_extreme("maximum"))
aten("amin.default", "min.default")(_extreme("minimum"))


@aten("max.dim")
def _max_dim(t: Translator, x: Value, dim: int, keepdim: bool = False) -> Result:
    top = reduce(t, "maximum", x, dim, keepdim)
    return top, _argmax(t, x, dim, keepdim) if 1 in t.used else None


@aten("argmax.default")
def _argmax(t: Translator, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        flat = t.reshape(x, (x.type.elements,))
        return t.reshape(t.emit(ops.ArgMax(0, np.dtype(np.int64)), flat), t.result.shape)
    dim = t.dim(dim, len(x.shape))
    place = t.emit(ops.ArgMax(dim, np.dtype(np.int64)), x)
    return _keep(t, place, x.shape, (dim,), keepdim)


@aten("any.default", "any.dim", "any.dims", "_is_any_true.default")
def _any(t: Translator, x: Value, dims: Dims = None, keepdim: bool = False) -> Result:
    return reduce(t, "or", truth(t, x, x.shape), dims, keepdim)


@aten("all.default", "all.dim", "all.dims", "_is_all_true.default")
def _all(t: Translator, x: Value, dims: Dims = None, keepdim: bool = False) -> Result:
    return reduce(t, "and", truth(t, x, x.shape), dims, keepdim)


@aten("prod.default", "prod.dim_int")
def _prod(
    t: Translator, x: Value, dims: Dims = None, keepdim: bool = False, dtype: object = None
) -> Result:
    return reduce(t, "multiply", t.convert(x, t.result.dtype), dims, keepdim)


@aten("linalg_vector_norm.default", "norm.ScalarOpt_dim")
def _norm(
    t: Translator,
    x: Value,
    order: Number | None = 2,
    dims: Dims = None,
    keepdim: bool = False,
    dtype: object = None,
) -> Result:
    if order == math.inf:
        return reduce(t, "maximum", t.emit(ops.Abs(), x), dims, keepdim)
    if order == 1:
        return reduce(t, "add", t.emit(ops.Abs(), x), dims, keepdim)
    if order == -math.inf:
        return reduce(t, "minimum", t.emit(ops.Abs(), x), dims, keepdim)
    if order == 0:
        present = t.convert(truth(t, x, x.shape), x.dtype)
        return reduce(t, "add", present, dims, keepdim)
    if order not in (None, 2):
        size = t.emit(ops.Abs(), x)
        power = t.emit(ops.Power(), size, t.splat(order, x.type))
        total = reduce(t, "add", power, dims, keepdim)
        return t.emit(ops.Power(), total, t.splat(1.0 / order, total.type))
    return t.emit(ops.Sqrt(), reduce(t, "add", t.emit(ops.Multiply(), x, x), dims, keepdim))


@aten("softmax.int", "_softmax.default", "_safe_softmax.default")
def _softmax(t: Translator, x: Value, dim: int, dtype: object = None) -> Result:
    wide = t.convert(x, t.result.dtype)
    dim = t.dim(dim, len(x.shape))
    last = len(x.shape) - 1
    if dim == last:
        return t.emit(ops.Softmax(), wide)
    order = list(range(len(x.shape)))
    order[dim], order[last] = last, dim
    return t.transpose(t.emit(ops.Softmax(), t.transpose(wide, order)), order)


@aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(t: Translator, x: Value, dim: int, dtype: object = None) -> Result:
    wide = t.convert(x, t.result.dtype)
    top = t.broadcast(reduce(t, "maximum", wide, dim, True), x.shape)
    shifted = t.emit(ops.Subtract(), wide, top)
    total = reduce(t, "add", t.emit(ops.Exponential(), shifted), dim, True)
    return t.emit(ops.Subtract(), shifted, t.broadcast(t.emit(ops.Log(), total), x.shape))


def _rows(t: Translator, x: Value, shape: Sequence[int]) -> Value:
    """x with its normalised dims joined into one."""
    lead = x.shape[: len(x.shape) - len(shape)]
    return t.reshape(x, (*lead, math.prod(shape)))


def _flat(t: Translator, extras: Sequence[Value | None]) -> list[Value | None]:
    return [None if v is None else t.reshape(v, (v.type.elements,)) for v in extras]


def _layer_norm_rows(
    t: Translator, rows: Value, weight: Value | None, bias: Value | None, epsilon: float,
    statistics: bool = False,
) -> tuple[Value, ...]:  # fmt: skip
    weight, bias = _flat(t, (weight, bias))
    if bias is not None and weight is None:
        weight = t.splat(1, bias.type)
    extras = [v for v in (weight, bias) if v is not None]
    return t.emit_all(ops.LayerNorm(epsilon, statistics), rows, *extras)


@aten("layer_norm.default")
def _layer_norm(
    t: Translator,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Result:
    (out,) = _layer_norm_rows(t, _rows(t, x, shape), weight, bias, eps)
    return t.reshape(out, x.shape)


@aten("native_layer_norm.default")
def _native_layer_norm(
    t: Translator,
    x: Value,
    shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> Result:
    found = _layer_norm_rows(t, _rows(t, x, shape), weight, bias, eps, bool(t.used & {1, 2}))
    kept = (*x.shape[: len(x.shape) - len(shape)], *(1 for _ in shape))
    numbers = [t.reshape(row, kept) for row in found[1:]]
    return (t.reshape(found[0], x.shape), *(numbers or (None, None)))


@aten("native_layer_norm_backward.default")
def _layer_norm_backward(
    t: Translator, grad: Value, x: Value, shape: Sequence[int], average: Value, rstd: Value,
    weight: Value | None, bias: Value | None, wanted: Sequence[bool],
) -> Result:  # fmt: skip
    rows = _rows(t, x, shape)
    numbers = [t.reshape(t.convert(v, F32), rows.shape[:-1]) for v in (average, rstd)]
    (scale,) = _flat(t, (weight,))
    extras = [] if scale is None else [scale]
    op = ops.NormBackward(centred=True, weighted=weight is not None, biased=bias is not None)
    onto, *vectors = t.emit_all(op, _rows(t, grad, shape), rows, *numbers, *extras)
    found = [t.reshape(v, tuple(shape)) for v in vectors]
    for_weight = found.pop(0) if weight is not None else None
    return t.reshape(onto, x.shape), for_weight, (found[0] if bias is not None else None)


@aten("rms_norm.default")
def _rms_norm(
    t: Translator,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    eps: float | None = None,
) -> Result:
    epsilon = eps if eps is not None else _machine_epsilon(x)
    extras = [v for v in _flat(t, (weight,)) if v is not None]
    return t.reshape(t.emit(ops.RmsNorm(epsilon), _rows(t, x, shape), *extras), x.shape)


def _machine_epsilon(x: Value) -> float:
    if not is_float(x.dtype):
        raise ValueError(x)
    return float(np.finfo(np.float32).eps)
