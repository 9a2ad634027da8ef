"""Random words from the Vector engine's generator."""

from __future__ import annotations

from typing import Final

from tenzing.kernels.operands import Ring
from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

MOST_COLUMNS: Final = 2048
FEWEST_COLUMNS: Final = 64  # of a row of a tile: shorter ones make descriptors that cost as much
IN_FLIGHT: Final = 3  # tiles: one is drawn while others are on their way


@jit
def random_bits(state: NkiTensor, elements: int, offset: int = 0) -> NkiTensor:
    """``elements`` random uint32 words in the order they are drawn after seeding.

    The seed is ``state`` (one 32-bit integer in HBM) + ``offset``, wrapping. Every tile holds
    consecutive words row by row, so the words do not depend on how they are cut.
    """
    out = nl.ndarray((elements,), dtype=nl.uint32, buffer=nl.hbm)
    seed_generator(state, offset)
    lanes = nl.tile_size.pmax
    width = min(max(elements // lanes, FEWEST_COLUMNS), MOST_COLUMNS)
    ring = Ring((lanes, width), nl.uint32, IN_FLIGHT)
    for start, size in spans(elements, lanes * width):
        rows, rest = divmod(size, width)
        for first, high, wide in ((start, rows, width), (start + rows * width, 1, rest)):
            if high * wide:
                tile = ring.next(high, wide)
                nisa.rng(dst=tile, engine=nisa.engine.vector)
                move(out.ap([[wide, high], [1, wide]], offset=first), tile)
    return out


def seed_generator(state: NkiTensor, offset: int = 0) -> None:
    """Let Vector draw from ``state`` (one 32-bit integer in HBM) + ``offset``, wrapping."""
    seed = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    move(seed, state.reshape((1, 1)))
    if offset:
        step = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
        nisa.memset(dst=step, value=offset)
        moved = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=moved, data1=seed, data2=step, op=nl.add)
        seed = moved
    nisa.set_rng_seed(src_seeds=seed)


__all__ = ["random_bits", "seed_generator"]
