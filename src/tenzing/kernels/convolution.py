"""Convolutions: channels on partitions, one matrix product per tap summed in PSUM."""

from __future__ import annotations

from typing import Any, Final

from tenzing.kernels.tiles import cast, copy_from_psum, spans
from tenzing.kernels.windows import Block, Geometry, blocks, load_window
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

WEIGHT_SHARE: Final = 0.3  # of a partition may hold weights


@jit
def convolution(
    x: NkiTensor,
    w: NkiTensor,
    bias: NkiTensor | None,
    geometry: Geometry,
    groups: int = 1,
    out_dtype: Any = None,
) -> NkiTensor:
    """Windows of x [n, c, h, w] times w [kh, kw, c / groups, o], plus bias [o]: [n, o, h', w'].

    A group of one channel runs on Vector, tap by tap; others multiply on TensorE.
    """
    images = x.shape[0]
    width = w.shape[3]
    out = nl.ndarray((images, width, *geometry.output), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    if w.shape[2] == 1 and groups > 1:
        _depthwise(x, w, bias, geometry, out)
        return out
    for group in range(groups):
        _dense(x, w, bias, geometry, out, (group, groups))
    return out


def _dense(
    x: NkiTensor, w: NkiTensor, bias: NkiTensor | None, geometry: Geometry, out: NkiTensor,
    part: tuple[int, int],
) -> None:  # fmt: skip
    group, groups = part
    depth, width = w.shape[2], w.shape[3] // groups
    channels = [(group * depth + c, size) for c, size in spans(depth, nl.tile_size.pmax)]
    wide = _width_block(w, len(channels), width)
    for column, count in spans(width, wide):
        first = group * width + column
        weights = [_load_weights(w, c - group * depth, size, first, count) for c, size in channels]
        shift = _load_bias(bias, first, count)
        most = int(nl.tile_size.gemm_moving_fmax)
        for block in blocks(geometry, x.shape[0], x.dtype.itemsize, most):
            tiles = [cast(load_window(x, c, block, geometry, 0.0), w.dtype) for c in channels]
            for at, size in spans(count, nl.tile_size.pmax):
                part_shift = None if shift is None else shift[at // nl.tile_size.pmax]
                done = _block(tiles, weights, geometry, block, (at, size), part_shift, out.dtype)
                _store(out, done, first + at, block)


def _width_block(w: NkiTensor, channel_blocks: int, width: int) -> int:
    """Output channels whose weights fit their share of SBUF, in whole PSUM tiles."""
    per_channel = w.shape[0] * w.shape[1] * channel_blocks * w.dtype.itemsize
    fit = int(nl.tile_size.total_available_sbuf_size * WEIGHT_SHARE) // per_channel
    step = int(nl.tile_size.pmax)
    return min(width, max(fit // step, 1) * step)


def _load_weights(w: NkiTensor, channel: int, size: int, first: int, count: int) -> NkiTensor:
    """Weights of some channels: [channels, taps, outputs]."""
    rows, columns = w.shape[:2]
    tile = nl.ndarray((size, rows * columns, count), dtype=w.dtype, buffer=nl.sbuf)
    flat = w.reshape((rows * columns, w.shape[2], w.shape[3]))
    part = flat[0 : rows * columns, channel : channel + size, first : first + count]
    nisa.dma_copy(dst=tile, src=part.permute((1, 0, 2)))
    return tile


def _load_bias(bias: NkiTensor | None, first: int, count: int) -> list[NkiTensor] | None:
    if bias is None:
        return None
    tiles = []
    for at, size in spans(count, nl.tile_size.pmax):
        tile = nl.ndarray((size, 1), dtype=bias.dtype, buffer=nl.sbuf)
        part = bias[first + at : first + at + size]
        nisa.dma_copy(dst=tile, src=part.reshape((size, 1)))
        tiles.append(cast(tile, nl.float32))
    return tiles


def _block(
    tiles: list[NkiTensor], weights: list[NkiTensor], geometry: Geometry, block: Block,
    part: tuple[int, int], shift: NkiTensor | None, dtype: Any,
) -> NkiTensor:  # fmt: skip
    """Some output channels of a block in SBUF: [outputs, images, rows, columns]."""
    at, count = part
    shape = (count, block.images, block.rows, block.columns)
    done = nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)
    together = max(int(nl.tile_size.gemm_moving_fmax) // (block.images * block.columns), 1)
    for turn, (row, rows) in enumerate(spans(block.rows, together)):
        size = block.images * rows * block.columns
        total = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
        step = 0
        for tile, weight in zip(tiles, weights, strict=True):
            for tap, place in enumerate(geometry.offsets()):
                moving = geometry.under(tile, place, (rows, block.columns), row)
                stationary = weight[0 : weight.shape[0], tap, at : at + count]
                nisa.nc_matmul(dst=total, stationary=stationary, moving=moving,
                               accumulate=step > 0)  # fmt: skip
                step += 1
        target = done[0:count, 0 : block.images, row : row + rows, 0 : block.columns]
        source = total.reshape((count, block.images, rows, block.columns))
        _drain(target, source, shift, turn)
    return done


def _drain(target: NkiTensor, source: NkiTensor, shift: NkiTensor | None, turn: int) -> None:
    """PSUM to SBUF with the bias; without one on Vector and Scalar in turns."""
    if shift is not None:
        nisa.tensor_scalar(dst=target, data=source, op0=nl.add, operand0=shift)
    else:
        copy_from_psum(target, source, turn)


def _store(out: NkiTensor, done: NkiTensor, channel: int, block: Block) -> None:
    count = done.shape[0]
    for number in range(block.images):
        image = out[block.image + number, channel : channel + count]
        nisa.dma_copy(
            dst=image[0:count, block.row : block.row + block.rows,
                      block.column : block.column + block.columns],
            src=done[0:count, number, 0 : block.rows, 0 : block.columns],
        )  # fmt: skip


def _depthwise(
    x: NkiTensor, w: NkiTensor, bias: NkiTensor | None, geometry: Geometry, out: NkiTensor
) -> None:
    """Every channel has its own window, ``o / c`` of them: multiply and add on Vector."""
    total, taps = x.shape[1], geometry.taps[0] * geometry.taps[1]
    each = w.shape[3] // total
    apart = out.reshape((out.shape[0], total, each, *geometry.output))
    flat = w.reshape((taps, total, each))
    most = int(nl.tile_size.total_available_sbuf_size) // (nl.float32.itemsize * 16)
    for first, count in spans(total, nl.tile_size.pmax):
        loaded = nl.ndarray((count, each, taps), dtype=w.dtype, buffer=nl.sbuf)
        part = flat[0:taps, first : first + count, 0:each]
        nisa.dma_copy(dst=loaded, src=part.permute((1, 2, 0)))
        weights = cast(loaded, nl.float32)
        shifts = None
        if bias is not None:
            table = bias.reshape((total, each))
            shifts = nl.ndarray((count, each), dtype=bias.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=shifts, src=table[first : first + count, 0:each])
            shifts = cast(shifts, nl.float32)
        for block in blocks(geometry, x.shape[0], x.dtype.itemsize, most):
            tile = load_window(x, (first, count), block, geometry, 0.0)
            for number in range(each):
                column = None if shifts is None else shifts[0:count, number : number + 1]
                own = weights[0:count, number, 0:taps]
                done = cast(_taps(tile, own, column, geometry, block), out.dtype)
                _store(apart.select(2, number), done, first, block)


def _taps(
    tile: NkiTensor, weights: NkiTensor, shift: NkiTensor | None, geometry: Geometry, block: Block
) -> NkiTensor:
    """Sum over the taps of one window per channel, in float32."""
    count = tile.shape[0]
    shape = (count, block.images, block.rows, block.columns)
    total: NkiTensor | None = None
    for tap, place in enumerate(geometry.offsets()):
        seen = geometry.under(tile, place, (block.rows, block.columns))
        factor = weights[0:count, tap : tap + 1]
        fresh = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
        if total is not None:
            nisa.scalar_tensor_tensor(dst=fresh, data=seen, op0=nl.multiply, operand0=factor,
                                      op1=nl.add, operand1=total)  # fmt: skip
        elif shift is not None:
            nisa.tensor_scalar(dst=fresh, data=seen, op0=nl.multiply, operand0=factor, op1=nl.add,
                               operand1=shift)  # fmt: skip
        else:
            nisa.tensor_scalar(dst=fresh, data=seen, op0=nl.multiply, operand0=factor)
        total = fresh
    assert total is not None
    return total


__all__ = ["convolution"]
