"""The critical path: the chain of instructions whose times add up to the program's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
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

    ``ahead``: what of its queueing for DMA engines each transfer ahead of it took.
    """

    instruction: int
    loc: Loc | None
    parts: tuple[tuple[str, int], ...]
    ahead: tuple[tuple[int, Loc | None, int], ...] = ()

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
    """Which transfers the DMA engines work on; they serve in order of arrival."""

    def __init__(self, program: Program, times: Schedule) -> None:
        moves = np.flatnonzero(times.queue >= DMA_READER)
        self.moves = moves[np.argsort(times.done_ps[moves], kind="stable")]
        self.done = times.done_ps[self.moves]
        self.program = program

    def between(self, begin: int, end: int) -> tuple[tuple[int, Loc | None, int], ...]:
        """A stretch of waiting, shared out to the transfers that end in it, and the next."""
        first, last = np.searchsorted(self.done, (begin, end), side="right").tolist()
        marks = [begin, *self.done[first:last].tolist(), end]
        shares = zip(self.moves[first : last + 1].tolist(), pairwise(marks), strict=False)
        return tuple((index, self.program.template(index).loc, stop - start)
                     for index, (start, stop) in shares if stop > start)  # fmt: skip


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


def _shares(links: Sequence[Link]) -> Iterator[tuple[int, Loc | None, str, int]]:
    """Pieces of the chain: instruction, place, on what, picoseconds.

    The time a transfer queues for the DMA engines belongs to the transfers that they move.
    """
    for link in links:
        queued = sum(spent for _, _, spent in link.ahead)
        for name, spent in link.parts:
            yield link.instruction, link.loc, name, spent - queued * (name == QUEUEING)
        for index, loc, spent in link.ahead:
            yield index, loc, MOVING, spent


def by_line(links: Sequence[Link]) -> list[tuple[Loc | None, int, dict[str, int]]]:
    """Source lines by their share of the chain: place, picoseconds, and on what."""
    total: dict[Loc | None, int] = defaultdict(int)
    parts: dict[Loc | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    first: dict[tuple[str, int], Loc] = {}  # calls on one line count together
    for _, where, name, spent in _shares(links):
        if not spent:
            continue
        loc = where and first.setdefault((where.file, where.line), where)
        total[loc] += spent
        parts[loc][name] += spent
    ranked = sorted(total, key=lambda loc: -total[loc])
    return [(loc, total[loc], dict(parts[loc])) for loc in ranked]


def by_group(links: Sequence[Link], group: Sequence[int]) -> dict[int, dict[str, int]]:
    """Groups of instructions by their share of the chain: on what, picoseconds."""
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for index, _, name, spent in _shares(links):
        if spent:
            found[group[index]][name] += spent
    return {number: dict(parts) for number, parts in found.items()}


__all__ = ["Link", "by_group", "by_line", "critical_path"]
