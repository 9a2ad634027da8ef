"""Everything known about a recorded program: time, use, memory, findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from tenzing.errors import Finding, Loc
from tenzing.facts import Chip
from tenzing.isa.operand import Array, Space
from tenzing.isa.program import Program
from tenzing.machine.advice import Advice, Recorded, advise
from tenzing.machine.checks import check_addresses
from tenzing.machine.critical import Link, critical_path
from tenzing.machine.deps import DMA_READER, Dependencies, analyse_dependencies
from tenzing.machine.lines import DMA_TRACK, TRACKS, Lines, LineStall, OperationTime
from tenzing.machine.occupancy import Tenants, tenants
from tenzing.machine.place import Placement, place
from tenzing.machine.schedule import Schedule, schedule
from tenzing.machine.transfers import TransferClass, transfers_by_size
from tenzing.machine.uncertainty import Interval, interval, limit
from tenzing.timeline import NONE, Timeline
from tenzing.units import PS_PER_S, ns_to_ps

TERA: Final = 10**12
GIGA: Final = 10**9


@dataclass
class Analysis:
    """Results for one program on one core; times in picoseconds, sizes in bytes."""

    program: Program
    placement: Placement
    times: Schedule
    findings: list[Finding]
    dependencies: Dependencies
    stall: Array = field(init=False)

    def __post_init__(self) -> None:
        self.stall = self.times.cause

    @property
    def chip(self) -> Chip:
        """The target."""
        return self.program.chip

    @property
    def start_ps(self) -> Array:
        """Issue time of every instruction."""
        return self.times.start_ps

    @property
    def issue_end_ps(self) -> Array:
        """When the issuing queue is free again."""
        return self.times.issue_end_ps

    @property
    def done_ps(self) -> Array:
        """When the result is visible."""
        return self.times.done_ps

    @property
    def queue(self) -> Array:
        """Issuing queue by instruction; DMA transfers carry their queue plus DMA_READER."""
        return self.times.queue

    @property
    def total_ps(self) -> int:
        """Makespan of the program itself."""
        return self.times.total_ps

    @property
    def launch_ps(self) -> int:
        """Device-side cost of starting and ending one execution."""
        return ns_to_ps(self.chip.number("launch.overhead_ns"))

    @property
    def latency_ps(self) -> int:
        """One execution on the device, launch included."""
        return self.total_ps + self.launch_ps

    @cached_property
    def busy_ps(self) -> dict[str, int]:
        """Busy time by engine; DMA is the time any transfer is under way."""
        busy = dict(zip(TRACKS, self.times.queue_busy_ps, strict=True))
        busy[DMA_TRACK] = self.times.dma_active_ps
        return busy

    @cached_property
    def utilisation(self) -> dict[str, float]:
        """Busy share of the makespan by engine."""
        total = max(self.total_ps, 1)
        return {name: busy / total for name, busy in self.busy_ps.items()}

    @cached_property
    def active(self) -> dict[str, float]:
        """Share of the makespan with an instruction under way, dispatch to result, by engine.

        This is what a device profile calls active; it counts an engine that waits inside a chain
        of dependent instructions, which ``utilisation`` does not, and transfers in flight whose
        data does not move yet.
        """
        total = max(self.total_ps, 1)
        moves = np.flatnonzero(self.queue >= DMA_READER)
        shares = {DMA_TRACK: covered(self.issue_end_ps[moves], self.done_ps[moves]) / total}
        for number, track in enumerate(TRACKS):
            mine = np.flatnonzero(self.queue == number)
            shares[track] = covered(self.start_ps[mine], self.done_ps[mine]) / total
        return shares

    @property
    def limit(self) -> str:
        """What dominates the time: "tensor", "vector", "dma", or "latency" when nothing does."""
        return limit(self.utilisation)

    @property
    def interval(self) -> Interval:
        """An 80 % interval of ``latency_ps``."""
        return interval(
            self.latency_ps, self.utilisation, [path for path, _ in self.chip.assumed_used()]
        )

    @property
    def instructions(self) -> int:
        """How many were recorded."""
        return len(self.program)

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of all matrix products."""
        return self.program.flops()

    @property
    def mfu(self) -> float:
        """Share of the core's bf16 matrix peak."""
        peak = self.chip.number("core.peak_bf16_tflops") * TERA
        return self.flops / (peak * max(self.total_ps, 1) / PS_PER_S)

    @cached_property
    def _traffic(self) -> tuple[int, int, int]:
        reads = writes = moved = 0
        per_template = []
        for template in self.program.templates:
            transfer = template.cost.transfer
            r = w = 0
            for k, layout in enumerate(template.layouts):
                if transfer is not None and layout.space is Space.HBM:
                    r += transfer.payload_bytes * (k in template.reads)
                    w += transfer.payload_bytes * (k in template.writes)
            per_template.append((r, w, transfer.payload_bytes if transfer else 0))
        for row in self.program.rows:
            r, w, m = per_template[row[0]]
            reads, writes, moved = reads + r, writes + w, moved + m
        return reads, writes, moved

    @property
    def hbm_read_bytes(self) -> int:
        """Bytes transfers read from HBM."""
        return self._traffic[0]

    @property
    def hbm_write_bytes(self) -> int:
        """Bytes transfers write to HBM."""
        return self._traffic[1]

    @property
    def dma_bytes(self) -> int:
        """Payload of all transfers."""
        return self._traffic[2]

    @property
    def mbu(self) -> float:
        """Share of the HBM bandwidth one core can draw."""
        rate = self.chip.number("hbm.core_gb_s") * GIGA
        moved = self.hbm_read_bytes + self.hbm_write_bytes
        return moved / (rate * max(self.total_ps, 1) / PS_PER_S)

    @property
    def sbuf_peak_bytes(self) -> int:
        """Live SBUF bytes per partition at the fullest moment."""
        return self.placement.sbuf_peak_bytes

    @property
    def psum_peak_bytes(self) -> int:
        """Live PSUM bytes per partition at the fullest moment."""
        return self.placement.psum_peak_bytes

    @property
    def hbm_bytes(self) -> int:
        """Bytes of all HBM tensors."""
        return self.placement.hbm_bytes

    def timeline(self) -> Timeline:
        """Every instruction on its queue, and the data phase of transfers on the DMA track."""
        line = Timeline((*TRACKS, DMA_TRACK))
        if not self.program.rows:
            return line
        template = self.lines.template
        names = np.array([line.intern(t.instruction.nki) for t in self.program.templates])
        places = np.array([line.intern(str(t.loc or "")) for t in self.program.templates])
        waits = np.array([
            line.intern(f"after {t.instruction.nki} {t.loc or ''}".rstrip())
            for t in self.program.templates
        ])  # fmt: skip
        index = np.arange(len(template))
        stall = np.where(self.stall >= 0, waits[template[self.stall]], NONE)
        line.extend(
            self.start_ps, self.issue_end_ps, self.queue % DMA_READER, names[template],
            places[template], instruction=index, stall=stall,
        )  # fmt: skip
        moves = index[self.queue >= DMA_READER]
        line.extend(
            self.times.data_start_ps[moves], self.done_ps[moves],
            np.full(len(moves), len(TRACKS)), names[template[moves]], places[template[moves]],
            instruction=moves,
        )  # fmt: skip
        return line

    def tenants(self, space: Space) -> Tenants:
        """Tiles of SBUF or PSUM: when each is held, how large, made by which line."""
        return tenants(self.program, self.placement, self.times, space)

    def occupancy(self, space: Space) -> tuple[Array, Array]:
        """Bytes per partition alive in SBUF or PSUM: times in picoseconds and levels."""
        return self.tenants(space).levels()

    @cached_property
    def critical_path(self) -> list[Link]:
        """The chain of instructions whose shares add up to the program's time."""
        return critical_path(self.program, self.times)

    @cached_property
    def advice(self) -> list[Advice]:
        """Changes that would make the program faster, each timed; the best first."""
        parts = self.program, self.placement, self.dependencies, self.times
        return advise(Recorded(*parts))

    def transfers_by_size(self) -> list[TransferClass]:
        """Transfers by payload, in powers of two, the smallest first."""
        return transfers_by_size(self.program, self.times)

    @cached_property
    def lines(self) -> Lines:
        """The program by source line."""
        return Lines(self.program, self.times)

    def top_lines(self, count: int = 10) -> list[tuple[Loc, dict[str, int], int]]:
        """Source lines by busy time: place, busy picoseconds by engine, instructions."""
        return self.lines.busy()[:count]

    def stalls_by_line(self, count: int = 10) -> list[LineStall]:
        """Source lines by idle time in front of them: place, picoseconds, what they waited for."""
        return self.lines.stalls()[:count]

    def top_operations(self, count: int = 10) -> list[OperationTime]:
        """Operations by the time they keep their engine busy."""
        return self.lines.operations()[:count]


def covered(start: Array, end: Array) -> int:
    """Length of the union of intervals."""
    if not len(start):
        return 0
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    before = np.concatenate([start[:1], reach[:-1]])
    return int(np.maximum(0, reach - np.maximum(start, before)).sum())


def analyse(program: Program) -> Analysis:
    """Place, check and time a recorded program."""
    placement = place(program)
    dependencies = analyse_dependencies(program, placement)
    times = schedule(program, dependencies)
    findings = [*placement.findings, *dependencies.findings]
    if not any(f.rule == "capacity" for f in placement.findings):
        findings.extend(check_addresses(program, placement))
    return Analysis(program, placement, times, findings, dependencies)
