"""Engines over time as inline SVG: the whole program merged, and stretches of it in detail."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tenzing.timeline import MODEL_TRACK, Columns, Timeline
from tenzing.units import PS_PER_MS, PS_PER_NS, PS_PER_S, PS_PER_US, format_time

WIDTH: Final = 1080
LABEL_WIDTH: Final = 86  # left of the lanes
RIGHT_MARGIN: Final = 14
PLOT_WIDTH: Final = WIDTH - LABEL_WIDTH - RIGHT_MARGIN
LANE_HEIGHT: Final = 26
LANE_GAP: Final = 8
AXIS_HEIGHT: Final = 30
MAX_RECTS: Final = 300  # per lane: of more spans, one for every few pixels
IN_DETAIL: Final = 64  # spans of a stretch shown in detail
MAX_ROWS: Final = 4  # overlapping transfers drawn side by side; deeper or merged ones share a row
UNIT_ROOM: Final = 34  # left of the first number of an axis
PALETTE: Final = 8  # colours of the style sheet; the last one means "other"
LOWEST: Final = 0.08  # share of a lane's height for a rectangle that is hardly busy
THINNEST: Final = 0.4  # pixels of a rectangle that lasts no time
LETTER_WIDTH: Final = 6.2  # pixels of a letter in a rectangle
INSET: Final = 8  # pixels around a name in a rectangle
ROUNDING: Final = 1e-9
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
    """Lanes of ``timeline`` as an SVG; a lane of many spans is merged to some pixels each.

    Colour is the instruction; where merged spans leave their engine partly idle, the rectangle is
    lower.
    """
    names = _frequent_names(timeline)
    return _drawn(timeline, total_ps, 0, names) + _legend(timeline, names)


def _drawn(timeline: Timeline, total_ps: int, begin_ps: int, names: dict[int, int]) -> str:
    """The lanes of a stretch that begins at ``begin_ps``, which its axis and times count from."""
    total = max(total_ps, timeline.end_ps, 1)
    parts: list[str] = []
    top = 0
    for label, rows in _lanes(timeline):
        baseline = top + LANE_HEIGHT * 2 // 3
        parts.append(f'<text class="lane" x="{LABEL_WIDTH - 12}" y="{baseline}" '
                     f'text-anchor="end">{escape(label)}</text>')  # fmt: skip
        parts.append(f'<rect class="bed" x="{LABEL_WIDTH}" y="{top}" width="{PLOT_WIDTH}" '
                     f'height="{LANE_HEIGHT}" rx="3"/>')  # fmt: skip
        height = LANE_HEIGHT / max(len(rows), 1)
        for place, row in enumerate(rows):
            box = _Box(total, begin_ps, top + place * height, height)
            parts.extend(_row(timeline, row, names, box))
        top += LANE_HEIGHT + LANE_GAP
    axis = "".join(time_axis(total, top, begin_ps))
    height = top + AXIS_HEIGHT
    picture = (f'<svg class="wide" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="engines '
               f'over time">{axis}{"".join(parts)}</svg>')  # fmt: skip
    return f'<div class="scroll">{picture}</div>'


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a row is drawn, and the time it shows."""

    total: int
    begin: int
    top: float
    height: float


