"""Kernels planted slow, and the same with the advice applied."""

from __future__ import annotations

from typing import Any

from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl


@jit
def doubled(x: Any, loaded: int = 64, stored: int = 64) -> Any:
    """2 x in pieces of 64 columns, moved so many columns at a time."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    wide = max(loaded, stored)
    for start in range(0, x.shape[1], wide):
        piece = nl.ndarray((128, wide), dtype=x.dtype, buffer=nl.sbuf)
        twice = nl.ndarray((128, wide), dtype=x.dtype, buffer=nl.sbuf)
        for at in range(0, wide, loaded):
            source = x[:, start + at : start + at + loaded]
            nisa.dma_copy(dst=piece[:, at : at + loaded], src=source)  # LOAD
        for at in range(0, wide, 64):
            part = slice(at, at + 64)
            nisa.tensor_scalar(
                dst=twice[:, part], data=piece[:, part], op0=nl.multiply, operand0=2.0
            )
        for at in range(0, wide, stored):
            target = out[:, start + at : start + at + stored]
            nisa.dma_copy(dst=target, src=twice[:, at : at + stored])  # STORE
    return out


@jit
def row_sums(x: Any, buffers: int = 1) -> Any:
    """Sums of rows, with one tile for all pieces or several in turn."""
    out = nl.ndarray((128, 1), dtype=x.dtype, buffer=nl.shared_hbm)
    total = nl.ndarray((128, 1), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=total, value=0.0)
    tiles = [nl.ndarray((128, 2048), dtype=x.dtype, buffer=nl.sbuf) for _ in range(buffers)]
    for number in range(x.shape[1] // 2048):
        tile = tiles[number % buffers]
        nisa.dma_copy(dst=tile, src=x[:, number * 2048 : (number + 1) * 2048])  # LOAD
        part = nl.ndarray((128, 1), dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=part, data=tile, op=nl.add, axis=1)
        nisa.tensor_tensor(dst=total, data1=total, data2=part, op=nl.add)
    nisa.dma_copy(dst=out, src=total)
    return out


@jit
def products(a: Any, b: Any, turns: int = 64) -> Any:
    """The sum of many equal products."""
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    left = nl.ndarray((128, 128), dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=left, src=a)
    right = nl.ndarray((128, 512), dtype=b.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=right, src=b)
    total = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
    for _ in range(turns):
        nisa.nc_matmul(dst=total, stationary=left, moving=right)  # PRODUCT
    result = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=result, src=total)
    nisa.dma_copy(dst=out, src=result)
    return out
