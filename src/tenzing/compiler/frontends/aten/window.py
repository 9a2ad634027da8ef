"""ATen operations over sliding windows: convolution, pooling, resizing, and their gradients."""

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


def _max_pool(rank: int) -> Any:
    def rule(
        t: Translator, x: Value, size: Any, stride: Any = None, padding: Any = 0,
        dilation: Any = 1, ceil_mode: bool = False,
    ) -> Result:  # fmt: skip
        taps, window = _pool_window(t, x, size, stride, padding, dilation, rank, ceil_mode)
        return t.emit(ops.ReduceWindow("maximum", taps, window), x)

    return rule


aten("max_pool1d.default")(_max_pool(1))
aten("max_pool2d.default")(_max_pool(2))
aten("max_pool3d.default")(_max_pool(3))


@aten("max_pool2d_with_indices.default")
def _max_pool_with_indices(t: Translator, x: Value, *rest: Any, **named: Any) -> Result:
    """The indices serve only the gradient, which finds the places again."""
    pooled = _max_pool(2)(t, x, *rest, **named)
    return pooled, None


@aten("max_pool2d_with_indices_backward.default")
def _max_pool_backward(
    t: Translator, grad: Value, x: Value, size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, indices: object,
) -> Result:  # fmt: skip
    taps = _each(size, 2)
    step = _each(stride, 2) if stride else taps
    around, spread = _each(padding, 2), _each(dilation, 2)
    pads = []
    for d, length in enumerate(x.shape[-2:]):
        reach = (grad.shape[d - 2] - 1) * step[d] + (taps[d] - 1) * spread[d] + 1
        pads.append((around[d], max(reach - length - around[d], around[d] if not ceil_mode else 0)))
    window = Window(step, tuple(pads), spread, (1, 1))
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


