"""How full SBUF and PSUM are over time, as inline SVG: a layer for each source line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from tenzing.isa.operand import Array
from tenzing.machine import Tenants
from tenzing.report.picture import (
    AXIS_HEIGHT,
    LABEL_WIDTH,
    PALETTE,
    PLOT_WIDTH,
    WIDTH,
    ticks,
    time_axis,
)
from tenzing.units import KIB, format_bytes, format_time

PLOT_HEIGHT: Final = 150
TOP: Final = 16  # above the plot, for the word at the capacity line
COLUMNS: Final = 500  # steps drawn: of more moments, the fullest of every slot
IN_SIGHT: Final = 3.0  # the capacity is drawn if it is at most so many times the peak
HEADROOM: Final = 1.12
SHOWN_LABEL: Final = 60  # characters of a legend
FAINT: Final = 0.9


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one line holds at every moment drawn."""

    label: str
    levels: Array


def occupancy_svg(held: Tenants, capacity_bytes: int, total_ps: int) -> str:
    """Bytes per partition over time, stacked by the line that made the tiles, under the capacity.

    Of more than ``COLUMNS`` moments the fullest of every slot is drawn, so peaks stay.
    """
    total = max(total_ps, int(held.end_ps.max(initial=0)), 1)
    moments, peak = _moments(held, total)
    seen = capacity_bytes <= peak * IN_SIGHT
    top_bytes = max(peak, capacity_bytes if seen else 0, 1) * HEADROOM
    layers = _layers(held, moments)
    body = [*_bytes_axis(top_bytes), *time_axis(total, TOP + PLOT_HEIGHT)]
    body += _stack(layers, moments, total, top_bytes)
    body += _capacity(capacity_bytes, top_bytes) if seen else []
    height = TOP + PLOT_HEIGHT + AXIS_HEIGHT
    picture = (f'<svg class="wide" viewBox="0 0 {WIDTH} {height}" role="img" '
               f'aria-label="bytes per partition over time">{"".join(body)}</svg>')  # fmt: skip
    return f'<div class="scroll">{picture}</div>{_legend(layers)}'


def _moments(held: Tenants, total: int) -> tuple[Array, int]:
    """Moments to draw and the highest level."""
    times, levels = held.levels()
    if not len(times):
        return np.zeros(0, np.int64), 0
    peak = int(levels.max())
    if len(times) <= COLUMNS:
        return times, peak
    slot = times * COLUMNS // (total + 1)
    order = np.lexsort((-levels, slot))
    first = np.flatnonzero(np.diff(slot[order], prepend=-1))
    return np.sort(times[order[first]]), peak


def _layers(held: Tenants, moments: Array) -> list[_Layer]:
    """A layer for each source line, the ones that hold most for longest first, the rest as one."""
    weight: dict[str, int] = {}
    owners: dict[str, list[int]] = {}
    spent = held.size_bytes * (held.end_ps - held.start_ps).astype(float)
    by_owner = np.bincount(held.owner, spent, len(held.owners))
    for number, (name, loc) in enumerate(held.owners):
        label = _label(name, str(loc or ""), loc.excerpt() if loc else "")
        weight[label] = weight.get(label, 0) + int(by_owner[number])
        owners.setdefault(label, []).append(number)
    ranked = sorted(weight, key=lambda label: -weight[label])
    own = ranked if len(ranked) <= PALETTE else ranked[: PALETTE - 1]
    layers = [_Layer(label, _levels(held, owners[label], moments)) for label in own]
    rest = [number for label in ranked[len(own) :] for number in owners[label]]
    if rest:
        layers.append(_Layer(f"{len(ranked) - len(own)} other lines", _levels(held, rest, moments)))
    return layers


def _label(name: str, place: str, excerpt: str) -> str:
    source = excerpt.split("\n")[0].strip()
    words = ": ".join(filter(None, (place.split(" in ")[0], source or name))) or "unnamed"
    return words if len(words) <= SHOWN_LABEL else words[: SHOWN_LABEL - 3] + "..."


def _levels(held: Tenants, owners: Sequence[int], moments: Array) -> Array:
    """Bytes that some owners hold from each moment on."""
    rows = np.isin(held.owner, owners)
    sizes = held.size_bytes[rows]
    came = _sum_until(held.start_ps[rows], sizes, moments)
    return came - _sum_until(held.end_ps[rows], sizes, moments)


