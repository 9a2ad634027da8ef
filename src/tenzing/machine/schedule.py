"""Time: five in-order queues, sixteen DMA engines and one HBM server, in integer picoseconds.

Compute instructions start as soon as their queue and operands are ready, so their times follow in
dataflow order. DMA triggers on the Sync queue and DMA transfers compete for shared servers and are
served from a heap of events; popping the earliest is safe, because whatever is not yet resolved
waits for a later one. Cores of one HBM stack that a launch uses together each have an equal part of
its rate: they run the same kernel, so they want it at the same time.

The Sync queue holds nothing but DMA triggers, whose order the compiler chooses. Here, as a list
scheduler would, a free queue takes the first trigger in program order whose operands are ready.
"""

from __future__ import annotations

import gc
import heapq
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from tenzing.facts import Chip
from tenzing.isa.instruction import Cost, Transfer
from tenzing.isa.operand import Array
from tenzing.isa.program import Program
from tenzing.machine import native
from tenzing.machine.deps import DMA_READER, QUEUES, Dependencies
from tenzing.units import PS_PER_NS, ns_to_ps

TENSOR: Final = 0
SYNC: Final = len(QUEUES) - 1
REQUEST, ARRIVAL, GRANT = range(3)  # events: trigger ready, data can move, Sync is free
NO_CAUSE: Final = -1
MEMORY_BOUND: Final = -2  # the HBM server, not a predecessor, set the end of a transfer


@dataclass(slots=True)
class Schedule:
    """When each instruction issues, frees its queue, and has its result visible.

    Arrays of int64 picoseconds by instruction. ``data_start_ps`` is when a transfer's first byte
    moves (equal to ``start_ps`` for compute). ``cause``: the instruction that set the start.
    """

    start_ps: Array
    issue_end_ps: Array
    data_start_ps: Array
    done_ps: Array
    cause: Array
    queue: Array
    queue_busy_ps: list[int]
    dma_busy_ps: int
    dma_active_ps: int

    @property
    def total_ps(self) -> int:
        """Makespan: the last result is visible."""
        return int(self.done_ps.max(initial=0))


@dataclass(frozen=True, slots=True)
class Timing:
    """The chip's timing facts the scheduler itself needs, in picoseconds."""

    hop_ps: int
    dma_hop_ps: int
    dma_engines: int
    hbm_bytes_per_ns: float
    warmup_ps: int
    warmup_rate: float
    warmup_idle_ps: int
    table_load_ps: int

    @staticmethod
    def of(chip: Chip) -> Timing:
        """Read the facts of ``chip``."""
        return Timing(
            ns_to_ps(chip.number("sync.hop_ns")),
            ns_to_ps(chip.number("sync.dma_hop_ns")),
            chip.integer("dma.engines"),
            chip.number("hbm.core_gb_s"),
            ns_to_ps(chip.number("tensor.warmup_ns")),
            chip.number("tensor.warmup_rate"),
            ns_to_ps(chip.number("tensor.warmup_idle_ns")),
            ns_to_ps(chip.number("scalar.table_load_ns")),
        )


def schedule(program: Program, dependencies: Dependencies) -> Schedule:
    """Simulate the queues of one core."""
    return native_schedule(program, dependencies) or _Simulation(program, dependencies).run()


def native_schedule(program: Program, dependencies: Dependencies) -> Schedule | None:
    """The same by the native core; None when there is none."""
    timing = asdict(Timing.of(program.chip))
    rate = timing.pop("hbm_bytes_per_ns") / program.hbm_sharers
    costs = [t.cost for t in program.templates]
    tables = {name: k for k, name in enumerate(dict.fromkeys(c.table for c in costs if c.table))}
    moves = [c.transfer for c in costs]
    plans: dict[str, Sequence[int]] = {
        "issue_ps": [c.issue_ps for c in costs],
        "latency_ps": [c.latency_ps for c in costs],
        "chained_ps": [_chained_ps(c) for c in costs],
        "load_ps": [c.load_ps for c in costs],
        "table": [tables[c.table] if c.table else NO_CAUSE for c in costs],
        "is_transfer": [m is not None for m in moves],
        "engines": [m.engines if m else 0 for m in moves],
        "service_ps": [m.service_ps if m else 0 for m in moves],
        "fixed_ps": [m.fixed_ps if m else 0 for m in moves],
        "moved_ps": [_moved_ps(m, rate) for m in moves],
    }
    template = np.array([row[0] for row in program.rows], np.int64)
    queue = np.array(dependencies.queue, np.int64)
    edges = dependencies.start, dependencies.joined
    found = native.schedule(edges, template, queue, len(QUEUES), plans, timing)
    if found is None:
        return None
    busy, dma = found.pop("queue_busy_ps").tolist(), found.pop("dma").tolist()
    queue += DMA_READER * np.array(plans["is_transfer"], np.int64)[template]
    return Schedule(**found, queue=queue, queue_busy_ps=busy, dma_busy_ps=dma[0],
                    dma_active_ps=dma[1])  # fmt: skip


