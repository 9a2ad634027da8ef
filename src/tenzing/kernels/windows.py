"""Sliding windows on tiles: what part of an image a block of output needs, and each tap's view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenzing.kernels.tiles import spans
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

Pair = tuple[int, int]
BAND_SHARE: Final = 0.15  # of a partition may hold one tile of input rows


@dataclass(frozen=True)
class Geometry:
    """How a window slides over an image; every pair is (vertical, horizontal).

    ``low`` is the padding above and to the left; ``base`` spreads the input with zeros between.
    """

    taps: Pair
    output: Pair
    strides: Pair = (1, 1)
    low: Pair = (0, 0)
    dilation: Pair = (1, 1)
    base: Pair = (1, 1)

    def reach(self, dim: int, count: int) -> int:
        """Input elements under ``count`` neighbouring windows."""
        return (count - 1) * self.strides[dim] + (self.taps[dim] - 1) * self.dilation[dim] + 1

    def offsets(self) -> Iterator[Pair]:
        """The taps in row-major order."""
        for row in range(self.taps[0]):
            for column in range(self.taps[1]):
                yield row, column

    def under(self, tile: NkiTensor, tap: Pair, count: Pair, first: int = 0) -> NkiTensor:
        """What one tap sees: tile [p, images, rows, columns] at ``count`` positions."""
        row = (first * self.strides[0]) + tap[0] * self.dilation[0]
        column = tap[1] * self.dilation[1]
        rows = slice(row, row + (count[0] - 1) * self.strides[0] + 1, self.strides[0])
        columns = slice(column, column + (count[1] - 1) * self.strides[1] + 1, self.strides[1])
        return tile[0 : tile.shape[0], 0 : tile.shape[1], rows, columns]


@dataclass(frozen=True)
class Block:
    """Some images, output rows and output columns that are computed together."""

    image: int
    images: int
    row: int
    rows: int
    column: int
    columns: int

    @property
    def size(self) -> int:
        """Output positions."""
        return self.images * self.rows * self.columns


def blocks(geometry: Geometry, images: int, itemsize: int, most: int) -> Iterator[Block]:
    """Blocks whose input fits its share of SBUF; whole images together while they are small."""
    height, width = geometry.output
    columns = min(width, most)
    together = max(1, min(images, most // (height * columns)))
    budget = int(nl.tile_size.total_available_sbuf_size * BAND_SHARE) // itemsize
    rows = height
    while rows > 1 and together * geometry.reach(0, rows) * geometry.reach(1, columns) > budget:
        rows = -(-rows // 2)
    while columns > 1 and geometry.reach(0, rows) * geometry.reach(1, columns) > budget:
        columns = -(-columns // 2)
    for image, several in spans(images, together):
        for row, high in spans(height, rows):
            for column, wide in spans(width, columns):
                yield Block(image, several, row, high, column, wide)


def load_window(
    image: NkiTensor, channels: Pair, block: Block, geometry: Geometry, fill: float
) -> NkiTensor:
    """The input under a block: image [n, c, h, w] as a tile [channels, n, rows, columns].

    What lies outside the image, or between its spread elements, holds ``fill``.
    """
    first, count = channels
    shape = (geometry.reach(0, block.rows), geometry.reach(1, block.columns))
    tile = nl.ndarray((count, block.images, *shape), dtype=image.dtype, buffer=nl.sbuf)
    starts = (block.row, block.column)
    inside = [
        _inside(starts[d] * geometry.strides[d] - geometry.low[d], shape[d], image.shape[2 + d],
                geometry.base[d])
        for d in (0, 1)
    ]  # fmt: skip
    covered = all(
        len(places) and (places[0], places[-1], geometry.base[d]) == (0, shape[d] - 1, 1)
        for d, (_, places) in enumerate(inside)
    )
    if not covered:
        nisa.memset(dst=tile, value=fill)
    (rows, row_places), (columns, column_places) = inside
    if not rows or not columns:
        return tile
    source = image[
        block.image : block.image + block.images, first : first + count,
        rows.start : rows.stop, columns.start : columns.stop,
    ]  # fmt: skip
    target = tile[0:count, 0 : block.images, _slice(row_places), _slice(column_places)]
    nisa.dma_copy(dst=target, src=source.permute((1, 0, 2, 3)))
    return tile


def load_rows_under(
    image: NkiTensor, taps: tuple[int, ...], block: Block, geometry: Geometry
) -> NkiTensor:
    """All channels under some rows of taps: a tile [taps * channels, n, rows, columns].

    Output row ``r`` of a tap finds what the tap sees there, so strides are gone from the rows.
    """
    channels, (height, width) = image.shape[1], image.shape[2:]
    wide = geometry.reach(1, block.columns)
    shape = (len(taps) * channels, block.images, block.rows, wide)
    tile = nl.ndarray(shape, dtype=image.dtype, buffer=nl.sbuf)
    left = block.column * geometry.strides[1] - geometry.low[1]
    columns, places = _inside(left, wide, width, 1)
    stride, starts = geometry.strides[0], []
    for tap in taps:
        top = block.row * stride + tap * geometry.dilation[0] - geometry.low[0]
        low = max(-(top // stride), 0)
        high = min((height - 1 - top) // stride + 1, block.rows)
        starts.append((top, low, max(high, low)))
    whole = all((low, high) == (0, block.rows) for _, low, high in starts)
    if not whole or len(columns) < wide:
        nisa.memset(dst=tile, value=0.0)
    for number, (top, low, high) in enumerate(starts):
        if high == low or not columns:
            continue
        rows = slice(top + low * stride, top + (high - 1) * stride + 1, stride)
        source = image[
            block.image : block.image + block.images, 0:channels, rows,
            columns.start : columns.stop,
        ]  # fmt: skip
        at = number * channels
        target = tile[at : at + channels, 0 : block.images, low:high, _slice(places)]
        nisa.dma_copy(dst=target, src=source.permute((1, 0, 2, 3)))
    return tile


def _inside(start: int, size: int, length: int, base: int) -> tuple[range, range]:
    """Image elements that a tile from ``start`` on holds, and their places in it."""
    low = max(-(-start // base), 0)
    high = min((start + size - 1) // base + 1, length)
    elements = range(low, max(high, low))
    places = range(low * base - start, elements.stop * base - start, base)
    return elements, places


def _slice(places: range) -> slice:
    return slice(places.start, places[-1] + 1, places.step)


__all__ = ["Block", "Geometry", "blocks", "load_rows_under", "load_window"]