def _sum_until(when: Array, sizes: Array, moments: Array) -> Array:
    order = np.argsort(when, kind="stable")
    sums = np.concatenate([[0], np.cumsum(sizes[order])])
    return sums[np.searchsorted(when[order], moments, side="right")]


def _stack(layers: Sequence[_Layer], moments: Array, total: int, top_bytes: float) -> Iterator[str]:
    below = np.zeros(len(moments), np.int64)
    x = LABEL_WIDTH + moments / total * PLOT_WIDTH
    right = LABEL_WIDTH + PLOT_WIDTH
    for number, layer in enumerate(layers):
        above = below + layer.levels
        upper = _steps(x, _y(above, top_bytes), right)
        lower = reversed(_steps(x, _y(below, top_bytes), right))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in (*upper, *lower))
        most = format_bytes(int(layer.levels.max(initial=0)))
        title = escape(f"{layer.label}: {most} at most")
        yield (f'<polygon class="c{number % PALETTE}" opacity="{FAINT}" points="{points}">'
               f"<title>{title}</title></polygon>")  # fmt: skip
        below = above


def _steps(x: Array, y: Array, right: float) -> list[tuple[float, float]]:
    """Corners of a line that keeps each level until the next moment."""
    ends = [*x.tolist()[1:], right]
    corners = []
    for start, end, level in zip(x.tolist(), ends, y.tolist(), strict=True):
        corners += [(start, level), (end, level)]
    return corners


def _y(levels: Array | float, top_bytes: float) -> Array:
    return np.asarray(TOP + PLOT_HEIGHT * (1 - np.asarray(levels) / top_bytes))


def _bytes_axis(top_bytes: float) -> Iterator[str]:
    unit, word = (KIB, "KiB") if top_bytes >= 2 * KIB else (1, "B")
    for tick in ticks(top_bytes / unit)[2::2]:
        y = float(_y(tick * unit, top_bytes))
        yield (f'<line class="grid" x1="{LABEL_WIDTH}" y1="{y:.1f}" '
               f'x2="{LABEL_WIDTH + PLOT_WIDTH}" y2="{y:.1f}"/>')  # fmt: skip
        words = f"{tick:g} {word}"
        yield (f'<text class="tick" x="{LABEL_WIDTH - 12}" y="{y + 4:.1f}" '
               f'text-anchor="end">{words}</text>')  # fmt: skip


def _capacity(capacity_bytes: int, top_bytes: float) -> Iterator[str]:
    y = float(_y(capacity_bytes, top_bytes))
    yield (f'<line class="limit" x1="{LABEL_WIDTH}" y1="{y:.1f}" x2="{LABEL_WIDTH + PLOT_WIDTH}" '
           f'y2="{y:.1f}"/>')  # fmt: skip
    words = f"capacity {format_bytes(capacity_bytes)}"
    yield (f'<text class="limit" x="{LABEL_WIDTH + PLOT_WIDTH - 4}" y="{y - 5:.1f}" '
           f'text-anchor="end">{words}</text>')  # fmt: skip


def _legend(layers: Sequence[_Layer]) -> str:
    items = "".join(f'<span><i class="c{k % PALETTE}"></i>{escape(layer.label)}</span>'
                    for k, layer in enumerate(layers))  # fmt: skip
    return f'<p class="legend">{items}</p>'


def occupancy_note(held: Tenants, capacity_bytes: int, least_bytes: int) -> str:
    """The fullest moment, and what would do if nothing ran ahead."""
    times, levels = held.levels()
    if not len(times):
        return "Nothing is held."
    at = int(levels.argmax())
    peak = int(levels[at])
    share = f"{peak / capacity_bytes:.0%}"
    words = (f"Fullest at {format_time(int(times[at]))}: {format_bytes(peak)} of "
             f"{format_bytes(capacity_bytes)} per partition ({share}).")  # fmt: skip
    if least_bytes < peak:
        words += f" {format_bytes(least_bytes)} would do with one instruction at a time."
    return words


__all__ = ["occupancy_note", "occupancy_svg"]
