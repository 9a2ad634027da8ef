"""Collectives within an instance: the documented algorithm by size, from the chip's facts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tenzing.errors import UsageError
from tenzing.facts import Chip
from tenzing.units import bytes_to_ps, ns_to_ps

KINDS: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                "collective_permute")  # fmt: skip
RING_SHARE: Final = 2  # two rings at once: a step reaches both neighbours


@dataclass(frozen=True)
class Collective:
    """One collective: ``nbytes`` is the whole buffer of a rank, before or after.

    It is the larger of what a rank gives and what it gets.
    """

    kind: str
    nbytes: int
    ranks: int

    @property
    def sent_bytes(self) -> int:
        """What each rank sends, by a bandwidth-optimal algorithm."""
        if self.kind == "collective_permute":
            return self.nbytes
        part = self.nbytes * (self.ranks - 1) // self.ranks
        return 2 * part if self.kind == "all_reduce" else part

    def algorithm(self, chip: Chip) -> str:
        """mesh, rdh (recursive doubling and halving) or ring, as the runtime picks them by size."""
        if self.nbytes < chip.integer("collective.mesh_max_bytes"):
            return "mesh"
        return "rdh" if self.nbytes <= chip.integer("collective.rdh_max_bytes") else "ring"

    def steps(self, chip: Chip) -> int:
        """Hops one after another; a permutation sends everything straight to its target."""
        if self.kind == "collective_permute":
            return 1
        passes = 2 if self.kind == "all_reduce" else 1
        hops = {
            "mesh": 1,
            "rdh": math.ceil(math.log2(self.ranks)),
            "ring": math.ceil((self.ranks - 1) / RING_SHARE),
        }
        return passes * hops[self.algorithm(chip)]


def collective_ps(chip: Chip, what: Collective) -> int:
    """Trigger, hops and bytes of a collective, nothing else running.

    Every rank is one core and has its share of the chip's links; traffic inside a chip is counted
    at the same rate, which makes small groups look slower than they may be.
    """
    if what.kind not in KINDS:
        raise UsageError("collective", got=what.kind, allowed=", ".join(KINDS))
    if what.ranks < 2 or not what.nbytes:  # noqa: PLR2004 - alone, or nothing to send
        return 0
    share = chip.number("link.intra_instance_gb_s") / chip.integer("core.per_chip")
    start = ns_to_ps(chip.number("collective.trigger_ns"))
    hop = ns_to_ps(chip.number("collective.hop_ns"))
    return start + what.steps(chip) * hop + bytes_to_ps(what.sent_bytes, share)


__all__ = ["KINDS", "Collective", "collective_ps"]
