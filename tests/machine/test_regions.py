"""Overlap, cover and unwritten bytes of views, against sets of bytes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.machine.programs import offsets

from tenzing.isa.operand import Layout, Space, Storage
from tenzing.machine.regions import (
    Region,
    RegionTable,
    covers,
    is_written,
    overlap,
    rectangle,
    row_bytes_of,
)

DTYPES = tuple(np.dtype(d) for d in (np.uint8, np.float16, np.float32))
ROW = 64  # bytes per partition or HBM row of the storages below
ROWS = 4


@st.composite
def views(draw: Any, space: Space = Space.SBUF) -> tuple[int, Layout]:
    """A view inside a storage of ROWS x ROW bytes: strided, reversed, broadcast, overlapping."""
    dtype = draw(st.sampled_from(DTYPES))
    size = dtype.itemsize
    rank = draw(st.integers(1, 3))
    counts = [draw(st.integers(1, 4)) for _ in range(rank)]
    strides = [draw(st.integers(-4, 8)) * size for _ in range(rank)]
    if space.on_chip:
        counts[0] = draw(st.integers(1, ROWS))
        strides[0] = ROW
    elif draw(st.booleans()):
        strides[0] = draw(st.sampled_from([ROW, 2 * ROW, -ROW]))
    low = sum(min(0, s * (n - 1)) for n, s in zip(counts, strides, strict=True))
    high = sum(max(0, s * (n - 1)) for n, s in zip(counts, strides, strict=True)) + size
    limit = ROW * ROWS
    if high - low > limit:
        return 0, Layout.of(space, dtype, (1,), (size,), ROW)
    offset = draw(st.integers(-(low // size), (limit - high) // size)) * size
    return offset, Layout.of(space, dtype, tuple(counts), tuple(strides), ROW)


def spaces_and_views(count: int) -> st.SearchStrategy[list[tuple[int, Layout]]]:
    return st.sampled_from([Space.SBUF, Space.HBM]).flatmap(
        lambda space: st.lists(views(space), min_size=count, max_size=count)
    )


def byte_set(view: tuple[int, Layout]) -> set[int]:
    return {view[0] + at for at in offsets(view[1])}


def region(view: tuple[int, Layout]) -> Region:
    return Region(*view, rectangle(*view, ROW))


@given(spaces_and_views(2))
def test_overlap_is_exact(pair: list[tuple[int, Layout]]) -> None:
    first, second = pair
    expected = bool(byte_set(first) & byte_set(second))
    assert overlap(region(first), region(second)) is expected
    assert overlap(region(second), region(first)) is expected


@given(spaces_and_views(2))
def test_cover_is_never_claimed_wrongly(pair: list[tuple[int, Layout]]) -> None:
    first, second = pair
    if covers(region(first), region(second)):
        assert byte_set(second) <= byte_set(first)


@given(spaces_and_views(1))
def test_a_view_covers_and_overlaps_itself(one: list[tuple[int, Layout]]) -> None:
    assert overlap(region(one[0]), region(one[0]))
    assert covers(region(one[0]), region(one[0]))


@given(spaces_and_views(1))
def test_the_rectangle_holds_the_view(one: list[tuple[int, Layout]]) -> None:
    r0, r1, c0, c1 = region(one[0]).rect
    inside = {row * ROW + byte for row in range(r0, r1) for byte in range(c0, c1)}
    assert byte_set(one[0]) <= inside


@given(spaces_and_views(1))
def test_the_area_counts_each_byte_once(one: list[tuple[int, Layout]]) -> None:
    assert region(one[0]).area == len(byte_set(one[0]))


@given(spaces_and_views(6))
def test_a_table_links_every_overlapping_pair(found: list[tuple[int, Layout]]) -> None:
    table = RegionTable(ROW)
    regions = {}
    for view in found:
        if view not in regions:
            regions[view] = table.add(*view)
    for a, b in itertools.permutations(regions, 2):
        linked = any(other is regions[b] for other, _ in regions[a].others)
        assert linked is bool(byte_set(a) & byte_set(b))


def test_rows_are_partitions_on_chip_and_the_last_dim_in_hbm() -> None:
    dtype = np.dtype(np.float32)
    assert row_bytes_of(Storage(0, Space.SBUF, dtype, (8, 4, 4), 8, 64)) == 64
    assert row_bytes_of(Storage(0, Space.HBM, dtype, (8, 4, 4), 1, 512)) == 16


def test_heads_of_a_cache_are_compared_by_runs() -> None:
    """Views of a cache of many positions, of two bytes per number: as their bytes say."""
    dtype, positions, width = np.dtype(np.float16), 512, 16
    pitch = 4 * positions * width * 2
    one_head = Layout.of(Space.HBM, dtype, (positions, width), (4 * width * 2, 2), pitch)
    turned = Layout.of(Space.HBM, dtype, (width, positions), (2, 4 * width * 2), pitch)
    for a, b in itertools.product(range(0, 8 * width, width), repeat=2):
        first, second = (a, one_head), (b, turned)
        shared = bool(byte_set(first) & byte_set(second))
        assert overlap(region(first), region(second)) is shared


@given(spaces_and_views(4))
def test_a_view_is_written_when_the_writers_hold_its_bytes(
    found: list[tuple[int, Layout]],
) -> None:
    one, *rest = found
    table = RegionTable(ROW)
    written: set[int] = set()
    for offset, layout in rest:
        table.by_view.get((offset, layout)) or table.add(offset, layout)
        writer = table.by_view[(offset, layout)]
        writer.direct = writer.whole = True
        writer.written_area = writer.area
        written |= byte_set((offset, layout))
    asked = table.by_view.get(one) or table.add(*one)
    assert is_written(asked) is (byte_set(one) <= written)
