"""ONNX resizing: every axis by a small matrix of weights; and sampling at computed places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.aten.resizing import (
    apply_matrices,
    cubic,
    repeat_each,
    repeats_each,
    tent,
)
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
    """Each output reads the image around a place that the grid gives in -1 to 1."""
    kind = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    space = x.shape[LEAD:]
    lead = grid.shape[:-1]
    axes = [_Axis(t, _component(t, grid, len(space) - 1 - d), n, bool(align_corners), kind,
                  padding_mode) for d, n in enumerate(space)]  # fmt: skip
    table = _pixels_first(t, x)
    start = t.constant(np.arange(x.shape[0]).reshape(-1, *(1 for _ in lead[1:])) * math.prod(space))
    total: Value | None = None
    for taps in itertools.product(*(axis.taps for axis in axes)):
        place, weight = t.broadcast(start, lead), None
        for d, (at, share) in enumerate(taps):
            scaled = t.apply(ops.Multiply(), at, math.prod(space[d + 1 :]))
            place = t.emit(ops.Add(), place, scaled)
            weight = share if weight is None else t.emit(ops.Multiply(), weight, share)
        read = t.emit(ops.Gather(0), table, place)
        assert weight is not None
        spread = t.emit(ops.BroadcastInDim(read.shape, tuple(range(len(lead)))), weight)
        part = t.emit(ops.Multiply(), read, spread)
        total = part if total is None else t.emit(ops.Add(), total, part)
    assert total is not None
    return t.transpose(total, (0, len(lead), *range(1, len(lead))))


def _component(t: Translator, grid: Value, number: int) -> Value:
    last = len(grid.shape) - 1
    return t.reshape(cut(t, grid, last, number, number + 1), grid.shape[:-1])


def _pixels_first(t: Translator, x: Value) -> Value:
    """[pixels of all images, channels]."""
    order = (0, *range(LEAD, len(x.shape)), 1)
    return t.reshape(t.transpose(x, order), (x.type.elements // x.shape[1], x.shape[1]))


class _Axis:
    """Where the outputs of a GridSample read along one axis: (places, weights) of each tap."""

    def __init__(
        self, t: Translator, given: Value, size: int, align: bool, kind: str, padding: str
    ) -> None:
        self.t, self.size, self.padding, self.align = t, size, padding, align
        scale = (size - 1) / 2 if align else size / 2
        middle = scale if align else scale - 0.5
        at = t.apply(ops.Add(), t.apply(ops.Multiply(), given, scale), middle)
        if kind == "nearest":
            self.taps = [self._tap(t.emit(ops.RoundNearestEven(), self._held(at)), None)]
            return
        at = self._held(at) if kind == "linear" else at
        low = t.emit(ops.Floor(), at)
        apart = t.emit(ops.Subtract(), at, low)
        reach = 1 if kind == "linear" else 2
        self.taps = []
        for step in range(1 - reach, reach + 1):
            distance = t.emit(ops.Abs(), t.apply(ops.Subtract(), apart, float(step)))
            weight = self._tent(distance) if kind == "linear" else self._cubic(distance)
            place = t.apply(ops.Add(), low, float(step))
            self.taps.append(self._tap(place if kind == "linear" else self._held(place), weight))

    def _tent(self, distance: Value) -> Value:
        return self.t.apply(ops.Subtract(), 1.0, distance)

    def _cubic(self, distance: Value) -> Value:
        near = self._polynomial(distance, (CUBIC + 2, -(CUBIC + 3), 0.0, 1.0))
        far = self._polynomial(distance, (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC))
        return self.t.emit(ops.Select(), self.t.apply(ops.Compare("le"), distance, 1.0), near, far)

    def _polynomial(self, x: Value, factors: Sequence[float]) -> Value:
        total = self.t.splat(factors[0], x.type)
        for factor in factors[1:]:
            scaled = self.t.emit(ops.Multiply(), total, x)
            total = self.t.apply(ops.Add(), scaled, factor)
        return total

    def _held(self, at: Value) -> Value:
        """Coordinates brought inside, as the padding mode says."""
        t, edge = self.t, float(self.size - 1)
        if self.padding == "zeros":
            return at
        if self.padding == "reflection":
            low = 0.0 if self.align else -0.5
            span = max(edge if self.align else edge + 1, 0.0)
            if span:
                apart = t.emit(ops.Abs(), t.apply(ops.Subtract(), at, low))
                turns = t.apply(ops.Remainder(), apart, 2 * span)
                back = t.apply(ops.Subtract(), 2 * span, turns)
                at = t.apply(ops.Add(), t.emit(ops.Minimum(), turns, back), low)
        return t.apply(ops.Clamp(), 0.0, at, edge)

    def _tap(self, place: Value, weight: Value | None) -> tuple[Value, Value]:
        """Integer places inside, and weights that are zero outside."""
        t, edge = self.t, float(self.size - 1)
        held = t.apply(ops.Clamp(), 0.0, place, edge)
        same = t.convert(t.emit(ops.Compare("eq"), held, place), place.dtype)
        share = same if weight is None else t.emit(ops.Multiply(), weight, same)
        return t.convert(held, np.dtype(np.int64)), share
