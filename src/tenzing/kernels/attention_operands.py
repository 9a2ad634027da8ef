"""Queries, keys and values of several heads on their way from HBM to TensorE."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.tiles import cast, move, spans, transpose_spans
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

START_PARTITION = 32  # a view of up to 32 partitions starts at a multiple of it
TURNED_BY_DMA = (2, 4)  # bytes of an element
ROWS_PER_TURN = 512  # in one transfer, so that the first product need not wait for all
RESIDENT_SHARE = 0.5  # of a partition may hold the keys and values of one head


def load_heads(x: NkiTensor, start: int, count: int, dtype: Any) -> NkiTensor:
    """Rows of one sequence, all heads side by side: [count, heads * dim]."""
    heads, dim = x.shape[1:]
    tile = nl.ndarray((count, heads * dim), dtype=x.dtype, buffer=nl.sbuf)
    move(tile.reshape((count, heads, dim)), x[start : start + count])
    return cast(tile, dtype)


def turned_heads(x: NkiTensor, dtype: Any) -> list[list[NkiTensor]]:
    """For each head views [up to 128 of dim, length] of the transposed rows."""
    length, heads, dim = x.shape
    pmax = nl.tile_size.pmax
    blocks = _head_blocks(heads, dim)
    tiles = [nl.ndarray((size, length), dtype=dtype, buffer=nl.sbuf) for _, size in blocks]
    for at, size in spans(length, pmax):
        rows = load_heads(x, at, size, dtype)
        parts = transpose_spans(rows, blocks)
        for number, (tile, part) in enumerate(zip(tiles, parts, strict=True)):
            if length == size:
                tiles[number] = part
            else:
                nisa.tensor_copy(dst=tile[0 : tile.shape[0], at : at + size], src=part)
    views: list[list[NkiTensor]] = [[] for _ in range(heads)]
    for tile, (column, size) in zip(tiles, blocks, strict=True):
        for inside, width in spans(size, min(dim, size)):
            views[(column + inside) // dim].append(tile[inside : inside + width, 0:length])
    return views


def _head_blocks(heads: int, dim: int) -> list[tuple[int, int]]:
    """First column and size of each block to transpose: whole heads, or parts of one wide head."""
    pmax = int(nl.tile_size.pmax)
    if dim > pmax:
        return [(h * dim + at, size) for h in range(heads) for at, size in spans(dim, pmax)]
    # a head must start on a legal partition
    together = pmax // dim if dim % START_PARTITION == 0 else 1
    return list(spans(heads * dim, together * dim))


def turned(x: NkiTensor, dtype: Any) -> list[NkiTensor]:
    """Rows [length, dim] of one head as tiles [up to 128 of dim, length]; by DMA if it can."""
    length, dim = x.shape
    if x.dtype != dtype or x.itemsize not in TURNED_BY_DMA:
        return turned_heads(x.reshape((length, 1, dim)), dtype)[0]
    tiles = []
    for column, size in spans(dim, nl.tile_size.pmax):
        tile = nl.ndarray((size, length), dtype=dtype, buffer=nl.sbuf)
        for at, rows in spans(length, ROWS_PER_TURN):
            part = tile[0:size, at : at + rows]
            nisa.dma_transpose(
                dst=part, src=x[at : at + rows, column : column + size],
                dge_mode=nisa.dge_mode.none,
            )  # fmt: skip
        tiles.append(tile)
    return tiles


class KeyHead:
    """Turned keys and values of one key head; kept in SBUF if they fit, else loaded by range."""

    def __init__(self, k: NkiTensor, v: NkiTensor, dtype: Any) -> None:
        self.k, self.v, self.dtype = k, v, dtype
        self.keys, dim = k.shape
        pmax = nl.tile_size.pmax
        per_partition = -(-dim // pmax) * self.keys + -(-self.keys // pmax) * v.shape[1]
        room = nl.tile_size.total_available_sbuf_size * RESIDENT_SHARE
        self.whole = None
        if per_partition * k.itemsize <= room:
            self.whole = self._load(0, self.keys)

    def range(self, low: int, high: int) -> tuple[list[NkiTensor], list[NkiTensor]]:
        """Keys [part of dim, keys] and blocks of values [128 keys, width]; ``low`` starts one."""
        if self.whole is None:
            return self._load(low, high)
        k, v = self.whole
        pmax = nl.tile_size.pmax
        blocks = []
        for at in range(low, high, pmax):
            block = v[at // pmax]
            blocks.append(block[0 : min(block.shape[0], high - at), 0 : block.shape[1]])
        return [x[0 : x.shape[0], low:high] for x in k], blocks

    def _load(self, low: int, high: int) -> tuple[list[NkiTensor], list[NkiTensor]]:
        k = turned(self.k[low:high], self.dtype)
        width, pmax = self.v.shape[1], nl.tile_size.pmax
        full = (high - low) // pmax
        blocks: list[NkiTensor] = []
        if full:
            tile = nl.ndarray((pmax, full, width), dtype=self.v.dtype, buffer=nl.sbuf)
            rows = self.v[low : low + full * pmax].reshape((full, pmax, width))
            move(tile, rows.permute((1, 0, 2)))
            tile = cast(tile, self.dtype)
            blocks += [tile[0:pmax, n] for n in range(full)]
        if low + full * pmax < high:
            rest = nl.ndarray((high - low - full * pmax, width), dtype=self.v.dtype, buffer=nl.sbuf)
            move(rest, self.v[low + full * pmax : high])
            blocks.append(cast(rest, self.dtype))
        return k, blocks
