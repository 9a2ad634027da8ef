"""Lines with marks on logarithmic axes as inline SVG: one series a target, named where it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

LEFT: Final = 62
LABELS: Final = 134  # at the right, for the names of the series
TOP: Final = 16
BOTTOM: Final = 46
PALETTE: Final = 8
ROOM: Final = 0.06  # around the marks, as a share of the axis
LEAST_ROOM: Final = 0.08  # powers of ten
STEPS: Final = (1, 2, 5)
MOST_TICKS: Final = 8
LINE: Final = 15  # between two names
GAP: Final = 14  # between the plot and the names


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with the words shown when it is pointed at; both values above zero.

    The interval of each value is drawn through a mark that is the best of its series.
    """

    x: float
    y: float
    words: str = ""
    best: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


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


@dataclass(frozen=True, slots=True)
class Frame:
    """What a plot shows beside its series: names of the axes, how a tick reads, a limit of x."""

    x_label: str
    y_label: str
    y_tick: Callable[[float], str] = "{:g}".format
    limit: tuple[float, str] | None = None
    width: int = 760
    height: int = 400

    @property
    def right(self) -> float:
        """Where the plot ends and the names begin."""
        return self.width - LABELS

    @property
    def bottom(self) -> float:
        """Where the plot ends and the ticks of x begin."""
        return self.height - BOTTOM


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds all values with some room."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max((high - low) * ROOM, LEAST_ROOM)
    return Axis(low - room, high + room, start, end)


def plot_svg(series: Sequence[Series], frame: Frame, kind: str = "plot") -> str:
    """The plot; a sentence where there is nothing to draw."""
    marks = [m for s in series for m in s.marks]
    if not marks:
        return '<p class="note">Nothing to draw: no configuration has figures.</p>'
    across = axis([v for m in marks for v in _spread(m, m.x, m.x_range)], LEFT, frame.right)
    up = axis([v for m in marks for v in _spread(m, m.y, m.y_range)], frame.bottom, TOP)
    body = "".join([*_grid(across, up, frame), *_limit(across, frame),
                    *_lines(series, across, up), *_names(series, across, up, frame)])  # fmt: skip
    label = escape(f"{frame.y_label} over {frame.x_label}")
    return (f'<svg class="{kind}" viewBox="0 0 {frame.width} {frame.height}" role="img" '
            f'aria-label="{label}">{body}</svg>')  # fmt: skip


def _spread(mark: Mark, value: float, interval: tuple[float, float] | None) -> tuple[float, ...]:
    """What an axis has to hold of a mark."""
    return (value, *interval) if mark.best and interval else (value,)


def _grid(across: Axis, up: Axis, frame: Frame) -> Iterator[str]:
    for value in across.ticks():
        x = across.at(value)
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{frame.bottom}"/>'
        yield (f'<text x="{x:.1f}" y="{frame.bottom + 16}" text-anchor="middle">{value:,g}'
               "</text>")  # fmt: skip
    for value in up.ticks():
        y = up.at(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{frame.right}" y2="{y:.1f}"/>'
        yield (f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
               f"{escape(frame.y_tick(value))}</text>")  # fmt: skip
    middle = (LEFT + frame.right) / 2
    yield (f'<text class="lane" x="{middle:.0f}" y="{frame.height - 6}" text-anchor="middle">'
           f"{escape(frame.x_label)}</text>")  # fmt: skip
    turned = f"translate(13 {(frame.bottom + TOP) / 2:.0f}) rotate(-90)"
    yield (f'<text class="lane" transform="{turned}" text-anchor="middle">'
           f"{escape(frame.y_label)}</text>")  # fmt: skip


def _limit(across: Axis, frame: Frame) -> Iterator[str]:
    """A line that a user's limit draws, where it is on the axis."""
    if frame.limit is None or not across.low <= math.log10(frame.limit[0]) <= across.high:
        return
    x = across.at(frame.limit[0])
    yield f'<line class="limit" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{frame.bottom}"/>'
    yield (f'<text class="limit" x="{x + 6:.1f}" y="{TOP + 10}">{escape(frame.limit[1])}'
           "</text>")  # fmt: skip


def _lines(series: Sequence[Series], across: Axis, up: Axis) -> Iterator[str]:
    for number, one in enumerate(series):
        colour = f"c{number % PALETTE}"
        ordered = sorted(one.marks, key=lambda m: m.x)
        path = " ".join(f"{across.at(m.x):.1f},{up.at(m.y):.1f}" for m in ordered)
        yield f'<polyline class="{colour}" points="{path}"/>'
        for mark in ordered:
            x, y = across.at(mark.x), up.at(mark.y)
            if mark.best:
                yield from _interval(mark, colour, across, up)
            ring = " best" if mark.best else ""
            words = escape(f"{one.label}: {mark.words}")
            yield (f'<circle class="{colour}{ring}" cx="{x:.1f}" cy="{y:.1f}" '
                   f'r="{6 if mark.best else 3}"><title>{words}</title></circle>')  # fmt: skip


def _interval(mark: Mark, colour: str, across: Axis, up: Axis) -> Iterator[str]:
    """A cross through a mark as wide and as high as its intervals."""
    x, y = across.at(mark.x), up.at(mark.y)
    if mark.x_range:
        low, high = map(across.at, mark.x_range)
        yield f'<polyline class="{colour} range" points="{low:.1f},{y:.1f} {high:.1f},{y:.1f}"/>'
    if mark.y_range:
        low, high = map(up.at, mark.y_range)
        yield f'<polyline class="{colour} range" points="{x:.1f},{low:.1f} {x:.1f},{high:.1f}"/>'


def _names(series: Sequence[Series], across: Axis, up: Axis, frame: Frame) -> Iterator[str]:
    """Names at the right, as near to the end of their line as they go without touching."""
    ends = []
    for number, one in enumerate(series):
        if one.marks:
            last = max(one.marks, key=lambda m: m.x)
            ends.append((up.at(last.y), across.at(last.x), number, one.label))
    ends.sort()
    places = spaced([end[0] for end in ends], LINE, TOP, frame.bottom)
    at = frame.right + GAP
    for (y, x, number, label), place in zip(ends, places, strict=True):
        colour = f"c{number % PALETTE}"
        yield (f'<polyline class="{colour} leader" points="{x + 5:.1f},{y:.1f} '
               f'{frame.right:.1f},{y:.1f} {at - 3:.1f},{place:.1f}"/>')  # fmt: skip
        yield f'<rect class="{colour}" x="{at}" y="{place - 4:.1f}" width="8" height="8" rx="2"/>'
        yield f'<text class="name" x="{at + 12}" y="{place + 4:.1f}">{escape(label)}</text>'


def spaced(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted places moved apart by ``gap`` at least, between two bounds where they have room."""
    places: list[float] = []
    for value in wanted:
        places.append(max(value, low, places[-1] + gap if places else low))
    limit = high
    for number in reversed(range(len(places))):
        places[number] = min(places[number], limit)
        limit = places[number] - gap
    return places


__all__ = ["Axis", "Frame", "Mark", "Series", "axis", "plot_svg", "spaced"]
