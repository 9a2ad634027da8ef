"""The largest elements of rows and their places, eight at a time: top-k, argmax and sort."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.tiles import cast, move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

EIGHT = 8  # values that one search instruction finds
SEARCH_MAX = 16384  # elements of a row that it searches (vector.free_max_max8)
LOWEST = -3.4028234663852886e38  # the smallest finite float32
EMPTY = float("-inf")


@jit
def top_k(
    x: NkiTensor, k: int, largest: bool = True, index_dtype: Any = nl.int32
) -> tuple[NkiTensor, NkiTensor]:
    """Values and places [rows, k] of the k largest (or smallest) elements of x [rows, columns].

    k is at most half of what one search takes, ``SEARCH_MAX``, for rows longer than that.  In
    descending (ascending) order, equal elements in order of place.  Minus infinity counts as
    the smallest finite float32; integers must be exact in float32.
    """
    rows, columns = x.shape
    values = nl.ndarray((rows, k), dtype=x.dtype, buffer=nl.hbm)
    places = nl.ndarray((rows, k), dtype=index_dtype, buffer=nl.hbm)
    for start, count in spans(rows, nl.tile_size.pmax):
        best: tuple[NkiTensor, NkiTensor] | None = None
        for at, size in spans(columns, SEARCH_MAX):
            part = _best_of_part(x, (start, count), (at, size), k, largest)
            best = part if best is None else _best_of_both(best, part, k, largest)
        assert best is not None
        found, place = best
        block = slice(start, start + count)
        move(values[block, 0:k], found[0:count, 0:k])
        move(places[block, 0:k], cast(place[0:count, 0:k], index_dtype))
    return values, places


def _eights(size: int) -> int:
    """``size`` rounded up to whole eights."""
    return -(-size // EIGHT) * EIGHT


def _best_of_part(
    x: NkiTensor, lanes: tuple[int, int], window: tuple[int, int], k: int, largest: bool
) -> tuple[NkiTensor, NkiTensor]:
    """Values and places of the best k (in eights) of one searchable part of the rows."""
    (start, count), (at, size) = lanes, window
    tile = nl.ndarray((count, size), dtype=x.dtype, buffer=nl.sbuf)
    move(tile, x[start : start + count, at : at + size])
    place = _search(tile, min(_eights(k), _eights(size)), largest)
    found = nl.ndarray(place.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.nc_n_gather(dst=found, data=_at_least_eight(tile), indices=place)
    moved = nl.ndarray(place.shape, dtype=nl.uint32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=moved, data=place, op0=nl.add, operand0=float(at))
    return found, moved


def _best_of_both(
    one: tuple[NkiTensor, NkiTensor], other: tuple[NkiTensor, NkiTensor], k: int, largest: bool
) -> tuple[NkiTensor, NkiTensor]:
    """The best k of two lists, of which the first holds the earlier places."""
    values, places = (_side_by_side(a, b) for a, b in zip(one, other, strict=True))
    order = _search(values, min(_eights(k), values.shape[1]), largest)
    best = []
    for source in (values, places):
        taken = nl.ndarray(order.shape, dtype=source.dtype, buffer=nl.sbuf)
        nisa.nc_n_gather(dst=taken, data=source, indices=order)
        best.append(taken)
    return best[0], best[1]


def _side_by_side(a: NkiTensor, b: NkiTensor) -> NkiTensor:
    count, left, right = a.shape[0], a.shape[1], b.shape[1]
    both = nl.ndarray((count, left + right), dtype=a.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=both[0:count, 0:left], src=a)
    nisa.tensor_copy(dst=both[0:count, left : left + right], src=b)
    return both


def _search(tile: NkiTensor, width: int, largest: bool) -> NkiTensor:
    """Places of the best ``width`` elements of every row, in order; ``width`` counts in eights."""
    count = tile.shape[0]
    work = _comparable(tile, largest)
    places = nl.ndarray((count, width), dtype=nl.uint32, buffer=nl.sbuf)
    for at in range(0, width, EIGHT):
        best = nl.ndarray((count, EIGHT), dtype=nl.float32, buffer=nl.sbuf)
        nisa.max8(dst=best, src=work)
        nisa.nc_find_index8(dst=places[0:count, at : at + EIGHT], data=work, vals=best)
        if at + EIGHT < width:
            rest = nl.ndarray(work.shape, dtype=nl.float32, buffer=nl.sbuf)
            nisa.nc_match_replace8(dst=rest, data=work, vals=best, imm=EMPTY)
            work = rest
    return places


def _comparable(tile: NkiTensor, largest: bool) -> NkiTensor:
    """Float32 whose largest is wanted: finite, at least eight columns, empty ones lowest."""
    count, size = tile.shape
    width = max(-(-size // EIGHT) * EIGHT, EIGHT)
    work = nl.ndarray((count, width), dtype=nl.float32, buffer=nl.sbuf)
    if width > size:
        nisa.memset(dst=work[0:count, size:width], value=EMPTY)
    nisa.tensor_scalar(
        dst=work[0:count, 0:size], data=tile, op0=nl.multiply, operand0=1.0 if largest else -1.0,
        op1=nl.maximum, operand1=LOWEST,
    )  # fmt: skip
    return work


def _at_least_eight(tile: NkiTensor) -> NkiTensor:
    """The tile with the columns that :func:`_comparable` adds, for places in those."""
    count, size = tile.shape
    width = max(-(-size // EIGHT) * EIGHT, EIGHT)
    if width == size:
        return tile
    wide = nl.ndarray((count, width), dtype=tile.dtype, buffer=nl.sbuf)
    nisa.memset(dst=wide[0:count, size:width], value=0)
    nisa.tensor_copy(dst=wide[0:count, 0:size], src=tile)
    return wide


__all__ = ["top_k"]
