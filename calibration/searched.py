"""Kernels that a public search found, with the structure of its published source.

Their sizes, loops and instructions follow it. The copies whose engine it leaves to the vendor's
compiler are on Vector.
"""

from __future__ import annotations

from typing import Any

from calibration.pipeline import skewed

import tenzing.nki.isa as nisa
import tenzing.nki.language as nl
from tenzing.nki import jit

ROWS = 128
WIDE = 512
OUTPUTS = 64  # outputs of the depthwise convolution in one block
LOWEST = -1e38
AHEAD = 2  # tiles of queries whose scores are made before the products of one


def _tile(shape: tuple[int, ...], dtype: Any = nl.float32) -> Any:
    return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)


def _psum(shape: tuple[int, ...], dtype: Any = nl.float32) -> Any:
    return nl.ndarray(shape, dtype=dtype, buffer=nl.psum)


def _loaded(source: Any, dtype: Any = None) -> Any:
    tile = _tile(source.shape, dtype or source.dtype)
    nisa.dma_copy(dst=tile, src=source)
    return tile


def _largest(data: Any, dst: Any, op: Any = nl.maximum, negate: bool = False) -> None:
    nisa.tensor_reduce(dst=dst, op=op, data=data, axis=(1,), negate=negate)


def _turned(tile: Any, dtype: Any) -> Any:
    """The transpose on Tensor, in SBUF."""
    rows, columns = tile.shape
    psum, turned = _psum((columns, rows), tile.dtype), _tile((columns, rows), dtype)
    nisa.nc_transpose(dst=psum, data=tile)
    nisa.tensor_copy(dst=turned, src=psum)
    return turned


class _Flash:
    """A block is 512 columns of scores of one tile of queries; its parts are 128 columns."""

    def __init__(self, q: Any, k: Any, v: Any, out: Any) -> None:
        self.out, self.parts = out, range(0, WIDE, ROWS)
        self.q, self.k = _loaded(q), _loaded(k)
        self.blocks = q.shape[1] // WIDE
        tiles = range(0, q.shape[1], ROWS)
        self.values = [_turned(_loaded(v[:, n : n + ROWS]), nl.bfloat16) for n in tiles]
        self.lowest = _first_maxima(self.q, self.k)
        self.scores: dict[int, Any] = {}
        self.powers: dict[int, Any] = {}
        self.turned: dict[int, Any] = {}
        self.ready: dict[int, Any] = {}
        self.sums: dict[int, Any] = {}
        self.total: Any = None

    def multiply(self, block: int) -> None:
        row, c = block // self.blocks * ROWS, block % self.blocks * WIDE
        self.scores[block] = psum = _psum((ROWS, WIDE))
        nisa.nc_matmul(dst=psum, stationary=self.q[:, row : row + ROWS],
                       moving=self.k[:, c : c + WIDE])  # fmt: skip

    def power(self, block: int) -> None:
        scores = self.scores.pop(block)
        self.powers[block] = powers = [_tile((ROWS, ROWS), nl.bfloat16) for _ in self.parts]
        for n, power in zip(self.parts, powers, strict=True):
            nisa.activation(dst=power, op=nl.exp, data=scores[:, n : n + ROWS], bias=self.lowest)

    def turn(self, block: int) -> None:
        row, first = block // self.blocks, block % self.blocks * len(self.parts)
        if not first:
            self.sums[row] = _tile((ROWS, len(self.values)))
        self.turned[block] = psum = _psum((ROWS, WIDE), nl.bfloat16)
        for number, (n, power) in enumerate(zip(self.parts, self.powers.pop(block), strict=True)):
            place = first + number
            _largest(power, self.sums[row][:, place : place + 1], nl.add)
            nisa.nc_transpose(dst=psum[:, n : n + ROWS], data=power)

    def copy(self, block: int) -> None:
        psum = self.turned.pop(block)
        self.ready[block] = tiles = [_tile((ROWS, ROWS), nl.bfloat16) for _ in self.parts]
        for n, tile in zip(self.parts, tiles, strict=True):
            nisa.tensor_copy(dst=tile, src=psum[:, n : n + ROWS])

    def add(self, block: int) -> None:
        row, first = block // self.blocks, block % self.blocks * len(self.parts)
        if not first:
            self.total = _psum((ROWS, ROWS))
        for place, left in enumerate(self.ready.pop(block), first):
            nisa.nc_matmul(dst=self.total, stationary=left, moving=self.values[place],
                           accumulate=place > 0)  # fmt: skip
        if first + len(self.parts) == len(self.values):
            whole = _tile((ROWS, 1))
            _largest(self.sums.pop(row), whole, nl.add)
            _store_over(self.out[row * ROWS : (row + 1) * ROWS, :], self.total, whole)


@jit
def flash_search(q: Any, k: Any, v: Any) -> Any:
    """Attention of q, k, v [D, N]: scores of 512 columns, then 128 at a time to the sum.

    Row maxima come from the first tile of queries alone, as in the published kernel.
    """
    depth, length = q.shape
    out = nl.ndarray((length, depth), dtype=q.dtype, buffer=nl.shared_hbm)
    flash = _Flash(q, k, v, out)
    count = length // ROWS * flash.blocks
    skewed(count, (flash.multiply, flash.power, flash.turn, flash.copy, flash.add))
    return out


