"""Loads of the strided accesses of fused groups as tiles."""

from __future__ import annotations

from collections.abc import Iterator

from tenzing.compiler.ops.fused import Access
from tenzing.isa.operand import joined_dims
from tenzing.kernels.tiles import move
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl


def is_whole(access: Access, elements: int) -> bool:
    """Whether an access reads all of a tensor of so many elements, once and in order."""
    step = 1
    for size, stride in zip(reversed(access.shape), reversed(access.strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return access.offset == 0 and step == elements


def load_repeated(
    x: NkiTensor, access: Access, partitions: int, at: int, width: int
) -> NkiTensor:  # fmt: skip
    """Columns ``at`` to ``at + width`` of an access of one row, on every partition."""
    step = access.strides[-1]
    if access.shape[-1] == 1:
        at, width = 0, 1
    tile = nl.ndarray((partitions, width), dtype=x.dtype, buffer=nl.sbuf)
    source = x.ap([[0, partitions], [step, width]], offset=access.offset + at * step)
    move(tile, source)
    return tile


def load_access(
    x: NkiTensor, access: Access, start: int, count: int, at: int, width: int
) -> NkiTensor:  # fmt: skip
    """Rows ``start`` to ``start + count`` and a window of columns as a tile.

    One DMA per run of evenly spaced rows; an access of one column ignores the window.
    """
    step = access.strides[-1]
    if access.shape[-1] == 1:
        at, width = 0, 1
    tile = nl.ndarray((count, width), dtype=x.dtype, buffer=nl.sbuf)
    for row, rows, offset, stride in _row_runs(access, start, count):
        place = row - start
        move(
            tile[place : place + rows, 0:width],
            x.ap([[stride, rows], [step, width]], offset=offset + at * step),
        )
    return tile


def _row_runs(access: Access, start: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """First row, rows, element offset and step of each run of evenly spaced rows."""
    dims = joined_dims(access.shape[:-1], access.strides[:-1])
    inner, stride = dims[-1] if dims else (1, 0)
    row = start
    while row < start + count:
        block, inside = divmod(row, inner)
        rows = min(inner - inside, start + count - row)
        offset = access.offset + inside * stride
        for size, step in reversed(dims[:-1]):
            block, index = divmod(block, size)
            offset += index * step
        yield row, rows, offset, stride
        row += rows


__all__ = ["is_whole", "load_access", "load_repeated"]
