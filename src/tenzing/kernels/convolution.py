"""Convolutions: channels on partitions, one matrix product per tap summed in PSUM.

Where channels are few, rows of taps join them on the partitions; small groups lie side by side as
blocks of one matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing.kernels.tiles import cast, copy_from_psum, move, spans
from tenzing.kernels.windows import (
    COLUMN,
    DEPTH,
    ROW,
    Block,
    Geometry,
    blocks,
    load_rows_under,
    load_window,
    volumes,
)
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

WEIGHT_SHARE: Final = 0.3  # of a partition may hold weights
VECTOR_TILES: Final = 16  # float32 tiles of a depthwise block that SBUF has room for


@dataclass(frozen=True)
class Finish:
    """What happens to sums on their way to HBM: ``op(sum + bias)``, both optional.

    ``out`` are the volumes [o, d', h', w'] of the result, in the order of the input's.
    """

    out: list[NkiTensor]
    bias: NkiTensor | None = None
    op: Any = None

    @property
    def dtype(self) -> Any:
        """Of the result."""
        return self.out[0].dtype


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
    """``op`` of windows of x [n, c, d, h, w] times w [kd, kh, kw, c / groups, o] plus bias [o].

    Returns [n, o, d', h', w']. A group of one channel runs on Vector, tap by tap; others multiply
    on TensorE.
    """
    shape = (x.shape[0], w.shape[-1], *geometry.output)
    out = nl.ndarray(shape, dtype=out_dtype or x.dtype, buffer=nl.hbm)
    depth = max(x.shape[2], geometry.output[DEPTH])
    finish = Finish(volumes(out, depth, geometry), bias, op)
    source = _Source(volumes(x, depth, geometry), w)
    geometry = replace(geometry, output=(finish.out[0].shape[1], *geometry.output[1:]))
    if w.shape[-2] == 1 and groups > 1:
        _depthwise(source, geometry, finish)
    else:
        _dense(source, geometry, finish, groups)
    return out


@dataclass(frozen=True)
class _Source:
    """Volumes [c, d, h, w] of the input and the weights [kd, kh, kw, c / groups, o]."""

    volumes: list[NkiTensor]
    w: NkiTensor

    @property
    def depth(self) -> int:
        """Input channels of a group."""
        return self.w.shape[-2]

    @property
    def flat(self) -> NkiTensor:
        """The weights as [taps, c / groups, o]."""
        return self.w.reshape((-1, *self.w.shape[-2:]))


def _dense(source: _Source, geometry: Geometry, finish: Finish, groups: int) -> None:
    """Products of channels on TensorE."""
    depth, width = source.depth, source.w.shape[-1] // groups
    pmax = int(nl.tile_size.pmax)
    together = max(1, min(groups, pmax // depth, pmax // width))
    for first, count in spans(groups, together):
        parts = list(_parts(source, geometry, (first, count), groups))
        _group(parts, geometry, finish, (first * width, count * width))


@dataclass(frozen=True)
class _Part:
    """What one product sums: some channels, or some rows of taps times all channels.

    ``rows`` are (depth, vertical) tap rows on the partitions; () leaves all taps to products of
    their own. ``groups`` neighbouring groups are blocks of one matrix.
    """

    source: _Source
    geometry: Geometry
    channels: tuple[int, int]
    start: int  # of the channels within the weights
    rows: tuple[tuple[int, int], ...] = ()
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
        return replace(g, taps=(1, 1, g.taps[COLUMN]), strides=(1, 1, g.strides[COLUMN]))

    def load(self, number: int, block: Block) -> NkiTensor:
        """The input of a volume under a block, in the dtype of the weights."""
        volume, dtype = self.source.volumes[number], self.source.w.dtype
        if not self.rows:
            return cast(load_window(volume, self.channels, block, self.geometry, 0.0), dtype)
        return cast(load_rows_under(volume, self.rows, block, self.geometry), dtype)

    def load_weights(self, first: int, count: int) -> NkiTensor:
        """Weights of ``count`` outputs from ``first`` on: [partitions, taps, outputs]."""
        taps = math.prod(self.slid.taps)
        tile = nl.ndarray((self.partitions, taps, count), dtype=self.source.w.dtype,
                          buffer=nl.sbuf)  # fmt: skip
        if self.groups > 1:
            self._diagonal(tile, first)
            return tile
        size = self.channels[1]
        for place, (deep, row) in enumerate(self.rows or ((0, 0),)):
            tap = (deep * self.geometry.taps[ROW] + row) * self.geometry.taps[COLUMN]
            part = self.source.flat[
                tap : tap + taps, self.start : self.start + size, first : first + count
            ]  # fmt: skip
            at = place * size
            move(tile[at : at + size], part.permute((1, 0, 2)))
        return tile

    def _diagonal(self, tile: NkiTensor, first: int) -> None:
        flat, depth = self.source.flat, self.source.depth
        taps, width = tile.shape[1], tile.shape[2] // self.groups
        nisa.memset(dst=tile, value=0.0)
        for group in range(self.groups):
            start = first + group * width
            part = flat[0:taps, 0:depth, start : start + width]
            down = slice(group * depth, (group + 1) * depth)
            across = slice(group * width, (group + 1) * width)
            move(tile[down, 0:taps, across], part.permute((1, 0, 2)))


def _parts(
    source: _Source, geometry: Geometry, span: tuple[int, int], groups: int
) -> Iterator[_Part]:
    """The contraction over some groups in pieces of at most 128 partitions."""
    depth, pmax = source.depth, int(nl.tile_size.pmax)
    first, count = span
    if count > 1:
        yield _Part(source, geometry, (first * depth, count * depth), 0, (), count)
        return
    deep, high = geometry.taps[:COLUMN]
    lines = list(itertools.product(range(deep), range(high)))
    together = min(pmax // depth, len(lines))
    if groups == 1 and together > 1 and max(geometry.base) == 1:
        for line, count in spans(len(lines), together):
            yield _Part(source, geometry, (0, depth), 0, tuple(lines[line : line + count]))
        return
    for at, size in spans(depth, pmax):
        yield _Part(source, geometry, (first * depth + at, size), at)


def _group(
    parts: list[_Part], geometry: Geometry, finish: Finish, outputs: tuple[int, int]
) -> None:
    """Some outputs from all their parts, block by block."""
    begin, width = outputs
    itemsize = parts[0].source.volumes[0].dtype.itemsize * len(parts)
    wide = width if parts[0].groups > 1 else _width_block(parts, width)
    for column, count in spans(width, wide):
        first = begin + column
        weights = [part.load_weights(first, count) for part in parts]
        shifts = _load_bias(finish.bias, first, count)
        most = int(nl.tile_size.gemm_moving_fmax)
        numbers = range(len(finish.out))
        for number, block in itertools.product(numbers, blocks(geometry, itemsize, most)):
            tiles = [part.load(number, block) for part in parts]
            for turn, (at, size) in enumerate(spans(count, nl.tile_size.pmax)):
                products = [
                    (p, t, w[0 : w.shape[0], 0 : w.shape[1], at : at + size])
                    for p, t, w in zip(parts, tiles, weights, strict=True)
                ]
                done = _block(products, block, finish, None if shifts is None else shifts[turn])
                move(block.of(finish.out[number], first + at, size), done)


def _width_block(parts: list[_Part], width: int) -> int:
    """Output channels whose weights fit their share of SBUF, in whole PSUM tiles."""
    taps = sum(math.prod(part.slid.taps) for part in parts)
    per_channel = taps * parts[0].source.w.dtype.itemsize
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
        move(tile, part.reshape((size, 1)))
        tiles.append(cast(tile, nl.float32))
    return tiles


def _block(
    products: list[tuple[_Part, NkiTensor, NkiTensor]], block: Block, finish: Finish,
    shift: NkiTensor | None,
) -> NkiTensor:  # fmt: skip
    """Some output channels of a block in SBUF: [outputs, depth, rows, columns]."""
    count = products[0][2].shape[2]
    deep, high, wide = block.counts
    done = nl.ndarray((count, deep, high, wide), dtype=finish.dtype, buffer=nl.sbuf)
    together = max(int(nl.tile_size.gemm_moving_fmax) // (deep * wide), 1)
    for turn, (row, rows) in enumerate(spans(high, together)):
        total = nl.ndarray((count, deep * rows * wide), dtype=nl.float32, buffer=nl.psum)
        started = False
        for part, tile, weight in products:
            for tap, place in enumerate(part.slid.offsets()):
                moving = part.slid.under(tile, place, (deep, rows, wide), (0, row, 0))
                stationary = weight[0 : weight.shape[0], tap, 0:count]
                nisa.nc_matmul(dst=total, stationary=stationary, moving=moving,
                               accumulate=started)  # fmt: skip
                started = True
        target = done[0:count, 0:deep, row : row + rows, 0:wide]
        source = total.reshape((count, deep, rows, wide))
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


def _depthwise(source: _Source, geometry: Geometry, finish: Finish) -> None:
    """Every channel has its own window, ``o / c`` of them: multiply and add on Vector."""
    total, taps = source.volumes[0].shape[0], math.prod(geometry.taps)
    each = source.w.shape[-1] // total
    flat = source.w.reshape((taps, total, each))
    itemsize = source.volumes[0].dtype.itemsize
    most = int(nl.tile_size.total_available_sbuf_size) // (nl.float32.itemsize * VECTOR_TILES)
    for first, count in spans(total, nl.tile_size.pmax):
        loaded = nl.ndarray((count, each, taps), dtype=source.w.dtype, buffer=nl.sbuf)
        part = flat[0:taps, first : first + count, 0:each]
        move(loaded, part.permute((1, 2, 0)))
        weights, shifts = cast(loaded, nl.float32), None
        if finish.bias is not None:
            table = finish.bias.reshape((total, each))
            shifts = nl.ndarray((count, each), dtype=finish.bias.dtype, buffer=nl.sbuf)
            move(shifts, table[first : first + count, 0:each])
            shifts = cast(shifts, nl.float32)
        pairs = zip(source.volumes, finish.out, strict=True)
        for (x, out), block in itertools.product(pairs, blocks(geometry, itemsize, most)):
            tile = load_window(x, (first, count), block, geometry, 0.0)
            apart = out.reshape_dim(0, (total, each))
            for number in range(each):
                column = None if shifts is None else shifts[0:count, number : number + 1]
                own = weights[0:count, number, 0:taps]
                done = _activated(_taps(tile, own, column, geometry, block), finish)
                move(block.of(apart.select(1, number), first, count), done)


def _activated(tile: NkiTensor, finish: Finish) -> NkiTensor:
    if finish.op is None:
        return cast(tile, finish.dtype)
    done = nl.ndarray(tile.shape, dtype=finish.dtype, buffer=nl.sbuf)
    nisa.activation(dst=done, op=finish.op, data=tile)
    return done


def _taps(
    tile: NkiTensor, weights: NkiTensor, shift: NkiTensor | None, geometry: Geometry, block: Block
) -> NkiTensor:
    """Sum over the taps of one window per channel, in float32."""
    count = tile.shape[0]
    shape = (count, *block.counts)
    total: NkiTensor | None = None
    for tap, place in enumerate(geometry.offsets()):
        seen = geometry.under(tile, place, block.counts)
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
