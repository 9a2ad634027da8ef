"""ONNX resizing: every axis by a small matrix of weights; and sampling at computed places."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.resizing import (
    apply_matrices,
    cubic,
    repeat_each,
    repeats_each,
    tent,
)
from tenzing.compiler.frontends.aten.sampling import grid_sample
from tenzing.compiler.frontends.onnx_ops.translator import Item, Translator, onnx
from tenzing.compiler.graph import Array, Shape, Value

Ints = Sequence[int]
CUBIC: Final = -0.75
LEAD: Final = 2
NEAREST: Final[dict[str, Callable[[Array], Array]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class _Resizing:
    """How one axis of a Resize finds its weights."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    coefficient: float = CUBIC
    exclude: bool = False
    smooth: bool = False

    def places(self, size: int, count: int, scale: float, span: tuple[float, float]) -> Array:
        """Input coordinates of the outputs."""
        at = np.arange(count, dtype=np.float64)
        if self.coordinates == "align_corners":
            return at * (size - 1) / (count - 1) if count > 1 else at * 0
        if self.coordinates == "asymmetric":
            return at / scale
        if self.coordinates == "tf_crop_and_resize":
            first, last = span
            if count == 1:
                return at + 0.5 * (first + last) * (size - 1)
            return first * (size - 1) + at * (last - first) * (size - 1) / (count - 1)
        if self.coordinates == "pytorch_half_pixel" and count == 1:
            return at * 0
        half = (at + 0.5) / scale - 0.5
        if self.coordinates == "half_pixel_symmetric":
            return half + size / 2 * (1 - count / (scale * size))
        return half

    def matrix(self, size: int, count: int, scale: float, span: tuple[float, float]) -> Array:
        """Weights [count, size]."""
        at = self.places(size, count, scale, span)
        if self.mode == "nearest":
            chosen = np.clip(NEAREST[self.nearest](at), 0, size - 1).astype(int)
            return np.eye(size)[chosen]
        stretch = max(1 / scale, 1.0) if self.smooth else 1.0
        reach = math.ceil((1 if self.mode == "linear" else 2) * stretch)
        weights = np.zeros((count, size))
        for row, (place, low) in enumerate(zip(at, np.floor(at).astype(int), strict=True)):
            near = np.arange(low - reach + 1, low + reach + 1)
            apart = (near - place) / stretch
            part = tent(apart) if self.mode == "linear" else cubic(apart, self.coefficient)
            if self.exclude:
                part = np.where((near >= 0) & (near < size), part, 0.0)
            if self.exclude or self.smooth:
                part = part / part.sum()
            np.add.at(weights[row], np.clip(near, 0, size - 1), part)
        return weights

    def outside(self, size: int, count: int, scale: float, span: tuple[float, float]) -> Array:
        """Which outputs lie beyond the input, where a crop may."""
        at = self.places(size, count, scale, span)
        return (at < 0) | (at > size - 1)


@onnx("Resize", since=10)
def _resize_scales(t: Translator, x: Value, scales: Value, *, mode: str = "nearest") -> Item:
    """Version 10: by scales alone."""
    how = _Resizing(mode, "asymmetric", "floor")
    return _resized(t, x, how, [float(s) for s in t.static(scales, "the scales")], None, {})


onnx("Upsample", since=9)(_resize_scales)


@onnx("Resize", since=11)
def _resize(
    t: Translator, x: Value, roi: Value | None = None, scales: Value | None = None,
    sizes: Value | None = None, *, antialias: int = 0, axes: Ints | None = None,
    coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = CUBIC,
    exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Item:  # fmt: skip
    how = _Resizing(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a,
                    bool(exclude_outside), bool(antialias))  # fmt: skip
    rank = len(x.shape)
    dims = [t.axis(a, rank) for a in axes] if axes is not None else list(range(rank))
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    box = t.static(roi, "the region") if crop and roi is not None else np.zeros(0)
    spans = {d: (float(box[i]), float(box[i + len(dims)])) for i, d in enumerate(dims)
             if box.size}  # fmt: skip
    factors, wanted = [1.0] * rank, None
    if sizes is not None and sizes.type.elements:
        given = [int(n) for n in t.static(sizes, "the sizes")]
        factors, wanted = _from_sizes(x.shape, dims, given, keep_aspect_ratio_policy)
    elif scales is not None:
        for d, s in zip(dims, t.static(scales, "the scales"), strict=True):
            factors[d] = float(s)
    result = _resized(t, x, how, factors, wanted, spans)
    if crop and extrapolation_value is not None:
        return _extrapolated(t, result, x.shape, how, factors, spans, extrapolation_value)
    return result


def _from_sizes(
    shape: Shape, dims: Ints, given: Ints, policy: str
) -> tuple[list[float], list[int]]:
    """Scales and sizes of every axis."""
    factors, wanted = [1.0] * len(shape), list(shape)
    ratios = [n / shape[d] for d, n in zip(dims, given, strict=True)]
    if policy != "stretch":
        one = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [one] * len(dims)
        given = [math.floor(one * shape[d] + 0.5) for d in dims]
    for d, ratio, size in zip(dims, ratios, given, strict=True):
        factors[d], wanted[d] = ratio, size
    return factors, wanted


def _resized(
    t: Translator, x: Value, how: _Resizing, scales: Sequence[float], sizes: Ints | None,
    spans: dict[int, tuple[float, float]],
) -> Value:  # fmt: skip
    wanted = sizes or [math.floor(n * s) for n, s in zip(x.shape, scales, strict=True)]
    each = zip(x.shape, wanted, scales, strict=True)
    matrices = [how.matrix(n, o, s, spans.get(d, (0.0, 1.0))) for d, (n, o, s) in enumerate(each)]
    moved = [d for d, m in enumerate(matrices)
             if m.shape[0] != m.shape[1] or not np.array_equal(m, np.eye(m.shape[0]))]  # fmt: skip
    if not moved:
        return x
    if min(moved) >= LEAD and len(x.shape) > LEAD and all(map(repeats_each, matrices)):
        return repeat_each(t, x, tuple(wanted[LEAD:]))
    return apply_matrices(t, x, matrices[min(moved) :])


def _extrapolated(
    t: Translator, x: Value, old: Shape, how: _Resizing, scales: Sequence[float],
    spans: dict[int, tuple[float, float]], value: float,
) -> Value:  # fmt: skip
    hidden = np.zeros(x.shape, np.bool_)
    for d, (n, o) in enumerate(zip(old, x.shape, strict=True)):
        line = how.outside(n, o, scales[d], spans.get(d, (0.0, 1.0)))
        hidden |= line.reshape([-1 if e == d else 1 for e in range(len(old))])
    if not hidden.any():
        return x
    return t.emit(ops.Select(), t.constant(hidden), t.splat(value, x.type), x)


# -- sampling ------------------------------------------------------------------------------------


@onnx("GridSample", since=16)
def _grid_sample(
    t: Translator, x: Value, grid: Value, *, align_corners: int = 0, mode: str = "linear",
    padding_mode: str = "zeros",
) -> Item:  # fmt: skip
    kind = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return grid_sample(t, x, grid, kind, padding_mode, bool(align_corners))