def _chained_ps(cost: Cost) -> int:
    """Dispatch to the dispatch of an instruction of the same engine that needs the result."""
    return cost.latency_ps if cost.chained_ps is None else cost.chained_ps


def _moved_ps(transfer: Transfer | None, bytes_per_ns: float) -> int:
    """How long a transfer keeps the HBM server busy."""
    return round(transfer.hbm_bytes * PS_PER_NS / bytes_per_ns) if transfer else 0


class _Simulation:
    """One run of the event-driven simulation."""

    def __init__(self, program: Program, dependencies: Dependencies) -> None:
        self.timing = timing = Timing.of(program.chip)
        self.before = dependencies.before
        self.queue = dependencies.queue
        costs = [t.cost for t in program.templates]
        self.plans = [(c.issue_ps, c.latency_ps, c.load_ps, c.table, c.transfer) for c in costs]
        self.sooner_ps = [c.latency_ps - _chained_ps(c) for c in costs]
        rate = timing.hbm_bytes_per_ns / program.hbm_sharers
        self.moved_ps = [_moved_ps(c.transfer, rate) for c in costs]
        self.template = [row[0] for row in program.rows]
        count = len(self.template)
        self.start = [0] * count
        self.issue_end = [0] * count
        self.data_start = [0] * count
        self.done = [0] * count
        self.visible = [0] * count  # when another queue can use the result
        self.chained = [0] * count  # when its own can
        self.cause = [NO_CAUSE] * count
        self.queue_free = [0] * len(QUEUES)
        self.queue_last = [NO_CAUSE] * len(QUEUES)
        self.queue_busy = [0] * len(QUEUES)
        self.engine_free = [0] * timing.dma_engines
        self.level_free: int | None = 0  # the one value of engine_free, while they agree
        self.hbm_free = 0
        self.dma_busy = 0
        self.dma_active = 0
        self.dma_active_until = 0
        self.tensor_start = 0  # issue of the latest matmul: the next weight load runs under it
        self.warm_at = 0  # when TensorE leaves half rate
        self.tensor_used = False
        self.table: str | None = None
        self.waiting: list[int] = []
        self.after: list[list[int]] = []
        self.follower: list[int] = []
        self.ready: list[int] = []
        self.events: list[tuple[int, int, int]] = []
        self.pending: list[int] = []  # triggers whose operands are ready, first in program first
        self.granting = False
        self.now = 0

    def run(self) -> Schedule:
        self._graph()
        collecting = gc.isenabled()
        gc.disable()  # millions of small tuples, none of them in a cycle
        try:
            while self.ready or self.events:
                self._drain()
                if self.events:
                    self._handle(*heapq.heappop(self.events))
        finally:
            if collecting:
                gc.enable()
        return self._result()

    def _drain(self) -> None:
        """Time every instruction whose operands and queue are known, in dataflow order."""
        ready, queue_of, before = self.ready, self.queue, self.before
        chained, visible = self.chained, self.visible
        waiting, after, follower = self.waiting, self.after, self.follower
        while ready:
            index = ready.pop()
            queue = queue_of[index]
            when, cause = 0, NO_CAUSE
            for other in before[index]:
                at = chained[other] if queue_of[other] == queue else visible[other]
                if at > when:
                    when, cause = at, other
            if queue == SYNC:
                self.cause[index] = cause
                self._request(index, when)
                continue
            arrival = self._issue(index, queue, when, cause)
            following = follower[index]
            if following >= 0:
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
            if arrival >= 0:
                heapq.heappush(self.events, (arrival, ARRIVAL, index))
                continue
            for other in after[index]:
                waiting[other] -= 1
                if not waiting[other]:
                    ready.append(other)

    def _handle(self, when: int, kind: int, index: int) -> None:
        """One event of the DMA side: a trigger is ready, a transfer begins, Sync is free."""
        self.now = when
        if kind == REQUEST:
            self._request(index, when)
        elif kind == ARRIVAL:
            self._transfer(index, when)
            self._release(index)
        else:
            self._grant(when)

    def _request(self, index: int, when: int) -> None:
        """A trigger whose operands are ready at ``when`` wants the Sync queue."""
        if when > self.now:
            heapq.heappush(self.events, (when, REQUEST, index))
            return
        heapq.heappush(self.pending, index)
        if not self.granting:
            self.granting = True
            free = self.queue_free[SYNC]
            heapq.heappush(self.events, (free if free > self.now else self.now, GRANT, 0))

    def _grant(self, when: int) -> None:
        """Sync is free: it takes the first ready trigger in program order."""
        index = heapq.heappop(self.pending)
        arrival = self._issue(index, SYNC, when, self.cause[index])
        if arrival >= 0:
            heapq.heappush(self.events, (arrival, ARRIVAL, index))
        else:
            self._release(index)
        self.granting = bool(self.pending)
        if self.granting:
            heapq.heappush(self.events, (self.queue_free[SYNC], GRANT, 0))

    def _release(self, index: int) -> None:
        """The result is timed: followers that waited for nothing else become ready."""
        waiting, ready = self.waiting, self.ready
        for other in self.after[index]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)

    def _graph(self) -> None:
        """Successors and counts of predecessors; compute queues are chains of their own."""
        count = len(self.template)
        self.waiting = waiting = [len(b) for b in self.before]
        after: list[list[int]] = [[] for _ in range(count)]
        self.after = after
        for index, earlier in enumerate(self.before):
            for other in earlier:
                after[other].append(index)
        self.follower = follower = [NO_CAUSE] * count
        latest = [NO_CAUSE] * len(QUEUES)
        for index, queue in enumerate(self.queue):
            previous = latest[queue]
            if previous >= 0 and queue != SYNC:
                follower[previous] = index
                waiting[index] += 1
            latest[queue] = index
        self.ready = [i for i in range(count - 1, -1, -1) if waiting[i] == 0]

    def _issue(self, index: int, queue: int, ready: int, cause: int) -> int:
        """Place an instruction on its queue; when its transfer's data can move, or -1."""
        issue, latency, load, table, transfer = self.plans[self.template[index]]
        free = self.queue_free[queue]
        if ready > free:
            start = ready
        else:
            start, cause = free, self.queue_last[queue]
        if queue == TENSOR:
            loaded = (self.tensor_start if self.tensor_start > ready else ready) + load
            if loaded > start:
                start = loaded
            rested = start - free > self.timing.warmup_idle_ps or not self.tensor_used
            self.tensor_start = start
            if rested or start < self.warm_at:
                slow = self._half_rate(start, issue, rested)
                latency += slow - issue
                issue = slow
        elif table is not None and table != self.table:
            self.table = table
            self.queue_busy[queue] += self.timing.table_load_ps
            start += self.timing.table_load_ps
        self.start[index] = self.data_start[index] = start
        end = start + issue
        self.issue_end[index] = self.queue_free[queue] = end
        self.queue_busy[queue] += issue
        self.queue_last[queue] = index
        self.cause[index] = cause
        if transfer is not None:
            return end + transfer.fixed_ps
        self.done[index] = done = start + latency
        self.visible[index] = done + self.timing.hop_ps
        self.chained[index] = done - self.sooner_ps[self.template[index]]
        return -1

    def _half_rate(self, start: int, issue: int, rested: bool) -> int:
        """Issue interval of a multiply while TensorE's start-up limit is in force."""
        timing = self.timing
        if rested:
            self.tensor_used = True
            self.warm_at = start + timing.warmup_ps
        cold_left = self.warm_at - start
        if cold_left <= 0:
            return issue
        cold_need = issue / timing.warmup_rate
        if cold_need <= cold_left:
            return round(cold_need)
        # part of it runs after the limit is lifted
        return round(cold_left + (issue - cold_left * timing.warmup_rate))

    def _transfer(self, index: int, arrival: int) -> None:
        """Serve a DMA whose data can move from ``arrival`` on: least-loaded engines first.

        All are behind one HBM server; arrivals come in order of time.
        """
        number = self.template[index]
        transfer = self.plans[number][4]
        assert transfer is not None
        if transfer.engines >= len(self.engine_free) and self.level_free is not None:
            first = self.level_free if self.level_free > arrival else arrival
            end = self.level_free = first + transfer.service_ps
        else:
            first, end = self._serve(transfer.engines, transfer.service_ps, arrival)
        moved = self.moved_ps[number]
        if moved:
            hbm = self.hbm_free if self.hbm_free > first else first
            self.hbm_free = hbm + moved
            if self.hbm_free > end:
                end = self.hbm_free
        self.data_start[index] = first
        self.done[index] = self.chained[index] = end
        self.visible[index] = end + self.timing.dma_hop_ps
        self.dma_busy += transfer.service_ps * transfer.engines
        if end > self.dma_active_until:
            self.dma_active += end - max(first, self.dma_active_until)
            self.dma_active_until = end

    def _serve(self, engines: int, service_ps: int, begin: int) -> tuple[int, int]:
        """Start and end on the ``engines`` that are free first."""
        free = self.engine_free
        if self.level_free is not None:
            free[:] = [self.level_free] * len(free)
        chosen: Sequence[int] = range(len(free))
        if engines < len(free):
            chosen = sorted(chosen, key=free.__getitem__)[:engines]
        starts = [max(free[engine], begin) for engine in chosen]
        for engine, at in zip(chosen, starts, strict=True):
            free[engine] = at + service_ps
        self.level_free = free[0] if len(set(free)) == 1 else None
        return min(starts), max(starts) + service_ps

    def _result(self) -> Schedule:
        def column(values: list[int]) -> Array:
            return np.array(values, np.int64)

        queue = column(self.queue)
        is_dma = [plan[4] is not None for plan in self.plans]
        queue[np.array([is_dma[t] for t in self.template], bool)] += DMA_READER
        return Schedule(
            column(self.start), column(self.issue_end), column(self.data_start),
            column(self.done), column(self.cause), queue, self.queue_busy, self.dma_busy,
            self.dma_active,
        )  # fmt: skip
