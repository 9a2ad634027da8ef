"""A mesh: ranks arranged along named axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenzing.errors import UsageError


@dataclass(frozen=True)
class Mesh:
    """Names and sizes of axes; ranks are numbered row by row, the last axis fastest."""

    axes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, sizes: Mapping[str, Any] | None) -> Mesh:
        """The mesh of a mapping such as {"tp": 4}; raises UsageError for sizes below 1."""
        axes = tuple((sizes or {}).items())
        for name, size in axes:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise UsageError(f"mesh axis {name}", got=size, allowed="1 or more ranks")
        return cls(axes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes in order."""
        return tuple(name for name, _ in self.axes)

    @property
    def ranks(self) -> int:
        """How many ranks there are."""
        return math.prod(size for _, size in self.axes)

    def size(self, axes: Sequence[str]) -> int:
        """Ranks of one group along ``axes``; an axis the mesh lacks has one."""
        return math.prod(size for name, size in self.axes if name in axes)

    def place(self, rank: int, axes: Sequence[str]) -> int:
        """The number of a rank within its group along ``axes``."""
        number, step = 0, 1
        for name, size in reversed(self.axes):
            rank, along = divmod(rank, size)
            if name in axes:
                number, step = number + step * along, step * size
        return number

    def groups(self, axes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The ranks that meet in a collective along ``axes``, each group in order of place."""
        others = [name for name in self.names if name not in axes]
        found: dict[int, list[int]] = {}
        for rank in range(self.ranks):
            found.setdefault(self.place(rank, others), []).append(rank)
        return tuple(map(tuple, found.values()))

    def together(self, axes: Sequence[str], cores: int) -> int:
        """Ranks of one group along ``axes`` on a chip of ``cores``: ranks fill chips in order."""
        return sum(rank < cores for rank in self.groups(axes)[0])


__all__ = ["Mesh"]
