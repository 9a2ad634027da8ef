"""ONNX operations over sliding windows: convolution, pooling, local normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.window import positions
from tenzing.compiler.frontends.onnx_ops.quantisation import quantised
from tenzing.compiler.frontends.onnx_ops.reduction import mean_of, reduced
from tenzing.compiler.frontends.onnx_ops.translator import Item, Translator, onnx
from tenzing.compiler.graph import F32, Array, Shape, Value
from tenzing.compiler.ops.window import Padding, Window

LEAD: Final = 2  # batch and channels
Ints = Sequence[int]
SAME: Final = ("SAME_UPPER", "SAME_LOWER")


def _padding(
    auto: str, pads: Ints | None, sizes: Shape, taps: Shape, strides: Shape, dilation: Shape
) -> Padding:
    """Padding of each dim in ONNX's terms: numbers, or enough for size / stride positions."""
    rank = len(sizes)
    if auto == "VALID":
        return ((0, 0),) * rank
    if auto in SAME:
        pairs = []
        for n, k, s, d in zip(sizes, taps, strides, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
        return tuple(pairs)
    given = tuple(pads or (0,) * (2 * rank))
    return tuple(zip(given[:rank], given[rank:], strict=True))


def _each(values: Ints | None, rank: int) -> Shape:
    return tuple(values) if values else (1,) * rank


@onnx("Conv")
def _conv(
    t: Translator, x: Value, kernel: Value, bias: Value | None = None, *, auto_pad: str = "NOTSET",
    pads: Ints | None = None, strides: Ints | None = None, dilations: Ints | None = None,
    group: int = 1, kernel_shape: Ints | None = None,
) -> Item:  # fmt: skip
    taps = kernel.shape[LEAD:]
    step, spread = _each(strides, len(taps)), _each(dilations, len(taps))
    around = _padding(auto_pad, pads, x.shape[LEAD:], taps, step, spread)
    window = Window(step, around, spread, (1,) * len(taps))
    extras = () if bias is None else (bias,)
    return t.emit(ops.Convolution(window, group), x, kernel, *extras)


@onnx("ConvTranspose")
def _conv_transpose(
    t: Translator, x: Value, kernel: Value, bias: Value | None = None, *, auto_pad: str = "NOTSET",
    pads: Ints | None = None, strides: Ints | None = None, dilations: Ints | None = None,
    group: int = 1, kernel_shape: Ints | None = None, output_padding: Ints | None = None,
    output_shape: Ints | None = None,
) -> Item:  # fmt: skip
    taps = kernel.shape[LEAD:]
    rank = len(taps)
    step, spread = _each(strides, rank), _each(dilations, rank)
    more = tuple(output_padding or (0,) * rank)
    full = [s * (n - 1) + m + (k - 1) * d + 1 for s, n, m, k, d in
            zip(step, x.shape[LEAD:], more, taps, spread, strict=True)]  # fmt: skip
    wanted = output_shape
    if wanted is None and auto_pad in SAME:
        wanted = [n * s for n, s in zip(x.shape[LEAD:], step, strict=True)]
    if wanted is not None:
        cuts = [f - n for f, n in zip(full, wanted[-rank:], strict=True)]
        around = [_shared(c, auto_pad != "SAME_UPPER") for c in cuts]
    else:
        around = list(_padding(auto_pad, pads, x.shape[LEAD:], taps, step, spread))
    edges = [(d * (k - 1) - low, d * (k - 1) - high + m) for (low, high), k, d, m in
             zip(around, taps, spread, more, strict=True)]  # fmt: skip
    window = Window((1,) * rank, tuple(edges), spread, step)
    extras = () if bias is None else (bias,)
    turned = _turned(t, kernel, group)
    return t.emit(ops.Convolution(window, group), x, turned, *extras)


def _shared(total: int, first: bool) -> tuple[int, int]:
    """Padding shared between both ends, the odd one first or last; what is missing at the end."""
    if total < 0:
        return 0, total
    small, large = total // 2, total - total // 2
    return (large, small) if first else (small, large)


def _turned(t: Translator, kernel: Value, groups: int) -> Value:
    """The kernel reversed, its input and output channels swapped inside each group."""
    first, second, *taps = kernel.shape
    split = t.reshape(kernel, (groups, first // groups, second, *taps))
    swapped = t.transpose(split, (0, 2, 1, *range(3, 3 + len(taps))))
    joined = t.reshape(swapped, (groups * second, first // groups, *taps))
    return t.emit(ops.Reverse(tuple(range(LEAD, LEAD + len(taps)))), joined)


@onnx("ConvInteger", since=10)
def _conv_integer(
    t: Translator, x: Value, kernel: Value, x_zero: Value | None = None,
    kernel_zero: Value | None = None, **named: Any,
) -> Item:  # fmt: skip
    left, right = _widened(t, x, x_zero), _widened(t, kernel, kernel_zero)
    return t.convert(_conv(t, left, right, **named), np.dtype(np.int32))


def _widened(t: Translator, x: Value, zero: Value | None) -> Value:
    wide = t.convert(x, F32)
    if zero is None:
        return wide
    point = t.convert(zero, F32)
    if point.type.elements > 1:
        point = t.reshape(point, (-1, *(1 for _ in x.shape[1:])))
    return t.apply(ops.Subtract(), wide, t.reshape(point, point.shape or ()))


@onnx("QLinearConv", since=10)
def _quantised_conv(
    t: Translator, x: Value, x_scale: Value, x_zero: Value, kernel: Value, kernel_scale: Value,
    kernel_zero: Value, scale: Value, zero: Value, bias: Value | None = None, **named: Any,
) -> Item:  # fmt: skip
    total = _conv(t, _widened(t, x, x_zero), _widened(t, kernel, kernel_zero), **named)
    ones = (1,) * (len(total.shape) - LEAD)
    if bias is not None:
        total = t.apply(ops.Add(), total, t.reshape(t.convert(bias, F32), (-1, *ones)))
    factor = t.apply(ops.Divide(), t.apply(ops.Multiply(), x_scale, kernel_scale), scale)
    if factor.type.elements > 1:
        factor = t.reshape(factor, (-1, *ones))
    scaled = t.apply(ops.Multiply(), total, factor)
    point = t.broadcast(t.reshape(t.convert(zero, F32), ()), scaled.shape)
    return quantised(t, scaled, point, zero.dtype)


# -- pooling -----------------------------------------------------------------------------------


def _pool(
    x: Value, taps: Ints, strides: Ints | None, pads: Ints | None, dilations: Ints | None,
    auto: str, ceil: int,
) -> tuple[Window, Padding]:  # fmt: skip
    """The window of a pooling, and its padding before ceil mode let the last one hang over."""
    rank = len(taps)
    step, spread = _each(strides, rank), _each(dilations, rank)
    around = _padding(auto, pads, x.shape[LEAD:], tuple(taps), step, spread)
    edges = []
    sizes = x.shape[LEAD:]
    for n, k, s, d, (low, high) in zip(sizes, taps, step, spread, around, strict=True):
        room = n + low + high - ((k - 1) * d + 1)
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + low:  # a window must begin inside
            count -= 1
        edges.append((low, max((count - 1) * s + (k - 1) * d + 1 - n - low, high)))
    return Window(step, tuple(edges), spread, (1,) * rank), around


@onnx("MaxPool")
def _max_pool(
    t: Translator, x: Value, *, kernel_shape: Ints, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    dilations: Ints | None = None, pads: Ints | None = None, storage_order: int = 0,
    strides: Ints | None = None,
) -> Item:  # fmt: skip
    window, _ = _pool(x, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    op = ops.ReduceWindow("maximum", tuple(kernel_shape), window)
    best = t.emit(op, x)
    if t.outputs == 1:
        return best
    places = positions(t, x, best, op)
    return best, _numbered(t, places, x, bool(storage_order))


def _numbered(t: Translator, places: Value, x: Value, by_columns: bool) -> Value:
    """Places inside one image, counted through the whole tensor; ``by_columns`` down first."""
    sizes = x.shape[LEAD:]
    count = math.prod(sizes)
    if by_columns:
        total: Value | None = None
        for dim, size in enumerate(sizes):
            after = math.prod(sizes[dim + 1 :])
            here = t.apply(ops.Remainder(), t.apply(ops.Divide(), places, after), size)
            scaled = t.apply(ops.Multiply(), here, math.prod(sizes[:dim]))
            total = scaled if total is None else t.emit(ops.Add(), total, scaled)
        assert total is not None
        places = total
    image = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1 for _ in sizes)) * count
    return t.apply(ops.Add(), places, t.constant(image))


@onnx("MaxUnpool", since=9)
def _max_unpool(
    t: Translator, x: Value, places: Value, sizes: Value | None = None, *, kernel_shape: Ints,
    pads: Ints | None = None, strides: Ints | None = None,
) -> Item:  # fmt: skip
    step = _each(strides, len(kernel_shape))
    around = _padding("NOTSET", pads, x.shape[LEAD:], tuple(kernel_shape), step, step)
    own = [(n - 1) * s + k - sum(p) for n, s, k, p in
           zip(x.shape[LEAD:], step, kernel_shape, around, strict=True)]  # fmt: skip
    given = t.ints(sizes, "the shape of the result")
    shape = given or (*x.shape[:LEAD], *own)
    if given and tuple(own) != given[LEAD:]:
        places = _moved(t, places, tuple(own), given[LEAD:])
    table = t.splat(0, x.type.with_shape((math.prod(shape),)))
    flat = (x.type.elements,)
    done = t.emit(ops.Scatter(False), table, t.reshape(places, flat), t.reshape(x, flat))
    return t.reshape(done, shape)


def _moved(t: Translator, places: Value, old: Shape, new: Shape) -> Value:
    """Places in images of one size as places in images of another."""
    count = math.prod(old)
    rest = t.apply(ops.Remainder(), places, count)
    total = t.apply(ops.Multiply(), t.apply(ops.Divide(), places, count), math.prod(new))
    for dim, size in enumerate(old):
        here = t.apply(ops.Divide(), rest, math.prod(old[dim + 1 :]))
        here = t.apply(ops.Remainder(), here, size)
        total = t.emit(ops.Add(), total, t.apply(ops.Multiply(), here, math.prod(new[dim + 1 :])))
    return total


def _counts(sizes: Shape, taps: Ints, window: Window, around: Padding, padded: bool) -> Array:
    """Elements of each window that count."""
    inside = np.ones(sizes)
    edges = window.padding
    if padded:
        inside = np.pad(inside, around, constant_values=1.0)
        edges = tuple((0, high - own) for (_, high), (_, own) in zip(edges, around, strict=True))
    slide = Window(window.strides, edges, window.dilation, window.base_dilation)
    views = slide.views(slide.spread(inside, 0.0), tuple(taps))
    return np.asarray(views.sum(axis=tuple(range(len(sizes), 2 * len(sizes)))))


@onnx("AveragePool")
def _average_pool(
    t: Translator, x: Value, *, kernel_shape: Ints, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    count_include_pad: int = 0, dilations: Ints | None = None, pads: Ints | None = None,
    strides: Ints | None = None,
) -> Item:  # fmt: skip
    window, around = _pool(x, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    total = t.emit(ops.ReduceWindow("add", tuple(kernel_shape), window), x)
    count = _counts(x.shape[LEAD:], kernel_shape, window, around, bool(count_include_pad))
    share = 1.0 / count
    if (share == share.flat[0]).all():
        return t.apply(ops.Multiply(), total, float(share.flat[0]))
    return t.apply(ops.Multiply(), total, t.constant(share.astype(x.dtype)))


@onnx("LpPool", since=2)
def _lp_pool(
    t: Translator, x: Value, *, kernel_shape: Ints, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    dilations: Ints | None = None, p: int = 2, pads: Ints | None = None,
    strides: Ints | None = None,
) -> Item:  # fmt: skip
    window, _ = _pool(x, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    size = t.emit(ops.Abs(), x)
    power = t.emit(ops.Multiply(), x, x) if p == 2 else t.apply(ops.Power(), size, p)  # noqa: PLR2004
    total = t.emit(ops.ReduceWindow("add", tuple(kernel_shape), window), power)
    if p == 2:  # noqa: PLR2004
        return t.emit(ops.Sqrt(), total)
    return t.apply(ops.Power(), total, 1.0 / p)


def _space(x: Value) -> tuple[int, ...]:
    return tuple(range(LEAD, len(x.shape)))


@onnx("GlobalAveragePool")
def _global_average(t: Translator, x: Value) -> Item:
    batch, channels, *space = x.shape
    rows = t.reshape(x, (batch, channels, math.prod(space)))
    return t.reshape(mean_of(t, rows, (LEAD,)), (batch, channels, *(1 for _ in space)))


@onnx("GlobalMaxPool")
def _global_max(t: Translator, x: Value) -> Item:
    return reduced(t, "maximum", x, _space(x))


@onnx("GlobalLpPool", since=2)
def _global_lp(t: Translator, x: Value, *, p: int = 2) -> Item:
    size = t.emit(ops.Abs(), x)
    power = reduced(t, "add", t.apply(ops.Power(), size, p), _space(x))
    return t.apply(ops.Power(), power, 1.0 / p)


@onnx("LRN")
def _local_response(
    t: Translator, x: Value, *, size: int, alpha: float = 1e-4, beta: float = 0.75,
    bias: float = 1.0,
) -> Item:  # fmt: skip
    """Each element over a power of the squares of its neighbours in other channels."""
    order = [0, *range(LEAD, len(x.shape)), 1]
    square = t.transpose(t.emit(ops.Multiply(), x, x), order)
    low = (size - 1) // 2
    window = Window((1,), ((low, size - 1 - low),), (1,), (1,))
    near = t.emit(ops.ReduceWindow("add", (size,), window), square)
    near = t.transpose(near, [order.index(d) for d in range(len(order))])
    scale = t.apply(ops.Add(), t.apply(ops.Multiply(), near, alpha / size), bias)
    return t.emit(ops.Multiply(), x, t.apply(ops.Power(), scale, -beta))


@onnx("Col2Im", since=18)
def _col2im(
    t: Translator, x: Value, image: Value, block: Value, *, dilations: Ints | None = None,
    pads: Ints | None = None, strides: Ints | None = None,
) -> Item:  # fmt: skip
    """Columns added up where their elements lie in the image."""
    sizes, taps = t.ints(image, "the image's shape"), t.ints(block, "the block's shape")
    assert sizes is not None
    assert taps is not None
    rank = len(sizes)
    step, spread = _each(strides, rank), _each(dilations, rank)
    around = _padding("NOTSET", pads, sizes, taps, step, spread)
    padded = tuple(n + sum(p) for n, p in zip(sizes, around, strict=True))
    numbers = np.arange(math.prod(padded)).reshape(padded)
    places = Window(step, ((0, 0),) * rank, spread, (1,) * rank).views(numbers, taps)
    places = places.reshape(-1, math.prod(taps)).T  # [taps, positions]
    batch = x.shape[0]
    channels = x.shape[1] // math.prod(taps)
    lines = t.reshape(x, (batch * channels, places.size))
    table = t.splat(0, x.type.with_shape((math.prod(padded), batch * channels)))
    updates = t.transpose(lines, (1, 0))
    done = t.emit(ops.Scatter(True), table, t.constant(places.reshape(-1)), updates)
    whole = t.reshape(t.transpose(done, (1, 0)), (batch, channels, *padded))
    start = (0, 0, *(low for low, _ in around))
    limit = (batch, channels, *(low + n for (low, _), n in zip(around, sizes, strict=True)))
    return t.emit(ops.Slice(start, limit, (1,) * len(start)), whole)
