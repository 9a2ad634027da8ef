"""The roofline as inline SVG: what a kernel reaches, and what limits it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

PALETTE: Final = 8  # colours of the style sheet
ROOF_RIGHT: Final = 14
ROOF_WIDTH: Final = 640
ROOF_HEIGHT: Final = 300
ROOF_LEFT: Final = 62
ROOF_BOTTOM: Final = 42
ROOF_TOP: Final = 16
ROOM: Final = 0.15  # around points and ceilings, in powers of ten
LABEL_ROOM: Final = 170  # a label this close to the right edge is written leftwards


@dataclass(frozen=True, slots=True)
class Roof:
    """A ceiling: peak TFLOPS, and the memory bandwidth in GB/s that limits it."""

    label: str
    peak_tflops: float
    memory_gb_s: float

    @property
    def ridge(self) -> float:
        """FLOP per byte from which arithmetic limits."""
        return self.peak_tflops * 1000 / self.memory_gb_s


@dataclass(frozen=True, slots=True)
class Point:
    """A kernel: FLOP per byte of HBM traffic, and TFLOPS reached; both above zero."""

    label: str
    intensity: float
    tflops: float


@dataclass(frozen=True, slots=True)
class _Scale:
    """Logarithmic axes: powers of ten at the edges of the plot."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.x_low) / (self.x_high - self.x_low)
        return ROOF_LEFT + share * (ROOF_WIDTH - ROOF_LEFT - ROOF_RIGHT)

    def y(self, value: float) -> float:
        share = (math.log10(value) - self.y_low) / (self.y_high - self.y_low)
        return ROOF_HEIGHT - ROOF_BOTTOM - share * (ROOF_HEIGHT - ROOF_BOTTOM - ROOF_TOP)


def roofline_svg(roofs: Sequence[Roof], points: Sequence[Point]) -> str:
    """Reached TFLOPS over arithmetic intensity, both logarithmic, under the ceilings."""
    xs = [math.log10(x) for x in [*(r.ridge for r in roofs), *(p.intensity for p in points)]]
    ys = [math.log10(y) for y in [*(r.peak_tflops for r in roofs), *(p.tflops for p in points)]]
    scale = _Scale(
        math.floor(min(xs) - ROOM), math.ceil(max(xs) + ROOM),
        math.floor(min(ys) - ROOM), math.ceil(max(ys) + ROOM),
    )  # fmt: skip
    body = [*_roof_grid(scale), *_roof_lines(scale, roofs), *_roof_points(scale, points)]
    return (f'<svg class="roofline" viewBox="0 0 {ROOF_WIDTH} {ROOF_HEIGHT}" role="img" '
            f'aria-label="roofline">{"".join(body)}</svg>')  # fmt: skip


def _roof_grid(scale: _Scale) -> Iterator[str]:
    bottom = ROOF_HEIGHT - ROOF_BOTTOM
    for power in range(math.ceil(scale.x_low), math.floor(scale.x_high) + 1):
        x = scale.x(10.0**power)
        yield f'<line class="grid" x1="{x:.1f}" y1="{ROOF_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        yield _text(x, bottom + 15, f"{10.0**power:g}", "middle")
    for power in range(math.ceil(scale.y_low), math.floor(scale.y_high) + 1):
        y = scale.y(10.0**power)
        yield (f'<line class="grid" x1="{ROOF_LEFT}" y1="{y:.1f}" '
               f'x2="{ROOF_WIDTH - ROOF_RIGHT}" y2="{y:.1f}"/>')  # fmt: skip
        yield _text(ROOF_LEFT - 8, y + 4, f"{10.0**power:g}", "end")
    middle = (ROOF_LEFT + ROOF_WIDTH) / 2
    yield (f'<text class="lane" x="{middle:.0f}" y="{ROOF_HEIGHT - 6}" text-anchor="middle">'
           f"FLOP per byte of HBM traffic</text>")  # fmt: skip
    turned = f"translate(14 {(bottom + ROOF_TOP) / 2:.0f}) rotate(-90)"
    yield f'<text class="lane" transform="{turned}" text-anchor="middle">TFLOPS</text>'


def _roof_lines(scale: _Scale, roofs: Sequence[Roof]) -> Iterator[str]:
    right = 10.0**scale.x_high
    for number, roof in enumerate(roofs):
        slope = roof.memory_gb_s / 1000
        left = max(10.0**scale.x_low, 10.0**scale.y_low / slope)
        corners = [(left, slope * left), (roof.ridge, roof.peak_tflops), (right, roof.peak_tflops)]
        path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in corners)
        dashed = ' stroke-dasharray="5 4"' if number else ""
        yield f'<polyline class="roof" points="{path}"{dashed}/>'
        yield _text(ROOF_WIDTH - ROOF_RIGHT, scale.y(roof.peak_tflops) - 6, roof.label, "end")


def _roof_points(scale: _Scale, points: Sequence[Point]) -> Iterator[str]:
    for number, point in enumerate(points):
        x, y = scale.x(point.intensity), scale.y(point.tflops)
        left = x > ROOF_WIDTH - LABEL_ROOM
        yield f'<circle class="c{number % PALETTE}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        yield _text(x + (-9 if left else 9), y + 4, point.label, "end" if left else "start")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="tick" {place}>{escape(text)}</text>'
