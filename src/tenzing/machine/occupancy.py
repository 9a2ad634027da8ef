"""Who holds SBUF and PSUM, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tenzing.errors import Loc
from tenzing.isa.operand import Array, Space, resolve_loc
from tenzing.isa.program import Program
from tenzing.machine.place import Placement, storage_bytes
from tenzing.machine.schedule import Schedule


@dataclass(frozen=True)
class Tenants:
    """Tiles of one memory as equal-length arrays: held from, held to, bytes per partition, owner.

    Times in picoseconds; ``owner`` indexes ``owners``, the tile's name (or nothing) and the source
    line that made it.
    """

    start_ps: Array
    end_ps: Array
    size_bytes: Array
    owner: Array
    owners: tuple[tuple[str, Loc | None], ...]

    def levels(self) -> tuple[Array, Array]:
        """Bytes per partition over time: moments of change, and the level from each on."""
        moments = np.concatenate([self.start_ps, self.end_ps])
        changes = np.concatenate([self.size_bytes, -self.size_bytes])
        times, place = np.unique(moments, return_inverse=True)
        steps = np.zeros(len(times), np.int64)
        np.add.at(steps, place, changes)
        return times, np.cumsum(steps)

    def of(self, owner: int) -> Tenants:
        """The tiles of one owner."""
        rows = self.owner == owner
        return Tenants(self.start_ps[rows], self.end_ps[rows], self.size_bytes[rows],
                       self.owner[rows], self.owners)  # fmt: skip


def tenants(program: Program, placement: Placement, times: Schedule, space: Space) -> Tenants:
    """Tiles of SBUF or PSUM that are used, from their first instruction to their last result."""
    held = [s for s in program.storages if s.space is space and placement.first[s.id] >= 0]
    numbers = np.array([s.id for s in held], np.int64)
    found: dict[tuple[str, object], int] = {}
    places: list[tuple[str, Loc | None]] = []
    owner = np.zeros(len(held), np.int64)
    for row, storage in enumerate(held):
        key = storage.name, storage.loc_key
        if key not in found:
            found[key] = len(places)
            places.append((storage.name, resolve_loc(storage.loc_key)))
        owner[row] = found[key]
    first, last = placement.first[numbers], placement.last[numbers]
    sizes = np.array([storage_bytes(s) for s in held], np.int64)
    return Tenants(times.start_ps[first], times.done_ps[last], sizes, owner, tuple(places))


def no_tenants() -> Tenants:
    """A memory that nothing is known to hold."""
    nothing = np.zeros(0, np.int64)
    return Tenants(nothing, nothing, nothing, nothing, ())


__all__ = ["Tenants", "no_tenants", "tenants"]
