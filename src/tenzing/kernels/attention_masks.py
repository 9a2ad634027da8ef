"""What a query may see: masks from memory, and bands that positions alone decide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tenzing.kernels.tiles import cast
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

HIDDEN = -3e38  # added to a score hides it: its exponential is zero
MASKED = -1e38  # the lowest number a mask may add; a row of these attends to all its keys equally
LOWEST_FINITE = -3.4028234e38  # of float32


@dataclass(frozen=True)
class Band:
    """Keys that query i sees by position: none after i if causal, none ``window`` or more away."""

    causal: bool = False
    window: int = 0

    @property
    def after(self) -> int | None:
        """How far behind its own position a query sees; None for to the end."""
        if self.causal:
            return 0
        return self.window - 1 if self.window else None

    def keys(self, start: int, count: int, keys: int) -> tuple[int, int]:
        """First and last-plus-one key that queries ``start`` to ``start + count`` can see.

        The first is rounded down to a whole block of 128 keys; the range is never empty.
        """
        pmax = int(nl.tile_size.pmax)
        high = keys if self.after is None else min(keys, start + count + self.after)
        low = max(0, start - self.window + 1) if self.window else 0
        return min(low, high - 1) // pmax * pmax, high

    def hide(self, scores: NkiTensor, start: int, low: int, fill: float = -math.inf) -> None:
        """Write ``fill`` where queries from ``start`` do not see keys from ``low``."""
        count, width = scores.shape
        if self.after is not None:
            limit = start + self.after - low  # the last column that the first query sees
            _select(scores, max(limit + 1, 0), width, (limit, 1), fill)
        if self.window:
            limit = start - self.window + 1 - low  # the first column that the first query sees
            _select(scores, 0, min(limit + count - 1, width), (-limit, -1), fill)


def _select(scores: NkiTensor, first: int, last: int, line: tuple[int, int], fill: float) -> None:
    """Keep columns of a range where ``offset + sign * (row - column)`` is not negative."""
    offset, sign = line
    if first >= last:
        return
    part = scores[0 : scores.shape[0], first:last]
    nisa.affine_select(
        dst=part, on_true_tile=part, pattern=[[-sign, last - first]], channel_multiplier=sign,
        offset=offset - sign * first, cmp_op=nl.greater_equal, on_false_value=fill,
    )  # fmt: skip


@dataclass(frozen=True)
class Cover:
    """Numbers to add to scores [queries, keys], and per query 1, or 0 when it sees no key."""

    added: NkiTensor
    seen: NkiTensor


@dataclass
class MaskTiles:
    """Tiles of a mask [1 or batch, 1 or heads, 1 or queries, 1 or keys], each loaded once.

    A boolean mask is true where a key is attended to; numbers are added to the scores. Keys
    outside the band are hidden as well. Without a mask only the band hides.
    """

    mask: NkiTensor | None
    band: Band
    queries: int
    keys: int
    _kept: dict[tuple[int, ...], Cover] = field(default_factory=dict)

    @property
    def per_head(self) -> bool:
        """Whether every head has a mask of its own."""
        return self.mask is not None and self.mask.shape[1] > 1

    def cover(self, b: int, head: int, start: int, count: int) -> Cover:
        """The tile for some queries of one head."""
        shape = (1, 1, 1) if self.mask is None else self.mask.shape
        by_row = shape[2] > 1 or self.band != Band()
        where = ((b, shape[0] > 1), (head, shape[1] > 1), (start, by_row))
        place = tuple(at if own else 0 for at, own in where)
        if place not in self._kept:
            self._forget(place)
            rows = count if by_row else min(self.queries, int(nl.tile_size.pmax))
            self._kept[place] = self._make(place, rows)
        whole = self._kept[place]
        return Cover(whole.added[0:count, 0 : self.keys], whole.seen[0:count, 0:1])

    def _forget(self, place: tuple[int, ...]) -> None:
        """Tiles of other sequences and other queries are not needed again."""
        stale = [p for p in self._kept if (p[0], p[2]) != (place[0], place[2])]
        for p in stale:
            del self._kept[p]

    def _make(self, place: tuple[int, ...], rows: int) -> Cover:
        banded = self.band != Band()
        seen = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        if self.mask is not None and self.mask.dtype != nl.bool_:
            added = cast(self._load(self.mask, place, rows), nl.float32)
            if banded:
                self.band.hide(added, place[2], 0)
            _at_least(seen, added, LOWEST_FINITE)  # minus infinity is the only way to hide
            nisa.tensor_scalar(dst=added, data=added, op0=nl.maximum, operand0=MASKED)
            if banded:
                self.band.hide(added, place[2], 0, HIDDEN)
            return Cover(added, seen)
        added = self._hidden_or_zero(place, rows)
        if banded:
            self.band.hide(added, place[2], 0, HIDDEN)
        _at_least(seen, added, MASKED)
        return Cover(added, seen)

    def _hidden_or_zero(self, place: tuple[int, ...], rows: int) -> NkiTensor:
        added = nl.ndarray((rows, self.keys), dtype=nl.float32, buffer=nl.sbuf)
        if self.mask is None:
            nisa.memset(dst=added, value=0.0)
            return added
        tile = self._load(self.mask, place, rows)
        nisa.tensor_scalar(
            dst=added, data=tile, op0=nl.subtract, operand0=1.0, op1=nl.multiply,
            operand1=-HIDDEN,
        )  # fmt: skip
        return added

    def _load(self, mask: NkiTensor, place: tuple[int, ...], rows: int) -> NkiTensor:
        steps = [s if n > 1 else 0 for s, n in zip(mask.strides, mask.shape, strict=True)]
        offset = sum(at * step for at, step in zip(place, steps, strict=False))
        tile = nl.ndarray((rows, self.keys), dtype=mask.dtype, buffer=nl.sbuf)
        view = mask.ap([[steps[2], rows], [steps[3], self.keys]], offset=offset)
        nisa.dma_copy(dst=tile, src=view)
        return tile


def _at_least(seen: NkiTensor, added: NkiTensor, lowest: float) -> None:
    """1 for rows with a number of at least ``lowest``, 0 for others."""
    top = nl.ndarray(seen.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=top, op=nl.maximum, data=added, axis=1)
    nisa.tensor_scalar(dst=seen, data=top, op0=nl.greater_equal, operand0=lowest)


__all__ = ["Band", "Cover", "MaskTiles"]
