"""How a tensor lies on the ranks of a mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tenzing.compiler.graph import Array, Graph, Shape
from tenzing.fabric import Mesh

AXIS: Final = "tp"
EXPERT_AXIS: Final = "ep"


@dataclass(frozen=True)
class Section:
    """``size`` positions in ``parts`` of whole units, such as heads; the last ones may be padding.

    With fewer parts than ranks, neighbouring ranks hold the same part.
    """

    size: int
    parts: int
    unit: int = 1

    @property
    def step(self) -> int:
        """Positions of one part, padding included."""
        return -(-self.size // (self.unit * self.parts)) * self.unit

    @property
    def padded(self) -> bool:
        """Whether the parts together are longer than the whole."""
        return self.step * self.parts != self.size


@dataclass(frozen=True)
class Split:
    """A dim cut over the ranks along ``axes``, each of its sections separately."""

    dim: int
    sections: tuple[Section, ...]
    axes: tuple[str, ...] = (AXIS,)

    @classmethod
    def of(cls, dim: int, size: int, parts: int, axes: Sequence[str] = (AXIS,)) -> Split:
        """A dim of ``size`` in one section."""
        return cls(dim, (Section(size, parts),), tuple(axes))

    @property
    def section(self) -> Section | None:
        """The only section; None when there are several."""
        return self.sections[0] if len(self.sections) == 1 else None

    @property
    def size(self) -> int:
        """The whole dim."""
        return sum(section.size for section in self.sections)

    @property
    def step(self) -> int:
        """The dim on one rank."""
        return sum(section.step for section in self.sections)

    @property
    def padded(self) -> bool:
        """Whether some rank holds positions that the whole does not have."""
        return any(section.padded for section in self.sections)

    def everywhere(self, ranks: int) -> bool:
        """Whether every one of ``ranks`` holds a part of its own."""
        return all(section.parts == ranks for section in self.sections)

    def local(self, shape: Shape) -> Shape:
        """The shape on one rank."""
        return (*shape[: self.dim], self.step, *shape[self.dim + 1 :])

    def take(self, array: Array, place: int, ranks: int) -> Array:
        """The part of the rank at ``place`` among ``ranks``; padding is zeros."""
        pieces, start = [], 0
        for section in self.sections:
            first = place * section.parts // ranks * section.step
            index = np.arange(first, first + section.step)
            inside = index[index < section.size] + start
            piece = np.take(array, inside, self.dim)
            lacking = [(0, 0)] * array.ndim
            lacking[self.dim] = (0, section.step - len(inside))
            pieces.append(np.pad(piece, lacking) if lacking[self.dim][1] else piece)
            start += section.size
        return np.concatenate(pieces, self.dim)

    def join(self, parts: Sequence[Array]) -> Array:
        """The whole of what the ranks of one group hold, in order of place."""
        whole, start = [], 0
        for section in self.sections:
            owners = [number * len(parts) // section.parts for number in range(section.parts)]
            index = np.arange(start, start + section.step)
            joined = np.concatenate([np.take(parts[k], index, self.dim) for k in owners], self.dim)
            whole.append(np.take(joined, np.arange(section.size), self.dim))
            start += section.step
        return np.concatenate(whole, self.dim)


@dataclass(frozen=True)
class Sharded:
    """The graph of every rank of a mesh, and how its arrays are cut from the whole ones.

    ``cuts``: by name of an input or parameter, one after another. ``outputs``: how each result is
    cut; nothing where every rank holds the whole.
    """

    graph: Graph
    mesh: Mesh
    cuts: Mapping[str, tuple[Split, ...]] = field(hash=False)
    outputs: tuple[tuple[Split, ...], ...] = ()

    @property
    def ranks(self) -> int:
        """How many ranks there are."""
        return self.mesh.ranks

    @property
    def held_bytes(self) -> int:
        """Bytes of weights and inputs on one rank."""
        return sum(v.type.size_bytes for v in (*self.graph.inputs, *self.graph.parameters))

    def arrays(self, whole: Mapping[str, Array], rank: int) -> dict[str, Array]:
        """A rank's share of named arrays."""
        return {name: self._cut(name, array, rank) for name, array in whole.items()}

    def _cut(self, name: str, array: Array, rank: int) -> Array:
        for split in self.cuts.get(name, ()):
            place, size = self.mesh.place(rank, split.axes), self.mesh.size(split.axes)
            array = split.take(array, place, size)
        return array

    def joined(self, results: Sequence[Sequence[Array]]) -> list[Array]:
        """The whole outputs, from those of every rank."""
        cuts = self.outputs or ((),) * len(results[0])
        return [self._join([r[k] for r in results], splits) for k, splits in enumerate(cuts)]

    def _join(self, held: list[Array], splits: Sequence[Split]) -> Array:
        for split in reversed(splits):
            for group in self.mesh.groups(split.axes):
                whole = split.join([held[rank] for rank in group])
                for rank in group:
                    held[rank] = whole
        return held[0]


__all__ = ["AXIS", "EXPERT_AXIS", "Section", "Sharded", "Split"]
