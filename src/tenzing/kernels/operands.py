"""Operands of a matrix product from HBM to tiles with the contraction on partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tenzing.kernels.tiles import load_rows, move, spans, transpose_blocks
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

ARRIVALS: Final = 2  # loads that wait for their cast
DMA_TRANSPOSABLE: Final = (2, 4)  # bytes of an element that dma_transpose moves


@dataclass(frozen=True)
class Chunk:
    """A part of the contraction: ``blocks`` blocks of ``partitions`` rows from row ``start``."""

    start: int
    blocks: int
    partitions: int

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self.start + self.blocks * self.partitions


def chunks(depth: int, most_blocks: int, first_blocks: int = 1, unit: int = 1) -> list[Chunk]:
    """Cuts of a contraction: small ones first, so that multiplying starts early.

    Sizes double from ``first_blocks`` up to ``most_blocks`` blocks, in multiples of ``unit`` as
    far as they go; rows left over at the end are a chunk of their own.
    """
    pmax = nl.tile_size.pmax
    whole, rest = divmod(depth, pmax)
    found: list[Chunk] = []
    most = max(most_blocks // unit, 1) * unit
    done, size = 0, -(-first_blocks // unit) * unit
    while done < whole:
        size = min(size, most, whole - done)
        found.append(Chunk(done * pmax, size, pmax))
        done += size
        size = size * 2 if len(found) > 1 else size
    if rest:
        found.append(Chunk(whole * pmax, 1, rest))
    return found


@dataclass(frozen=True)
class Operand:
    """A matrix in HBM as one side of a product, used in ``dtype``.

    ``depth_first``: the contraction is dim 0, so that rows go to partitions as they are; otherwise
    it is dim 1 and the DMA transposes, or TensorE where the DMA cannot.
    """

    source: NkiTensor
    depth_first: bool
    dtype: Any

    @property
    def depth(self) -> int:
        """Size of the contraction."""
        return int(self.source.shape[0 if self.depth_first else 1])

    @property
    def width(self) -> int:
        """Size of the other dim."""
        return int(self.source.shape[1 if self.depth_first else 0])

    @property
    def moves_by_dma(self) -> bool:
        """Whether the DMA brings it as it is needed, without TensorE."""
        return self.depth_first or self.source.itemsize in DMA_TRANSPOSABLE

    def load(self, chunk: Chunk, start: int, count: int, tile: NkiTensor) -> None:
        """Fill ``tile`` [partitions, blocks, count] with columns ``start`` and on."""
        if self.depth_first:
            part = self.source[chunk.start : chunk.stop, start : start + count]
            blocks = part.reshape_dim(0, (chunk.blocks, chunk.partitions)).permute((1, 0, 2))
            move(tile, blocks)
        elif self.moves_by_dma:
            part = self.source[start : start + count, chunk.start : chunk.stop]
            blocks = part.reshape_dim(1, (chunk.blocks, chunk.partitions))
            nisa.dma_transpose(dst=tile, src=blocks, dge_mode=nisa.dge_mode.none)
        else:
            self._turn_on_chip(chunk, start, count, tile)

    def _turn_on_chip(self, chunk: Chunk, start: int, count: int, tile: NkiTensor) -> None:
        part = self.source[0 : self.width, chunk.start : chunk.stop]
        for at, rows in spans(count, nl.tile_size.pmax):
            given = load_rows(part, start + at, rows, self.dtype)
            for block, turned in enumerate(transpose_blocks(given, chunk.partitions)):
                nisa.tensor_copy(dst=tile[:, block, at : at + rows], src=turned)


@dataclass
class Ring:
    """Tiles of one shape that are used in turn: a bound on memory and on loads in flight."""

    shape: tuple[int, ...]
    dtype: Any
    count: int
    tiles: list[NkiTensor] = field(default_factory=list)
    turn: int = 0

    def next(self, *sizes: int) -> NkiTensor:
        """The next tile, cut to ``sizes``; what it held is lost."""
        if len(self.tiles) < self.count:
            self.tiles.append(nl.ndarray(self.shape, dtype=self.dtype, buffer=nl.sbuf))
        tile = self.tiles[self.turn % self.count]
        self.turn += 1
        if sizes == self.shape:
            return tile
        return tile[tuple(slice(0, size) for size in sizes)]


class Loaded:
    """Blocks of an operand that are in SBUF, loaded on first use.

    A load brings one of ``parts`` and ``width`` columns. There is memory for ``slots`` loads; a
    further one takes the place of the oldest.
    """

    def __init__(self, operand: Operand, parts: list[Chunk], width: int, slots: int) -> None:
        self.operand = operand
        pmax = nl.tile_size.pmax
        self.place = {  # first row of a block -> the load that brings it, and its number there
            part.start + number * pmax: (part, number)
            for part in parts
            for number in range(part.blocks)
        }
        high, blocks = max(p.partitions for p in parts), max(p.blocks for p in parts)
        shape = (high, blocks, min(width, operand.width))
        self.ring = Ring(shape, operand.dtype, slots)
        self.arrivals = Ring(shape, operand.source.dtype, ARRIVALS)
        self.tiles: dict[tuple[Chunk, int], NkiTensor] = {}

    def blocks(self, row: int, together: int, start: int, count: int) -> NkiTensor:
        """``[partitions, together, count]``: blocks of the contraction from ``row`` on."""
        part, number = self.place[row]
        tile = self.tiles.get((part, start))
        if tile is None:
            tile = self.tiles[part, start] = self._load(part, start, count)
        return tile[:, number : number + together]

    def _load(self, part: Chunk, start: int, count: int) -> NkiTensor:
        sizes = (part.partitions, part.blocks, count)
        tile = self.ring.next(*sizes)
        if self.operand.moves_by_dma and self.operand.source.dtype != tile.dtype:
            raw = self.arrivals.next(*sizes)
            self.operand.load(part, start, count, raw)
            nisa.tensor_copy(dst=tile, src=raw)
        else:
            self.operand.load(part, start, count, tile)
        return tile

    def forget(self) -> None:
        """Load again from here on; the memory is free after the last use."""
        self.tiles.clear()


def groups(size: int, step: int, together: int) -> Iterator[list[tuple[int, int]]]:
    """Spans of ``step * together``, in panels: lists of spans that stay loaded together."""
    every = list(spans(size, step))
    for first in range(0, len(every), together):
        yield every[first : first + together]


__all__ = ["Chunk", "Loaded", "Operand", "Ring", "chunks", "groups"]
