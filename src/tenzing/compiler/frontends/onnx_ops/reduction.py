"""ONNX operations along axes: reductions, softmax, arg-max, top-k, running ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.onnx_ops.translator import Item, Rule, Translator, onnx
from tenzing.compiler.graph import BOOL, TensorType, Value, is_float
from tenzing.compiler.ops.window import neutral

INDEX = np.dtype(np.int64)
Ints = Sequence[int]
LP_TWO = 2
COERCED_BEFORE = 13  # the version until which softmax flattens to two dims


def reduced(t: Translator, kind: str, x: Value, dims: Ints, keep: bool = True) -> Value:
    """One reduction over dims counted from the start; the neutral element over no elements."""
    shape: list[int] = [1 if d in dims else n for d, n in enumerate(x.shape)]
    if not x.type.elements and all(shape):
        edge = {"add": 0.0, "multiply": 1.0, "and": 1.0, "or": 0.0}
        value = t.splat(edge[kind] if kind in edge else neutral(kind, x.dtype),
                        TensorType(tuple(shape), x.dtype))  # fmt: skip
    else:
        value = t.reshape(t.emit(ops.Reduce(kind, tuple(dims)), x) if dims else x, shape)
    return value if keep else t.reshape(value, [n for d, n in enumerate(x.shape) if d not in dims])


def mean_of(t: Translator, x: Value, dims: Ints) -> Value:
    """The mean over dims, which stay as ones."""
    count = math.prod(x.shape[d] for d in dims)
    total = reduced(t, "add", x, dims)
    if not is_float(x.dtype):
        return t.apply(ops.Divide(), total, max(count, 1))
    return t.apply(ops.Multiply(), total, 1.0 / max(count, 1))


def _sum(t: Translator, x: Value, dims: Ints) -> Value:
    return reduced(t, "add", x, dims)


def _extreme(kind: str, logical: str) -> Callable[[Translator, Value, Ints], Value]:
    def body(t: Translator, x: Value, dims: Ints) -> Value:
        return reduced(t, logical if x.dtype == BOOL else kind, x, dims)

    return body


def _sum_of_squares(t: Translator, x: Value, dims: Ints) -> Value:
    return _sum(t, t.emit(ops.Multiply(), x, x), dims)


def _root(t: Translator, x: Value) -> Value:
    """The square root, of integers rounded down."""
    if is_float(x.dtype):
        return t.emit(ops.Sqrt(), x)
    return t.convert(t.emit(ops.Sqrt(), t.convert(x, np.dtype(np.float32))), x.dtype)


def _log_sum_exp(t: Translator, x: Value, dims: Ints) -> Value:
    top = reduced(t, "maximum", x, dims)
    finite = t.apply(ops.Compare("lt"), t.emit(ops.Abs(), top), math.inf)
    top = t.emit(ops.Select(), finite, top, t.splat(0, top.type))
    power = t.emit(ops.Exponential(), t.apply(ops.Subtract(), x, top))
    return t.emit(ops.Add(), t.emit(ops.Log(), _sum(t, power, dims)), top)


_BODIES: dict[str, Callable[[Translator, Value, Ints], Value]] = {
    "ReduceSum": _sum,
    "ReduceMean": mean_of,
    "ReduceMax": _extreme("maximum", "or"),
    "ReduceMin": _extreme("minimum", "and"),
    "ReduceProd": lambda t, x, dims: reduced(t, "multiply", x, dims),
    "ReduceL1": lambda t, x, dims: _sum(t, t.emit(ops.Abs(), x), dims),
    "ReduceL2": lambda t, x, dims: _root(t, _sum_of_squares(t, x, dims)),
    "ReduceSumSquare": _sum_of_squares,
    "ReduceLogSum": lambda t, x, dims: t.emit(ops.Log(), _sum(t, x, dims)),
    "ReduceLogSumExp": _log_sum_exp,
}


def _reduction(body: Callable[[Translator, Value, Ints], Value]) -> Rule:
    def rule(
        t: Translator, x: Value, dims: Value | None = None, *, axes: Ints | None = None,
        keepdims: int = 1, noop_with_empty_axes: int = 0,
    ) -> Item:  # fmt: skip
        given = t.ints(dims, "the axes to reduce") or axes or ()
        chosen = t.axes(given, len(x.shape)) if given else tuple(range(len(x.shape)))
        if not given and noop_with_empty_axes:
            chosen = ()
        value = body(t, x, chosen)
        kept = [n for d, n in enumerate(x.shape) if d not in chosen]
        return value if keepdims else t.reshape(value, kept)

    return rule


for _name, _body in _BODIES.items():
    onnx(_name)(_reduction(_body))


def _arg(smallest: bool) -> Rule:
    def rule(
        t: Translator, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Item:
        dim = t.axis(axis, len(x.shape))
        given = t.emit(ops.Negate(), x) if smallest else x
        if select_last_index:
            given = t.emit(ops.Reverse((dim,)), given)
        place = t.emit(ops.ArgMax(dim, INDEX), given)
        if select_last_index:
            place = t.apply(ops.Subtract(), x.shape[dim] - 1, place)
        return t.reshape(place, [1 if d == dim else n for d, n in enumerate(x.shape)]
                         ) if keepdims else place  # fmt: skip

    return rule


onnx("ArgMax")(_arg(smallest=False))
onnx("ArgMin")(_arg(smallest=True))


def _rows(t: Translator, x: Value, axis: int) -> Value:
    """x as a matrix: the dims before ``axis``, and the others."""
    dim = axis if axis >= 0 else axis + len(x.shape)
    return t.reshape(x, (math.prod(x.shape[:dim]), math.prod(x.shape[dim:])))


@onnx("Softmax", "LogSoftmax", "Hardmax")
def _softmax_of_rest(t: Translator, x: Value, *, axis: int = 1) -> Item:
    """Before version 13: along all axes from ``axis`` on."""
    return t.reshape(_softmax(t, _rows(t, x, axis)), x.shape)


@onnx("Softmax", "LogSoftmax", "Hardmax", since=COERCED_BEFORE)
def _softmax(t: Translator, x: Value, *, axis: int = -1) -> Item:
    name = t.kind
    dim = t.axis(axis, len(x.shape))
    if name == "Softmax":
        return t.aten("softmax.int", x.type, x, dim)
    if name == "LogSoftmax":
        return t.aten("log_softmax.int", x.type, x, dim)
    place = t.emit(ops.ArgMax(dim, INDEX), x)
    kept = tuple(d for d in range(len(x.shape)) if d != dim)
    spread = t.emit(ops.BroadcastInDim(x.shape, kept), place)
    hit = t.emit(ops.Compare("eq"), spread, t.emit(ops.Iota(x.shape, INDEX, dim)))
    return t.convert(hit, x.dtype)


def _running(kind: str) -> Rule:
    def rule(t: Translator, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0) -> Item:
        dim = t.axis(t.number(axis, "the axis"), len(x.shape))
        if reverse:
            x = t.emit(ops.Reverse((dim,)), x)
        total = t.emit(ops.Cumulative(kind, dim), x)
        if exclusive:
            total = _shifted(t, total, dim, 0.0 if kind == "add" else 1.0)
        return t.emit(ops.Reverse((dim,)), total) if reverse else total

    return rule


def _shifted(t: Translator, x: Value, dim: int, first: float) -> Value:
    """x one place later along a dim, with ``first`` at the start."""
    edge = [int(d == dim) for d in range(len(x.shape))]
    grown = ops.Pad(tuple(edge), (0,) * len(edge))
    padded = t.emit(grown, x, t.splat(first, x.type.with_shape(())))
    return t.emit(ops.Slice((0,) * len(edge), x.shape, (1,) * len(edge)), padded)


onnx("CumSum")(_running("add"))
onnx("CumProd")(_running("multiply"))


@onnx("TopK")
def _top_k_number(t: Translator, x: Value, *, k: int, axis: int = -1) -> Item:
    return _top(t, x, k, axis, True)


@onnx("TopK", since=10)
def _top_k(
    t: Translator, x: Value, k: Value, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> Item:
    return _top(t, x, int(t.number(k, "the number of elements taken")), axis, bool(largest))


def _top(t: Translator, x: Value, k: int, axis: int, largest: bool) -> Item:
    if x.dtype.kind == "u":
        wide = t.convert(x, INDEX)
        values, places = _top(t, wide, k, axis, largest)
        return t.convert(values, x.dtype), places
    return t.aten("topk.default", x.type, x, k, axis, largest)


@onnx("LpNormalization")
def _lp_normalization(t: Translator, x: Value, *, axis: int = -1, p: int = LP_TWO) -> Item:
    dim = (t.axis(axis, len(x.shape)),)
    size = _root(t, _sum_of_squares(t, x, dim)) if p == LP_TWO else _sum(
        t, t.emit(ops.Abs(), x), dim
    )  # fmt: skip
    zero = t.apply(ops.Compare("eq"), size, 0)
    safe = t.emit(ops.Select(), zero, t.splat(1, size.type), size)
    return t.apply(ops.Divide(), x, safe)


@onnx("Det", since=11)
def _det(t: Translator, x: Value) -> Item:
    """Laplace's expansion along the first row, for small matrices."""
    size = x.shape[-1]
    if size > MOST_EXPANDED:
        raise t.unsupported("a determinant of a large matrix", got=x.type)
    return _determinant(t, x)


MOST_EXPANDED = 4


def _determinant(t: Translator, x: Value) -> Value:
    *lead, size, _ = x.shape
    if size == 1:
        return t.reshape(x, lead)
    total: Value | None = None
    for column in range(size):
        rest = t.constant(np.asarray([c for c in range(size) if c != column]))
        start, limit = (0,) * len(lead), tuple(lead)
        ones = (1,) * len(x.shape)
        head = t.emit(ops.Slice((*start, 0, column), (*limit, 1, column + 1), ones), x)
        below = t.emit(ops.Slice((*start, 1, 0), (*limit, size, size), ones), x)
        minor = _determinant(t, t.emit(ops.Gather(len(lead) + 1), below, rest))
        term = t.emit(ops.Multiply(), t.reshape(head, lead), minor)
        op = ops.Subtract() if column % 2 else ops.Add()
        total = term if total is None else t.emit(op, total, term)
    assert total is not None
    return total
