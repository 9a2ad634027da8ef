"""Which views of a storage overlap: exact for rectangles, exact or safe for strided patterns."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from tenzing.isa.operand import Array, Layout, Space, Storage

EXACT_LIMIT: Final = 1 << 18  # elements up to which two strided patterns are compared one by one
CELLS_LIMIT: Final = 64  # a view over more grid cells is looked up everywhere

Rect = tuple[int, int, int, int]  # first row, end row, first byte, end byte


class Region:
    """One distinct view of a storage, with what was last done to it."""

    __slots__ = (
        "area", "dense", "direct", "layout", "offset", "others", "readers", "rect", "whole",
        "writer", "written_area",
    )  # fmt: skip

    def __init__(self, offset: int, layout: Layout, rect: Rect) -> None:
        self.offset, self.layout, self.rect = offset, layout, rect
        r0, r1, c0, c1 = rect
        self.area = distinct_bytes(layout)
        self.dense = (r1 - r0) * (c1 - c0) == self.area
        self.others: list[tuple[Region, bool]] = []  # overlapping region, covered by this one
        self.writer = -1
        self.readers: dict[int, int] = {}
        self.direct = False  # some instruction wrote exactly this view
        self.written_area = 0  # bytes of it written so far, at most
        self.whole = False  # every byte of it is known to be written


class RegionTable:
    """The distinct views of one storage and how they overlap."""

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = max(row_bytes, 1)
        self.by_view: dict[tuple[int, Layout], Region] = {}
        self._cells: dict[tuple[int, int], list[Region]] = {}
        self._wide: list[Region] = []
        self._cell = (0, 0)

    def add(self, offset: int, layout: Layout) -> Region:
        """The region of a view not seen before, linked with every overlapping one."""
        rect = rectangle(offset, layout, self.row_bytes)
        new = Region(offset, layout, rect)
        if not self.by_view:  # most storages are one tile: no grid yet
            self.by_view[(offset, layout)] = new
            self._cell = (max(rect[1] - rect[0], 1), max(rect[3] - rect[2], 1))
            self._register(new, self._cells_of(rect))
            return new
        cells = self._cells_of(rect)
        if cells is None:
            candidates = list(self.by_view.values())
        else:
            seen = {id(r): r for cell in cells for r in self._cells.get(cell, ())}
            candidates = [*seen.values(), *self._wide]
        for other in candidates:
            if overlap(new, other):
                new.others.append((other, covers(new, other)))
                other.others.append((new, covers(other, new)))
                if other.direct:
                    new.written_area += common_area(other, new)
                    new.whole = new.whole or covers(other, new)
        new.written_area = min(new.written_area, new.area)
        self.by_view[(offset, layout)] = new
        self._register(new, cells)
        return new

    def _register(self, region: Region, cells: list[tuple[int, int]] | None) -> None:
        if cells is None:
            self._wide.append(region)
            return
        for cell in cells:
            self._cells.setdefault(cell, []).append(region)

    def _cells_of(self, rect: Rect) -> list[tuple[int, int]] | None:
        height, width = self._cell
        rows = range(rect[0] // height, -(-rect[1] // height))
        columns = range(rect[2] // width, -(-rect[3] // width))
        if len(rows) * len(columns) > CELLS_LIMIT:
            return None
        return [(r, c) for r in rows for c in columns]


def common_area(a: Region, b: Region) -> int:
    """Bytes both hold, at most: those of the smaller, or of where their rectangles meet."""
    height = min(a.rect[1], b.rect[1]) - max(a.rect[0], b.rect[0])
    width = min(a.rect[3], b.rect[3]) - max(a.rect[2], b.rect[2])
    return min(max(height, 0) * max(width, 0), a.area, b.area)


def is_written(region: Region) -> bool:
    """Whether the views written so far hold every byte of ``region``; asked once when they do.

    Exact, but for a strided pattern above EXACT_LIMIT elements, which gets the benefit of doubt.
    """
    if not region.whole and region.written_area >= region.area:
        writers = [other for other, _ in region.others if other.direct]
        if region.dense and all(w.dense for w in writers):
            region.whole = _tiled(region.rect, [w.rect for w in writers])
        else:
            region.whole = _painted(region, writers)
    return region.whole


def _tiled(rect: Rect, parts: list[Rect]) -> bool:
    """Whether rectangles cover one, on the grid of their edges."""
    r0, r1, c0, c1 = rect
    rows = sorted({r0, r1, *(min(max(e, r0), r1) for p in parts for e in p[:2])})
    columns = sorted({c0, c1, *(min(max(e, c0), c1) for p in parts for e in p[2:])})
    row_at = {edge: k for k, edge in enumerate(rows)}
    column_at = {edge: k for k, edge in enumerate(columns)}
    grid = np.zeros((len(rows) - 1, len(columns) - 1), bool)
    for a0, a1, b0, b1 in parts:
        grid[
            row_at[max(a0, r0)] : row_at[min(a1, r1)],
            column_at[max(b0, c0)] : column_at[min(b1, c1)],
        ] = True
    return bool(grid.all())


def _painted(region: Region, writers: list[Region]) -> bool:
    """Whether the writers hold every byte of a region: each of its runs lies in their union."""
    if not writers:
        return False
    if max(region.layout.size, *(w.layout.size for w in writers)) > EXACT_LIMIT:
        return True
    parts = [(_runs(w.layout)[0] + w.offset, _runs(w.layout)[1]) for w in writers]
    first = np.concatenate([starts for starts, _ in parts])
    last = np.concatenate([starts + run for starts, run in parts])
    order = np.argsort(first)
    first, reach = first[order], np.maximum.accumulate(last[order])
    gap = first[1:] > reach[:-1]
    heads, ends = first[np.append(True, gap)], reach[np.append(gap, True)]
    starts, run = _runs(region.layout)
    starts = starts + region.offset
    at = np.searchsorted(heads, starts, side="right") - 1
    return bool((at >= 0).all() and (ends[at] >= starts + run).all())


def row_bytes_of(storage: Storage) -> int:
    """Bytes per row of a storage: a partition on chip, the last dim in HBM."""
    if storage.space is not Space.HBM:
        return storage.pitch
    return storage.shape[-1] * storage.dtype.itemsize if storage.shape else storage.pitch


def rectangle(offset: int, layout: Layout, row_bytes: int) -> Rect:
    """Smallest rows-by-bytes rectangle that holds the view."""
    row, byte = divmod(offset, row_bytes)
    key = ("extent", row_bytes)
    extent = layout.cache.get(key)
    if extent is None:
        extent = layout.cache[key] = _extent(layout, row_bytes)
    above, below, low, high = extent
    first, last = byte + low, byte + high
    if first < 0 or last > row_bytes:  # a run crosses rows: take them whole
        above, below = above + first // row_bytes, below + (last - 1) // row_bytes
        first, last = 0, row_bytes
    return row + above, row + below + 1, first, last


def _extent(layout: Layout, row_bytes: int) -> tuple[int, int, int, int]:
    """Rows before and after that of the offset, and bytes before and after it within a row."""
    rows, inside = [0, 0], [0, 0]
    for count, stride in zip(layout.shape, layout.strides, strict=True):
        steps = stride * (count - 1)
        if stride % row_bytes == 0:
            rows[steps > 0] += steps // row_bytes
        else:
            inside[steps > 0] += steps
    return rows[0], rows[1], inside[0], inside[1] + layout.itemsize


def distinct_bytes(layout: Layout) -> int:
    """Bytes a view touches, each counted once: broadcast and overlapping windows are fewer."""
    found: int | None = layout.cache.get("distinct")
    if found is None:
        found = layout.cache["distinct"] = _distinct_bytes(layout)
    return found


def _distinct_bytes(layout: Layout) -> int:
    dims = sorted(
        (abs(stride), count)
        for count, stride in zip(layout.shape, layout.strides, strict=True)
        if count > 1 and stride
    )
    area = extent = layout.itemsize
    for stride, count in dims:
        if stride < extent and layout.size <= EXACT_LIMIT:
            starts, run = _runs(layout)
            return int(np.minimum(np.diff(starts), run).sum()) + run
        area *= count
        extent += stride * (count - 1)
    return min(area, extent)


def overlap(a: Region, b: Region) -> bool:
    """Whether two regions share a byte."""
    p, q = a.rect, b.rect
    if p[1] <= q[0] or q[1] <= p[0] or p[3] <= q[2] or q[3] <= p[2]:
        return False
    if (a.dense and b.dense) or max(a.layout.size, b.layout.size) > EXACT_LIMIT:
        return True
    if _interleaved(a, b):
        return False
    return _share_a_byte(a, b)


def _share_a_byte(a: Region, b: Region) -> bool:
    """Whether a run of ``a`` meets the first one of ``b`` that ends behind its start."""
    (starts, run), (others, other_run) = _runs(a.layout), _runs(b.layout)
    starts = starts + (a.offset - b.offset)
    nearest = np.searchsorted(others, starts - other_run, side="right")
    found = nearest < len(others)
    return bool((others[nearest[found]] < starts[found] + run).any())


def _runs(layout: Layout) -> tuple[Array, int]:
    """Sorted first bytes of a view's dense runs, from its offset, and the bytes of each."""
    found: tuple[Array, int] | None = layout.cache.get("runs")
    if found is None:
        dims = [
            (count, stride)
            for count, stride in zip(layout.shape, layout.strides, strict=True)
            if count > 1 and stride
        ]
        run = layout.itemsize
        while dims and dims[-1][1] == run:
            run *= dims.pop()[0]
        found = layout.cache["runs"] = (np.sort(_steps(dims)), run)
    return found


