"""Plainly written kernels of published problems: large tiles, loaded once, every engine fed.

`matmul_rows` has the structure that a start kernel's traffic shows; of the others only the problem
and its best time are public.
"""

from __future__ import annotations

from typing import Any

import tenzing.nki.isa as nisa
import tenzing.nki.language as nl
from tenzing.kernels.matmul import linear
from tenzing.nki import jit

ROWS = 128


def _tile(columns: int, dtype: Any = nl.float32) -> Any:
    return nl.ndarray((ROWS, columns), dtype=dtype, buffer=nl.sbuf)


def _load(source: Any, r: int, c: int, columns: int) -> Any:
    tile = _tile(columns, source.dtype)
    nisa.dma_copy(dst=tile, src=source[r : r + ROWS, c : c + columns])
    return tile


def _turned_rows(tile: Any, depth: int, dtype: Any) -> list[Any]:
    """The stationary tiles [128, 128] of a row tile [128, depth], transposed on Tensor."""
    found = []
    for k in range(0, depth, ROWS):
        psum = nl.ndarray((ROWS, ROWS), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_transpose(dst=psum, data=tile[:, k : k + ROWS])
        turned = _tile(ROWS, dtype)
        nisa.activation(dst=turned, op=nl.copy, data=psum)
        found.append(turned)
    return found


@jit
def matmul_rows(x: Any, w: Any, wide: int = 1024) -> Any:
    """x [M, K] times w [K, N]: per block of columns and tile of rows, x is turned and w reloaded.

    The structure that the published traffic and transposes of the benchmark's first kernel give.
    """
    height, depth = x.shape
    width = w.shape[1]
    out = nl.ndarray((height, width), dtype=x.dtype, buffer=nl.shared_hbm)
    for c in range(0, width, wide):
        for m in range(0, height, ROWS):
            lefts = _turned_rows(_load(x, m, 0, depth), depth, x.dtype)
            sums = [nl.ndarray((ROWS, 512), dtype=nl.float32, buffer=nl.psum)
                    for _ in range(0, wide, 512)]  # fmt: skip
            for k, left in enumerate(lefts):
                right = _load(w, k * ROWS, c, wide)
                for n, psum in enumerate(sums):
                    nisa.nc_matmul(
                        dst=psum, stationary=left, moving=right[:, n * 512 : (n + 1) * 512],
                        accumulate=k > 0,
                    )  # fmt: skip
            result = _tile(wide, x.dtype)
            for n, psum in enumerate(sums):
                nisa.activation(dst=result[:, n * 512 : (n + 1) * 512], op=nl.copy, data=psum)
            nisa.dma_copy(dst=out[m : m + ROWS, c : c + wide], src=result)
    return out


@jit
def rmsnorm_matmul(x: Any, w: Any) -> Any:
    """x [M, K] over its root mean square, times w [K, N], which stays in SBUF."""
    height, depth = x.shape
    width = w.shape[1]
    out = nl.ndarray((height, width), dtype=x.dtype, buffer=nl.shared_hbm)
    rights = [_load(w, k, 0, width) for k in range(0, depth, ROWS)]
    for m in range(0, height, ROWS):
        tile = _load(x, m, 0, depth)
        squares, total, inverse = _tile(depth), _tile(1), _tile(1)
        nisa.activation(dst=squares, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total,
                        reduce_cmd=nisa.reduce_cmd.reset_reduce)  # fmt: skip
        nisa.activation(dst=inverse, op=nl.rsqrt, data=total, scale=1.0 / depth)
        lefts = _turned_rows(tile, depth, x.dtype)
        result = _tile(width, x.dtype)
        for n in range(0, width, 512):
            psum = nl.ndarray((ROWS, 512), dtype=nl.float32, buffer=nl.psum)
            for k, (left, right) in enumerate(zip(lefts, rights, strict=True)):
                nisa.nc_matmul(dst=psum, stationary=left, moving=right[:, n : n + 512],
                               accumulate=k > 0)  # fmt: skip
            nisa.tensor_scalar(dst=result[:, n : n + 512], data=psum, op0=nl.multiply,
                               operand0=inverse)  # fmt: skip
        nisa.dma_copy(dst=out[m : m + ROWS, :], src=result)
    return out


__all__ = ["linear", "matmul_rows", "rmsnorm_matmul"]
