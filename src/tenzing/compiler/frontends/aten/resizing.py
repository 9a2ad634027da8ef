"""ATen operations that change the size of images: every dim by a small matrix of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.reduction import mean
from tenzing.compiler.frontends.aten.translator import Result, Translator, aten
from tenzing.compiler.graph import Array, Shape, Value

PLAIN_DIMS = 2  # batch and channels
CUBIC: Final = -0.75  # PyTorch's coefficient of the cubic kernel
CUBIC_SMOOTH: Final = -0.5  # and where it averages while shrinking
Scales = Sequence[float | None]


def cubic(distance: Array, a: float) -> Array:
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))  # noqa: PLR2004 - the kernel's ends


def tent(distance: Array) -> Array:
    return np.maximum(0.0, 1 - np.abs(distance))


def _step(size: int, count: int, align: bool, scale: float | None) -> float:
    """Input positions between neighbouring outputs."""
    if align:
        return (size - 1) / (count - 1) if count > 1 else 0.0
    return 1 / scale if scale else size / count


def _interpolation(kind: str, size: int, count: int, align: bool, scale: float | None) -> Array:
    """Weights [count, size] of linear or cubic interpolation."""
    step = _step(size, count, align, scale)
    at = np.arange(count) * step if align else (np.arange(count) + 0.5) * step - 0.5
    if kind == "linear":
        at = np.maximum(at, 0.0)
    reach = 1 if kind == "linear" else 2
    weights = np.zeros((count, size))
    low = np.floor(at).astype(int)
    for place in range(1 - reach, reach + 1):
        distance = at - (low + place)
        part = tent(distance) if kind == "linear" else cubic(distance, CUBIC)
        np.add.at(weights, (np.arange(count), np.clip(low + place, 0, size - 1)), part)
    return weights


def _smooth(kind: str, size: int, count: int, align: bool, scale: float | None) -> Array:
    """Weights [count, size] that average over what an output covers (antialias)."""
    step = _step(size, count, align, scale)
    stretch = max(step, 1.0)
    reach = (1 if kind == "linear" else 2) * stretch
    weights = np.zeros((count, size))
    for row in range(count):
        center = step * (row + 0.5)
        first = max(int(center - reach + 0.5), 0)
        stop = min(int(center + reach + 0.5), size)
        distance = (np.arange(first, stop) - center + 0.5) / stretch
        part = tent(distance) if kind == "linear" else cubic(distance, CUBIC_SMOOTH)
        weights[row, first:stop] = part / part.sum()
    return weights


def _nearest(size: int, count: int, scale: float | None, exact: bool) -> Array:
    """Weights [count, size] with one 1 in each row, chosen in float32 as PyTorch does."""
    step = np.float32(1 / scale if scale else size / count)
    at = np.floor((np.arange(count, dtype=np.float32) + np.float32(0.5 * exact)) * step)
    return np.eye(size)[np.minimum(at.astype(int), size - 1)]


def _average(size: int, count: int) -> Array:
    """Weights [count, size] of adaptive average pooling."""
    weights = np.zeros((count, size))
    for row in range(count):
        first, stop = row * size // count, -(-(row + 1) * size // count)
        weights[row, first:stop] = 1 / (stop - first)
    return weights


def apply_matrices(t: Translator, x: Value, matrices: Sequence[Array]) -> Value:
    """Multiply the last dims by matrices [new, old]: each product moves its dim to the end."""
    first = len(x.shape) - len(matrices)
    dtype = x.dtype
    for matrix in matrices:
        factor = t.emit(ops.Constant.of(np.ascontiguousarray(matrix).astype(dtype)))
        x = t.emit(ops.DotGeneral(((), ()), ((first,), (1,)), dtype), x, factor)
    return x


Maker = Callable[[int, int, float | None], Array]


def _resize(t: Translator, x: Value, space: Shape, scales: Scales, make: Maker) -> Value:
    dims = zip(x.shape[-len(space) :], space, scales, strict=True)
    return apply_matrices(t, x, [make(n, o, s) for n, o, s in dims])


def _resize_back(t: Translator, grad: Value, space: Shape, scales: Scales, make: Maker) -> Value:
    dims = zip(space, grad.shape[-len(space) :], scales, strict=True)
    return apply_matrices(t, grad, [make(n, o, s).T for n, o, s in dims])


def _maker(overload: str, align: bool) -> Maker:
    """The weights of one overload."""
    if "nearest" in overload:
        exact = "exact" in overload
        return lambda n, o, s: _nearest(n, o, s, exact)
    kind = "cubic" if "cubic" in overload else "linear"
    weights = _smooth if "_aa" in overload else _interpolation
    return lambda n, o, s: weights(kind, n, o, align, s)


def _scales(scales: Sequence[Any], rank: int) -> Scales:
    given = list(scales[0]) if scales and isinstance(scales[0], list | tuple) else list(scales)
    return [*given, *[None] * (rank - len(given))]


SMOOTH: Final = (
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
NEAREST: Final = tuple(
    f"{name}{rank}d" for name in ("upsample_nearest", "_upsample_nearest_exact")
    for rank in (1, 2, 3)
)  # fmt: skip


@aten(*(f"{name}.{form}" for name in SMOOTH for form in ("default", "vec")))
def _interpolate(
    t: Translator, x: Value, output_size: Sequence[int] | None, align_corners: bool, *scales: Any
) -> Result:
    space = t.result.shape[PLAIN_DIMS:]
    maker = _maker(t.overload, align_corners)
    return _resize(t, x, space, _scales(scales, len(space)), maker)


@aten(*(f"{name}_backward.default" for name in SMOOTH))
def _interpolate_backward(
    t: Translator, grad: Value, output_size: Sequence[int], input_size: Sequence[int],
    align_corners: bool, *scales: Any,
) -> Result:  # fmt: skip
    space = tuple(input_size[PLAIN_DIMS:])
    maker = _maker(t.overload, align_corners)
    return _resize_back(t, grad, space, _scales(scales, len(space)), maker)


@aten(*(f"{name}.{form}" for name in NEAREST for form in ("default", "vec")))
def _nearest_neighbour(
    t: Translator, x: Value, output_size: Sequence[int] | None, *scales: Any
) -> Result:
    space = t.result.shape[PLAIN_DIMS:]
    old = x.shape[PLAIN_DIMS:]
    maker = _maker(t.overload, False)
    factors = _scales(scales, len(space))
    if all(repeats_each(maker(n, o, s)) for n, o, s in zip(old, space, factors, strict=True)):
        return repeat_each(t, x, space)
    return _resize(t, x, space, factors, maker)


def repeats_each(matrix: Array) -> bool:
    """Whether every input is taken equally often."""
    count, size = matrix.shape
    return count % size == 0 and np.array_equal(matrix, np.repeat(np.eye(size), count // size, 0))


def repeat_each(t: Translator, x: Value, space: Shape) -> Value:
    """Each element several times along each dim."""
    lead = x.shape[:PLAIN_DIMS]
    shape, dims = list(lead), [*range(PLAIN_DIMS)]
    for n, o in zip(x.shape[PLAIN_DIMS:], space, strict=True):
        dims.append(len(shape))
        shape += [n, o // n]
    return t.reshape(t.emit(ops.BroadcastInDim(tuple(shape), tuple(dims)), x), (*lead, *space))


@aten(*(f"{name}_backward.default" for name in NEAREST))
def _nearest_backward(
    t: Translator, grad: Value, output_size: Sequence[int], input_size: Sequence[int], *scales: Any
) -> Result:
    space = tuple(input_size[PLAIN_DIMS:])
    maker = _maker(t.overload, False)
    return _resize_back(t, grad, space, _scales(scales, len(space)), maker)


@aten("_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default")
def _adaptive_avg_pool(t: Translator, x: Value, output_size: Sequence[int]) -> Result:
    rank = len(output_size)
    space = t.result.shape[-rank:]
    if math.prod(space) == 1:
        lead = x.shape[:-rank]
        flat = t.reshape(x, (*lead, math.prod(x.shape[-rank:])))
        return t.reshape(mean(t, flat, -1, False), (*lead, *space))
    return _resize(t, x, space, [None] * rank, lambda n, o, s: _average(n, o))


@aten("_adaptive_avg_pool2d_backward.default", "_adaptive_avg_pool3d_backward.default")
def _adaptive_avg_pool_backward(t: Translator, grad: Value, x: Value) -> Result:
    rank = 3 if "3d" in t.overload else 2
    space, counts = x.shape[-rank:], grad.shape[-rank:]
    if math.prod(counts) == 1:
        share = t.emit(ops.Multiply(), grad, t.splat(1 / math.prod(space), grad.type))
        return t.broadcast(share, x.shape)
    return _resize_back(t, grad, space, [None] * rank, lambda n, o, s: _average(n, o))
