"""The critical path: the chain of instructions whose times add up to the program's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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
    """One instruction of the chain, and where its share of the time goes; picoseconds."""

    instruction: int
    loc: Loc | None
    parts: tuple[tuple[str, int], ...]

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
    waited = ((START, int(times.start_ps[chain[0]])),)  # before an instruction of the chain starts
    for index, end in zip(chain, ends, strict=True):
        names, marks = _stages(program, times, timing, index)
        cut = [min(mark, end) for mark in marks]
        pairs = zip(names, cut, cut[1:], strict=False)
        parts = [*waited, *((name, later - earlier) for name, earlier, later in pairs)]
        spent = tuple((name, part) for name, part in parts if part > 0)
        links.append(Link(index, program.template(index).loc, spent))
        waited = ((PREPARING, end - cut[-1]),)  # of the next one, after this one had let it go
    return links


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
    """Source lines by their share of the chain: place, picoseconds, and on what."""
    total: dict[Loc | None, int] = defaultdict(int)
    parts: dict[Loc | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    first: dict[tuple[str, int], Loc] = {}  # calls on one line count together
    for link in links:
        loc = link.loc and first.setdefault((link.loc.file, link.loc.line), link.loc)
        total[loc] += link.total_ps
        for name, spent in link.parts:
            parts[loc][name] += spent
    ranked = sorted(total, key=lambda loc: -total[loc])
    return [(loc, total[loc], dict(parts[loc])) for loc in ranked]


__all__ = ["Link", "by_line", "critical_path"]
