"""Rows of HBM tensors found, replaced or added to at positions that come from data.

A DMA follows one index per partition, so indices are worked on 128 at a time.  They are 32-bit
integers: sums of them run on GpSimd, which keeps every bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from tenzing.isa import numerics
from tenzing.kernels.tiles import cast, move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

ROW_COLUMNS_MAX: Final = 8192  # columns of a row that travel together; wider rows go in pieces
EXACT_INTEGERS: Final = 2**24  # float32 holds every integer up to here
LINE_COLUMNS_MAX: Final = 8192  # indices that are computed side by side on one partition


@jit
def gather_rows(table: NkiTensor, indices: NkiTensor) -> NkiTensor:
    """``table[indices]``: table [rows, columns], indices [count] integers -> [count, columns].

    An index outside the table is clamped to its edge.
    """
    rows, columns = table.shape
    total = indices.size
    flat = indices.reshape((total, 1))
    out = nl.ndarray((total, columns), dtype=table.dtype, buffer=nl.hbm)
    for start, count in spans(total, nl.tile_size.pmax):
        index = _clamped(_load_column(flat, start, count), rows)
        for at, width in spans(columns, ROW_COLUMNS_MAX):
            part = nl.ndarray((count, width), dtype=table.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=part, src=table[0:rows, at : at + width].vector_select(0, index))
            move(out[start : start + count, at : at + width], part)
    return out


@jit
def gather_columns(x: NkiTensor, indices: NkiTensor) -> NkiTensor:
    """``x[r, indices[r, j]]``: x [rows, columns], indices [rows, count], clamped to the columns."""
    rows, columns = x.shape
    count = indices.shape[1]
    out = nl.ndarray((rows, count), dtype=x.dtype, buffer=nl.hbm)
    for start, lanes in spans(rows, nl.tile_size.pmax):
        tile = nl.ndarray((lanes, columns), dtype=x.dtype, buffer=nl.sbuf)
        move(tile, x[start : start + lanes, 0:columns])
        for at, width in spans(count, LINE_COLUMNS_MAX):
            window = (slice(start, start + lanes), slice(at, at + width))
            index = nl.ndarray((lanes, width), dtype=indices.dtype, buffer=nl.sbuf)
            move(index, indices[window])
            found = nl.ndarray((lanes, width), dtype=x.dtype, buffer=nl.sbuf)
            place = _clamped(index, columns, nl.uint32)
            nisa.nc_n_gather(dst=found, data=tile, indices=place)
            move(out[window], found)
    return out


@jit
def scatter_rows(table: NkiTensor, indices: NkiTensor, updates: NkiTensor) -> None:
    """``table[indices[i]] = updates[i]`` in place: table [rows, columns], updates [count, columns].

    Indices outside the table are skipped; of several updates for one row the last stays.
    """
    rows, columns = table.shape
    total = indices.size
    flat = indices.reshape((total, 1))
    for start, count in spans(total, nl.tile_size.pmax):
        index = _load_column(flat, start, count)
        for at, width in spans(columns, ROW_COLUMNS_MAX):
            part = nl.ndarray((count, width), dtype=table.dtype, buffer=nl.sbuf)
            move(part, updates[start : start + count, at : at + width])
            place = table[0:rows, at : at + width].vector_select(0, index)
            nisa.dma_copy(dst=place, src=part, oob_mode=nisa.oob_mode.skip)


@jit
def scatter_add_rows(table: NkiTensor, indices: NkiTensor, updates: NkiTensor) -> None:
    """Add every ``updates[i]`` to row ``indices[i]`` of table [rows, columns], in place.

    Within 128 updates those of one row are first added up by a product with the matrix that says
    which indices are equal; then the rows are read, added to and written back.  Indices outside
    the table are skipped.
    """
    rows, columns = table.shape
    total = indices.size
    for start, count in spans(total, nl.tile_size.pmax):
        index = _load_column(indices.reshape((total, 1)), start, count)
        kind = updates.dtype if numerics.is_float(updates.dtype) else nl.float32
        equal = _equal_indices(indices.reshape((total,)), index, start, kind)
        for at, width in spans(columns, nl.tile_size.gemm_moving_fmax):
            new = nl.ndarray((count, width), dtype=updates.dtype, buffer=nl.sbuf)
            move(new, updates[start : start + count, at : at + width])
            summed = nl.ndarray((count, width), dtype=nl.float32, buffer=nl.psum)
            nisa.nc_matmul(dst=summed, stationary=equal, moving=cast(new, kind))
            place = table[0:rows, at : at + width].vector_select(0, index)
            old = nl.ndarray((count, width), dtype=table.dtype, buffer=nl.sbuf)
            nisa.memset(dst=old, value=0)
            nisa.dma_copy(dst=old, src=place, oob_mode=nisa.oob_mode.skip)
            both = nl.ndarray((count, width), dtype=table.dtype, buffer=nl.sbuf)
            nisa.tensor_tensor(dst=both, data1=summed, data2=old, op=nl.add)
            nisa.dma_copy(dst=place, src=both, oob_mode=nisa.oob_mode.skip)


@jit
def row_numbers(indices: NkiTensor, outer: int, size: int) -> NkiTensor:
    """``o * size + clamp(indices)`` for every o below ``outer``: [outer, count], int32.

    It turns indices along a middle dim of size ``size`` into rows of the flattened tensor.
    """
    count = indices.size
    flat = indices.reshape((count,))
    out = nl.ndarray((outer, count), dtype=nl.int32, buffer=nl.hbm)
    for first, blocks in spans(outer, nl.tile_size.pmax):
        for at, width in spans(count, LINE_COLUMNS_MAX):
            index = nl.ndarray((blocks, width), dtype=indices.dtype, buffer=nl.sbuf)
            move(index, flat.ap([[0, blocks], [1, width]], offset=at))
            base = nl.ndarray((blocks, width), dtype=nl.int32, buffer=nl.sbuf)
            nisa.iota(dst=base, pattern=[[0, width]], offset=first * size, channel_multiplier=size)
            row = nl.ndarray((blocks, width), dtype=nl.int32, buffer=nl.sbuf)
            nisa.tensor_tensor(dst=row, data1=base, data2=_clamped(index, size), op=nl.add)
            move(out[first : first + blocks, at : at + width], row)
    return out


@jit
def element_numbers(indices: NkiTensor, size: int, inner: int) -> NkiTensor:
    """``(o * size + indices[o, j, i]) * inner + i``: indices [outer, count, inner], int32 result.

    It turns indices along a middle dim into positions in the flattened tensor.
    """
    outer, count = indices.shape[:2]
    out = nl.ndarray(indices.shape, dtype=nl.int32, buffer=nl.hbm)
    lines, results = (x.reshape((outer, count * inner)) for x in (indices, out))
    rows = max(LINE_COLUMNS_MAX // inner, 1)
    for first, blocks in spans(outer, nl.tile_size.pmax):
        for j, taken in spans(count, rows):
            shape = (blocks, taken * inner)
            window = (slice(first, first + blocks), slice(j * inner, (j + taken) * inner))
            index = nl.ndarray(shape, dtype=indices.dtype, buffer=nl.sbuf)
            move(index, lines[window])
            base = nl.ndarray(shape, dtype=nl.int32, buffer=nl.sbuf)
            nisa.iota(
                dst=base, pattern=[[0, taken], [1, inner]], offset=first * size * inner,
                channel_multiplier=size * inner,
            )  # fmt: skip
            place = nl.ndarray(shape, dtype=nl.int32, buffer=nl.sbuf)
            nisa.tensor_tensor(
                dst=place, data1=_times(_clamped(index, size), inner), data2=base, op=nl.add
            )
            move(results[window], place)
    return out


@jit
def window_rows(
    position: NkiTensor, shape: Sequence[int], sizes: Sequence[int]
) -> NkiTensor:  # fmt: skip
    """Rows of a dense tensor of ``shape`` that a window of ``sizes`` covers, int32.

    Element ``position`` [rank] of the tensor, clamped so that the window fits, is the window's
    first; a row is one index over all dims of ``shape``, at most four.
    """
    steps = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    total = math.prod(sizes)
    rows = nl.ndarray((1, total), dtype=nl.int32, buffer=nl.sbuf)
    nisa.iota(dst=rows, pattern=[[s, n] for s, n in zip(steps, sizes, strict=True)])
    for dim, (large, small) in enumerate(zip(shape, sizes, strict=True)):
        if large == small:
            continue
        start = nl.ndarray((1, total), dtype=position.dtype, buffer=nl.sbuf)
        move(start, position.ap([[0, 1], [0, total]], offset=dim))
        moved = nl.ndarray((1, total), dtype=nl.int32, buffer=nl.sbuf)
        shift = _times(_clamped(start, large - small + 1), steps[dim])
        nisa.tensor_tensor(dst=moved, data1=rows, data2=shift, op=nl.add)
        rows = moved
    out = nl.ndarray((total,), dtype=nl.int32, buffer=nl.hbm)
    move(out.reshape((1, total)), rows)
    return out


def _load_column(flat: NkiTensor, start: int, count: int) -> NkiTensor:
    index = nl.ndarray((count, 1), dtype=flat.dtype, buffer=nl.sbuf)
    move(index, flat[start : start + count, 0:1])
    return index


def _clamped(index: NkiTensor, size: int, dtype: Any = nl.int32) -> NkiTensor:
    """Indices held within 0 and ``size - 1``: through float32, or whole where that is too short."""
    if size > EXACT_INTEGERS:
        return _clamped_whole(index, size)
    inside = nl.ndarray(index.shape, dtype=dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(
        dst=inside, data=index, op0=nl.maximum, operand0=0.0, op1=nl.minimum,
        operand1=float(size - 1),
    )  # fmt: skip
    return inside


def _clamped_whole(index: NkiTensor, size: int) -> NkiTensor:
    """The same in 32-bit integers, on GpSimd."""
    inside = index
    for limit, op in ((0, nl.maximum), (size - 1, nl.minimum)):
        edge = nl.ndarray(index.shape, dtype=nl.int32, buffer=nl.sbuf)
        nisa.memset(dst=edge, value=limit)
        held = nl.ndarray(index.shape, dtype=nl.int32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=held, data1=inside, data2=edge, op=op)
        inside = held
    return inside


def _times(index: NkiTensor, factor: int) -> NkiTensor:
    """A product in 32-bit integers."""
    if factor == 1:
        return index
    other = nl.ndarray(index.shape, dtype=nl.int32, buffer=nl.sbuf)
    nisa.memset(dst=other, value=factor)
    done = nl.ndarray(index.shape, dtype=nl.int32, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=done, data1=index, data2=other, op=nl.multiply)
    return done


def _equal_indices(flat: NkiTensor, index: NkiTensor, start: int, dtype: Any) -> NkiTensor:
    """``[i, j]``: 1 where index i equals index j, compared as 32-bit integers."""
    count = index.shape[0]
    line = nl.ndarray((count, count), dtype=flat.dtype, buffer=nl.sbuf)
    move(line, flat.ap([[0, count], [1, count]], offset=start))
    same = nl.ndarray((count, count), dtype=flat.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=same, data1=line, data2=index.broadcast(1, count), op=nl.equal)
    return cast(same, dtype)


__all__ = [
    "element_numbers", "gather_columns", "gather_rows", "row_numbers", "scatter_add_rows",
    "scatter_rows", "window_rows",
]  # fmt: skip
