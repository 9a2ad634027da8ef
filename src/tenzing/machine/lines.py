"""Source lines and operations by the time they take, and by how long engines wait for them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from tenzing.errors import Loc
from tenzing.isa.operand import Array
from tenzing.isa.program import Program
from tenzing.machine.deps import DMA_READER, QUEUES
from tenzing.machine.schedule import TENSOR, Schedule, Timing

TRACKS: Final = ("Tensor", "Vector", "Scalar", "GpSimd", "Sync")  # in the order of QUEUES
DMA_TRACK: Final = "DMA"
START: Final = "start of the program"
TABLES: Final = "function tables or weights"
LineStall = tuple[Loc, int, dict[str, int]]


@dataclass(frozen=True)
class OperationTime:
    """All instructions of one name on one engine; picoseconds in all, DMA data included."""

    name: str
    engine: str
    number: int
    busy_ps: int


@dataclass(frozen=True)
class Lines:
    """A timed program by source line."""

    program: Program
    times: Schedule

    @cached_property
    def places(self) -> tuple[list[Loc], Array]:
        """Source lines, and for each template the number of its line; -1 for none."""
        found: dict[tuple[str, int], int] = {}
        places: list[Loc] = []
        numbers = []
        for template in self.program.templates:
            loc = template.loc
            if loc is None:
                numbers.append(-1)
                continue
            key = loc.file, loc.line
            if key not in found:
                found[key] = len(places)
                places.append(loc)
            numbers.append(found[key])
        return places, np.array(numbers, np.int64)

    @cached_property
    def template(self) -> Array:
        """Template of every instruction."""
        rows = self.program.rows
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    @cached_property
    def line(self) -> Array:
        """Line of every instruction."""
        return self.places[1][self.template]

    def busy(self) -> list[tuple[Loc, dict[str, int], int]]:
        """Source lines by busy time: place, busy picoseconds by engine, instructions."""
        places, _ = self.places
        busy = self.busy_of(self.line, len(places))
        counts = np.bincount(self.line[self.line >= 0], minlength=len(places)).tolist()
        found = [(loc, engines, count) for loc, engines, count
                 in zip(places, busy, counts, strict=True) if count]  # fmt: skip
        return sorted(found, key=lambda item: -max(item[1].values(), default=0))

    def busy_of(self, group: Array, count: int) -> list[dict[str, int]]:
        """Busy picoseconds by engine of ``count`` groups of instructions; -1 is in none."""
        spans = self.times.issue_end_ps - self.times.start_ps
        moved = self.times.done_ps - self.times.data_start_ps
        is_dma = self.times.queue >= DMA_READER
        queue = self.times.queue % DMA_READER
        busy: list[dict[str, int]] = [{} for _ in range(count)]
        for number, name in enumerate(TRACKS):
            _add(busy, name, group, spans, queue == number)
        _add(busy, DMA_TRACK, group, moved, is_dma)
        return busy

    def operations(self) -> list[OperationTime]:
        """Operations by the time they keep their engine, or the DMA engines, busy."""
        spans = np.where(
            self.times.queue >= DMA_READER, self.times.done_ps - self.times.data_start_ps,
            self.times.issue_end_ps - self.times.start_ps,
        )  # fmt: skip
        count = len(self.program.templates)
        numbers = np.bincount(self.template, minlength=count).tolist()
        spent = np.bincount(self.template, spans.astype(np.float64), count).tolist()
        found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0])
        for template, number, busy in zip(self.program.templates, numbers, spent, strict=True):
            engine = DMA_TRACK if template.cost.transfer else TRACKS[QUEUES.index(template.engine)]
            total = found[template.instruction.nki, engine]
            total[0] += number
            total[1] += busy
        ranked = sorted(found.items(), key=lambda item: -item[1][1])
        return [OperationTime(*key, int(n), round(busy)) for key, (n, busy) in ranked if n]

    def stalls(self) -> list[LineStall]:
        """Source lines by idle time in front of them: place, picoseconds, what they waited for.

        A wait for another instruction names its engine and line; the rest of the gap went into
        function tables or weights.
        """
        places, _ = self.places
        rows, gaps = self._gaps()
        cause = self.times.cause[rows]
        late = self._prepared(rows, gaps)
        idle: dict[int, int] = defaultdict(int)
        blame: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for line, why, gap, after in zip(self.line[rows].tolist(), cause.tolist(), gaps.tolist(),
                                         late.tolist(), strict=True):  # fmt: skip
            idle[line] += gap
            if after:
                blame[line][TABLES] += after
            if gap > after:
                blame[line][self._who(why)] += gap - after
        ranked = sorted(idle, key=lambda line: -idle[line])
        return [(places[line], idle[line], dict(blame[line])) for line in ranked]

    def _gaps(self) -> tuple[Array, Array]:
        """Instructions that started after their queue was free, and how long it was idle."""
        found: list[tuple[Array, Array]] = []
        queue = self.times.queue % DMA_READER
        for number in range(len(TRACKS)):
            rows = np.flatnonzero(queue == number)
            rows = rows[np.argsort(self.times.start_ps[rows], kind="stable")]
            before = np.concatenate([[0], self.times.issue_end_ps[rows][:-1]])
            gap = self.times.start_ps[rows] - before[: len(rows)]
            kept = (gap > 0) & (self.line[rows] >= 0)
            found.append((rows[kept], gap[kept]))
        rows, gaps = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return rows, gaps

    def _prepared(self, rows: Array, gaps: Array) -> Array:
        """How much of each gap a function table or the weights of a product were loaded."""
        cause = self.times.cause[rows]
        tensor = self.times.queue[rows] == TENSOR
        own = tensor & (cause >= 0) & (self.times.queue[cause] == TENSOR)
        visible = np.where(cause >= 0, self._visible()[cause], 0)
        weights = np.where(own, gaps, np.clip(self.times.start_ps[rows] - visible, 0, gaps))
        tables = np.minimum(gaps, Timing.of(self.program.chip).table_load_ps)
        return np.where(tensor & (cause >= 0), weights, tables * self._loads_table[rows])

    @cached_property
    def _loads_table(self) -> Array:
        """Instructions whose function table is another one than was loaded."""
        loads = np.zeros(len(self.program), np.int64)
        held = None
        named = [(index, table) for index, row in enumerate(self.program.rows)
                 if (table := self.program.templates[row[0]].cost.table) is not None]  # fmt: skip
        for index, table in sorted(named, key=lambda pair: int(self.times.start_ps[pair[0]])):
            loads[index] = table != held
            held = table
        return loads

    def _visible(self) -> Array:
        """When other queues may use each result."""
        timing = Timing.of(self.program.chip)
        hop = np.where(self.times.queue >= DMA_READER, timing.dma_hop_ps, timing.hop_ps)
        return self.times.done_ps + hop

    def _who(self, cause: int) -> str:
        """The engine and line that an instruction waited for."""
        if cause < 0:
            return START
        number = int(self.times.queue[cause])
        engine = DMA_TRACK if number >= DMA_READER else TRACKS[number]
        loc = self.program.template(cause).loc
        return f"{engine} at {Path(loc.file).name}:{loc.line}" if loc else engine


def _add(busy: list[dict[str, int]], name: str, line: Array, spent: Array, chosen: Array) -> None:
    chosen = chosen & (line >= 0)
    sums = np.bincount(line[chosen], spent[chosen].astype(np.float64), len(busy))
    for number in np.flatnonzero(sums).tolist():
        busy[number][name] = round(float(sums[number]))


__all__ = ["DMA_TRACK", "TRACKS", "LineStall", "Lines", "OperationTime"]
