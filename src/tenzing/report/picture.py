"""Engines over time as inline SVG, merged to about one rectangle per pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tenzing.timeline import Timeline
from tenzing.units import PS_PER_MS, PS_PER_NS, PS_PER_S, PS_PER_US, format_time

WIDTH: Final = 1080
LABEL_WIDTH: Final = 86  # left of the lanes
RIGHT_MARGIN: Final = 14
LANE_HEIGHT: Final = 26
LANE_GAP: Final = 8
AXIS_HEIGHT: Final = 30
MAX_RECTS: Final = 1000  # per lane: about one per pixel
MAX_ROWS: Final = 4  # overlapping transfers drawn side by side; deeper ones share a row
PALETTE: Final = 8  # colours of the style sheet; the last one means "other"
PALEST: Final = 0.18  # opacity of a rectangle that is hardly busy
TICKS: Final = 8
TICK_STEPS: Final = (1, 2, 5, 10)
_AXIS_UNITS: Final = ((PS_PER_S, "s"), (PS_PER_MS, "ms"), (PS_PER_US, "us"), (PS_PER_NS, "ns"))
AXIS_FROM: Final = 10  # an axis takes the largest unit of which it spans this many

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Rects:
    """Rectangles of one row; ``share`` is the busy part of each, ``count`` its spans."""

    start: Array
    end: Array
    share: Array
    count: Array
    span: Array  # the longest span behind each


def timeline_svg(timeline: Timeline, total_ps: int = 0) -> str:
    """Lanes of ``timeline`` as an SVG; a lane of many spans is merged to about one per pixel.

    Colour is the instruction, paler where merged spans leave their engine partly idle.
    """
    total = max(total_ps, timeline.end_ps, 1)
    names = _frequent_names(timeline)
    parts: list[str] = []
    top = 0
    for label, rows in _lanes(timeline):
        baseline = top + LANE_HEIGHT * 2 // 3
        parts.append(f'<text class="lane" x="{LABEL_WIDTH - 12}" y="{baseline}" '
                     f'text-anchor="end">{escape(label)}</text>')  # fmt: skip
        parts.append(f'<rect class="bed" x="{LABEL_WIDTH}" y="{top}" width="{_PLOT_WIDTH}" '
                     f'height="{LANE_HEIGHT}" rx="3"/>')  # fmt: skip
        height = LANE_HEIGHT / max(len(rows), 1)
        for place, row in enumerate(rows):
            parts.extend(_row(timeline, row, names, total, top + place * height, height))
        top += LANE_HEIGHT + LANE_GAP
    axis = "".join(_time_axis(total, top))
    height = top + AXIS_HEIGHT
    picture = (f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="engines over time">'
               f"{axis}{''.join(parts)}</svg>")  # fmt: skip
    return picture + _legend(timeline, names)


_PLOT_WIDTH: Final = WIDTH - LABEL_WIDTH - RIGHT_MARGIN


def _frequent_names(timeline: Timeline) -> dict[int, int]:
    """Colour of each instruction name: the longest-running ones get their own."""
    columns = timeline.columns()
    if not len(columns):
        return {}
    ids, place = np.unique(columns.name, return_inverse=True)
    time = np.bincount(place, (columns.end_ps - columns.start_ps).astype(float))
    ranked = ids[np.argsort(-time, kind="stable")].tolist()
    own = len(ranked) if len(ranked) <= PALETTE else PALETTE - 1
    return {name: min(rank, PALETTE - 1) if rank < own else PALETTE - 1
            for rank, name in enumerate(ranked)}  # fmt: skip


def _lanes(timeline: Timeline) -> Iterator[tuple[str, list[Array]]]:
    """Label and rows of spans (indices sorted by start) of every track."""
    lane, lanes = timeline.lanes()
    for track in timeline.shown_tracks():
        numbers = [k for k, (owner, _) in enumerate(lanes) if owner == track]
        if len(numbers) > MAX_ROWS:
            rows = [np.flatnonzero(np.isin(lane, numbers))]
        else:
            rows = [np.flatnonzero(lane == number) for number in numbers]
        start = timeline.columns().start_ps
        yield timeline.tracks[track], [row[np.argsort(start[row], kind="stable")] for row in rows]


def _merge(start: Array, end: Array, total: int, limit: int) -> _Rects:
    """At most about ``limit`` rectangles: spans that start in one slot of the axis become one."""
    count = len(start)
    slot = np.arange(count) if count <= limit else start * limit // total
    first = np.flatnonzero(np.diff(slot, prepend=slot[:1] - 1))
    length = end - start
    group = np.repeat(np.arange(len(first)), np.diff(np.append(first, count)))
    ends = np.maximum.reduceat(end, first)
    busy = np.add.reduceat(length, first)
    order = np.lexsort((-length, group))
    share = np.minimum(busy / np.maximum(ends - start[first], 1), 1.0)
    return _Rects(start[first], ends, share, np.diff(np.append(first, count)), order[first])


def _row(
    timeline: Timeline, row: Array, names: dict[int, int], total: int, top: float, height: float
) -> Iterator[str]:
    if not len(row):
        return
    columns = timeline.columns().take(row)
    rects = _merge(columns.start_ps, columns.end_ps, total, MAX_RECTS)
    scale = _PLOT_WIDTH / total
    for start, end, share, count, span in zip(
        rects.start.tolist(), rects.end.tolist(), rects.share.tolist(), rects.count.tolist(),
        rects.span.tolist(), strict=True,
    ):  # fmt: skip
        name = int(columns.name[span])
        title = _title(timeline, name, int(columns.loc[span]), start, end, count)
        faint = f' opacity="{max(share, PALEST):.2f}"' if share < 1 else ""
        width = max((end - start) * scale, 0.4)
        yield (f'<rect class="c{names[name]}" x="{LABEL_WIDTH + start * scale:.2f}" '
               f'y="{top:.1f}" width="{width:.2f}" height="{height:.1f}"{faint}>'
               f"<title>{title}</title></rect>")  # fmt: skip


def _title(timeline: Timeline, name: int, loc: int, start: int, end: int, count: int) -> str:
    what = timeline.text_of(name)
    place = timeline.text_of(loc)
    text = f"{count} instructions, longest {what}" if count > 1 else what
    return escape(f"{text}{f' at {place}' if place else ''}: {format_time(start)} to "
                  f"{format_time(end)} ({format_time(end - start)})")  # fmt: skip


def _legend(timeline: Timeline, names: dict[int, int]) -> str:
    labels: dict[int, list[str]] = {}
    for name, colour in names.items():
        labels.setdefault(colour, []).append(timeline.text_of(name) or "unnamed")
    items = [
        f'<span><i class="c{colour}"></i>{escape(texts[0] if len(texts) == 1 else "other")}</span>'
        for colour, texts in sorted(labels.items())
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def _time_axis(total: int, bottom: int) -> Iterator[str]:
    unit, word = next(
        ((unit, word) for unit, word in _AXIS_UNITS if total >= AXIS_FROM * unit), _AXIS_UNITS[-1]
    )
    for tick in ticks(total / unit):
        x = LABEL_WIDTH + tick * unit / total * _PLOT_WIDTH
        yield f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>'
        yield (f'<text class="tick" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">'
               f"{tick:g}</text>")  # fmt: skip
    yield (f'<text class="tick" x="{LABEL_WIDTH - 12}" y="{bottom + 14}" text-anchor="end">'
           f"{word}</text>")  # fmt: skip


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to ``highest``, about eight of them."""
    rough = highest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in TICK_STEPS if power * k >= rough)
    return [k * step for k in range(math.floor(highest / step) + 1)]
