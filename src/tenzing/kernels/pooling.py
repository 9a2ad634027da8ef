"""Pooling over windows, and the gradient of max pooling: rows of volumes on partitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

from tenzing.kernels.tiles import cast, move, spans
from tenzing.kernels.windows import DIMS, Block, Geometry, Triple, blocks, load_window
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

POSITIONS: Final = 4096  # output positions per block: 16 KiB of float32 per partition
LOWEST: Final = -3.0e38  # below every finite activation; infinities would turn into NaN times zero
LIVE_TILES: Final = 10  # float32 tiles that the gradient of one block has at a time, at most


@jit
def pool(x: NkiTensor, kind: Any, fill: float, geometry: Geometry) -> NkiTensor:
    """Combine what every window holds with ``kind``: x [rows, d, h, w] to [rows, d', h', w']."""
    out = nl.ndarray((x.shape[0], *geometry.output), dtype=x.dtype, buffer=nl.hbm)
    for first, count in spans(x.shape[0], nl.tile_size.pmax):
        for block in blocks(geometry, x.dtype.itemsize, POSITIONS):
            tile = load_window(x, (first, count), block, geometry, fill)
            best = _combined(tile, kind, geometry, block)
            move(block.of(out, first, count), cast(best, out.dtype))
    return out


def _combined(tile: NkiTensor, kind: Any, geometry: Geometry, block: Block) -> NkiTensor:
    shape = (tile.shape[0], *block.counts)
    best: NkiTensor | None = None
    for place in geometry.offsets():
        seen = geometry.under(tile, place, block.counts)
        fresh = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
        if best is None:
            nisa.tensor_copy(dst=fresh, src=seen)
        else:
            nisa.tensor_tensor(dst=fresh, data1=best, data2=seen, op=kind)
        best = fresh
    assert best is not None
    return best


@jit
def unpool_max(x: NkiTensor, grad: NkiTensor, geometry: Geometry) -> NkiTensor:
    """Give each window's number to its first largest element: x [rows, d, h, w] and its result.

    ``grad`` is [rows, d', h', w']. Elements are computed in blocks, each from all the windows that
    reach into it: windows at the edge of two blocks are looked at twice, and no sum leaves a block.
    """
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.hbm)
    for first, count in spans(x.shape[0], nl.tile_size.pmax):
        for elements in _element_blocks(geometry, x.shape[1:]):
            done = nl.ndarray((count, *elements.counts), dtype=out.dtype, buffer=nl.sbuf)
            block = _windows_over(elements, geometry)
            if block is None:
                nisa.memset(dst=done, value=0.0)
            else:
                tile = load_window(x, (first, count), block, geometry, LOWEST)
                given = nl.ndarray((count, *block.counts), dtype=grad.dtype, buffer=nl.sbuf)
                move(given, block.of(grad, first, count))
                spread = _scattered(tile, cast(given, nl.float32), geometry, block)
                _cut(done, spread, elements, block, geometry)
            move(elements.of(out, first, count), done)
    return out


def _element_blocks(geometry: Geometry, sizes: tuple[int, ...]) -> Iterator[Block]:
    """Blocks of input elements, as large as SBUF allows for the windows over them."""
    counts = list(sizes)
    room = int(nl.tile_size.total_available_sbuf_size) // (LIVE_TILES * nl.float32.itemsize)
    while max(counts) > 1 and _reach_over(geometry, counts) > room:
        widest = counts.index(max(counts))
        counts[widest] = -(-counts[widest] // 2)
    cuts = (spans(n, step) for n, step in zip(sizes, counts, strict=True))
    for (z, deep), (row, high), (column, wide) in itertools.product(*cuts):
        yield Block((z, row, column), (deep, high, wide))


def _reach_over(geometry: Geometry, counts: list[int]) -> int:
    """Elements under all the windows that reach into a block of so many elements, at most."""
    spread = ((geometry.taps[d] - 1) * geometry.dilation[d] for d in DIMS)
    return math.prod(n + 2 * more for n, more in zip(counts, spread, strict=True))


def _windows_over(elements: Block, geometry: Geometry) -> Block | None:
    """The windows that reach into a block of input elements; None when none does."""
    starts, counts = [], []
    for d in DIMS:
        first = elements.starts[d] + geometry.low[d]
        last = first + elements.counts[d] - 1
        before = first - (geometry.taps[d] - 1) * geometry.dilation[d]
        low = max(-(-before // geometry.strides[d]), 0)
        high = min(last // geometry.strides[d], geometry.output[d] - 1)
        starts.append(low)
        counts.append(high - low + 1)
    return Block(_triple(starts), _triple(counts)) if min(counts) > 0 else None


def _triple(values: list[int]) -> Triple:
    return values[0], values[1], values[2]


def _cut(
    done: NkiTensor, spread: NkiTensor, elements: Block, block: Block, geometry: Geometry
) -> None:
    """The block's elements out of what its windows gave; zero where no window reaches."""
    source, target = [slice(0, done.shape[0])], [slice(0, done.shape[0])]
    for d in DIMS:
        origin = block.starts[d] * geometry.strides[d] - geometry.low[d]
        low = max(origin, elements.starts[d])
        high = min(origin + spread.shape[1 + d], elements.starts[d] + elements.counts[d])
        source.append(slice(low - origin, high - origin))
        target.append(slice(low - elements.starts[d], high - elements.starts[d]))
    if any((c.start, c.stop) != (0, n) for c, n in zip(target, done.shape, strict=True)):
        nisa.memset(dst=done, value=0.0)
    nisa.tensor_copy(dst=done[tuple(target)], src=spread[tuple(source)])


def _scattered(tile: NkiTensor, grad: NkiTensor, geometry: Geometry, block: Block) -> NkiTensor:
    best = _combined(tile, nl.maximum, geometry, block)
    spread = nl.ndarray(tile.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=spread, value=0.0)
    left = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=left, src=grad)  # what no tap has taken yet
    for place in geometry.offsets():
        chosen = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
        seen = geometry.under(tile, place, block.counts)
        nisa.tensor_tensor(dst=chosen, data1=seen, data2=best, op=nl.equal)
        taken = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=taken, data1=chosen, data2=left, op=nl.multiply)
        rest = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=rest, data1=left, data2=taken, op=nl.subtract)
        left = rest
        target = geometry.under(spread, place, block.counts)
        nisa.tensor_tensor(dst=target, data1=target, data2=taken, op=nl.add)
    return spread


__all__ = ["pool", "unpool_max"]
