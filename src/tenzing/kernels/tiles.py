"""Moves between HBM and tiles that several kernels need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor


def spans(size: int, step: int) -> Iterator[tuple[int, int]]:
    """Starts and sizes that cover ``size`` in steps; the last may be short."""
    for start in range(0, size, step):
        yield start, min(step, size - start)


def move(dst: NkiTensor, src: NkiTensor) -> None:
    """A DMA whose descriptors are made before the program starts: the shortest trigger.

    Our addresses are known when a program is recorded, so nothing has to be generated on chip.
    """
    nisa.dma_copy(dst=dst, src=src, dge_mode=nisa.dge_mode.none)


def load_rows(source: NkiTensor, start: int, rows: int, dtype: Any = None) -> NkiTensor:
    """Rows of a 2-D HBM tensor as a tile ``[rows, columns]``, cast on chip when asked."""
    tile = nl.ndarray((rows, source.shape[1]), dtype=source.dtype, buffer=nl.sbuf)
    move(tile, source[start : start + rows, 0 : source.shape[1]])
    return cast(tile, dtype)


def cast(tile: NkiTensor, dtype: Any) -> NkiTensor:
    """The tile in another dtype; itself when it already is."""
    if dtype is None or tile.dtype == dtype:
        return tile
    other = nl.ndarray(tile.shape, dtype=dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=other, src=tile)
    return other


def load_row_broadcast(row: NkiTensor, start: int, columns: int, partitions: int) -> NkiTensor:
    """Part of a 1-D HBM tensor repeated on every partition: one DMA with a zero row step."""
    tile = nl.ndarray((partitions, columns), dtype=row.dtype, buffer=nl.sbuf)
    move(tile, row.ap([[0, partitions], [1, columns]], offset=start))
    return tile


def transpose_blocks(tile: NkiTensor, block: int) -> list[NkiTensor]:
    """Tile ``[rows, columns]`` as SBUF tiles ``[block, rows]``, one per block of columns."""
    return transpose_spans(tile, spans(tile.shape[1], block))


def transpose_spans(tile: NkiTensor, columns: Iterable[tuple[int, int]]) -> list[NkiTensor]:
    """Column ranges (start, size) of a tile as SBUF tiles ``[size, rows]``.

    TensorE transposes through PSUM; the copies back alternate between Vector and Scalar.
    """
    rows = tile.shape[0]
    result = []
    for number, (start, size) in enumerate(columns):
        turned = nl.ndarray((size, rows), dtype=tile.dtype, buffer=nl.psum)
        nisa.nc_transpose(dst=turned, data=tile[0:rows, start : start + size])
        back = nl.ndarray((size, rows), dtype=tile.dtype, buffer=nl.sbuf)
        copy_from_psum(back, turned, number)
        result.append(back)
    return result


def copy_from_psum(dst: NkiTensor, src: NkiTensor, turn: int) -> None:
    """PSUM to SBUF, on Vector and Scalar in turns so that neither is the bottleneck."""
    if turn % 2:
        nisa.activation(dst=dst, op=nl.copy, data=src)
    else:
        nisa.tensor_copy(dst=dst, src=src, engine=nisa.engine.vector)
