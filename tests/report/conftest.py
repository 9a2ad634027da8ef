"""A small made-up run for reports: what a report reads, with numbers that are easy to check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tenzing import facts
from tenzing.errors import Finding, Loc
from tenzing.fleet import Bill
from tenzing.isa.operand import Space
from tenzing.machine import (
    Advice,
    Interval,
    Link,
    OperationTime,
    Tenants,
    TransferClass,
    no_tenants,
)
from tenzing.timeline import Timeline
from tenzing.units import PS_PER_US


@dataclass
class SampleAnalysis:
    """Stands for an analysed program of 3 instructions on trn2; 100 us program, 10 us launch."""

    chip: facts.Chip = field(default_factory=lambda: facts.chip("trn2"))
    instructions: int = 3
    total_ps: int = 100 * PS_PER_US
    latency_ps: int = 110 * PS_PER_US
    busy_ps: dict[str, int] = field(
        default_factory=lambda: {"Tensor": 50 * PS_PER_US, "Vector": 0, "DMA": 75 * PS_PER_US}
    )
    utilisation: dict[str, float] = field(
        default_factory=lambda: {"Tensor": 0.5, "Vector": 0.0, "DMA": 0.75}
    )
    flops: int = 3_932_160_000
    mfu: float = 0.5
    mbu: float = 0.25
    hbm_read_bytes: int = 16 * 2**20
    hbm_write_bytes: int = 2**20
    dma_bytes: int = 17 * 2**20
    sbuf_peak_bytes: int = 96 * 2**10
    psum_peak_bytes: int = 2**12
    hbm_bytes: int = 17 * 2**20
    findings: list[Finding] = field(default_factory=list)
    title: str = "NeuronCore"
    critical_path: tuple[Link, ...] = (
        Link(0, Loc("gemm.py", 6, "gemm"), (("computing", 100 * PS_PER_US),)),
    )
    interval: Interval = field(
        default_factory=lambda: Interval(90 * PS_PER_US, 130 * PS_PER_US, "dma", 0.2, 0.1)
    )
    advice: tuple[Advice, ...] = (
        Advice(Loc("gemm.py", 6, "gemm"), "multiply in bf16", "it is wide", 100, 40),
    )

    def occupancy(self, space: Space) -> tuple[Any, Any]:
        return np.array([0, 100 * PS_PER_US]), np.array([self.sbuf_peak_bytes, 0])

    def transfers_by_size(self) -> list[TransferClass]:
        return [TransferClass(2**20, 17, 17 * 2**20, 17 * 16, 60 * PS_PER_US, 75 * PS_PER_US, 400)]

    def tenants(self, space: Space) -> Tenants:
        if space is Space.PSUM:
            return no_tenants()
        start, end = np.array([0, 0]), np.array([100, 50]) * PS_PER_US
        owners = ("", Loc("gemm.py", 3, "gemm")), ("<b>", Loc("gemm.py", 4, "gemm"))
        return Tenants(start, end, np.array([64, 32]) * 2**10, np.array([0, 1]), owners)

    def timeline(self) -> Timeline:
        timeline = Timeline(["Tensor", "Vector", "DMA"], self.title)
        timeline.add("DMA", "dma_copy", 0, 40 * PS_PER_US, "gemm.py:3")
        timeline.add("DMA", "dma_copy", 10 * PS_PER_US, 75 * PS_PER_US, "gemm.py:4")
        timeline.add("Tensor", "nc_matmul", 50 * PS_PER_US, 100 * PS_PER_US, "gemm.py:6")
        return timeline

    def top_lines(self, count: int = 10) -> list[tuple[Loc, dict[str, int], int]]:
        lines = [(Loc("gemm.py", 4, "gemm"), {"DMA": 65 * PS_PER_US, "Sync": 5}, 1),
                 (Loc("gemm.py", 6, "gemm"), {"Tensor": 50 * PS_PER_US}, 1)]  # fmt: skip
        return lines[:count]

    def top_operations(self, count: int = 10) -> list[OperationTime]:
        return [OperationTime("nc_matmul", "Tensor", 1, 50 * PS_PER_US)][:count]

    def stalls_by_line(self, count: int = 10) -> list[tuple[Loc, int, dict[str, int]]]:
        waits = [(Loc("gemm.py", 6, "gemm"), 50 * PS_PER_US,
                  {"start": 10 * PS_PER_US, "DMA": 40 * PS_PER_US})]  # fmt: skip
        return waits[:count]


@dataclass
class SampleKernel:
    """One call of a kernel on one or more cores."""

    name: str = "gemm"
    where: str = "main.py:9"
    analyses: tuple[SampleAnalysis, ...] = field(default_factory=lambda: (SampleAnalysis(),))
    bill: Bill | None = None
    model: Any = None

    @property
    def slowest(self) -> SampleAnalysis:
        return max(self.analyses, key=lambda a: a.total_ps)

    @property
    def latency_ps(self) -> int:
        return self.slowest.latency_ps

    @property
    def findings(self) -> list[Finding]:
        return [f for a in self.analyses for f in a.findings]


@dataclass
class SampleRun:
    """A script that launched some kernels."""

    path: str = "folder/main.py"
    target: str = "trn2"
    kernels: list[SampleKernel] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        return [f for k in self.kernels for f in k.findings]


PRICED = Bill("trn2.48xlarge", 128, 1_163_636.4, 35.76, 8.5367, "capacity_block", "2026-08", "s")


@pytest.fixture
def make_run() -> Any:
    """A run with one kernel per name in ``names``; keywords change the analysis of each."""

    def make(*names: str, bill: Bill | None = PRICED, **changes: Any) -> SampleRun:
        kernels = [SampleKernel(n, analyses=(SampleAnalysis(**changes),), bill=bill) for n in names]
        return SampleRun(kernels=kernels)

    return make


@pytest.fixture
def make_analysis() -> type[SampleAnalysis]:
    """The class of made-up analyses; keywords change its fields."""
    return SampleAnalysis
