"""HBM tensors made of one number or of a ramp."""

from __future__ import annotations

from typing import Any, Final

from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

BLOCK_COLUMNS: Final = 2048


@jit
def filled(value: NkiTensor, elements: int) -> NkiTensor:
    """``elements`` copies of the one element of ``value``, in its dtype."""
    out = nl.ndarray((elements,), dtype=value.dtype, buffer=nl.hbm)
    lanes = max(min(nl.tile_size.pmax, elements // BLOCK_COLUMNS), 1)
    width = min(elements, BLOCK_COLUMNS)
    column = nl.ndarray((lanes, 1), dtype=value.dtype, buffer=nl.sbuf)
    move(column, value.ap([[0, lanes], [1, 1]]))
    tile = nl.ndarray((lanes, width), dtype=value.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=tile, src=column.broadcast(1, width))
    for start, size in spans(elements, lanes * width):
        rows, rest = divmod(size, width)
        if rows:
            target = out.ap([[width, rows], [1, width]], offset=start)
            move(target, tile[0:rows, 0:width])
        if rest:
            target = out.ap([[rest, 1], [1, rest]], offset=start + rows * width)
            move(target, tile[0:1, 0:rest])
    return out


@jit
def ramp(size: int, dtype: Any) -> NkiTensor:
    """``0, 1, ..., size - 1``: computed in integers, converted to ``dtype``."""
    out = nl.ndarray((size,), dtype=dtype, buffer=nl.hbm)
    line = out.reshape((1, size))
    for start, width in spans(size, BLOCK_COLUMNS):
        tile = nl.ndarray((1, width), dtype=dtype, buffer=nl.sbuf)
        nisa.iota(dst=tile, pattern=[[1, width]], offset=start)
        move(line[0:1, start : start + width], tile)
    return out


__all__ = ["filled", "ramp"]
