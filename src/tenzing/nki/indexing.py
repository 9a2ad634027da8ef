"""Index expressions: slices, ``ds``, and the affine index tensors of the older language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, SupportsIndex

from tenzing.errors import KernelError


@dataclass(frozen=True, slots=True)
class DynamicSlice:
    """``nl.ds(start, size)``: ``size`` elements from ``start``."""

    start: Any
    size: int


class AffineIndex:
    """An index tensor ``constant + sum(coefficient[d] * i_d)`` over a grid of ``shape``.

    Made by ``nl.arange`` and ``nl.mgrid``; broadcast with NumPy's rules.
    """

    __slots__ = ("coefficients", "constant", "shape")
    __array_priority__ = 100

    def __init__(
        self, shape: tuple[int, ...], coefficients: tuple[int, ...], constant: int = 0
    ) -> None:
        self.shape, self.coefficients, self.constant = shape, coefficients, constant

    @property
    def low(self) -> int:
        """Smallest index reached."""
        return self.constant + sum(
            min(0, c * (n - 1)) for c, n in zip(self.coefficients, self.shape, strict=True)
        )

    @property
    def high(self) -> int:
        """Largest index reached."""
        return self.constant + sum(
            max(0, c * (n - 1)) for c, n in zip(self.coefficients, self.shape, strict=True)
        )

    def __getitem__(self, key: Any) -> AffineIndex:
        """Insert dims with ``None``; other dims are taken whole."""
        items = key if isinstance(key, tuple) else (key,)
        shape: list[int] = []
        coefficients: list[int] = []
        source = 0
        for item in items:
            if item is None:
                shape.append(1)
                coefficients.append(0)
            elif isinstance(item, slice) and item == slice(None):
                shape.append(self.shape[source])
                coefficients.append(self.coefficients[source])
                source += 1
            else:
                raise KernelError("an index tensor takes only None and ':'", got=repr(item))
        shape.extend(self.shape[source:])
        coefficients.extend(self.coefficients[source:])
        return AffineIndex(tuple(shape), tuple(coefficients), self.constant)

    def _combine(self, other: AffineIndex, sign: int) -> AffineIndex:
        rank = max(len(self.shape), len(other.shape))
        first, second = self.padded(rank), other.padded(rank)
        shape = []
        for a, b in zip(first.shape, second.shape, strict=True):
            if a != b and 1 not in (a, b):
                raise KernelError(f"index tensors of shapes {self.shape} and {other.shape} differ")
            shape.append(max(a, b))
        coefficients = tuple(
            a + sign * b for a, b in zip(first.coefficients, second.coefficients, strict=True)
        )
        return AffineIndex(tuple(shape), coefficients, self.constant + sign * other.constant)

    def padded(self, rank: int) -> AffineIndex:
        """The same index with leading dims of one."""
        extra = rank - len(self.shape)
        return AffineIndex((1,) * extra + self.shape, (0,) * extra + self.coefficients,
                           self.constant)  # fmt: skip

    def __add__(self, other: AffineIndex | SupportsIndex) -> AffineIndex:
        if isinstance(other, AffineIndex):
            return self._combine(other, 1)
        return AffineIndex(self.shape, self.coefficients, self.constant + int(other))

    __radd__ = __add__

    def __sub__(self, other: AffineIndex | SupportsIndex) -> AffineIndex:
        if isinstance(other, AffineIndex):
            return self._combine(other, -1)
        return AffineIndex(self.shape, self.coefficients, self.constant - int(other))

    def __rsub__(self, other: SupportsIndex) -> AffineIndex:
        return self * -1 + int(other)

    def __mul__(self, factor: SupportsIndex) -> AffineIndex:
        if isinstance(factor, AffineIndex):
            raise KernelError("the product of two index tensors is not affine")
        by = int(factor)
        return AffineIndex(self.shape, tuple(c * by for c in self.coefficients),
                           self.constant * by)  # fmt: skip

    __rmul__ = __mul__

    def __neg__(self) -> AffineIndex:
        return self * -1

    def __lt__(self, other: AffineIndex | SupportsIndex) -> Condition:
        return Condition((other - self - 1,))

    def __le__(self, other: AffineIndex | SupportsIndex) -> Condition:
        return Condition((other - self,))

    def __gt__(self, other: AffineIndex | SupportsIndex) -> Condition:
        return Condition((self - other - 1,))

    def __ge__(self, other: AffineIndex | SupportsIndex) -> Condition:
        return Condition((self - other,))


@dataclass(frozen=True, slots=True)
class Condition:
    """Index expressions that must all be zero or more; a mask of the older language."""

    not_negative: tuple[AffineIndex, ...]

    def __and__(self, other: Condition) -> Condition:
        return Condition((*self.not_negative, *other.not_negative))


def arange(start: int, stop: int | None = None, step: int = 1) -> AffineIndex:
    """Index tensor ``start, start + step, ...`` as in NumPy."""
    first, last = (0, start) if stop is None else (start, stop)
    count = len(range(int(first), int(last), int(step)))
    return AffineIndex((count,), (int(step),), int(first))


class MeshGrid:
    """``nl.mgrid[a:b, c:d]``: one index tensor per dim over a dense grid."""

    def __getitem__(self, key: slice | Iterable[slice]) -> tuple[AffineIndex, ...]:
        items = (key,) if isinstance(key, slice) else tuple(key)
        counts = [len(range(s.start or 0, s.stop, s.step or 1)) for s in items]
        grids = []
        for dim, item in enumerate(items):
            coefficients = tuple((item.step or 1) if d == dim else 0 for d in range(len(items)))
            grids.append(AffineIndex(tuple(counts), coefficients, item.start or 0))
        return tuple(grids)
