"""Reading images at places that come from data: sampling on a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.aten.resizing import CUBIC
from tenzing.compiler.frontends.aten.translator import Result, Translator, aten
from tenzing.compiler.graph import Value

LEAD: Final = 2  # batch and channel dims
KINDS: Final = ("linear", "nearest", "cubic")  # by PyTorch's numbers
PADDINGS: Final = ("zeros", "border", "reflection")


@aten("grid_sampler_2d.default", "grid_sampler_3d.default")
def _grid_sampler(
    t: Translator, x: Value, grid: Value, kind: int, padding: int, align_corners: bool
) -> Result:
    return grid_sample(t, x, grid, KINDS[kind], PADDINGS[padding], align_corners)


def grid_sample(
    t: Translator, x: Value, grid: Value, kind: str, padding: str, align: bool
) -> Value:
    """Each output reads the image x [n, c, *space] around a place that the grid gives in -1 to 1.

    The grid is [n, *positions, dims of space], innermost dim first; the result [n, c, *positions].
    """
    space = x.shape[LEAD:]
    lead = grid.shape[:-1]
    axes = [_Axis(t, _component(t, grid, len(space) - 1 - d), n, align, kind, padding)
            for d, n in enumerate(space)]  # fmt: skip
    table = _pixels_first(t, x)
    starts = np.arange(x.shape[0]).reshape(-1, *(1 for _ in lead[1:])) * math.prod(space)
    start = t.emit(ops.Constant.of(starts))
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


__all__ = ["grid_sample"]