@aten("avg_pool2d_backward.default")
def _average_pool_backward(
    t: Translator, grad: Value, x: Value, size: Any, stride: Any, padding: Any,
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> Result:  # fmt: skip
    """Each element gets its share from every window that holds it."""
    taps = _each(size, 2)
    step = _each(stride, 2) if stride else taps
    around = _each(padding, 2)
    forward, back = [], []
    for d, length in enumerate(x.shape[-2:]):
        reach = (grad.shape[d - 2] - 1) * step[d] + taps[d]
        forward.append((around[d], max(reach - length - around[d], 0)))
        low = taps[d] - 1 - around[d]
        back.append((low, length - ((grad.shape[d - 2] - 1) * step[d] + 1 + low - taps[d] + 1)))
    window = Window(step, tuple(forward), (1, 1), (1, 1))
    count = _counts(x.shape[-2:], taps, window, around, count_include_pad)
    share = 1.0 / (np.full_like(count, divisor_override) if divisor_override else count)
    spread = Window((1, 1), tuple(back), (1, 1), step)
    return t.emit(ops.ReduceWindow("add", taps, spread), _scaled(t, grad, share))


def _pooling_matrix(length: int, positions: int) -> Array:
    """Adaptive averages as a matrix [positions, length]."""
    matrix = np.zeros((positions, length))
    for p in range(positions):
        start, end = p * length // positions, -(-(p + 1) * length // positions)
        matrix[p, start:end] = 1.0 / (end - start)
    return matrix


def _along(t: Translator, x: Value, matrix: Array, dim: int) -> Value:
    """``matrix`` applied to one dim of x."""
    dim = t.dim(dim, len(x.shape))
    if matrix.shape[0] == matrix.shape[1] and (matrix == np.eye(len(matrix))).all():
        return x
    constant = t.emit(ops.Constant.of(matrix.astype(np.float32).astype(x.dtype)))
    product = t.emit(ops.DotGeneral(((), ()), ((dim,), (1,))), x, constant)
    last = len(x.shape) - 1
    return t.transpose(product, (*range(dim), last, *range(dim, last)))


@aten("_adaptive_avg_pool2d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool1d.default")
def _adaptive_average(t: Translator, x: Value, size: Any) -> Result:
    for d, positions in enumerate(reversed(_each(size, len(size)))):
        x = _along(t, x, _pooling_matrix(x.shape[-1 - d], positions), -1 - d)
    return x


@aten("_adaptive_avg_pool2d_backward.default")
def _adaptive_average_backward(t: Translator, grad: Value, x: Value) -> Result:
    for d in (-1, -2):
        grad = _along(t, grad, _pooling_matrix(x.shape[d], grad.shape[d]).T, d)
    return grad


# -- resizing ----------------------------------------------------------------------------------


def _resize_matrix(
    length: int, positions: int, kind: str, align_corners: bool, scale: float | None
) -> Array:
    """Interpolation along one dim as a matrix [positions, length], as PyTorch computes it."""
    matrix = np.zeros((positions, length))
    ratio = 1.0 / scale if scale else length / positions
    if align_corners:
        ratio = (length - 1) / (positions - 1) if positions > 1 else 0.0
    for p in range(positions):
        if kind == "nearest":
            matrix[p, min(math.floor(p * ratio), length - 1)] = 1.0
            continue
        source = p * ratio if align_corners else (p + 0.5) * ratio - 0.5
        if kind == "linear":
            source = max(source, 0.0)
        base = math.floor(source)
        for place, weight in _taps(source - base, kind):
            matrix[p, min(max(base + place, 0), length - 1)] += weight
    return matrix


def _taps(part: float, kind: str) -> list[tuple[int, float]]:
    """Offsets and weights of the elements around a place between two elements."""
    if kind == "linear":
        return [(0, 1.0 - part), (1, part)]
    sharp = -0.75  # Keys' cubic convolution with the parameter PyTorch documents

    def near(x: float) -> float:
        return ((sharp + 2) * x - (sharp + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((sharp * x - 5 * sharp) * x + 8 * sharp) * x - 4 * sharp

    return [(-1, far(part + 1)), (0, near(part)), (1, near(1 - part)), (2, far(2 - part))]


def _resized(
    t: Translator, x: Value, size: Any, kind: str, align_corners: bool, scales: Sequence[Any]
) -> Value:
    rank = len(scales)
    for d in range(rank):
        positions = size[d] if size else math.floor(x.shape[d - rank] * scales[d])
        matrix = _resize_matrix(x.shape[d - rank], positions, kind, align_corners, scales[d])
        x = _along(t, x, matrix, d - rank)
    return x


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec")
def _nearest_vec(t: Translator, x: Value, size: Any, factors: Any) -> Result:
    scales = list(factors) if factors else [None] * (len(x.shape) - 2)
    return _resized(t, x, size, "nearest", False, scales)


@aten("upsample_nearest1d.default", "upsample_nearest2d.default")
def _nearest(t: Translator, x: Value, size: Any, *scales: Any) -> Result:
    return _resized(t, x, size, "nearest", False, list(scales) or [None] * len(size))


def _interpolation(kind: str) -> Any:
    def vec(t: Translator, x: Value, size: Any, align_corners: bool, factors: Any) -> Result:
        scales = list(factors) if factors else [None] * (len(x.shape) - 2)
        return _resized(t, x, size, kind, align_corners, scales)

    def plain(t: Translator, x: Value, size: Any, align_corners: bool, *scales: Any) -> Result:
        return _resized(t, x, size, kind, align_corners, list(scales) or [None] * len(size))

    return vec, plain


def _backward(kind: str) -> Any:
    def rule(
        t: Translator, grad: Value, out_size: Any, in_size: Sequence[int], *rest: Any
    ) -> Result:
        align = bool(rest and rest[0]) if kind != "nearest" else False
        given = list(rest if kind == "nearest" else rest[1:])
        rank = len(in_size) - 2
        scales = given or [None] * rank
        for d in range(rank):
            length = in_size[2 + d]
            matrix = _resize_matrix(length, grad.shape[d - rank], kind, align, scales[d])
            grad = _along(t, grad, matrix.T, d - rank)
        return grad

    return rule


for _kind, _names in {
    "linear": ("upsample_linear1d", "upsample_bilinear2d"), "cubic": ("upsample_bicubic2d",),
}.items():  # fmt: skip
    _vec, _plain = _interpolation(_kind)
    for _name in _names:
        aten(f"{_name}.vec")(_vec)
        aten(f"{_name}.default")(_plain)
        aten(f"{_name}_backward.default")(_backward(_kind))
aten("upsample_nearest1d_backward.default", "upsample_nearest2d_backward.default")(
    _backward("nearest")
)
