"""The critical path: the chain of instructions whose times add up to the program's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from tenzing.errors import Loc
from tenzing.isa.program import Program
from tenzing.machine.deps import DMA_READER
from tenzing.machine.schedule import Schedule, Timing

START: Final = "start"  # before the first instruction of the chain
# What a stretch of the chain is spent on.
(
    COMPUTING, RESULT, HANDOVER, TRIGGER, LATENCY, QUEUEING, MOVING, PREPARING,
) = (
    "computing", "result on its way", "telling the next engine", "DMA trigger", "DMA latency",
    "DMA waiting for engines", "DMA moving data", "loading tables or weights",
)  # fmt: skip


@dataclass(frozen=True)
class Link:
    """One instruction of the chain, and where its share of the time goes; picoseconds.

    ``ahead``: what of its queueing for DMA engines each line's transfers ahead of it took.
    """

    instruction: int
    loc: Loc | None
    parts: tuple[tuple[str, int], ...]
    ahead: tuple[tuple[Loc | None, int], ...] = ()

    @property
    def total_ps(self) -> int:
        """Its share of the program's time."""
        return sum(part for _, part in self.parts)


def critical_path(program: Program, times: Schedule) -> list[Link]:
    """The chain from the first instruction to the last result; its shares add up to the total."""
    if not len(program):
        return []
    chain = [int(times.done_ps.argmax())]
    while (cause := int(times.cause[chain[-1]])) >= 0:
        chain.append(cause)
    chain.reverse()
    ends = [int(times.start_ps[k]) for k in chain[1:]] + [times.total_ps]
    timing, links = Timing.of(program.chip), []
    served = _Served(program, times)
    waited = ((START, int(times.start_ps[chain[0]])),)  # before an instruction of the chain starts
    for index, end in zip(chain, ends, strict=True):
        names, marks = _stages(program, times, timing, index)
        cut = [min(mark, end) for mark in marks]
        pairs = zip(names, cut, cut[1:], strict=False)
        parts = [*waited, *((name, later - earlier) for name, earlier, later in pairs)]
        spent = tuple((name, part) for name, part in parts if part > 0)
        ahead = served.between(cut[2], cut[3]) if QUEUEING in dict(spent) else ()
        links.append(Link(index, program.template(index).loc, spent, ahead))
        waited = ((PREPARING, end - cut[-1]),)  # of the next one, after this one had let it go
    return links


class _Served:
    """Which lines' transfers the DMA engines work on; they serve in order of arrival."""

    def __init__(self, program: Program, times: Schedule) -> None:
        moves = np.flatnonzero(times.queue >= DMA_READER)
        self.moves = moves[np.argsort(times.done_ps[moves], kind="stable")]
        self.done = times.done_ps[self.moves]
        self.program = program

    def between(self, begin: int, end: int) -> tuple[tuple[Loc | None, int], ...]:
        """A stretch of waiting, shared out to the transfers that end in it, and the next."""
        first, last = np.searchsorted(self.done, (begin, end), side="right").tolist()
        marks = [begin, *self.done[first:last].tolist(), end]
        shares: dict[Loc | None, int] = defaultdict(int)
        for index, (start, stop) in zip(self.moves[first : last + 1].tolist(), pairwise(marks),
                                        strict=False):  # fmt: skip
            shares[self.program.template(index).loc] += stop - start
        return tuple(shares.items())


def _stages(
    program: Program, times: Schedule, timing: Timing, index: int
) -> tuple[Sequence[str], Sequence[int]]:
    """What an instruction goes through until the next may start, and the moments between."""
    template, issued = program.template(index), int(times.issue_end_ps[index])
    start, done = int(times.start_ps[index]), int(times.done_ps[index])
    if int(times.queue[index]) < DMA_READER or template.cost.transfer is None:
        return (COMPUTING, RESULT, HANDOVER), (start, issued, done, done + timing.hop_ps)
    arrival, first = issued + template.cost.transfer.fixed_ps, int(times.data_start_ps[index])
    names = TRIGGER, LATENCY, QUEUEING, MOVING, HANDOVER
    return names, (start, issued, arrival, first, done, done + timing.dma_hop_ps)


def by_line(links: Sequence[Link]) -> list[tuple[Loc | None, int, dict[str, int]]]:
    """Source lines by their share of the chain: place, picoseconds, and on what.

    The time a transfer queues for the DMA engines belongs to the lines whose transfers they move.
    """
    total: dict[Loc | None, int] = defaultdict(int)
    parts: dict[Loc | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    first: dict[tuple[str, int], Loc] = {}  # calls on one line count together
    for link in links:
        loc = link.loc and first.setdefault((link.loc.file, link.loc.line), link.loc)
        total[loc] += link.total_ps
        for name, spent in link.parts:
            parts[loc][name] += spent
        for other, spent in link.ahead:
            other = other and first.setdefault((other.file, other.line), other)
            total[loc] -= spent
            total[other] += spent
            parts[loc][QUEUEING] -= spent
            parts[other][MOVING] += spent
    ranked = sorted(total, key=lambda loc: -total[loc])
    return [
        (loc, total[loc], {name: spent for name, spent in parts[loc].items() if spent})
        for loc in ranked if total[loc]
    ]  # fmt: skip


__all__ = ["Link", "by_line", "critical_path"]
