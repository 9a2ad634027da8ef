"""Lines with marks on logarithmic axes as inline SVG: one series a target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
HEIGHT: Final = 380
LEFT: Final = 66
RIGHT: Final = 16
TOP: Final = 14
BOTTOM: Final = 46
PALETTE: Final = 8
ROOM: Final = 0.06  # around the marks, as a share of the axis
STEPS: Final = (1, 2, 5)
MOST_TICKS: Final = 7


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with the words shown when it is pointed at; both values above zero."""

    x: float
    y: float
    words: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Marks of one target, joined in order of x."""

    label: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis between two values, drawn between two places."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values on the axis: 1, 2 and 5 of each power where there is room, else powers."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        every = [s * 10.0**p for p in powers for s in STEPS]
        shown = [v for v in every if self.low <= math.log10(v) <= self.high]
        if len(shown) <= MOST_TICKS:
            return shown
        return [v for v in shown if math.log10(v) == round(math.log10(v))]


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds all values with some room."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max((high - low) * ROOM, 0.08)
    return Axis(low - room, high + room, start, end)


def plot_svg(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """The plot with its legend; a sentence where there is nothing to draw."""
    marks = [m for s in series for m in s.marks]
    if not marks:
        return '<p class="note">Nothing to draw: no configuration has figures.</p>'
    across = axis([m.x for m in marks], LEFT, WIDTH - RIGHT)
    up = axis([m.y for m in marks], HEIGHT - BOTTOM, TOP)
    body = "".join([*_grid(across, up, x_label, y_label), *_lines(series, across, up)])
    legend = "".join(
        f'<span><i class="c{n % PALETTE}"></i>{escape(s.label)}</span>'
        for n, s in enumerate(series) if s.marks
    )  # fmt: skip
    return (f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(y_label)} over {escape(x_label)}">{body}</svg>'
            f'<div class="legend">{legend}</div>')  # fmt: skip


def _grid(across: Axis, up: Axis, x_label: str, y_label: str) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for value in across.ticks():
        x = across.at(value)
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
    for value in up.ticks():
        y = up.at(value)
        yield (f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" '
               f'y2="{y:.1f}"/>')  # fmt: skip
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield (f'<text class="lane" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
           f"{escape(x_label)}</text>")  # fmt: skip
    turned = f"translate(14 {(bottom + TOP) / 2:.0f}) rotate(-90)"
    yield (f'<text class="lane" transform="{turned}" text-anchor="middle">'
           f"{escape(y_label)}</text>")  # fmt: skip


def _lines(series: Sequence[Series], across: Axis, up: Axis) -> Iterator[str]:
    for number, one in enumerate(series):
        colour = f"c{number % PALETTE}"
        ordered = sorted(one.marks, key=lambda m: m.x)
        path = " ".join(f"{across.at(m.x):.1f},{up.at(m.y):.1f}" for m in ordered)
        yield f'<polyline class="{colour}" points="{path}"/>'
        for mark in ordered:
            ring = " best" if mark.best else ""
            words = escape(f"{one.label}: {mark.words}")
            yield (f'<circle class="{colour}{ring}" cx="{across.at(mark.x):.1f}" '
                   f'cy="{up.at(mark.y):.1f}" r="{6 if mark.best else 3.5}">'
                   f"<title>{words}</title></circle>")  # fmt: skip


__all__ = ["Axis", "Mark", "Series", "axis", "plot_svg"]
