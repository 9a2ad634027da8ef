"""ATen operations over sliding windows: convolution, pooling, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.reduction import reduce
from tenzing.compiler.frontends.aten.translator import Result, Translator, aten
from tenzing.compiler.graph import Array, Shape, Value
from tenzing.compiler.ops.window import Window


def _each(value: Sequence[int] | int, rank: int) -> Shape:
    """One number per spatial dim."""
    given = [value] if isinstance(value, int) else list(value)
    return tuple(given * rank if len(given) == 1 else given)


@aten("convolution.default", "_convolution.default")
def _convolution(
    t: Translator, x: Value, kernel: Value, bias: Value | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int, *flags: object,
) -> Result:  # fmt: skip
    rank = len(kernel.shape) - 2
    lead = len(x.shape) - rank
    given = x if lead == 2 else t.reshape(x, (1, *x.shape))  # noqa: PLR2004 - a batch is missing
    step, around = _each(stride, rank), _each(padding, rank)
    spread = _each(dilation, rank)
    window = Window.of(step, around, spread)
    if transposed:
        more = _each(output_padding, rank)
        kernel = _turned(t, kernel, groups)
        window = _transposed(kernel.shape[2:], step, around, spread, more)
    extras = () if bias is None else (bias,)
    out = t.emit(ops.Convolution(window, groups), given, kernel, *extras)
    return t.reshape(out, t.result.shape)


def _turned(t: Translator, kernel: Value, groups: int) -> Value:
    """The kernel of the transposed convolution: reversed, input and output channels swapped."""
    first, second, *window = kernel.shape
    split = t.reshape(kernel, (groups, first // groups, second, *window))
    order = (0, 2, 1, *range(3, 3 + len(window)))
    swapped = t.reshape(t.transpose(split, order), (groups * second, first // groups, *window))
    return t.emit(ops.Reverse(tuple(range(2, 2 + len(window)))), swapped)


def _transposed(
    window: Shape, stride: Shape, padding: Shape, dilation: Shape, more: Shape
) -> Window:
    """The window that undoes the strides of another: it slides over the dilated input."""
    pads = []
    for d, taps in enumerate(window):
        low = dilation[d] * (taps - 1) - padding[d]
        pads.append((low, low + more[d]))
    return Window((1,) * len(window), tuple(pads), dilation, stride)


@aten("convolution_backward.default")
def _convolution_backward(
    t: Translator, grad: Value, x: Value, kernel: Value, bias_sizes: Any, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int, wanted: Sequence[bool],
) -> Result:  # fmt: skip
    rank = len(kernel.shape) - 2
    shape = (_each(stride, rank), _each(padding, rank), _each(dilation, rank))
    dims = [0, *range(2, 2 + rank)]
    bias = reduce(t, "add", grad, dims, False) if wanted[2] else None
    if transposed:
        # the forward pass was the gradient of a convolution: its gradient is that convolution
        onto = t.emit(ops.Convolution(Window.of(*shape), groups), grad, kernel)
        weights = _kernel_gradient(t, x, grad, kernel.shape[2:], shape, groups)
        return (onto if wanted[0] else None), (weights if wanted[1] else None), bias
    return (
        _input_gradient(t, grad, x, kernel, shape, groups) if wanted[0] else None,
        _kernel_gradient(t, grad, x, kernel.shape[2:], shape, groups) if wanted[1] else None,
        bias,
    )


def _input_gradient(
    t: Translator, grad: Value, x: Value, kernel: Value, shape: tuple[Shape, Shape, Shape],
    groups: int,
) -> Value:  # fmt: skip
    stride, padding, dilation = shape
    window = kernel.shape[2:]
    more = []
    for d, size in enumerate(x.shape[2:]):
        reached = (grad.shape[2 + d] - 1) * stride[d] + dilation[d] * (window[d] - 1) + 1
        more.append(size - (reached - 2 * padding[d]))
    turned = _transposed(window, stride, padding, dilation, tuple(more))
    return t.emit(ops.Convolution(turned, groups), grad, _turned(t, kernel, groups))


def _kernel_gradient(
    t: Translator, grad: Value, x: Value, window: Shape, shape: tuple[Shape, Shape, Shape],
    groups: int,
) -> Value:  # fmt: skip
    """A convolution whose batch is the input channels and which sums over the batch."""
    stride, padding, dilation = shape
    batch, channels, *sizes = x.shape
    rank = len(sizes)
    pads = []
    for d, size in enumerate(sizes):
        reach = (window[d] - 1) * dilation[d] + (grad.shape[2 + d] - 1) * stride[d] + 1
        pads.append((padding[d], reach - size - padding[d]))
    slide = Window(dilation, tuple(pads), stride, (1,) * rank)
    split = t.reshape(x, (batch, groups, channels // groups, *sizes))
    turned = t.transpose(split, (2, 1, 0, *range(3, 3 + rank)))
    given = t.reshape(turned, (channels // groups, groups * batch, *sizes))
    taps = t.transpose(grad, (1, 0, *range(2, 2 + rank)))
    result = t.emit(ops.Convolution(slide, groups), given, taps)
    return t.transpose(result, (1, 0, *range(2, 2 + rank)))


# -- pooling -----------------------------------------------------------------------------------


def _pool_window(
    t: Translator, x: Value, size: Sequence[int] | int, stride: Sequence[int] | int | None,
    padding: Sequence[int] | int, dilation: Sequence[int] | int, rank: int, ceil: bool,
) -> tuple[Shape, Window]:  # fmt: skip
    """Window of a pooling; in ceil mode the last one may hang over the end."""
    taps = _each(size, rank)
    step = _each(stride, rank) if stride else taps
    around, spread = _each(padding, rank), _each(dilation, rank)
    pads = []
    for d, length in enumerate(x.shape[len(x.shape) - rank :]):
        high = around[d]
        if ceil:
            positions = t.result.shape[len(t.result.shape) - rank + d]
            reach = (positions - 1) * step[d] + (taps[d] - 1) * spread[d] + 1
            high = max(reach - length - around[d], around[d])
        pads.append((around[d], high))
    return taps, Window(step, tuple(pads), spread, (1,) * rank)


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def _max_pool(
    t: Translator, x: Value, size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> Result:  # fmt: skip
    rank = int(t.overload[len("max_pool")])
    taps, window = _pool_window(t, x, size, stride, padding, dilation, rank, ceil_mode)
    return t.emit(ops.ReduceWindow("maximum", taps, window), x)


@aten("max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def _max_pool_with_indices(t: Translator, x: Value, *rest: Any, **named: Any) -> Result:
    """The gradient finds the places again; whoever reads the indices gets them computed."""
    best = _max_pool(t, x, *rest, **named)
    assert isinstance(best, Value)
    if 1 not in t.used:
        return best, None
    pooling = t.builder.nodes[-1].op
    assert isinstance(pooling, ops.ReduceWindow)
    return best, positions(t, x, best, pooling)


def positions(t: Translator, x: Value, best: Value, op: ops.ReduceWindow) -> Value:
    """Flat place of the first maximum of every window, by a look at each tap."""
    window, rank = op.window, len(op.size)
    lead = len(x.shape) - rank
    pads = [(max(a, 0), max(b, 0)) for a, b in window.padding]
    low, high = ((*(0,) * lead, *edge) for edge in zip(*pads, strict=True))
    lowest = t.splat(-math.inf, x.type.with_shape(()))
    padded = t.emit(ops.Pad(low, high), x, lowest)
    found = t.splat(0, best.type.with_dtype(np.dtype(np.int64)))
    for place in reversed(list(np.ndindex(*op.size))):
        start = [int(p * d) for p, d in zip(place, window.dilation, strict=True)]
        counts = best.shape[lead:]
        ends = zip(start, counts, window.strides, strict=True)
        limit = [a + (n - 1) * s + 1 for a, n, s in ends]
        cut = ops.Slice(
            (*(0,) * lead, *start), (*x.shape[:lead], *limit), (*(1,) * lead, *window.strides)
        )
        same = t.emit(ops.Compare("eq"), t.emit(cut, padded), best)
        here = t.emit(ops.Constant.of(_flat_places(x.shape[lead:], counts, window, start)))
        found = t.emit(ops.Select(), same, t.broadcast(here, best.shape), found)
    return found


def _flat_places(sizes: Shape, counts: Shape, window: Window, start: Sequence[int]) -> Array:
    """Row-major number of the element that each window sees at one of its taps."""
    total: Any = np.zeros((), np.int64)
    for d, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        at = np.arange(count) * window.strides[d] - window.padding[d][0] + start[d]
        total = total[..., None] * size + np.clip(at, 0, size - 1)
    return np.asarray(total)


@aten("adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def _adaptive_max_pool(t: Translator, x: Value, size: Sequence[int]) -> Result:
    space = x.shape[-len(size) :]
    if any(n % k for n, k in zip(space, size, strict=True)):
        raise t.unsupported(
            "an adaptive maximum over windows of several sizes", got=f"{space} to {tuple(size)}",
            next_step="choose an output size that divides the input's",
        )  # fmt: skip
    taps = tuple(n // k for n, k in zip(space, size, strict=True))
    op = ops.ReduceWindow("maximum", taps, Window.of(taps, (0,) * len(taps)))
    best = t.emit(op, x)
    return best, positions(t, x, best, op) if 1 in t.used else None


@aten("max_pool2d_with_indices_backward.default", "max_pool3d_with_indices_backward.default")
def _max_pool_backward(
    t: Translator, grad: Value, x: Value, size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, indices: object,
) -> Result:  # fmt: skip
    rank = int(t.overload[len("max_pool")])
    taps, around = _each(size, rank), _each(padding, rank)
    step, spread = _each(stride, rank) if stride else taps, _each(dilation, rank)
    pads = []
    for d, length in enumerate(x.shape[-rank:]):
        reach = (grad.shape[d - rank] - 1) * step[d] + (taps[d] - 1) * spread[d] + 1
        pads.append((around[d], reach - length - around[d]))
    window = Window(step, tuple(pads), spread, (1,) * rank)
    return t.emit(ops.SelectAndScatter(taps, window), x, grad)


def _average_pool(rank: int) -> Any:
    def rule(
        t: Translator, x: Value, size: Any, stride: Any = None, padding: Any = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Result:  # fmt: skip
        taps, window = _pool_window(t, x, size, stride, padding, 1, rank, ceil_mode)
        total = t.emit(ops.ReduceWindow("add", taps, window), x)
        sizes = x.shape[len(x.shape) - rank :]
        count = _counts(sizes, taps, window, _each(padding, rank), count_include_pad)
        share = 1.0 / (np.full_like(count, divisor_override) if divisor_override else count)
        return _scaled(t, total, share)

    return rule


aten("avg_pool1d.default")(_average_pool(1))
aten("avg_pool2d.default")(_average_pool(2))
aten("avg_pool3d.default")(_average_pool(3))


def _counts(
    sizes: Shape, taps: Shape, window: Window, padding: Shape, include_padding: bool
) -> Array:
    """Elements of each window that count: [*positions] in float64."""
    inside = np.ones(sizes, np.float64)
    if include_padding:
        inside = np.pad(inside, [(p, p) for p in padding], constant_values=1.0)
        pads = tuple((low - p, high - p) for (low, high), p in zip(window.padding, padding,
                                                                  strict=True))  # fmt: skip
        window = Window(window.strides, pads, window.dilation, window.base_dilation)
    views = window.views(window.spread(inside, 0.0), taps)
    return np.asarray(views.sum(axis=tuple(range(len(sizes), 2 * len(sizes)))))


def _scaled(t: Translator, x: Value, factors: Array) -> Value:
    """x times one factor per position of its last dims."""
    if (factors == factors.flat[0]).all():
        return t.emit(ops.Multiply(), x, t.splat(float(factors.flat[0]), x.type))
    constant = t.emit(ops.Constant.of(factors.astype(x.dtype)))
    return t.emit(ops.Multiply(), x, t.broadcast(constant, x.shape))


@aten("avg_pool2d_backward.default", "avg_pool3d_backward.default")
def _average_pool_backward(
    t: Translator, grad: Value, x: Value, size: Any, stride: Any, padding: Any,
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> Result:  # fmt: skip
    """Each element gets its share from every window that holds it."""
    rank = int(t.overload[len("avg_pool")])
    ones = (1,) * rank
    taps = _each(size, rank)
    step = _each(stride, rank) if stride else taps
    around = _each(padding, rank)
    forward, back = [], []
    for d, length in enumerate(x.shape[-rank:]):
        reach = (grad.shape[d - rank] - 1) * step[d] + taps[d]
        forward.append((around[d], max(reach - length - around[d], 0)))
        low = taps[d] - 1 - around[d]
        back.append((low, length - ((grad.shape[d - rank] - 1) * step[d] + 1 + low - taps[d] + 1)))
    window = Window(step, tuple(forward), ones, ones)
    count = _counts(x.shape[-rank:], taps, window, around, count_include_pad)
    share = 1.0 / (np.full_like(count, divisor_override) if divisor_override else count)
    spread = Window(ones, tuple(back), ones, step)
    return t.emit(ops.ReduceWindow("add", taps, spread), _scaled(t, grad, share))
