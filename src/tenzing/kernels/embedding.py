"""Table look-up: rows chosen by indices, gathered by DMA."""

from __future__ import annotations

from tenzing.kernels.tiles import spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor


@jit
def gather_rows(table: NkiTensor, indices: NkiTensor) -> NkiTensor:
    """``table[indices]``: table [rows, columns], indices [count] integers -> [count, columns]."""
    columns = table.shape[1]
    total = indices.size
    flat = indices.reshape((total, 1))
    out = nl.ndarray((total, columns), dtype=table.dtype, buffer=nl.hbm)
    for start, count in spans(total, nl.tile_size.pmax):
        index = nl.ndarray((count, 1), dtype=indices.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=index, src=flat[start : start + count, 0:1])
        rows = nl.ndarray((count, columns), dtype=table.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=table.vector_select(0, index))
        nisa.dma_copy(dst=out[start : start + count, 0:columns], src=rows)
    return out
