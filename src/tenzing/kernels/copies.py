"""Dense copies of strided views in HBM.

A DMA needs a descriptor for every dense run. Where runs are single elements, whole rows come to
SBUF instead: turned on the way if another dim is dense, or thinned out or repeated there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenzing.isa.operand import joined_dims
from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

ELEMENTS_MIN: Final = 4096  # below, one DMA of single elements is over before two long ones start
STEP_MAX: Final = 8  # elements between neighbours of a row, up to which all of them are read
LOOSE_MAX: Final = 64  # turns of a loop over dims that no transfer holds
TILE_BYTES: Final = 8192  # per partition
TURNED_BY_DMA: Final = (2, 4)  # bytes of an element
COPIED_ON_CHIP: Final = (nl.float32, nl.bfloat16, nl.float16)  # engines compute in float32


@dataclass(frozen=True)
class Dim:
    """Elements along a dim, and the steps between them in the view and in its dense copy."""

    size: int
    step: int
    out: int


def copied(x: NkiTensor) -> NkiTensor:
    """A dense copy of a strided HBM view."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.hbm)
    dims = _dims(x)
    sparse = x.size >= ELEMENTS_MIN and dims[-1].step != 1
    if sparse and (_turn(x, out, dims) or _pick(x, out, dims)):
        return out
    move(out, x)
    return out


def _dims(x: NkiTensor) -> list[Dim]:
    steps = joined_dims(x.shape, x.strides)
    sizes = [size for size, _ in steps]
    return [Dim(size, step, math.prod(sizes[k + 1 :])) for k, (size, step) in enumerate(steps)]


def _turn(x: NkiTensor, out: NkiTensor, dims: list[Dim]) -> bool:
    """Copy by transposing transfers of the last dim and one that is dense in the view."""
    *others, last = dims
    dense = max((d for d in others if d.step == 1), key=lambda d: d.size, default=None)
    if dense is None or x.itemsize not in TURNED_BY_DMA:
        return False
    others.remove(dense)
    block, loose = _largest(others)
    if math.prod(d.size for d in loose) > LOOSE_MAX:
        return False
    for start, to in _loops(loose):
        for (a, high), (r, wide) in itertools.product(
            spans(dense.size, nl.tile_size.pmax), spans(last.size, TILE_BYTES // x.itemsize)
        ):
            for b, count in spans(block.size, max(TILE_BYTES // (wide * x.itemsize), 1)):
                tile = nl.ndarray((high, count, wide), dtype=x.dtype, buffer=nl.sbuf)
                source = x.ap(
                    [[last.step, wide], [block.step, count], [1, high]],
                    offset=start + a + r * last.step + b * block.step,
                )
                nisa.dma_transpose(dst=tile, src=source, dge_mode=nisa.dge_mode.none)
                target = out.ap(
                    [[dense.out, high], [block.out, count], [1, wide]],
                    offset=to + a * dense.out + r + b * block.out,
                )
                move(target, tile)
    return True


def _pick(x: NkiTensor, out: NkiTensor, dims: list[Dim]) -> bool:
    """Copy rows whose elements lie a few apart, or are one and the same, through SBUF."""
    *others, last = dims
    if not 0 <= last.step <= STEP_MAX or x.dtype not in COPIED_ON_CHIP:
        return False
    most = min(TILE_BYTES // (max(last.step, 1) * x.itemsize), last.size)
    wide = next(n for n in range(most, 0, -1) if last.size % n == 0)
    others.append(Dim(last.size // wide, wide * last.step, wide))
    row, loose = _largest(others)
    if math.prod(d.size for d in loose) > LOOSE_MAX or 2 * wide < most:
        return False
    for start, to in _loops(loose):
        for p, high in spans(row.size, nl.tile_size.pmax):
            given = nl.ndarray((high, (wide - 1) * last.step + 1), dtype=x.dtype, buffer=nl.sbuf)
            move(given, x.ap([[row.step, high], [1, given.shape[1]]], offset=start + p * row.step))
            picked = given[:, :: last.step] if last.step else given.broadcast(1, wide)
            done = nl.ndarray((high, wide), dtype=x.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=done, src=picked)
            move(out.ap([[row.out, high], [1, wide]], offset=to + p * row.out), done)
    return True


def _largest(dims: list[Dim]) -> tuple[Dim, list[Dim]]:
    """The dim with the most elements, one of a single element if there is none, and the rest."""
    found = max(dims, key=lambda d: d.size, default=Dim(1, 0, 0))
    return found, [d for d in dims if d is not found]


def _loops(dims: list[Dim]) -> Iterator[tuple[int, int]]:
    """Offsets in the view and in the copy of every index of some dims."""
    for index in itertools.product(*(range(d.size) for d in dims)):
        yield (
            sum(i * d.step for i, d in zip(index, dims, strict=True)),
            sum(i * d.out for i, d in zip(index, dims, strict=True)),
        )


__all__ = ["copied"]
