"""Reductions along a dim that is not the last: rows of the result go to partitions."""

from __future__ import annotations

from typing import Any, Final

from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

TILE_ELEMENTS: Final = 8192  # per partition and load
RUN_MIN: Final = 8  # neighbouring elements worth moving together


@jit
def reduce_middle(x: NkiTensor, op: Any, out_dtype: Any = None) -> NkiTensor:
    """``op`` over dim 1 of x [outer, reduced, inner] -> [outer, inner], in float32.

    Each partition takes a run of neighbouring inner elements and reduces their columns.
    """
    outer, reduced, inner = x.shape
    out = nl.ndarray((outer, inner), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    run = _run(outer, inner)
    lanes = inner // run
    for first, start, count in _lanes(outer, lanes):
        total = None
        for at, taken in spans(reduced, max(TILE_ELEMENTS // run, 1)):
            tile = nl.ndarray((count, taken, run), dtype=x.dtype, buffer=nl.sbuf)
            offset = (first * reduced + at) * inner + start * run
            step = run if lanes > 1 else reduced * inner
            move(tile, x.ap([[step, count], [inner, taken], [1, run]], offset=offset))
            part = nl.ndarray((count, run), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_reduce(dst=part, op=op, data=tile.permute((0, 2, 1)), axis=2)
            if total is not None:
                both = nl.ndarray((count, run), dtype=nl.float32, buffer=nl.sbuf)
                nisa.tensor_tensor(dst=both, data1=total, data2=part, op=op)
                part = both
            total = part
        assert total is not None
        done = nl.ndarray((count, run), dtype=out.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=done, src=total)
        offset = first * inner + start * run
        move(out.ap([[run, count], [1, run]], offset=offset), done)
    return out


def _run(outer: int, inner: int) -> int:
    """Elements of a partition's run: as few as fill the partitions, a divisor of ``inner``."""
    if outer >= nl.tile_size.pmax and inner <= TILE_ELEMENTS:
        return inner
    wanted = max(min(inner, RUN_MIN), -(-inner // nl.tile_size.pmax))
    return next(n for n in range(min(wanted, TILE_ELEMENTS), 0, -1) if inner % n == 0)


def _lanes(outer: int, lanes: int) -> Any:
    """First outer index, first lane and number of partitions of each tile."""
    if lanes == 1:
        yield from ((first, 0, count) for first, count in spans(outer, nl.tile_size.pmax))
        return
    for first in range(outer):
        yield from ((first, start, count) for start, count in spans(lanes, nl.tile_size.pmax))


__all__ = ["reduce_middle"]
