"""Time: five in-order queues, sixteen DMA engines and one HBM server, in integer picoseconds.

Compute instructions start as soon as their queue and operands are ready, so their times follow in
dataflow order. DMA triggers on the Sync queue and DMA transfers compete for shared servers and are
served from a heap of events; popping the earliest is safe, because whatever is not yet resolved
waits for a later one.

The Sync queue holds nothing but DMA triggers, whose order the compiler chooses. Here, as a list
scheduler would, a free queue takes the first trigger in program order whose operands are ready.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.facts import Chip
from tenzing.isa.instruction import Cost
from tenzing.isa.operand import Array
from tenzing.isa.program import Program
from tenzing.machine.deps import DMA_READER, QUEUES, Dependencies
from tenzing.units import PS_PER_NS, ns_to_ps

TENSOR: Final = 0
SYNC: Final = len(QUEUES) - 1
REQUEST, ARRIVAL, GRANT = range(3)  # events: trigger ready, transfer begins, Sync is free
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
    return _Simulation(program, dependencies).run()


class _Simulation:
    """One run of the event-driven simulation."""

    def __init__(self, program: Program, dependencies: Dependencies) -> None:
        self.timing = Timing.of(program.chip)
        self.before = dependencies.before
        self.queue = dependencies.queue
        self.costs: list[Cost] = [t.cost for t in program.templates]
        self.template = [row[0] for row in program.rows]
        count = len(self.template)
        self.start = [0] * count
        self.issue_end = [0] * count
        self.data_start = [0] * count
        self.done = [0] * count
        self.cause = [NO_CAUSE] * count
        self.is_dma = [c.transfer is not None for c in self.costs]
        self.queue_free = [0] * len(QUEUES)
        self.queue_last = [NO_CAUSE] * len(QUEUES)
        self.queue_busy = [0] * len(QUEUES)
        self.engine_free = [0] * self.timing.dma_engines
        self.hbm_free = 0
        self.dma_busy = 0
        self.dma_active = 0
        self.dma_active_until = 0
        self.tensor_start = 0  # issue of the latest matmul: the next weight load runs under it
        self.warm_from = 0
        self.tensor_used = False
        self.table: str | None = None
        self.waiting: list[int] = []
        self.after: Sequence[list[int]] = ()
        self.ready: list[int] = []
        self.events: list[tuple[int, int, int]] = []
        self.pending: list[int] = []  # triggers whose operands are ready, first in program first
        self.granting = False

    def run(self) -> Schedule:
        waiting, after, next_in_queue = self._graph()
        self.waiting, self.after = waiting, after
        ready = self.ready
        ready.extend(i for i in range(len(waiting) - 1, -1, -1) if waiting[i] == 0)
        events = self.events
        while ready or events:
            while ready:
                index = ready.pop()
                if self.queue[index] == SYNC:
                    heapq.heappush(events, (self._request(index), REQUEST, index))
                    continue
                arrival = self._issue(index)
                follower = next_in_queue[index]
                if follower >= 0:
                    waiting[follower] -= 1
                    if not waiting[follower]:
                        ready.append(follower)
                if arrival >= 0:
                    heapq.heappush(events, (arrival, ARRIVAL, index))
                else:
                    self._release(index)
            if events:
                self._handle(*heapq.heappop(events))
        return self._result()

    def _handle(self, when: int, kind: int, index: int) -> None:
        if kind == ARRIVAL:
            self._transfer(index, when)
            self._release(index)
            return
        if kind == REQUEST:
            heapq.heappush(self.pending, index)
            if self.queue_free[SYNC] > when or self.granting:
                if not self.granting:
                    self.granting = True
                    heapq.heappush(self.events, (self.queue_free[SYNC], GRANT, 0))
                return
        self.granting = False
        index = heapq.heappop(self.pending)
        arrival = self._issue(index, when)
        if arrival >= 0:
            heapq.heappush(self.events, (arrival, ARRIVAL, index))
        else:
            self._release(index)
        if self.pending:
            self.granting = True
            heapq.heappush(self.events, (self.queue_free[SYNC], GRANT, 0))

    def _request(self, index: int) -> int:
        """When a trigger's operands are ready; remembers which one was last."""
        ready, self.cause[index] = self._operands_ready(index, SYNC)
        return ready

    def _release(self, index: int) -> None:
        """The result is timed: followers that waited for nothing else become ready."""
        waiting, ready = self.waiting, self.ready
        for other in self.after[index]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)

    def _graph(self) -> tuple[list[int], Sequence[list[int]], list[int]]:
        count = len(self.template)
        waiting = [len(b) for b in self.before]
        after: list[list[int]] = [[] for _ in range(count)]
        for index, earlier in enumerate(self.before):
            for other in earlier:
                after[other].append(index)
        next_in_queue = [NO_CAUSE] * count
        latest = [NO_CAUSE] * len(QUEUES)
        for index, queue in enumerate(self.queue):
            previous = latest[queue]
            if previous >= 0 and queue != SYNC:
                next_in_queue[previous] = index
                waiting[index] += 1
            latest[queue] = index
        return waiting, after, next_in_queue

    def _operands_ready(self, index: int, queue: int) -> tuple[int, int]:
        """When the last predecessor's result can be used here, and which one it is."""
        ready, cause = 0, NO_CAUSE
        done, queues, timing = self.done, self.queue, self.timing
        for other in self.before[index]:
            when = done[other]
            if self.is_dma[self.template[other]]:
                when += timing.dma_hop_ps
            elif queues[other] != queue:
                when += timing.hop_ps
            if when > ready:
                ready, cause = when, other
        return ready, cause

    def _issue(self, index: int, granted: int = -1) -> int:
        """Place an instruction on its queue; the arrival time of its transfer, or -1."""
        queue = self.queue[index]
        cost = self.costs[self.template[index]]
        start = self.queue_free[queue]
        ready, cause = granted, self.cause[index]
        if granted < 0:
            ready, cause = self._operands_ready(index, queue)
        if ready > start:
            start = ready
        else:
            cause = self.queue_last[queue]
        issue, latency = cost.issue_ps, cost.latency_ps
        if queue == TENSOR:
            start, issue, latency = self._tensor_issue(start, ready, cost)
        elif cost.table is not None and cost.table != self.table:
            self.table = cost.table
            self.queue_busy[queue] += self.timing.table_load_ps
            start += self.timing.table_load_ps
        self.start[index] = self.data_start[index] = start
        end = start + issue
        self.issue_end[index] = self.queue_free[queue] = end
        self.queue_busy[queue] += issue
        self.queue_last[queue] = index
        self.cause[index] = cause
        if cost.transfer is not None:
            return end
        self.done[index] = start + latency
        return -1

    def _tensor_issue(self, start: int, ready: int, cost: Cost) -> tuple[int, int, int]:
        """TensorE: the weight load hides under the multiply before; half rate after idling."""
        timing = self.timing
        loaded = max(self.tensor_start, ready) + cost.load_ps
        start = max(start, loaded)
        if not self.tensor_used or start - self.queue_free[TENSOR] > timing.warmup_idle_ps:
            self.warm_from = start
        self.tensor_used = True
        self.tensor_start = start
        issue = cost.issue_ps
        cold_left = self.warm_from + timing.warmup_ps - start
        if cold_left > 0:
            cold_need = issue / timing.warmup_rate
            if cold_need <= cold_left:
                issue = round(cold_need)
            else:  # part of it runs before the limit is lifted
                issue = round(cold_left + (issue - cold_left * timing.warmup_rate))
        return start, issue, cost.latency_ps + issue - cost.issue_ps

    def _transfer(self, index: int, arrival: int) -> None:
        """Serve a DMA: least-loaded engines first, all behind one HBM server."""
        transfer = self.costs[self.template[index]].transfer
        assert transfer is not None  # noqa: S101 - only transfers are pushed on the heap
        begin = arrival + transfer.fixed_ps
        free = self.engine_free
        used = transfer.engines
        chosen: Sequence[int] = range(len(free))
        if used < len(free):
            chosen = sorted(chosen, key=free.__getitem__)[:used]
        end = 0
        first = None
        for engine in chosen:
            at = free[engine] if free[engine] > begin else begin
            first = at if first is None or at < first else first
            free[engine] = at + transfer.service_ps
            if free[engine] > end:
                end = free[engine]
        first = begin if first is None else first
        if transfer.hbm_bytes:
            moved = round(transfer.hbm_bytes * PS_PER_NS / self.timing.hbm_bytes_per_ns)
            self.hbm_free = max(self.hbm_free, first) + moved
            if self.hbm_free > end:
                end = self.hbm_free
        self.data_start[index] = first
        self.done[index] = end
        self.dma_busy += transfer.service_ps * used
        self.dma_active += max(0, end - max(first, self.dma_active_until))
        self.dma_active_until = max(self.dma_active_until, end)

    def _result(self) -> Schedule:
        def column(values: list[int]) -> Array:
            return np.array(values, np.int64)

        queue = column(self.queue)
        dma = np.array([self.is_dma[t] for t in self.template], bool)
        queue[dma] += DMA_READER
        return Schedule(
            column(self.start), column(self.issue_end), column(self.data_start),
            column(self.done), column(self.cause), queue, self.queue_busy, self.dma_busy,
            self.dma_active,
        )  # fmt: skip
