"""Convolutions: channels on partitions, one matrix product per tap summed in PSUM.

Where channels are few, rows of taps join them on the partitions; small groups lie side by side as
blocks of one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing.kernels.tiles import cast, copy_from_psum, spans
from tenzing.kernels.windows import Block, Geometry, blocks, load_rows_under, load_window
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

WEIGHT_SHARE: Final = 0.3  # of a partition may hold weights
VECTOR_TILES: Final = 16  # float32 tiles of a depthwise block that SBUF has room for

Source = tuple[NkiTensor, NkiTensor]  # x [n, c, h, w] and w [kh, kw, c / groups, o]


@dataclass(frozen=True)
class Finish:
    """What happens to sums on their way to HBM: ``op(sum + bias)``, both optional."""

    out: NkiTensor
    bias: NkiTensor | None = None
    op: Any = None


@jit
def convolution(
    x: NkiTensor,
    w: NkiTensor,
    bias: NkiTensor | None,
    geometry: Geometry,
    groups: int = 1,
    out_dtype: Any = None,
    op: Any = None,
) -> NkiTensor:
    """``op`` of windows of x [n, c, h, w] times w [kh, kw, c / groups, o] plus bias [o].

    Returns [n, o, h', w']. A group of one channel runs on Vector, tap by tap; others multiply on
    TensorE.
    """
    shape = (x.shape[0], w.shape[3], *geometry.output)
    out = nl.ndarray(shape, dtype=out_dtype or x.dtype, buffer=nl.hbm)
    if w.shape[2] == 1 and groups > 1:
        _depthwise(x, w, geometry, Finish(out, bias, op))
    else:
        dense(((x, w),), geometry, Finish(out, bias, op), groups)
    return out


def dense(sources: Sequence[Source], geometry: Geometry, finish: Finish, groups: int = 1) -> None:
    """The sum of convolutions of several sources on TensorE."""
    _, w = sources[0]
    depth, width = w.shape[2], w.shape[3] // groups
    pmax = int(nl.tile_size.pmax)
    together = max(1, min(groups, pmax // depth, pmax // width))
    for first, count in spans(groups, together):
        parts = [p for s in sources for p in _parts(s, geometry, (first, count), groups)]
        _group(parts, geometry, finish, (first * width, count * width))


@dataclass(frozen=True)
class _Part:
    """What one product sums: some channels of a source, or some rows of taps times channels.

    ``rows`` are tap rows on the partitions; () leaves all taps to products of their own. ``groups``
    neighbouring groups are blocks of one matrix.
    """

    source: Source
    geometry: Geometry
    channels: tuple[int, int]
    start: int  # of the channels within the weights
    rows: tuple[int, ...] = ()
    groups: int = 1

    @property
    def partitions(self) -> int:
        """Partitions used by a tile."""
        return self.channels[1] * max(len(self.rows), 1)

    @property
    def slid(self) -> Geometry:
        """The window as it slides over a tile."""
        if not self.rows:
            return self.geometry
        g = self.geometry
        return replace(g, taps=(1, g.taps[1]), strides=(1, g.strides[1]))

    def load(self, block: Block) -> NkiTensor:
        """The input under a block, in the dtype of the weights."""
        x, w = self.source
        if not self.rows:
            return cast(load_window(x, self.channels, block, self.geometry, 0.0), w.dtype)
        return cast(load_rows_under(x, self.rows, block, self.geometry), w.dtype)

    def load_weights(self, first: int, count: int) -> NkiTensor:
        """Weights of ``count`` outputs from ``first`` on: [partitions, taps, outputs]."""
        w = self.source[1]
        taps = self.slid.taps
        shape = (self.partitions, taps[0] * taps[1], count)
        tile = nl.ndarray(shape, dtype=w.dtype, buffer=nl.sbuf)
        if self.groups > 1:
            self._diagonal(tile, first)
            return tile
        size = self.channels[1]
        for place, row in enumerate(self.rows or (0,)):
            whole = w[row : row + taps[0]].reshape((shape[1], *w.shape[2:]))
            part = whole[0 : shape[1], self.start : self.start + size, first : first + count]
            at = place * size
            nisa.dma_copy(dst=tile[at : at + size], src=part.permute((1, 0, 2)))
        return tile

    def _diagonal(self, tile: NkiTensor, first: int) -> None:
        w = self.source[1]
        taps, depth, width = tile.shape[1], w.shape[2], tile.shape[2] // self.groups
        flat = w.reshape((taps, *w.shape[2:]))
        nisa.memset(dst=tile, value=0.0)
        for group in range(self.groups):
            start = first + group * width
            part = flat[0:taps, 0:depth, start : start + width]
            down = slice(group * depth, (group + 1) * depth)
            across = slice(group * width, (group + 1) * width)
            nisa.dma_copy(dst=tile[down, 0:taps, across], src=part.permute((1, 0, 2)))


def _parts(
    source: Source, geometry: Geometry, span: tuple[int, int], groups: int
) -> Iterator[_Part]:
    """The contraction over some groups of a source in pieces of at most 128 partitions."""
    depth, pmax = source[1].shape[2], int(nl.tile_size.pmax)
    first, count = span
    if count > 1:
        yield _Part(source, geometry, (first * depth, count * depth), 0, (), count)
        return
    together = min(pmax // depth, geometry.taps[0])
    if groups == 1 and together > 1 and geometry.base == (1, 1):
        for row, rows in spans(geometry.taps[0], together):
            yield _Part(source, geometry, (0, depth), 0, tuple(range(row, row + rows)))
        return
    for at, size in spans(depth, pmax):
        yield _Part(source, geometry, (first * depth + at, size), at)


def _group(
    parts: list[_Part], geometry: Geometry, finish: Finish, outputs: tuple[int, int]
) -> None:
    """Some outputs from all their parts, block by block."""
    begin, width = outputs
    images, itemsize = finish.out.shape[0], parts[0].source[0].dtype.itemsize
    wide = width if parts[0].groups > 1 else _width_block(parts, width)
    for column, count in spans(width, wide):
        first = begin + column
        weights = [part.load_weights(first, count) for part in parts]
        shifts = _load_bias(finish.bias, first, count)
        most = int(nl.tile_size.gemm_moving_fmax)
        for block in blocks(geometry, images, itemsize * len(parts), most):
            tiles = [part.load(block) for part in parts]
            for turn, (at, size) in enumerate(spans(count, nl.tile_size.pmax)):
                products = [
                    (p, t, w[0 : w.shape[0], 0 : w.shape[1], at : at + size])
                    for p, t, w in zip(parts, tiles, weights, strict=True)
                ]
                done = _block(products, block, finish, None if shifts is None else shifts[turn])
                _store(finish.out, done, first + at, block)


def _width_block(parts: list[_Part], width: int) -> int:
    """Output channels whose weights fit their share of SBUF, in whole PSUM tiles."""
    taps = sum(part.slid.taps[0] * part.slid.taps[1] for part in parts)
    per_channel = taps * parts[0].source[1].dtype.itemsize
    fit = int(nl.tile_size.total_available_sbuf_size * WEIGHT_SHARE) // per_channel
    step = int(nl.tile_size.pmax)
    return min(width, max(fit // step, 1) * step)


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
    products: list[tuple[_Part, NkiTensor, NkiTensor]], block: Block, finish: Finish,
    shift: NkiTensor | None,
) -> NkiTensor:  # fmt: skip
    """Some output channels of a block in SBUF: [outputs, images, rows, columns]."""
    count = products[0][2].shape[2]
    shape = (count, block.images, block.rows, block.columns)
    done = nl.ndarray(shape, dtype=finish.out.dtype, buffer=nl.sbuf)
    together = max(int(nl.tile_size.gemm_moving_fmax) // (block.images * block.columns), 1)
    for turn, (row, rows) in enumerate(spans(block.rows, together)):
        size = block.images * rows * block.columns
        total = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
        started = False
        for part, tile, weight in products:
            for tap, place in enumerate(part.slid.offsets()):
                moving = part.slid.under(tile, place, (rows, block.columns), row)
                stationary = weight[0 : weight.shape[0], tap, 0:count]
                nisa.nc_matmul(dst=total, stationary=stationary, moving=moving,
                               accumulate=started)  # fmt: skip
                started = True
        target = done[0:count, 0 : block.images, row : row + rows, 0 : block.columns]
        source = total.reshape((count, block.images, rows, block.columns))
        _drain(target, source, shift, finish.op, turn)
    return done


def _drain(
    target: NkiTensor, source: NkiTensor, shift: NkiTensor | None, op: Any, turn: int
) -> None:
    """PSUM to SBUF with bias and function; a mere copy on Vector and Scalar in turns."""
    if op is not None:
        nisa.activation(dst=target, op=op, data=source, bias=shift)
    elif shift is not None:
        nisa.tensor_scalar(dst=target, data=source, op0=nl.add, operand0=shift)
    else:
        copy_from_psum(target, source, turn)


def _store(out: NkiTensor, done: NkiTensor, channel: int, block: Block) -> None:
    part = out[
        block.image : block.image + block.images, channel : channel + done.shape[0],
        block.row : block.row + block.rows, block.column : block.column + block.columns,
    ]  # fmt: skip
    nisa.dma_copy(dst=part.permute((1, 0, 2, 3)), src=done)


def _depthwise(x: NkiTensor, w: NkiTensor, geometry: Geometry, finish: Finish) -> None:
    """Every channel has its own window, ``o / c`` of them: multiply and add on Vector."""
    total, taps = x.shape[1], geometry.taps[0] * geometry.taps[1]
    each = w.shape[3] // total
    apart = finish.out.reshape((x.shape[0], total, each, *geometry.output))
    flat = w.reshape((taps, total, each))
    most = int(nl.tile_size.total_available_sbuf_size) // (nl.float32.itemsize * VECTOR_TILES)
    for first, count in spans(total, nl.tile_size.pmax):
        loaded = nl.ndarray((count, each, taps), dtype=w.dtype, buffer=nl.sbuf)
        part = flat[0:taps, first : first + count, 0:each]
        nisa.dma_copy(dst=loaded, src=part.permute((1, 2, 0)))
        weights = cast(loaded, nl.float32)
        shifts = None
        if finish.bias is not None:
            table = finish.bias.reshape((total, each))
            shifts = nl.ndarray((count, each), dtype=finish.bias.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=shifts, src=table[first : first + count, 0:each])
            shifts = cast(shifts, nl.float32)
        for block in blocks(geometry, x.shape[0], x.dtype.itemsize, most):
            tile = load_window(x, (first, count), block, geometry, 0.0)
            for number in range(each):
                column = None if shifts is None else shifts[0:count, number : number + 1]
                own = weights[0:count, number, 0:taps]
                summed = _taps(tile, own, column, geometry, block)
                done = _activated(summed, finish)
                _store(apart.select(2, number), done, first, block)


def _activated(tile: NkiTensor, finish: Finish) -> NkiTensor:
    if finish.op is None:
        return cast(tile, finish.out.dtype)
    done = nl.ndarray(tile.shape, dtype=finish.out.dtype, buffer=nl.sbuf)
    nisa.activation(dst=done, op=finish.op, data=tile)
    return done


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


__all__ = ["Finish", "Source", "convolution", "dense"]
