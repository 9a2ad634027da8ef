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

    It is the larger of what a rank gives and what it gets. Every rank is one core. ``instances``
    hold equal shares of the ranks, ``linked`` of them at a time are one UltraServer. ``on_chip``:
    how many ranks of the group are on one chip; 0 for as many as a chip has cores.
    """

    kind: str
    nbytes: int
    ranks: int
    instances: int = 1
    on_chip: int = 0
    linked: int = 1

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
        if self.instances > 1:
            inside, between = self._levels()
            return between._passes * between._hops("rdh") + sum(p.steps(chip) for p in inside)
        return self._passes * self._hops(self.algorithm(chip))

    @property
    def _passes(self) -> int:
        """A sum scatters, then gathers."""
        return 2 if self.kind == "all_reduce" else 1

    def _hops(self, algorithm: str) -> int:
        return {
            "mesh": 1,
            "rdh": math.ceil(math.log2(self.ranks)),
            "ring": math.ceil((self.ranks - 1) / RING_SHARE),
        }[algorithm]

    def _together(self, chip: Chip) -> int:
        """Ranks of one chip."""
        return min(self.ranks, self.on_chip or chip.integer("core.per_chip"))

    @property
    def _networked(self) -> bool:
        """Whether the outermost level is the network, not the links of an UltraServer."""
        return self.instances > self.linked

    def _levels(self) -> tuple[list[Collective], Collective]:
        """Collectives inside an instance or UltraServer, and the one between them.

        Gathers go between first, then inside; scatters inside first; a sum scatters
        inside, sums its share between, gathers inside. Every rank works on its own share between.
        """
        held = self.linked if self._networked else 1
        ends = self.instances // held
        local = self.ranks // ends
        share = replace(self, nbytes=self.nbytes // local, ranks=ends, instances=1, linked=1)
        inside = replace(self, ranks=local, instances=held)
        if self.kind == "all_reduce":
            return [replace(inside, kind=k) for k in ("reduce_scatter", "all_gather")], share
        if self.kind == "all_to_all":  # of a rank's rows, those for others leave
            return [replace(inside, nbytes=self.nbytes // ends)], replace(share, nbytes=self.nbytes)
        return [inside], share


def collective_ps(chip: Chip, what: Collective) -> int:
    """Trigger, hops and bytes of a collective, nothing else running.

    A rank sends no faster than a core can (``link.core_gb_s``). Over the links of a chip all its
    cores send; the ranks of one group that lie on one chip cross its edge once together in a ring
    or by halving, each for itself otherwise. Raises UsageError for ranks that instances cannot
    share equally, and for an UltraServer of a chip without links to other instances.
    """
    _check(chip, what)
    if what.ranks < 2 or not what.nbytes:  # noqa: PLR2004 - alone, or nothing to send
        return 0
    return ns_to_ps(chip.number("collective.trigger_ns")) + _moving_ps(chip, what)


def _check(chip: Chip, what: Collective) -> None:
    if what.kind not in KINDS:
        raise UsageError("collective", got=what.kind, allowed=", ".join(KINDS))
    if what.instances < 1 or what.ranks % what.instances:
        raise UsageError(f"{what.ranks} ranks on {what.instances} instances",
                         allowed="an equal number of ranks on each")  # fmt: skip
    if what.linked < 1 or what.instances % what.linked:
        raise UsageError(f"{what.instances} instances in UltraServers of {what.linked}",
                         allowed="whole UltraServers")  # fmt: skip
    if what.linked > 1 and not chip.known("link.inter_instance_gb_s"):
        raise UsageError(f"no links join instances of {chip.name}", got=f"linked {what.linked}",
                         allowed="1")  # fmt: skip


def _moving_ps(chip: Chip, what: Collective) -> int:
    """Hops and bytes, without the trigger."""
    if what.ranks < 2:  # noqa: PLR2004 - alone
        return 0
    if what.instances == 1:
        hop = ns_to_ps(chip.number("collective.hop_ns"))
        return what.steps(chip) * hop + bytes_to_ps(what.sent_bytes, _rank_gb_s(chip, what))
    if what.kind == "collective_permute":
        return _between_ps(chip, what, what._networked)
    inside, between = what._levels()
    outer = _between_ps(chip, between, what._networked)
    return outer + sum(_moving_ps(chip, part) for part in inside)


def _rank_gb_s(chip: Chip, what: Collective) -> float:
    """What a rank sends within an instance, a second."""
    own = chip.number("link.core_gb_s")
    together = what._together(chip)
    if what.ranks <= together:
        return own
    joined = what.kind in ("all_reduce", "all_gather", "reduce_scatter")
    joined = joined and what.algorithm(chip) != "mesh"
    links = chip.number("link.intra_instance_gb_s") / chip.integer("core.per_chip")
    return min(own, links * (together if joined else 1))


def _between_ps(chip: Chip, what: Collective, networked: bool) -> int:
    """One level between instances: recursive doubling, whose bytes are those of a ring."""
    if networked:
        hop = ns_to_ps(chip.number("collective.inter_instance_hop_ns"))
        gbps = chip.number("collective.inter_instance_rank_gbps")  # of a logical core
        rate = gbps / BITS / chip.integer("chip.logical_core_cores")
    else:
        hop = ns_to_ps(chip.number("collective.hop_ns"))
        links = chip.number("link.inter_instance_gb_s") / chip.integer("core.per_chip")
        rate = min(chip.number("link.core_gb_s"), links)
    hops = 1 if what.kind == "collective_permute" else what._passes * what._hops("rdh")
    return hops * hop + bytes_to_ps(what.sent_bytes, rate)


__all__ = ["KINDS", "Collective", "collective_ps"]