def detail_html(timeline: Timeline) -> str:
    """Stretches of a long program near enough to tell its instructions apart; else nothing.

    One at the start, one in the middle and one at the end, each of about ``IN_DETAIL`` spans.
    """
    count = len(timeline)
    if count <= MAX_RECTS:
        return ""
    start, names = np.sort(timeline.columns().start_ps), _frequent_names(timeline)
    parts = []
    for label, first in (("At the start", 0), ("In the middle", (count - IN_DETAIL) // 2),
                         ("At the end", count - IN_DETAIL)):  # fmt: skip
        begin = int(start[first]) if first else 0
        end = int(start[first + IN_DETAIL]) if first + IN_DETAIL < count else timeline.end_ps
        if end <= begin:
            continue
        words = f"{label}: {format_time(begin)} to {format_time(end)}"
        shown = " open" if label == "In the middle" else ""
        picture = _drawn(_between(timeline, begin, end), end - begin, begin, names)
        parts.append(f"<details{shown}><summary>{words}</summary>{picture}</details>")
    return "".join(parts)


def _between(timeline: Timeline, begin: int, end: int) -> Timeline:
    """Spans of a stretch, cut at its ends; times count from its begin."""
    columns = timeline.columns()
    inside = columns.take((columns.end_ps > begin) & (columns.start_ps < end))
    cut = replace(
        inside, start_ps=np.maximum(inside.start_ps, begin) - begin,
        end_ps=np.minimum(inside.end_ps, end) - begin,
    )  # fmt: skip
    return Timeline.from_columns(timeline.tracks, timeline.strings, cut, timeline.title)


def _frequent_names(timeline: Timeline) -> dict[int, int]:
    """Colour of each name: the longest-running ones get their own, apart for a model's track."""
    columns = timeline.columns()
    model = _on_model(timeline)
    return {**_ranked(columns.take(model)), **_ranked(columns.take(~model))}


def _on_model(timeline: Timeline) -> Array:
    """Which spans are a model's operations and not instructions."""
    names = np.array([name == MODEL_TRACK for name in timeline.tracks] or [False])
    return np.asarray(names[timeline.columns().track])


def _ranked(columns: Columns) -> dict[int, int]:
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
    start = timeline.columns().start_ps
    for track in timeline.shown_tracks():
        numbers = [k for k, (owner, _) in enumerate(lanes) if owner == track]
        rows = [np.flatnonzero(np.isin(lane, numbers))]
        if len(numbers) <= MAX_ROWS and len(rows[0]) <= MAX_RECTS:
            rows = [np.flatnonzero(lane == number) for number in numbers]
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


def _row(timeline: Timeline, row: Array, names: dict[int, int], box: _Box) -> Iterator[str]:
    if not len(row):
        return
    columns = timeline.columns().take(row)
    rects = _merge(columns.start_ps, columns.end_ps, box.total, MAX_RECTS)
    scale = PLOT_WIDTH / box.total
    named = box.height == LANE_HEIGHT and bool((rects.start[1:] >= rects.end[:-1]).all())
    for start, end, share, count, span in zip(
        rects.start.tolist(), rects.end.tolist(), rects.share.tolist(), rects.count.tolist(),
        rects.span.tolist(), strict=True,
    ):  # fmt: skip
        name = int(columns.name[span])
        title = _title(timeline, name, int(columns.loc[span]),
                       (start + box.begin, end + box.begin), count, share)  # fmt: skip
        x, width = LABEL_WIDTH + start * scale, max((end - start) * scale, THINNEST)
        height = box.height * (max(share, LOWEST) if count > 1 else 1)
        y = box.top + box.height - height
        yield (f'<rect class="c{names[name]}" x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" '
               f'height="{height:.1f}"><title>{title}</title></rect>')  # fmt: skip
        text = timeline.text_of(name)
        if count == 1 and named and width > LETTER_WIDTH * len(text) + INSET:
            y = box.top + box.height * 2 / 3
            yield (f'<text class="on" x="{x + INSET / 2:.1f}" y="{y:.1f}">'
                   f"{escape(text)}</text>")  # fmt: skip


def _title(
    timeline: Timeline, name: int, loc: int, when: tuple[int, int], count: int, share: float
) -> str:
    what = timeline.text_of(name)
    place = timeline.text_of(loc)
    text = f"{count} instructions, {share:.0%} busy, longest {what}" if count > 1 else what
    start, end = when
    return escape(f"{text}{f' at {place}' if place else ''}: {format_time(start)} to "
                  f"{format_time(end)} ({format_time(end - start)})")  # fmt: skip


def _legend(timeline: Timeline, names: dict[int, int]) -> str:
    """What the colours mean; a line of its own for a model's operations."""
    model = _on_model(timeline)
    operations = set(timeline.columns().name[model].tolist())
    lines = [{n: c for n, c in names.items() if (n in operations) == of_model}
             for of_model in (True, False)]  # fmt: skip
    return "".join(_legend_line(timeline, line) for line in lines if line)


def _legend_line(timeline: Timeline, names: dict[int, int]) -> str:
    labels: dict[int, list[str]] = {}
    for name, colour in names.items():
        labels.setdefault(colour, []).append(timeline.text_of(name) or "unnamed")
    items = [
        f'<span><i class="c{colour}"></i>{escape(texts[0] if len(texts) == 1 else "other")}</span>'
        for colour, texts in sorted(labels.items())
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def time_axis(total: int, bottom: int, begin: int = 0) -> Iterator[str]:
    """Grid lines and words of an axis of ``total`` picoseconds from ``begin`` on."""
    unit, word = next(
        ((u, word) for u, word in _AXIS_UNITS if begin + total >= AXIS_FROM * u), _AXIS_UNITS[-1]
    )
    steps = ticks(total / unit)
    step = steps[1] if len(steps) > 1 else 1
    first = math.ceil(begin / unit / step - ROUNDING) * step
    for tick in (first + value for value in steps):
        share = (tick * unit - begin) / total
        if share > 1:
            break
        x = LABEL_WIDTH + share * PLOT_WIDTH
        yield f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>'
        yield (f'<text class="tick" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">'
               f"{tick:.10g}</text>")  # fmt: skip
    yield (f'<text class="tick" x="{LABEL_WIDTH - UNIT_ROOM}" y="{bottom + 14}" text-anchor="end">'
           f"{word}</text>")  # fmt: skip


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to ``highest``, about eight of them."""
    rough = highest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in TICK_STEPS if power * k >= rough)
    return [k * step for k in range(math.floor(highest / step) + 1)]