def _first_maxima(q: Any, k: Any) -> Any:
    """Negated row maxima of the first tile of queries."""
    largest, lowest = _tile((ROWS, 1)), _tile((ROWS, 1))
    nisa.memset(dst=largest, value=LOWEST)
    for c in range(0, k.shape[1], WIDE):
        scores, block = _psum((ROWS, WIDE)), _tile((ROWS, 1))
        nisa.nc_matmul(dst=scores, stationary=q[:, 0:ROWS], moving=k[:, c : c + WIDE])
        _largest(scores, block)
        nisa.tensor_tensor(dst=largest, data1=largest, data2=block, op=nl.maximum)
    nisa.tensor_scalar(dst=lowest, data=largest, op0=nl.multiply, operand0=-1.0)
    return lowest


def _store_over(target: Any, psum: Any, total: Any) -> None:
    """A tile over the sum of its row."""
    result, inverse = _tile(psum.shape, target.dtype), _tile((ROWS, 1))
    nisa.reciprocal(dst=inverse, data=total)
    nisa.tensor_scalar(dst=result, data=psum, op0=nl.multiply, operand0=inverse)
    nisa.dma_copy(dst=target, src=result)


@jit
def diffusion_search(q: Any, k: Any, v: Any) -> Any:
    """Attention of q, k, v [N, D]: a row of scores is copied to SBUF, its maxima taken from there.

    The probabilities of a tile of queries are turned beside the scores of the tile after the next.
    """
    length, depth = q.shape
    half = nl.bfloat16
    out = nl.ndarray(q.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    tiles = range(0, length, ROWS)
    values = [_loaded(v[n : n + ROWS, :], half) for n in tiles]
    queries = [_scaled(_turned_load(q[n : n + ROWS, :])) for n in tiles]
    keys = [_turned_load(k[n : n + ROWS, :]) for n in tiles]
    waiting: list[tuple[int, Any, Any]] = []  # probabilities of tiles before
    for number in range(len(queries) + AHEAD):
        fresh = number < len(queries)
        row, power, total = waiting.pop(0) if number >= AHEAD else (-1, None, None)
        scores, maxima, turned = _tile((ROWS, length), half), _tile((ROWS, len(keys))), []
        for n, key in enumerate(keys):
            part = slice(n * ROWS, (n + 1) * ROWS)
            if fresh:
                _copied_product(queries[number], key, scores[:, part])
            if power is not None:
                turned.append(_turned(power[:, part], half))
            if fresh:
                _largest(scores[:, part], maxima[:, n : n + 1], negate=True)
        if power is not None:
            psum = _psum((ROWS, depth))
            for n, (left, right) in enumerate(zip(turned, values, strict=True)):
                nisa.nc_matmul(dst=psum, stationary=left, moving=right, accumulate=n > 0)
            _store_over(out[row * ROWS : (row + 1) * ROWS, :], psum, total)
        if fresh:
            waiting.append((number, *_softmax(scores, maxima)))
    return out


def _copied_product(left: Any, right: Any, dst: Any) -> None:
    psum = _psum(dst.shape)
    nisa.nc_matmul(dst=psum, stationary=left, moving=right)
    nisa.tensor_copy(dst=dst, src=psum)


def _softmax(scores: Any, maxima: Any) -> tuple[Any, Any]:
    """Exponentials of a row of scores, and their sum."""
    lowest, total = _tile((ROWS, 1)), _tile((ROWS, 1))
    power = _tile(scores.shape, scores.dtype)
    _largest(maxima, lowest, nl.minimum)
    nisa.activation(dst=power, op=nl.exp, data=scores, bias=lowest, reduce_op=nl.add,
                    reduce_res=total, reduce_cmd=nisa.reduce_cmd.reset_reduce)  # fmt: skip
    return power, total


def _turned_load(source: Any) -> Any:
    """A tile [128, D] loaded and turned to [D, 128]."""
    return _turned(_loaded(source, nl.bfloat16), nl.bfloat16)


def _scaled(tile: Any, factor: float = 0.125) -> Any:
    result = _tile(tile.shape, tile.dtype)
    nisa.tensor_scalar(dst=result, data=tile, op0=nl.multiply, operand0=factor)
    return result


@jit
def depthwise_search(x: Any, w: Any) -> Any:
    """Depthwise convolution of x [N, C, W] with taps w [C, 3]: products, then sums of three.

    The published source writes a product and a sum for each output; a block of 64 outputs, its
    innermost loop, is one instruction here, as the time says the vendor's compiler made it.
    """
    batch, channels, width = x.shape
    taps = w.shape[1]
    outputs = width - taps + 1
    out = nl.ndarray((batch, channels, outputs), dtype=x.dtype, buffer=nl.shared_hbm)
    for c in range(0, channels, ROWS):
        factors = _psum((ROWS, 1, taps))
        nisa.tensor_copy(dst=factors.reshape((ROWS, taps)), src=_loaded(w[c : c + ROWS, :]))
        for n in range(batch):
            image, result = _loaded(x[n][c : c + ROWS, :]), _tile((ROWS, outputs))
            for o in range(0, outputs, OUTPUTS):
                count = min(OUTPUTS, outputs - o)
                product = _tile((ROWS, count, taps))
                nisa.tensor_tensor(
                    dst=product, data1=_windows(image, o, count, taps),
                    data2=factors.broadcast_to((ROWS, count, taps)), op=nl.multiply,
                )  # fmt: skip
                nisa.tensor_reduce(dst=result[:, o : o + count], op=nl.add, data=product,
                                   axis=(2,))  # fmt: skip
            nisa.dma_copy(dst=out[n][c : c + ROWS, :], src=result)
    return out


def _windows(image: Any, first: int, count: int, taps: int) -> Any:
    """Overlapping windows of ``taps`` columns, [128, count, taps]."""
    return image.ap([[image.shape[1], ROWS], [1, count], [1, taps]], offset=first)
