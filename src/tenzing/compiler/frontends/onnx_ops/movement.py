"""ONNX operations that move or select data, and those that tell shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.onnx_ops.translator import Item, Translator, onnx
from tenzing.compiler.graph import Value

Ints = Sequence[int]
INDEX = np.dtype(np.int64)


@onnx("Shape")
def _shape(t: Translator, x: Value, *, start: int = 0, end: int | None = None) -> Item:
    return t.constant(np.asarray(x.shape, np.int64)[start:end])


@onnx("Size")
def _size(t: Translator, x: Value) -> Item:
    return t.constant(np.int64(x.type.elements))


@onnx("Reshape")
def _reshape(
    t: Translator, x: Value, sizes: Value | None = None, *, shape: Ints | None = None,
    allowzero: int = 0, consumed_inputs: object = None,
) -> Item:  # fmt: skip
    wanted = t.ints(sizes, "the shape to take") if sizes is not None else tuple(shape or ())
    assert wanted is not None
    if not allowzero:
        wanted = tuple(x.shape[d] if n == 0 else n for d, n in enumerate(wanted))
    return t.reshape(x, wanted)


@onnx("Flatten")
def _flatten(t: Translator, x: Value, *, axis: int = 1) -> Item:
    axis = axis if axis >= 0 else axis + len(x.shape)
    return t.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@onnx("Squeeze")
def _squeeze(
    t: Translator, x: Value, dims: Value | None = None, *, axes: Ints | None = None
) -> Item:
    given = t.ints(dims, "the axes to drop") or axes
    if given is None:
        return t.reshape(x, [n for n in x.shape if n != 1])
    dropped = t.axes(given, len(x.shape))
    if any(x.shape[d] != 1 for d in dropped):
        raise t.unsupported("an axis is dropped that has several elements", got=x.type)
    return t.reshape(x, [n for d, n in enumerate(x.shape) if d not in dropped])


@onnx("Unsqueeze")
def _unsqueeze(
    t: Translator, x: Value, dims: Value | None = None, *, axes: Ints | None = None
) -> Item:
    given = t.ints(dims, "the axes to insert") if dims is not None else axes
    assert given is not None
    inserted = t.axes(given, len(x.shape) + len(given))
    sizes = list(x.shape)
    for dim in inserted:
        sizes.insert(dim, 1)
    return t.reshape(x, sizes)


@onnx("Transpose")
def _transpose(t: Translator, x: Value, *, perm: Ints | None = None) -> Item:
    return t.transpose(x, tuple(range(len(x.shape)))[::-1] if perm is None else perm)


@onnx("Concat")
def _concat(t: Translator, *parts: Value, axis: int = 1) -> Item:
    dim = t.axis(axis, len(parts[0].shape))
    return parts[0] if len(parts) == 1 else t.emit(ops.Concatenate(dim), *parts)


@onnx("Split")
def _split(
    t: Translator, x: Value, sizes: Value | None = None, *, axis: int = 0,
    split: Ints | None = None, num_outputs: int | None = None,
) -> Item:  # fmt: skip
    dim = t.axis(axis, len(x.shape))
    given = t.ints(sizes, "the sizes of the parts") or split
    total = x.shape[dim]
    if given is None:
        size = -(-total // (num_outputs or t.outputs))
        given = [max(min(size, total - at), 0) for at in range(0, size * t.outputs, size)]
    return parts_of(t, x, dim, given)


def parts_of(t: Translator, x: Value, dim: int, sizes: Ints) -> tuple[Value, ...]:
    """Consecutive parts along one dim."""
    if sum(sizes) != x.shape[dim]:
        raise t.unsupported("parts that do not add up", got=tuple(sizes), next_step=str(x.type))
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(cut(t, x, dim, a, b) for a, b in pairwise(ends))


@onnx("Slice")
def _slice_numbers(
    t: Translator, x: Value, *, starts: Ints, ends: Ints, axes: Ints | None = None
) -> Item:
    return _sliced(t, x, starts, ends, axes, None)


@onnx("Slice", since=10)
def _slice(
    t: Translator, x: Value, starts: Value, ends: Value, axes: Value | None = None,
    steps: Value | None = None,
) -> Item:  # fmt: skip
    first, last, dims, step = (t.ints(v, "a bound of the slice") for v in
                               (starts, ends, axes, steps))  # fmt: skip
    assert first is not None
    assert last is not None
    return _sliced(t, x, first, last, dims, step)


def _sliced(
    t: Translator, x: Value, starts: Ints, ends: Ints, axes: Ints | None, steps: Ints | None
) -> Value:
    dims = range(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(dims, starts, ends, steps or [1] * len(starts), strict=True):
        dim = t.axis(axis, len(x.shape))
        taken = range(*slice(start, end, step).indices(x.shape[dim]))
        if step > 0:
            x = cut(t, x, dim, taken.start, max(taken.start, taken.stop), step)
        else:
            ordered = taken[::-1]
            last = ordered[-1] + 1 if ordered else ordered.start
            x = cut(t, x, dim, ordered.start, last, -step)
            x = t.emit(ops.Reverse((dim,)), x)
    return x


@onnx("Expand")
def _expand(t: Translator, x: Value, shape: Value) -> Item:
    wanted = t.ints(shape, "the shape to stretch to")
    assert wanted is not None
    return t.broadcast(x, np.broadcast_shapes(x.shape, wanted))


@onnx("Tile", since=6)
def _tile(t: Translator, x: Value, repeats: Value) -> Item:
    times = t.ints(repeats, "the number of repeats")
    assert times is not None
    result = x.type.with_shape([n * k for n, k in zip(x.shape, times, strict=True)])
    return t.aten("repeat.default", result, x, times)


@onnx("Pad")
def _pad_numbers(
    t: Translator, x: Value, *, pads: Ints | None = None, paddings: Ints | None = None,
    mode: str = "constant", value: float = 0.0,
) -> Item:  # fmt: skip
    edges = pads or paddings or ()
    return padded(t, x, edges, mode, t.splat(value, x.type.with_shape(())))


@onnx("Pad", since=11)
def _pad(
    t: Translator, x: Value, pads: Value, value: Value | None = None, axes: Value | None = None, *,
    mode: str = "constant",
) -> Item:  # fmt: skip
    edges = t.ints(pads, "the width of the padding")
    assert edges is not None
    if axes is not None:
        dims = [t.axis(d, len(x.shape)) for d in t.ints(axes, "the axes to pad") or ()]
        full = [0] * (2 * len(x.shape))
        for place, dim in enumerate(dims):
            full[dim], full[dim + len(x.shape)] = edges[place], edges[place + len(dims)]
        edges = tuple(full)
    fill = t.splat(0, x.type.with_shape(())) if value is None else t.reshape(value, ())
    return padded(t, x, edges, mode, fill)


def padded(t: Translator, x: Value, edges: Ints, mode: str, fill: Value) -> Value:
    """x with edges (all the low ones, then all the high ones); negative ones cut."""
    rank = len(x.shape)
    low, high = edges[:rank], edges[rank:]
    for dim in range(rank):
        x = cut(t, x, dim, max(-low[dim], 0), x.shape[dim] + min(high[dim], 0))
    more = [tuple(max(n, 0) for n in edge) for edge in (low, high)]
    if not any(map(any, more)):
        return x
    if mode == "constant":
        return t.emit(ops.Pad(*more), x, fill)
    style = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode]
    for dim in range(rank):
        pair = (more[0][dim], more[1][dim])
        if any(pair):
            places = np.pad(np.arange(x.shape[dim]), pair, mode=style)  # type: ignore[call-overload]
            x = t.emit(ops.Gather(dim), x, t.constant(places))
    return x


@onnx("DepthToSpace")
def _depth_to_space(t: Translator, x: Value, *, blocksize: int, mode: str = "DCR") -> Item:
    batch, depth, height, width = x.shape
    size, left = blocksize, depth // blocksize**2
    if mode == "DCR":
        split, order = (batch, size, size, left, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (batch, left, size, size, height, width), (0, 1, 4, 2, 5, 3)
    turned = t.transpose(t.reshape(x, split), order)
    return t.reshape(turned, (batch, left, height * size, width * size))


@onnx("SpaceToDepth")
def _space_to_depth(t: Translator, x: Value, *, blocksize: int, mode: str = "DCR") -> Item:
    batch, depth, height, width = x.shape
    size = blocksize
    split = t.reshape(x, (batch, depth, height // size, size, width // size, size))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    turned = t.transpose(split, order)
    return t.reshape(turned, (batch, depth * size * size, height // size, width // size))


@onnx("Trilu")
def _trilu(t: Translator, x: Value, k: Value | None = None, *, upper: int = 1) -> Item:
    shift = t.number(k, "the diagonal", 0)
    row, column = (t.emit(ops.Iota(x.shape, INDEX, len(x.shape) - d)) for d in (2, 1))
    edge = t.apply(ops.Add(), row, shift)
    kept = t.emit(ops.Compare("ge" if upper else "le"), column, edge)
    return t.emit(ops.Select(), kept, x, t.splat(0, x.type))


@onnx("ReverseSequence", since=10)
def _reverse_sequence(
    t: Translator, x: Value, lengths: Value, *, batch_axis: int = 1, time_axis: int = 0
) -> Item:
    """The first elements of each row in opposite order: position p < n reads n - 1 - p."""
    line = t.emit(ops.Iota(x.shape, lengths.dtype, time_axis))
    size = t.emit(ops.BroadcastInDim(x.shape, (batch_axis,)), lengths)
    opposite = t.apply(ops.Subtract(), t.apply(ops.Subtract(), size, 1), line)
    inside = t.emit(ops.Compare("lt"), line, size)
    places = t.emit(ops.Select(), inside, opposite, line)
    return t.emit(ops.TakeAlong(time_axis), x, places)


@onnx("ConstantOfShape", since=9)
def _constant_of_shape(t: Translator, shape: Value, *, value: Any = None) -> Item:
    filled = np.zeros(1, np.float32) if value is None else value
    sizes = t.ints(shape, "the shape to fill")
    return t.emit(ops.Constant(tuple(sizes or ()), filled.dtype, filled.reshape(-1)[:1].tobytes()))


@onnx("Range", since=11)
def _range(t: Translator, start: Value, limit: Value, delta: Value, **_: Any) -> Item:
    first, last, step = (t.number(v, "a bound of the range") for v in (start, limit, delta))
    count = max(math.ceil((last - first) / step), 0)
    line = t.emit(ops.Iota((count,), start.dtype, 0))
    scaled = line if step == 1 else t.apply(ops.Multiply(), line, step)
    return scaled if first == 0 else t.apply(ops.Add(), scaled, first)


@onnx("EyeLike", since=9)
def _eye_like(t: Translator, x: Value, *, dtype: int | None = None, k: int = 0) -> Item:
    kind = x.dtype if dtype is None else t.dtype(dtype)
    return t.constant(np.eye(x.shape[0], x.shape[1], k).astype(kind))
