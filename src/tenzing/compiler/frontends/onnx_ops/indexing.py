"""ONNX operations that read or write at positions that come from data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.elementwise import positive_index
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.onnx_ops.translator import Item, Translator, onnx
from tenzing.compiler.graph import Op, Shape, TensorType, Value

INDEX = np.dtype(np.int64)
COMBINERS: dict[str, Op] = {"max": ops.Maximum(), "min": ops.Minimum(), "mul": ops.Multiply()}
MASK_VALUES = 2  # off and on


@onnx("Gather")
def _gather(t: Translator, x: Value, indices: Value, *, axis: int = 0) -> Item:
    dim = t.axis(axis, len(x.shape))
    known = t.known(indices)
    if known is not None and known.size == 1:  # one line: a slice, not a gather
        place = int(known.reshape(-1)[0]) % x.shape[dim]
        rest = (*x.shape[:dim], *indices.shape, *x.shape[dim + 1 :])
        return t.reshape(cut(t, x, dim, place, place + 1), rest)
    return t.emit(ops.Gather(dim), x, positive_index(t, indices, x.shape[dim]))


@onnx("GatherElements")
def _gather_elements(t: Translator, x: Value, indices: Value, *, axis: int = 0) -> Item:
    dim = t.axis(axis, len(x.shape))
    place = positive_index(t, indices, x.shape[dim])
    return t.aten("gather.default", x.type.with_shape(indices.shape), x, dim, place)


def _flat_places(t: Translator, indices: Value, sizes: Shape) -> Value:
    """Row-major number of the places that the last dim of the indices names."""
    lead = indices.shape[:-1]
    total = t.splat(0, TensorType(lead, indices.dtype))
    for d, size in enumerate(sizes):
        index = t.reshape(cut(t, indices, len(lead), d, d + 1), lead)
        place = positive_index(t, index, size)
        total = t.emit(ops.Add(), t.apply(ops.Multiply(), total, size), place)
    return total


@onnx("GatherND", since=11)
def _gather_nd(t: Translator, x: Value, indices: Value, *, batch_dims: int = 0) -> Item:
    depth, lead = indices.shape[-1], x.shape[:batch_dims]
    sizes = x.shape[batch_dims : batch_dims + depth]
    rest = x.shape[batch_dims + depth :]
    places = _flat_places(t, indices, sizes)
    batch, inner = math.prod(lead), math.prod(sizes)
    flat = t.reshape(places, (batch, -1 if batch else 0))
    if batch > 1:
        start = t.emit(ops.Iota(flat.shape, flat.dtype, 0))
        flat = t.emit(ops.Add(), flat, t.apply(ops.Multiply(), start, inner))
    table = t.reshape(x, (batch * inner, *rest))
    return t.reshape(t.emit(ops.Gather(0), table, flat), (*indices.shape[:-1], *rest))


@onnx("ScatterElements", "Scatter", since=9)
def _scatter_elements(
    t: Translator, x: Value, indices: Value, updates: Value, *, axis: int = 0,
    reduction: str = "none",
) -> Item:  # fmt: skip
    dim = t.axis(axis, len(x.shape))
    place = positive_index(t, indices, x.shape[dim])
    if reduction in COMBINERS:
        return _combined_elements(t, x, dim, place, updates, COMBINERS[reduction])
    overload = "scatter_add.default" if reduction == "add" else "scatter.src"
    return t.aten(overload, x.type, x, dim, place, updates)


def _combined_elements(
    t: Translator, x: Value, dim: int, place: Value, updates: Value, op: Op
) -> Value:
    """One update after another: what is there, combined, written back."""
    for turn in range(place.shape[dim]):
        here = cut(t, place, dim, turn, turn + 1)
        new = cut(t, updates, dim, turn, turn + 1)
        kind = x.type.with_shape(here.shape)
        old = t.aten("gather.default", kind, x, dim, here)
        x = t.aten("scatter.src", x.type, x, dim, here, t.emit(op, old, new))
    return x


@onnx("ScatterND", since=11)
def _scatter_nd(
    t: Translator, x: Value, indices: Value, updates: Value, *, reduction: str = "none"
) -> Item:
    depth = indices.shape[-1]
    sizes, rest = x.shape[:depth], x.shape[depth:]
    count = math.prod(indices.shape[:-1])
    places = t.reshape(_flat_places(t, indices, sizes), (count,))
    rows = t.reshape(x, (math.prod(sizes), *rest))
    new = t.reshape(updates, (count, *rest))
    if reduction not in COMBINERS:
        done = t.emit(ops.Scatter(reduction == "add"), rows, places, new)
        return t.reshape(done, x.shape)
    for turn in range(count):
        here, row = (cut(t, v, 0, turn, turn + 1) for v in (places, new))
        joined = t.emit(COMBINERS[reduction], t.emit(ops.Gather(0), rows, here), row)
        rows = t.emit(ops.Scatter(False), rows, here, joined)
    return t.reshape(rows, x.shape)


@onnx("TensorScatter", since=24)
def _tensor_scatter(
    t: Translator, past: Value, update: Value, starts: Value | None = None, *, axis: int = -2,
    mode: str = "linear",
) -> Item:  # fmt: skip
    """A cache: the update of each batch row goes to its own position."""
    dim = t.axis(axis, len(past.shape))
    line = t.emit(ops.Iota(update.shape, INDEX, dim))
    if starts is not None:
        line = t.emit(ops.Add(), line, t.emit(ops.BroadcastInDim(update.shape, (0,)), starts))
    if mode == "circular":
        line = t.apply(ops.Remainder(), line, past.shape[dim])
    return t.aten("scatter.src", past.type, past, dim, line, update)


@onnx("OneHot", since=9)
def _one_hot(t: Translator, indices: Value, depth: Value, values: Value, *, axis: int = -1) -> Item:
    count = int(t.number(depth, "the depth"))
    dim = t.axis(axis, len(indices.shape) + 1)
    shape = (*indices.shape[:dim], count, *indices.shape[dim:])
    place = t.convert(positive_index(t, indices, count), INDEX)
    kept = tuple(d for d in range(len(shape)) if d != dim)
    spread = t.emit(ops.BroadcastInDim(shape, kept), place)
    hit = t.emit(ops.Compare("eq"), spread, t.emit(ops.Iota(shape, INDEX, dim)))
    off, on = (t.broadcast(t.reshape(cut(t, values, 0, i, i + 1), ()), shape)
               for i in range(MASK_VALUES))  # fmt: skip
    return t.emit(ops.Select(), hit, on, off)


@onnx("Compress", since=9)
def _compress(t: Translator, x: Value, condition: Value, *, axis: int | None = None) -> Item:
    chosen = _fixed_places(t, condition)
    if axis is None:
        x, axis = t.reshape(x, (x.type.elements,)), 0
    return t.emit(ops.Gather(t.axis(axis, len(x.shape))), x, t.constant(chosen))


@onnx("NonZero", since=9)
def _non_zero(t: Translator, x: Value) -> Item:
    known = t.known(x)
    if known is None:
        raise t.unsupported("the number of elements depends on data", got=x.type,
                            next_step="use Where, or multiply by a mask")  # fmt: skip
    return t.constant(np.asarray(np.nonzero(np.atleast_1d(known)), np.int64))


def _fixed_places(t: Translator, condition: Value) -> Any:
    return np.flatnonzero(t.static(condition, "the number of elements kept"))


@onnx("ArrayFeatureExtractor", domain="ai.onnx.ml")
def _array_features(t: Translator, x: Value, indices: Value) -> Item:
    rows = t.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    place = t.reshape(indices, (indices.type.elements,))
    return t.emit(ops.Gather(len(rows.shape) - 1), rows, place)


@onnx("Binarizer", domain="ai.onnx.ml")
def _binarizer(t: Translator, x: Value, *, threshold: float = 0.0) -> Item:
    return t.convert(t.apply(ops.Compare("gt"), x, threshold), x.dtype)
