"""Sliding windows on tiles: what part of a volume a block of output needs, and each tap's view.

A volume is [channels, depth, rows, columns]; an image is a volume of depth one, and images of one
batch are the depth of a volume whose windows do not reach from one to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

Pair = tuple[int, int]
Triple = tuple[int, int, int]
DEPTH, ROW, COLUMN = DIMS = range(3)
ONES: Final = (1, 1, 1)
ZEROS: Final = (0, 0, 0)
BAND_SHARE: Final = 0.15  # of a partition may hold one tile of input rows


@dataclass(frozen=True)
class Geometry:
    """How a window slides over a volume; every triple is (depth, vertical, horizontal).

    ``low`` is the padding in front, above and to the left; ``base`` spreads the input with zeros
    between.
    """

    taps: Triple
    output: Triple
    strides: Triple = ONES
    low: Triple = ZEROS
    dilation: Triple = ONES
    base: Triple = ONES

    def reach(self, dim: int, count: int) -> int:
        """Input elements under ``count`` neighbouring windows."""
        return (count - 1) * self.strides[dim] + (self.taps[dim] - 1) * self.dilation[dim] + 1

    def reached(self, counts: Triple) -> Triple:
        """Input elements under a block of windows, in each dim."""
        depth, rows, columns = (self.reach(d, counts[d]) for d in DIMS)
        return depth, rows, columns

    def offsets(self) -> Iterator[Triple]:
        """The taps in row-major order."""
        yield from itertools.product(*map(range, self.taps))

    def under(
        self, tile: NkiTensor, tap: Triple, counts: Triple, first: Triple = ZEROS
    ) -> NkiTensor:
        """What one tap sees: tile [p, depth, rows, columns] at ``counts`` positions."""
        cuts = []
        for d in DIMS:
            start = first[d] * self.strides[d] + tap[d] * self.dilation[d]
            stop = start + (counts[d] - 1) * self.strides[d] + 1
            cuts.append(slice(start, stop, self.strides[d]))
        return tile[(slice(0, tile.shape[0]), *cuts)]

    @property
    def flat(self) -> bool:
        """Whether no window reaches from one plane to another."""
        own = (self.taps[DEPTH], self.strides[DEPTH], self.low[DEPTH], self.base[DEPTH])
        return own == (1, 1, 0, 1)


def volumes(x: NkiTensor, depth: int, geometry: Geometry) -> list[NkiTensor]:
    """x [n, c, d, h, w] as volumes [c, d, h, w]; flat ones of one plane become a single volume."""
    if geometry.flat and depth == 1:
        return [x.select(2, 0).permute((1, 0, 2, 3))]
    return [x.select(0, number) for number in range(x.shape[0])]


@dataclass(frozen=True)
class Block:
    """Output positions that are computed together: where they start and how many, in each dim."""

    starts: Triple
    counts: Triple

    def of(self, volume: NkiTensor, first: int, count: int) -> NkiTensor:
        """These positions of ``count`` channels of a volume."""
        cuts = (slice(a, a + n) for a, n in zip(self.starts, self.counts, strict=True))
        return volume[(slice(first, first + count), *cuts)]


def blocks(geometry: Geometry, itemsize: int, most: int) -> Iterator[Block]:
    """Blocks whose input fits its share of SBUF; whole planes together while they are small."""
    depth, height, width = geometry.output
    columns = min(width, most)
    counts = [max(1, min(depth, most // (height * columns))), height, columns]
    budget = int(nl.tile_size.total_available_sbuf_size * BAND_SHARE) // itemsize
    for dim in (ROW, COLUMN, DEPTH):
        while counts[dim] > 1 and _elements(geometry, counts) > budget:
            counts[dim] = -(-counts[dim] // 2)
    cuts = (spans(n, step) for n, step in zip(geometry.output, counts, strict=True))
    for (z, deep), (row, high), (column, wide) in itertools.product(*cuts):
        yield Block((z, row, column), (deep, high, wide))


def _elements(geometry: Geometry, counts: list[int]) -> int:
    """Input elements of each channel under so many positions."""
    depth, rows, columns = geometry.reached((counts[0], counts[1], counts[2]))
    return depth * rows * columns


def load_window(
    volume: NkiTensor, channels: Pair, block: Block, geometry: Geometry, fill: float
) -> NkiTensor:
    """The input under a block: volume [c, d, h, w] as a tile [channels, depth, rows, columns].

    What lies outside the volume, or between its spread elements, holds ``fill``.
    """
    first, count = channels
    shape = geometry.reached(block.counts)
    tile = nl.ndarray((count, *shape), dtype=volume.dtype, buffer=nl.sbuf)
    inside = [
        _inside(block.starts[d] * geometry.strides[d] - geometry.low[d], shape[d],
                volume.shape[1 + d], geometry.base[d])
        for d in DIMS
    ]  # fmt: skip
    covered = all(
        len(places) and (places[0], places[-1], geometry.base[d]) == (0, shape[d] - 1, 1)
        for d, (_, places) in enumerate(inside)
    )
    if not covered:
        nisa.memset(dst=tile, value=fill)
    if all(elements for elements, _ in inside):
        source = volume[(slice(first, first + count), *(slice(e.start, e.stop) for e, _ in inside))]
        target = tile[(slice(0, count), *(_slice(places) for _, places in inside))]
        move(target, source)
    return tile


def load_rows_under(
    volume: NkiTensor, taps: tuple[Pair, ...], block: Block, geometry: Geometry
) -> NkiTensor:
    """All channels under some rows of taps: a tile [taps * channels, depth, rows, columns].

    A row of taps is (depth, vertical). What it sees for output row ``r`` lies in row ``r``, so
    strides are gone from the depth and the rows.
    """
    channels, wide = volume.shape[0], geometry.reach(COLUMN, block.counts[COLUMN])
    shape = (len(taps) * channels, *block.counts[:COLUMN], wide)
    tile = nl.ndarray(shape, dtype=volume.dtype, buffer=nl.sbuf)
    left = block.starts[COLUMN] * geometry.strides[COLUMN] - geometry.low[COLUMN]
    columns, places = _inside(left, wide, volume.shape[1 + COLUMN], 1)
    seen = [[_seen(volume, geometry, block, d, tap[d]) for d in (DEPTH, ROW)] for tap in taps]
    whole = all(len(to) == block.counts[d] for row in seen for d, (_, to) in enumerate(row))
    if not whole or len(columns) < wide:
        nisa.memset(dst=tile, value=0.0)
    for number, ((depths, deep), (rows, high)) in enumerate(seen):
        if not (deep and high and columns):
            continue
        source = volume[
            0:channels, _slice(depths), _slice(rows), columns.start : columns.stop
        ]  # fmt: skip
        at = number * channels
        target = tile[at : at + channels, _slice(deep), _slice(high), _slice(places)]
        move(target, source)
    return tile


def _seen(
    volume: NkiTensor, geometry: Geometry, block: Block, dim: int, tap: int
) -> tuple[range, range]:
    """Input positions that a tap finds inside the volume, and for which of the block's outputs."""
    stride, count = geometry.strides[dim], block.counts[dim]
    start = block.starts[dim] * stride + tap * geometry.dilation[dim] - geometry.low[dim]
    low = max(-(start // stride), 0)
    high = max(min((volume.shape[1 + dim] - 1 - start) // stride + 1, count), low)
    return range(start + low * stride, start + high * stride, stride), range(low, high)


def _inside(start: int, size: int, length: int, base: int) -> tuple[range, range]:
    """Input elements that a tile from ``start`` on holds, and their places in it."""
    low = max(-(-start // base), 0)
    high = min((start + size - 1) // base + 1, length)
    elements = range(low, max(high, low))
    places = range(low * base - start, elements.stop * base - start, base)
    return elements, places


def _slice(places: range) -> slice:
    return slice(places.start, places[-1] + 1, places.step)


__all__ = [
    "COLUMN", "DEPTH", "DIMS", "ROW", "Block", "Geometry", "Triple", "blocks", "load_rows_under",
    "load_window", "volumes",
]  # fmt: skip
