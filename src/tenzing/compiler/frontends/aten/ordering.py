"""ATen operations that order elements or run along a dim: top-k, sort, cumulative ones."""

from __future__ import annotations

from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.reduction import reduce
from tenzing.compiler.frontends.aten.translator import Result, Translator, aten
from tenzing.compiler.graph import Value

INDEX: Final = np.dtype(np.int64)


def _turned(t: Translator, x: Value, dim: int) -> Value:
    """x with ``dim`` and the last dim swapped, which undoes itself."""
    order = list(range(len(x.shape)))
    order[dim], order[-1] = order[-1], order[dim]
    return t.transpose(x, order)


@aten("topk.default")
def _topk(
    t: Translator, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Result:
    if not x.shape:
        return x, t.splat(0, x.type.with_dtype(INDEX))
    dim = t.dim(dim, len(x.shape))
    rows = _turned(t, x, dim)
    if largest:
        values, places = t.emit_all(ops.TopK(k, INDEX), rows)
    else:
        opposite, places = t.emit_all(ops.TopK(k, INDEX), t.emit(ops.Negate(), rows))
        values = t.emit(ops.Negate(), opposite)
    return _turned(t, values, dim), _turned(t, places, dim)


@aten("sort.default")
def _sort(t: Translator, x: Value, dim: int = -1, descending: bool = False) -> Result:
    if not x.shape:
        return x, t.splat(0, x.type.with_dtype(INDEX))
    return t.emit_all(ops.Sort(t.dim(dim, len(x.shape)), descending, INDEX), x)


@aten("sort.stable")
def _sort_stable(
    t: Translator, x: Value, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Result:
    return _sort(t, x, dim, descending)


@aten("argsort.default", "argsort.stable")
def _argsort(t: Translator, x: Value, dim: int = -1, descending: bool = False, **_: bool) -> Result:
    result = _sort(t, x, dim, descending)
    return result[1] if isinstance(result, tuple) else None


@aten("msort.default")
def _msort(t: Translator, x: Value) -> Result:
    result = _sort(t, x, 0)
    return result[0] if isinstance(result, tuple) else None


@aten("kthvalue.default")
def _kth(t: Translator, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> Result:
    result = _sort(t, x, dim)
    if not isinstance(result, tuple) or not x.shape:
        return result
    dim = t.dim(dim, len(x.shape))
    start, limit = [0] * len(x.shape), list(x.shape)
    start[dim], limit[dim] = k - 1, k
    picked = ops.Slice(tuple(start), tuple(limit), (1,) * len(x.shape))
    shape = [n for d, n in enumerate(x.shape) if d != dim]
    if keepdim:
        shape.insert(dim, 1)
    return tuple(t.reshape(t.emit(picked, v), shape) for v in result if v is not None)


@aten("median.dim")
def _median(t: Translator, x: Value, dim: int, keepdim: bool = False) -> Result:
    return _kth(t, x, (x.shape[t.dim(dim, len(x.shape))] + 1) // 2, dim, keepdim)


@aten("median.default")
def _median_of_all(t: Translator, x: Value) -> Result:
    result = _median(t, t.reshape(x, (x.type.elements,)), 0)
    return result[0] if isinstance(result, tuple) else None


@aten("argmin.default")
def _argmin(t: Translator, x: Value, dim: int | None = None, keepdim: bool = False) -> Result:
    opposite = t.emit(ops.Negate(), x)
    if dim is None:
        opposite, at = t.reshape(opposite, (x.type.elements,)), 0
    else:
        at = t.dim(dim, len(x.shape))
    return t.reshape(t.emit(ops.ArgMax(at, INDEX), opposite), t.result.shape)


@aten("min.dim")
def _min_dim(t: Translator, x: Value, dim: int, keepdim: bool = False) -> Result:
    low = reduce(t, "minimum", x, dim, keepdim)
    if 1 not in t.used:
        return low, None
    place = t.emit(ops.ArgMax(t.dim(dim, len(x.shape)), INDEX), t.emit(ops.Negate(), x))
    return low, t.reshape(place, low.shape)


def _running(t: Translator, kind: str, x: Value, dim: int) -> Value:
    return t.emit(ops.Cumulative(kind, t.dim(dim, len(x.shape))), x) if x.shape else x


@aten("cumsum.default")
def _cumsum(t: Translator, x: Value, dim: int, dtype: object = None) -> Result:
    return _running(t, "add", t.convert(x, t.result.dtype), dim)


@aten("cumprod.default")
def _cumprod(t: Translator, x: Value, dim: int, dtype: object = None) -> Result:
    return _running(t, "multiply", t.convert(x, t.result.dtype), dim)


@aten("cummax.default")
def _cummax(t: Translator, x: Value, dim: int) -> Result:
    return _running_extreme(t, "maximum", x, dim)


@aten("cummin.default")
def _cummin(t: Translator, x: Value, dim: int) -> Result:
    return _running_extreme(t, "minimum", x, dim)


def _running_extreme(t: Translator, kind: str, x: Value, dim: int) -> Result:
    """The extreme so far, and the latest place that reached it."""
    best = _running(t, kind, x, dim)
    if 1 not in t.used:
        return best, None
    if not x.shape:
        return best, t.splat(0, x.type.with_dtype(INDEX))
    line = t.emit(ops.Iota(x.shape, INDEX, t.dim(dim, len(x.shape))))
    here = t.emit(ops.Compare("eq"), x, best)
    reached = t.emit(ops.Select(), here, line, t.splat(0, line.type))
    return best, _running(t, "maximum", reached, dim)


@aten("logcumsumexp.default")
def _logcumsumexp(t: Translator, x: Value, dim: int) -> Result:
    top = t.broadcast(reduce(t, "maximum", x, dim, True), x.shape)
    power = t.emit(ops.Exponential(), t.emit(ops.Subtract(), x, top))
    return t.emit(ops.Add(), t.emit(ops.Log(), _running(t, "add", power, dim)), top)