def _interleaved(a: Region, b: Region) -> bool:
    """Whether dense runs that recur with one period lie apart in it: heads side by side in rows."""
    (run_a, step_a), (run_b, step_b) = _recurrence(a.layout), _recurrence(b.layout)
    period = math.gcd(step_a, step_b)
    if not period:
        return False
    return (b.offset - a.offset) % period >= run_a and (a.offset - b.offset) % period >= run_b


def _recurrence(layout: Layout) -> tuple[int, int]:
    """Bytes of the dense run at the end of a view, and a divisor of all its other strides."""
    found: tuple[int, int] | None = layout.cache.get("recurrence")
    if found is None:
        run, period = layout.itemsize, 0
        for count, stride in zip(reversed(layout.shape), reversed(layout.strides), strict=True):
            if count == 1:
                continue
            if stride == run and not period:
                run *= count
            else:
                period = math.gcd(period, stride)
        found = layout.cache["recurrence"] = (run, period)
    return found


def covers(a: Region, b: Region) -> bool:
    """Whether ``a`` holds every byte of ``b``."""
    p, q = a.rect, b.rect
    inside = p[0] <= q[0] and q[1] <= p[1] and p[2] <= q[2] and q[3] <= p[3]
    return inside and (a.dense or (a.offset == b.offset and a.layout is b.layout))


def _steps(dims: list[tuple[int, int]]) -> Array:
    """Every sum of whole steps along the dims, each a count and a stride."""
    offsets = np.zeros(1, np.int64)
    for count, stride in dims:
        offsets = (offsets[:, None] + np.arange(count) * stride).reshape(-1)
    return offsets
