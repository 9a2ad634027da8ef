"""Micro-benchmarks: one instruction or transfer many times, as their authors describe them.

Each takes tensors only to have inputs; what is compared is the time per repetition.
"""

from __future__ import annotations

from typing import Any

import tenzing.nki.isa as nisa
import tenzing.nki.language as nl
from tenzing.nki import jit

ROWS = 128
BANK = 512  # float32 of a PSUM bank
BUFFERS = 8


def _tile(columns: int, dtype: Any = nl.float32, rows: int = ROWS) -> Any:
    return nl.ndarray((rows, columns), dtype=dtype, buffer=nl.sbuf)


def _psum(columns: int = BANK, rows: int = ROWS) -> Any:
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.psum)


def _made(columns: int, dtype: Any = nl.float32, rows: int = ROWS) -> Any:
    tile = _tile(columns, dtype, rows)
    nisa.memset(dst=tile, value=0.0)
    return tile


# -- DMA ---------------------------------------------------------------------------------------


@jit
def stream(x: Any, software: bool = False) -> Any:
    """x [chunks, 128, columns] read to SBUF in turn, into buffers that rotate."""
    out = nl.ndarray((ROWS, 1), dtype=x.dtype, buffer=nl.shared_hbm)
    mode = nisa.dge_mode.swdge if software else nisa.dge_mode.unknown
    ring = [_tile(x.shape[2], x.dtype) for _ in range(BUFFERS)]
    for chunk in range(x.shape[0]):
        nisa.dma_copy(dst=ring[chunk % BUFFERS], src=x[chunk], dge_mode=mode)
    nisa.dma_copy(dst=out, src=ring[(x.shape[0] - 1) % BUFFERS][:, 0:1])
    return out


@jit
def static_add(a: Any, b: Any, columns: int) -> Any:
    """Flat vectors added in tiles [128, columns] with descriptors prepared in advance."""
    size = a.shape[0]
    shape = (size // (ROWS * columns), ROWS, columns)
    out = nl.ndarray((size,), dtype=a.dtype, buffer=nl.shared_hbm)
    a3, b3, out3 = a.reshape(shape), b.reshape(shape), out.reshape(shape)
    static = nisa.dge_mode.none
    for k in range(shape[0]):
        left, right, both = (_tile(columns) for _ in range(3))
        nisa.dma_copy(dst=left, src=a3[k], dge_mode=static)
        nisa.dma_copy(dst=right, src=b3[k], dge_mode=static)
        nisa.tensor_tensor(dst=both, data1=left, data2=right, op=nl.add)
        nisa.dma_copy(dst=out3[k], src=both, dge_mode=static)
    return out


@jit
def tiny_add(a: Any, b: Any) -> Any:
    """Two small matrices added: one tile each."""
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    left, right, both = (_tile(a.shape[1], a.dtype, a.shape[0]) for _ in range(3))
    nisa.dma_copy(dst=left, src=a)
    nisa.dma_copy(dst=right, src=b)
    nisa.tensor_tensor(dst=both, data1=left, data2=right, op=nl.add)
    nisa.dma_copy(dst=out, src=both)
    return out


# -- Tensor ------------------------------------------------------------------------------------


@jit
def products(x: Any, repeat: int, stationary: int = ROWS, moving: int = BANK) -> Any:
    """A chain of products [128, stationary].T x [128, moving] into rotating PSUM banks."""
    out = nl.ndarray((stationary, 1), dtype=nl.float32, buffer=nl.shared_hbm)
    left, right = _made(stationary, x.dtype), _made(moving, x.dtype)
    banks = [_psum(moving, stationary) for _ in range(BUFFERS)]
    for k in range(repeat):
        nisa.nc_matmul(dst=banks[k % BUFFERS], stationary=left, moving=right, accumulate=False)
    last = _tile(1, rows=stationary)
    nisa.tensor_copy(dst=last, src=banks[(repeat - 1) % BUFFERS][:, 0:1])
    nisa.dma_copy(dst=out, src=last)
    return out


@jit
def transpose_blocks(x: Any, static: bool = False, scalar: bool = False) -> Any:
    """x [N, N] block by block: load, transpose on Tensor, copy, store.

    ``static``: descriptors prepared in advance; ``scalar``: Scalar copies instead of Vector.
    """
    size = x.shape[0]
    mode = nisa.dge_mode.none if static else nisa.dge_mode.unknown
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for r in range(0, size, ROWS):
        for c in range(0, size, ROWS):
            tile, turned, psum = _tile(ROWS, x.dtype), _tile(ROWS, x.dtype), _psum(ROWS)
            nisa.dma_copy(dst=tile, src=x[r : r + ROWS, c : c + ROWS], dge_mode=mode)
            nisa.nc_transpose(dst=psum, data=tile)
            if scalar:
                nisa.activation(dst=turned, op=nl.copy, data=psum)
            else:
                nisa.tensor_copy(dst=turned, src=psum)
            nisa.dma_copy(dst=out[c : c + ROWS, r : r + ROWS], src=turned, dge_mode=mode)
    return out


# -- Vector and Scalar -------------------------------------------------------------------------


def _finish(tiles: list[Any]) -> Any:
    out = nl.ndarray((ROWS, 1), dtype=tiles[0].dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tiles[-1][:, 0:1])
    return out


@jit
def dequantise_pair(x: Any, repeat: int, columns: int, psum: bool, group: int = 0) -> Any:
    """fp8 [128, columns] times float32 scales on Vector: in PSUM, or broadcast from SBUF."""
    data = _made(columns, x.dtype)
    results = [_tile(columns, nl.bfloat16) for _ in range(4)]
    piece = min(columns, BANK)
    scales = _psum(piece) if psum else _made(columns // (group or columns))
    if psum:
        nisa.memset(dst=scales, value=1.0)
    for k in range(repeat):
        result = results[k % len(results)]
        if not psum:
            shape = (ROWS, columns // group, group) if group else (ROWS, 1, columns)
            factor = scales.reshape((ROWS, shape[1], 1)).broadcast_to(shape)
            nisa.tensor_tensor(
                dst=result.reshape(shape), data1=data.reshape(shape), data2=factor, op=nl.multiply
            )
            continue
        for c in range(0, columns, piece):
            part = slice(c, c + piece)
            nisa.tensor_tensor(
                dst=result[:, part], data1=data[:, part], data2=scales, op=nl.multiply
            )
    return _finish(results)


@jit
def dequantise_groups(x: Any, repeat: int, columns: int, group: int, engines: str) -> Any:
    """fp8 [128, columns] in groups with a scale each; ``engines`` take them in turn."""
    data, scales = _made(columns, x.dtype), _made(columns // group)
    results = [_tile(columns, nl.bfloat16) for _ in range(4)]
    for k in range(repeat):
        for number, c in enumerate(range(0, columns, group)):
            source, target = data[:, c : c + group], results[k % len(results)][:, c : c + group]
            scale = scales[:, number : number + 1]
            if engines[number % len(engines)] == "s":
                nisa.activation(dst=target, op=nl.copy, data=source, scale=scale)
            else:
                nisa.tensor_scalar(dst=target, data=source, op0=nl.multiply, operand0=scale)
    return _finish(results)
