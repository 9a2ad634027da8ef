"""What a query may see: masks from memory, and bands that positions alone decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenzing.kernels.tiles import move
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

Range = tuple[int, int]  # first and last plus one

HIDDEN = -3e38  # added to a score hides it: its exponential is zero
MASKED = -1e38  # the lowest number a mask may add; a row of these attends to all its keys equally
UNSEEN = -2e38  # a row whose maximum lies below sees no key
LOWEST_FINITE = -3.4028234e38  # of float32; only minus infinity lies below


@dataclass(frozen=True)
class Band:
    """Keys that query i, at position i + ``offset``, sees: none after it if causal, none
    ``window`` or more away.
    """

    causal: bool = False
    window: int = 0
    offset: int = 0

    @property
    def hides(self) -> bool:
        """Whether there is a band at all."""
        return self.causal or self.window > 0

    def empties(self, queries: int, keys: int) -> bool:
        """Whether some query may see no key."""
        if self.after is not None and self.offset + self.after < 0:
            return True
        return self.window > 0 and self.offset + queries - self.window >= keys

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
        start += self.offset
        high = keys if self.after is None else max(1, min(keys, start + count + self.after))
        low = max(0, start - self.window + 1) if self.window else 0
        return min(low, high - 1) // pmax * pmax, high

    def hide(self, scores: NkiTensor, start: int, low: int, fill: float = -math.inf) -> None:
        """Write ``fill`` where queries from ``start`` do not see keys from ``low``."""
        count, width = scores.shape
        start += self.offset
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


@dataclass
class MaskTiles:
    """Tiles of a mask [1 or batch, 1 or heads, 1 or queries, 1 or keys], each loaded once.

    A boolean mask is true where a key is attended to; numbers are added to the scores. Keys
    outside the band are hidden as well. Without a mask only the band hides.
    """

    mask: NkiTensor | None
    band: Band
    queries: int
    _kept: dict[tuple[int, ...], NkiTensor] = field(default_factory=dict)

    @property
    def is_boolean(self) -> bool:
        """Whether a mask from memory says yes or no."""
        return self.mask is not None and self.mask.dtype == nl.bool_

    def added(self, head: tuple[int, int], rows: Range, keys: Range) -> NkiTensor:
        """Numbers to add to the scores of some queries and keys of (sequence, head).

        HIDDEN where a key is not seen, else at least MASKED.
        """
        return self._tile(head, rows, keys, self._added)

    def predicate(self, head: tuple[int, int], rows: Range, keys: Range) -> NkiTensor:
        """A boolean mask and the band together: not zero where a key is seen."""
        return self._tile(head, rows, keys, self._predicate)

    def _tile(
        self, head: tuple[int, int], rows: Range, keys: Range, make: Callable[..., NkiTensor]
    ) -> NkiTensor:
        shape = (1, 1, 1) if self.mask is None else self.mask.shape
        by_row = shape[2] > 1 or self.band.hides
        where = zip((*head, rows[0]), (shape[0] > 1, shape[1] > 1, by_row), strict=True)
        place = (*(at if own else 0 for at, own in where), *keys)
        if place not in self._kept:
            self._forget(place)
            count = rows[1] - rows[0] if by_row else min(self.queries, int(nl.tile_size.pmax))
            self._kept[place] = make(place, count)
        return self._kept[place][0 : rows[1] - rows[0], 0 : keys[1] - keys[0]]

    def _forget(self, place: tuple[int, ...]) -> None:
        """Tiles of other sequences and other queries are not needed again."""
        stale = [p for p in self._kept if (p[0], p[2]) != (place[0], place[2])]
        for p in stale:
            del self._kept[p]

    def _predicate(self, place: tuple[int, ...], count: int) -> NkiTensor:
        tile = self._load(place, count)
        self.band.hide(tile, place[2], place[3], 0.0)
        return tile

    def _added(self, place: tuple[int, ...], count: int) -> NkiTensor:
        added = nl.ndarray((count, place[4] - place[3]), dtype=nl.float32, buffer=nl.sbuf)
        if self.mask is None:
            nisa.memset(dst=added, value=0.0)
        elif self.is_boolean:
            nisa.tensor_scalar(
                dst=added, data=self._load(place, count), op0=nl.subtract, operand0=1.0,
                op1=nl.multiply, operand1=-HIDDEN,
            )  # fmt: skip
        else:
            self._bounded(added, self._load(place, count))
        self.band.hide(added, place[2], place[3], HIDDEN)
        return added

    @staticmethod
    def _bounded(added: NkiTensor, given: NkiTensor) -> None:
        """Minus infinity becomes HIDDEN; other numbers are kept from falling below MASKED."""
        lower = nl.ndarray(added.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(
            dst=lower, data=given, op0=nl.less, operand0=LOWEST_FINITE, op1=nl.multiply,
            operand1=HIDDEN - MASKED,
        )  # fmt: skip
        nisa.scalar_tensor_tensor(
            dst=added, data=given, op0=nl.maximum, operand0=MASKED, op1=nl.add, operand1=lower
        )

    def _load(self, place: tuple[int, ...], count: int) -> NkiTensor:
        mask = self.mask
        assert mask is not None
        keys = place[4] - place[3]
        steps = [s if n > 1 else 0 for s, n in zip(mask.strides, mask.shape, strict=True)]
        offset = sum(at * step for at, step in zip(place, steps, strict=False))
        tile = nl.ndarray((count, keys), dtype=mask.dtype, buffer=nl.sbuf)
        move(tile, mask.ap([[steps[2], count], [steps[3], keys]], offset=offset))
        return tile


@dataclass(frozen=True)
class Form:
    """What happens to the scores: scale, then cap * tanh(scores / cap), then mask and band."""

    scale: float
    soft_cap: float
    band: Band
    masks: MaskTiles | None
    dtype: Any  # of what TensorE multiplies


__all__ = ["HIDDEN", "MASKED", "UNSEEN", "Band", "Form", "MaskTiles", "Range"]
