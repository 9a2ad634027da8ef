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


@jit
def two_functions(x: Any, grouped: bool = False) -> Any:
    """tanh(x) * exp(x) by pieces, function after function or piece after piece."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    whole = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=whole, src=x)
    one = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    other = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    parts = [slice(at, at + 512) for at in range(0, x.shape[1], 512)]
    first, second = (nl.tanh, one), (nl.exp, other)
    turns = [(part, which) for part in parts for which in (first, second)]
    if grouped:
        turns = [(part, which) for which in (first, second) for part in parts]
    for part, (function, target) in turns:
        nisa.activation(dst=target[:, part], op=function, data=whole[:, part])  # FUNCTION
    for part in parts:
        nisa.tensor_tensor(
            dst=one[:, part], data1=one[:, part], data2=other[:, part], op=nl.multiply
        )
    nisa.dma_copy(dst=out, src=one)
    return out


@jit
def doubled_up(x: Any, engine: Any = nisa.engine.gpsimd) -> Any:
    """256 x by pieces, on an engine."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for start in range(0, x.shape[1], 1024):
        piece = nl.ndarray((128, 1024), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=piece, src=x[:, start : start + 1024])
        for _ in range(8):
            nisa.tensor_scalar(
                dst=piece, data=piece, op0=nl.multiply, operand0=2.0, engine=engine
            )  # DOUBLE
        nisa.dma_copy(dst=out[:, start : start + 1024], src=piece)
    return out


@jit
def summed_products(a: Any, b: Any, in_psum: bool = False) -> Any:
    """The sum of many products, each added in SBUF, or all in PSUM."""
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    left = nl.ndarray((128, 128), dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=left, src=a)
    right = nl.ndarray((128, 512), dtype=b.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=right, src=b)
    total = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=total, value=0.0)
    product = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
    for turn in range(48):
        nisa.nc_matmul(dst=product, stationary=left, moving=right, accumulate=in_psum and turn > 0)
        if not in_psum or turn == 47:
            nisa.tensor_tensor(dst=total, data1=total, data2=product, op=nl.add)  # SUM
    nisa.dma_copy(dst=out, src=total)
    return out


@jit
def projected(x: Any, weights: Any, kept: bool = False) -> Any:
    """Pieces of x times weights, summed; the weights are loaded for every piece, or once."""
    width = weights.shape[1]
    out = nl.ndarray((128, width), dtype=nl.float32, buffer=nl.shared_hbm)
    blocks = [slice(at, at + 512) for at in range(0, width, 512)]
    sums = [nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum) for _ in blocks]
    held = None
    for start in range(0, x.shape[1], 128):
        piece = nl.ndarray((128, 128), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=piece, src=x[:, start : start + 128])
        if held is None or not kept:
            held = nl.ndarray((128, width), dtype=weights.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=held, src=weights)  # WEIGHTS
        for block, total in zip(blocks, sums, strict=True):
            nisa.nc_matmul(dst=total, stationary=piece, moving=held[:, block], accumulate=start > 0)
    result = nl.ndarray((128, width), dtype=nl.float32, buffer=nl.sbuf)
    for block, total in zip(blocks, sums, strict=True):
        nisa.tensor_copy(dst=result[:, block], src=total)
    nisa.dma_copy(dst=out, src=result)
    return out


@jit
def squared(x: Any, width: int = 16) -> Any:
    """x * x, so many columns at a time."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    whole = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=whole, src=x)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    for at in range(0, x.shape[1], width):
        part = slice(at, at + width)
        nisa.tensor_tensor(
            dst=result[:, part], data1=whole[:, part], data2=whole[:, part], op=nl.multiply
        )  # SQUARE
    nisa.dma_copy(dst=out, src=result)
    return out


@jit
def largest_scores(a: Any, b: Any, buffers: int = 1) -> Any:
    """Row maxima of many products, with one tile of PSUM for all or several in turn."""
    turns = b.shape[1] // 512
    out = nl.ndarray((128, turns), dtype=nl.float32, buffer=nl.shared_hbm)
    left = nl.ndarray((128, 128), dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=left, src=a)
    right = nl.ndarray(b.shape, dtype=b.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=right, src=b)
    result = nl.ndarray((128, turns), dtype=nl.float32, buffer=nl.sbuf)
    tiles = [nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum) for _ in range(buffers)]
    for turn in range(turns):
        part = slice(turn * 512, turn * 512 + 512)
        tile = tiles[turn % buffers]
        nisa.nc_matmul(dst=tile, stationary=left, moving=right[:, part], accumulate=False)  # SCORE
        nisa.tensor_reduce(dst=result[:, turn : turn + 1], data=tile, op=nl.maximum, axis=1)  # MAX
    nisa.dma_copy(dst=out, src=result)
    return out
