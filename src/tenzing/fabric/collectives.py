"""Collectives: the documented algorithm by size within an instance, hierarchical across them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from tenzing.errors import UsageError
from tenzing.facts import Chip
from tenzing.units import bytes_to_ps, ns_to_ps

KINDS: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                "collective_permute")  # fmt: skip
RING_SHARE: Final = 2  # two rings at once: a step reaches both neighbours
BITS: Final = 8


@dataclass(frozen=True)
class Collective:
    """One collective: ``nbytes`` is the whole buffer of a rank, before or after.

    It is the larger of what a rank gives and what it gets. ``instances`` hold equal shares of the
    ranks.
    """

    kind: str
    nbytes: int
    ranks: int
    instances: int = 1

    @property
    def sent_bytes(self) -> int:
        """What each rank sends, by a bandwidth-optimal algorithm."""
        if self.kind == "collective_permute":
            return self.nbytes
        part = self.nbytes * (self.ranks - 1) // self.ranks
        return 2 * part if self.kind == "all_reduce" else part

    def algorithm(self, chip: Chip) -> str:
        """hierarchical across instances; mesh, rdh (recursive doubling and halving) or ring in one.

        Within an instance the runtime picks them by size.
        """
        if self.instances > 1:
            return "hierarchical"
        if self.nbytes < chip.integer("collective.mesh_max_bytes"):
            return "mesh"
        return "rdh" if self.nbytes <= chip.integer("collective.rdh_max_bytes") else "ring"

    def steps(self, chip: Chip) -> int:
        """Hops one after another; a permutation sends everything straight to its target."""
        if self.kind == "collective_permute":
            return 1
        passes = 2 if self.kind == "all_reduce" else 1
        if self.instances > 1:
            inside, between = self._levels()
            return passes * between._hops("rdh") + sum(part.steps(chip) for part in inside)
        return passes * self._hops(self.algorithm(chip))

    def _hops(self, algorithm: str) -> int:
        return {
            "mesh": 1,
            "rdh": math.ceil(math.log2(self.ranks)),
            "ring": math.ceil((self.ranks - 1) / RING_SHARE),
        }[algorithm]

    def _levels(self) -> tuple[list[Collective], Collective]:
        """Collectives inside an instance, and the one between instances.

        Gathers go between instances first, then inside; scatters inside first; a sum scatters
        inside, sums its share between, gathers inside. Every rank works on its own share between.
        """
        local = self.ranks // self.instances
        share = replace(self, nbytes=self.nbytes // local, ranks=self.instances, instances=1)
        inside = replace(self, ranks=local, instances=1)
        if self.kind == "all_reduce":
            return [replace(inside, kind=k) for k in ("reduce_scatter", "all_gather")], share
        if self.kind == "all_to_all":  # of a rank's rows, those for other instances leave
            return [replace(inside, nbytes=self.nbytes // self.instances)], replace(
                self, ranks=self.instances, instances=1
            )
        return [inside], share


def collective_ps(chip: Chip, what: Collective) -> int:
    """Trigger, hops and bytes of a collective, nothing else running.

    Every rank is one core and has its share of the chip's links, and of the network between
    instances; traffic inside a chip is counted at the rate of the links, which makes small groups
    look slower than they may be. Raises UsageError for ranks that instances cannot share equally.
    """
    if what.kind not in KINDS:
        raise UsageError("collective", got=what.kind, allowed=", ".join(KINDS))
    if what.instances < 1 or what.ranks % what.instances:
        raise UsageError(f"{what.ranks} ranks on {what.instances} instances",
                         allowed="an equal number of ranks on each")  # fmt: skip
    if what.ranks < 2 or not what.nbytes:  # noqa: PLR2004 - alone, or nothing to send
        return 0
    return ns_to_ps(chip.number("collective.trigger_ns")) + _moving_ps(chip, what)


def _moving_ps(chip: Chip, what: Collective) -> int:
    """Hops and bytes, without the trigger."""
    if what.ranks < 2:  # noqa: PLR2004 - alone
        return 0
    if what.instances == 1:
        share = chip.number("link.intra_instance_gb_s") / chip.integer("core.per_chip")
        hop = ns_to_ps(chip.number("collective.hop_ns"))
        return what.steps(chip) * hop + bytes_to_ps(what.sent_bytes, share)
    if what.kind == "collective_permute":
        return _between_ps(chip, what)
    inside, between = what._levels()
    return _between_ps(chip, between) + sum(_moving_ps(chip, part) for part in inside)


def _between_ps(chip: Chip, what: Collective) -> int:
    """One level over the network: recursive doubling, whose bytes are those of a ring."""
    hop = ns_to_ps(chip.number("collective.inter_instance_hop_ns"))
    rate = chip.number("collective.inter_instance_rank_gbps") / BITS
    passes = 2 if what.kind == "all_reduce" else 1
    hops = 1 if what.kind == "collective_permute" else passes * what._hops("rdh")
    return hops * hop + bytes_to_ps(what.sent_bytes, rate)


__all__ = ["KINDS", "Collective", "collective_ps"]
