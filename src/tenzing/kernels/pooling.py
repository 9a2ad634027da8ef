"""Pooling over windows, and the gradient of max pooling: rows of images on partitions."""

from __future__ import annotations

from typing import Any, Final

from tenzing.errors import KernelError
from tenzing.kernels.tiles import cast, spans
from tenzing.kernels.windows import Block, Geometry, blocks, load_window
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

POSITIONS: Final = 4096  # output positions per block: 16 KiB of float32 per partition
LOWEST: Final = -3.0e38  # below every finite activation; infinities would turn into NaN times zero


@jit
def pool(x: NkiTensor, kind: Any, fill: float, geometry: Geometry) -> NkiTensor:
    """Combine the elements of every window with ``kind``: x [rows, h, w] -> [rows, h', w']."""
    rows = x.shape[0]
    out = nl.ndarray((rows, *geometry.output), dtype=x.dtype, buffer=nl.hbm)
    images = x.reshape((1, *x.shape))
    for first, count in spans(rows, nl.tile_size.pmax):
        for block in blocks(geometry, 1, x.dtype.itemsize, POSITIONS):
            tile = load_window(images, (first, count), block, geometry, fill)
            best = _combined(tile, kind, geometry, block)
            target = out[first : first + count, block.row : block.row + block.rows,
                         block.column : block.column + block.columns]  # fmt: skip
            done = cast(best, out.dtype)
            nisa.dma_copy(dst=target, src=done[0:count, 0, 0 : block.rows, 0 : block.columns])
    return out


def _combined(tile: NkiTensor, kind: Any, geometry: Geometry, block: Block) -> NkiTensor:
    shape = (tile.shape[0], block.images, block.rows, block.columns)
    best: NkiTensor | None = None
    for place in geometry.offsets():
        seen = geometry.under(tile, place, (block.rows, block.columns))
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
    """Give each window's number to its first largest element: x [rows, h, w], grad [rows, h', w'].

    A whole image must fit into SBUF, because windows overlap.
    """
    rows, height, width = x.shape
    out = nl.ndarray((rows, height, width), dtype=x.dtype, buffer=nl.hbm)
    images = x.reshape((1, *x.shape))
    block = Block(0, 1, 0, geometry.output[0], 0, geometry.output[1])
    reach = geometry.reach(0, block.rows) * geometry.reach(1, block.columns)
    if 4 * reach * nl.float32.itemsize > int(nl.tile_size.total_available_sbuf_size):
        raise KernelError(f"gradient of max pooling over an image of {height} x {width}",
                          next_step="pool smaller images, or in two steps")  # fmt: skip
    for first, count in spans(rows, nl.tile_size.pmax):
        tile = load_window(images, (first, count), block, geometry, LOWEST)
        given = nl.ndarray((count, 1, *geometry.output), dtype=grad.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=given[0:count, 0], src=grad[first : first + count])
        spread = _scattered(tile, cast(given, nl.float32), geometry, block)
        top, left = geometry.low
        seen = min(height, spread.shape[2] - top), min(width, spread.shape[3] - left)
        done = nl.ndarray((count, height, width), dtype=out.dtype, buffer=nl.sbuf)
        if seen != (height, width):  # the last windows end before the image does
            nisa.memset(dst=done, value=0.0)
        inside = spread[0:count, 0, top : top + seen[0], left : left + seen[1]]
        nisa.tensor_copy(dst=done[0:count, 0 : seen[0], 0 : seen[1]], src=inside)
        nisa.dma_copy(dst=out[first : first + count], src=done)
    return out


def _scattered(tile: NkiTensor, grad: NkiTensor, geometry: Geometry, block: Block) -> NkiTensor:
    best = _combined(tile, nl.maximum, geometry, block)
    spread = nl.ndarray(tile.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=spread, value=0.0)
    left = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=left, src=grad)  # what no tap has taken yet
    for place in geometry.offsets():
        counts = (block.rows, block.columns)
        chosen = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
        seen = geometry.under(tile, place, counts)
        nisa.tensor_tensor(dst=chosen, data1=seen, data2=best, op=nl.equal)
        taken = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=taken, data1=chosen, data2=left, op=nl.multiply)
        rest = nl.ndarray(best.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=rest, data1=left, data2=taken, op=nl.subtract)
        left = rest
        target = geometry.under(spread, place, counts)
        nisa.tensor_tensor(dst=target, data1=target, data2=taken, op=nl.add)
    return spread


__all__ = ["pool", "unpool_max"]
