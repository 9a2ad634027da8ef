"""Kernels with the structure of NKIBench's start kernels, whose source and counters are public.

Loops, tile sizes and instructions follow the public source. It leaves the engine of element-wise
operations to the vendor's compiler; here they are where the published activities put them: copies
out of PSUM, operations with a constant and squares on Scalar.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from calibration.pipeline import in_turn, skewed

import tenzing.nki.isa as nisa
import tenzing.nki.language as nl
from tenzing.nki import jit

ROWS = 128
LOADED = 1024  # columns of a load or a store
WIDE = 512  # columns of an instruction


def _tile(columns: int = WIDE, rows: int = ROWS, dtype: Any = nl.float32) -> Any:
    return nl.ndarray((rows, columns), dtype=dtype, buffer=nl.sbuf)


def _psum(columns: int = WIDE, rows: int = ROWS) -> Any:
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.psum)


def _load(source: Any, r: int, c: int, columns: int = LOADED, rows: int = ROWS) -> Any:
    tile = _tile(columns, rows)
    nisa.dma_copy(dst=tile, src=source[r : r + rows, c : c + columns])
    return tile


def _pieces(x: Any) -> Iterator[tuple[int, int, int]]:
    """Row, column and height of tiles [128, 1024]; the last may be shorter."""
    for r in range(0, x.shape[0], ROWS):
        for c in range(0, x.shape[1], LOADED):
            yield r, c, min(ROWS, x.shape[0] - r)


def _scaled(data: Any, factor: float) -> Any:
    """A constant times a tile, on Scalar."""
    result = _tile(data.shape[1], data.shape[0])
    nisa.activation(dst=result, op=nl.copy, data=data, scale=factor)
    return result


def _pair(one: Any, two: Any, op: Any, dst: Any = None) -> Any:
    """Two tiles combined on Vector."""
    result = _tile(one.shape[1], one.shape[0]) if dst is None else dst
    nisa.tensor_tensor(dst=result, data1=one, data2=two, op=op)
    return result


@jit
def silu_parts(x: Any) -> Any:
    """x [M, N] times 1 / (1 + exp(-x)), in four instructions of 512 columns."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    one = _tile(1)
    nisa.memset(dst=one, value=1.0)
    for r, c, _ in _pieces(x):
        tile, result = _load(x, r, c), _tile(LOADED)
        for n in range(0, LOADED, WIDE):
            part = tile[:, n : n + WIDE]
            power, more, inverse = (_tile() for _ in range(3))
            nisa.activation(dst=power, op=nl.exp, data=part, scale=-1.0)
            nisa.activation(dst=more, op=nl.copy, data=power, bias=one)
            nisa.reciprocal(dst=inverse, data=more)
            _pair(part, inverse, nl.multiply, result[:, n : n + WIDE])
        nisa.dma_copy(dst=out[r : r + ROWS, c : c + LOADED], src=result)
    return out


@jit
def silu_sigmoid(x: Any) -> Any:
    """x [M, N] times its sigmoid: one instruction of Scalar, one of Vector, of 512 columns."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for r, c, _ in _pieces(x):
        tile, result = _load(x, r, c), _tile(LOADED)
        for n in range(0, LOADED, WIDE):
            part, gate = tile[:, n : n + WIDE], _tile()
            nisa.activation(dst=gate, op=nl.sigmoid, data=part)
            _pair(part, gate, nl.multiply, result[:, n : n + WIDE])
        nisa.dma_copy(dst=out[r : r + ROWS, c : c + LOADED], src=result)
    return out


class _AdamW:
    """A block is 512 columns: constants on Scalar and combinations on Vector, twice in turn."""

    def __init__(self, tensors: tuple[Any, ...], out: Any) -> None:
        self.tensors, self.out = tensors, out
        self.small = _tile(1)
        nisa.memset(dst=self.small, value=1e-8)
        self.pieces = list(_pieces(out))
        self.halves = LOADED // WIDE
        self.loaded: dict[int, tuple[list[Any], Any]] = {}
        self.held: dict[int, dict[str, Any]] = {}

    def scale(self, block: int) -> None:
        piece, half = divmod(block, self.halves)
        r, c, rows = self.pieces[piece]
        if not half:
            tiles = [_load(x, r, c, rows=rows) for x in self.tensors]
            self.loaded[piece] = tiles, _tile(LOADED, rows)
        part = slice(half * WIDE, (half + 1) * WIDE)
        p, m, v, g = (tile[:, part] for tile in self.loaded[piece][0])
        square = _tile(rows=rows)
        nisa.activation(dst=square, op=nl.square, data=g, scale=1e-3**0.5)
        self.held[block] = {
            "p": p, "decay": _scaled(p, 1e-5), "m": _scaled(m, 0.9), "g": _scaled(g, 0.1),
            "v": _scaled(v, 0.999), "square": square,
        }  # fmt: skip

    def combine(self, block: int) -> None:
        held = self.held[block]
        held["decayed"] = _pair(held["p"], held["decay"], nl.subtract)
        held["mean"] = _pair(held["m"], held["g"], nl.add)
        held["moment"] = _pair(held["v"], held["square"], nl.add)

    def root(self, block: int) -> None:
        held, rows = self.held[block], self.held[block]["p"].shape[0]
        root, safe = _tile(rows=rows), _tile(rows=rows)
        nisa.activation(dst=root, op=nl.sqrt, data=held["moment"], scale=1000.0)
        nisa.activation(dst=safe, op=nl.copy, data=root, bias=self.small[0:rows, :])
        held["safe"], held["rate"] = safe, _scaled(held["mean"], 0.01)

    def finish(self, block: int) -> None:
        piece, half = divmod(block, self.halves)
        held, (r, c, rows) = self.held.pop(block), self.pieces[piece]
        result, inverse = self.loaded[piece][1], _tile(rows=rows)
        nisa.reciprocal(dst=inverse, data=held["safe"])
        step = _pair(held["rate"], inverse, nl.multiply)
        _pair(held["decayed"], step, nl.subtract, result[:, half * WIDE : (half + 1) * WIDE])
        if half + 1 == self.halves:
            nisa.dma_copy(dst=self.out[r : r + rows, c : c + LOADED], src=result)
            del self.loaded[piece]


@jit
def adamw_parts(p: Any, g: Any, m: Any, v: Any, ordered: bool = False) -> Any:
    """New parameters [M, N] of an AdamW step, operation by operation on 512 columns.

    ``ordered``: Scalar works on the next block while Vector works on this one.
    """
    out = nl.ndarray(p.shape, dtype=p.dtype, buffer=nl.shared_hbm)
    step = _AdamW((p, m, v, g), out)
    run = skewed if ordered else in_turn
    run(len(step.pieces) * step.halves, (step.scale, step.combine, step.root, step.finish))
    return out


@jit
def rope_parts(x: Any, cos: Any, sin: Any) -> Any:
    """Rotary embedding of x [D, S] with cos and sin [D / 2, S], 512 columns at a time."""
    depth, columns = x.shape
    half = depth // 2
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for n in range(0, columns, WIDE):
        both, result = _load(x, 0, n, WIDE, depth), _tile(rows=depth)
        turns = [_load(table, 0, n, WIDE, half) for table in (cos, sin)]
        upper, lower = both[0:half, :], _tile(rows=half)
        nisa.activation(dst=lower, op=nl.copy, data=both[half:depth, :])
        parts = [_pair(side, turn, nl.multiply) for turn in turns for side in (upper, lower)]
        _pair(parts[0], parts[3], nl.subtract, result[0:half, :])
        _pair(parts[1], parts[2], nl.add, result[half:depth, :])
        nisa.dma_copy(dst=out[:, n : n + WIDE], src=result)
    return out


def _turned(tile: Any, columns: int) -> Any:
    """The transpose [columns, 128] of a tile [128, columns]: on Tensor, copied out by Scalar."""
    psum, turned = _psum(ROWS, columns), _tile(ROWS, columns)
    nisa.nc_transpose(dst=psum, data=tile)
    nisa.activation(dst=turned, op=nl.copy, data=psum)
    return turned


def _product(lefts: list[Any], rights: list[Any], result: Any) -> None:
    """The sum of products in PSUM, copied out by Scalar."""
    psum = _psum()
    for k, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        nisa.nc_matmul(dst=psum, stationary=left, moving=right, accumulate=k > 0)
    nisa.activation(dst=result, op=nl.copy, data=psum)


@jit
def bmm_parts(a: Any, b: Any) -> Any:
    """a [B, M, K] times b [B, K, N]; a, as the published bytes say, is loaded and turned once."""
    batch, height, depth = a.shape
    width = b.shape[2]
    out = nl.ndarray((batch, height, width), dtype=a.dtype, buffer=nl.shared_hbm)
    for i in range(batch):
        tiles = range(0, height, ROWS)
        lefts = [_turned(_load(a[i], m, 0, depth), depth) for m in tiles]
        for c in range(0, width, LOADED):
            right = _load(b[i], 0, c, LOADED, depth)
            for m, left in zip(tiles, lefts, strict=True):
                result = _tile(LOADED)
                for n in range(0, LOADED, WIDE):
                    part = slice(n, n + WIDE)
                    _product([left], [right[:, part]], result[:, part])
                nisa.dma_copy(dst=out[i][m : m + ROWS, c : c + LOADED], src=result)
    return out


def _normal_rows(x: Any, r: int) -> list[Any]:
    """Rows over their root mean square as stationary tiles; the rows are loaded twice."""
    depth = x.shape[1]
    tile, sums = _load(x, r, 0, depth), []
    for n in range(0, depth, WIDE):
        square, mean, total = _tile(), _tile(), _tile(1)
        nisa.activation(dst=square, op=nl.square, data=tile[:, n : n + WIDE])
        nisa.tensor_scalar(dst=mean, data=square, op0=nl.multiply, operand0=1.0 / depth)
        nisa.tensor_reduce(dst=total, op=nl.add, data=mean, axis=(1,))
        sums.append(total)
    whole, inverse = sums[0], _tile(1)
    for more in sums[1:]:
        whole = _pair(whole, more, nl.add)
    nisa.activation(dst=inverse, op=nl.rsqrt, data=whole)
    again, turned = _load(x, r, 0, depth), []
    for n in range(0, depth, WIDE):
        normal = _tile()
        nisa.tensor_scalar(dst=normal, data=again[:, n : n + WIDE], op0=nl.multiply,
                           operand0=inverse)  # fmt: skip
        turned += [_turned(normal[:, k : k + ROWS], ROWS) for k in range(0, WIDE, ROWS)]
    return turned


@jit
def rmsnorm_matmul_parts(x: Any, w: Any) -> Any:
    """x [M, K] over its root mean square, times w [K, N], in groups of eight row tiles."""
    height, depth = x.shape
    width = w.shape[1]
    out = nl.ndarray((height, width), dtype=x.dtype, buffer=nl.shared_hbm)
    for group in range(0, height, LOADED):
        tiles = range(group, group + LOADED, ROWS)
        lefts = [_normal_rows(x, m) for m in tiles]
        for c in range(0, width, LOADED):
            rights = [_load(w, k, c) for k in range(0, depth, ROWS)]
            for m, left in zip(tiles, lefts, strict=True):
                result = _tile(LOADED)
                for n in range(0, LOADED, WIDE):
                    part = slice(n, n + WIDE)
                    _product(left, [right[:, part] for right in rights], result[:, part])
                nisa.dma_copy(dst=out[m : m + ROWS, c : c + LOADED], src=result)
    return out
