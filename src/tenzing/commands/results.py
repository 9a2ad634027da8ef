"""What running a script or a model gives: an analysis per kernel and core, values, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tenzing import compiler
from tenzing.compiler.attribution import NodeTime
from tenzing.compiler.timing import GraphTime
from tenzing.errors import Finding, Loc, UsageError
from tenzing.fleet import Bill, bill_for
from tenzing.isa.operand import Array, Space
from tenzing.machine import (
    Advice,
    Analysis,
    Link,
    OperationTime,
    Tenants,
    TransferClass,
    no_tenants,
)
from tenzing.timeline import Timeline


class TimeOnly(GraphTime):
    """The time of a model without weights, as reports read it: no lines, waits or timeline."""

    @property
    def findings(self) -> list[Finding]:
        """None: its programs are ours, and what does not fit is refused before."""
        return []

    @property
    def dma_bytes(self) -> int:
        """Traffic with HBM; what moves inside the chip is not kept."""
        return self.hbm_read_bytes + self.hbm_write_bytes

    def top_lines(self, count: int = 0) -> list[tuple[Loc, dict[str, int], int]]:
        """None: repeated layers were not simulated."""
        return []

    def top_operations(self, count: int = 0) -> list[OperationTime]:
        """None: repeated layers were not simulated."""
        return []

    def stalls_by_line(self, count: int = 0) -> list[tuple[Loc, int, dict[str, int]]]:
        """None: repeated layers were not simulated."""
        return []

    @property
    def critical_path(self) -> list[Link]:
        """None: repeated layers were not simulated."""
        return []

    @property
    def advice(self) -> list[Advice]:
        """None: there is no program to change."""
        return []

    def transfers_by_size(self) -> list[TransferClass]:
        """None: repeated layers were not simulated."""
        return []

    def tenants(self, space: Space) -> Tenants:
        """None: repeated layers were not simulated."""
        return no_tenants()

    def occupancy(self, space: Space) -> tuple[Array, Array]:
        """None: repeated layers were not simulated."""
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def timeline(self) -> Timeline:
        """Raises UsageError."""
        raise UsageError("a model without weights has a time, but no timeline",
                         next_step="give its folder with weights, or a model.py:name")  # fmt: skip


@dataclass(frozen=True)
class ModelChange:
    """What a model's user can change: dtype, batch, layout or kernel; picoseconds.

    ``after_ps`` is the time of the changed model, or None where it was not tried: ``before_ps`` is
    then the time that the change is about.
    """

    kind: str
    what: str
    before_ps: int
    after_ps: int | None

    @property
    def gain(self) -> float | None:
        """Share of the time saved, where it was tried."""
        return None if self.after_ps is None else 1 - self.after_ps / max(self.before_ps, 1)


@dataclass(frozen=True)
class ModelProfile:
    """A model by operation, those of most time first, and what can be changed.

    ``owner``: the number of the operation that each instruction belongs to.
    """

    nodes: Sequence[NodeTime]
    changes: Sequence[ModelChange]
    owner: Array = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)


@dataclass(frozen=True)
class KernelResult:
    """One kernel call or compiled model on one target: an analysis per core used."""

    name: str
    target: str
    analyses: tuple[Analysis | TimeOnly, ...]
    where: str = ""
    items: int = 1
    model: ModelProfile | None = None

    @property
    def slowest(self) -> Analysis | TimeOnly:
        """The core that ends last; a launch takes as long as it does."""
        return max(self.analyses, key=lambda a: a.total_ps)

    @property
    def latency_ps(self) -> int:
        """One execution on the device, launch included."""
        return self.slowest.latency_ps

    @property
    def findings(self) -> list[Finding]:
        """Broken rules on any core."""
        seen = {(f.rule, f.message, f.loc): f for a in self.analyses for f in a.findings}
        return list(seen.values())

    @property
    def bill(self) -> Bill | None:
        """Money on the cheapest instance of the target."""
        moved = sum(a.hbm_read_bytes + a.hbm_write_bytes for a in self.analyses)
        return bill_for(self.target, self.latency_ps, self.items, hbm_bytes_moved=moved)


@dataclass
class RunResult:
    """All kernels a script launched, or one compiled model, on one target."""

    path: str
    target: str
    kernels: list[KernelResult] = field(default_factory=list)
    outputs: Any = None
    agreement: dict[str, float] = field(default_factory=dict)
    comparison: compiler.Comparison | None = None

    @property
    def findings(self) -> list[Finding]:
        """Broken rules of all kernels."""
        return [f for k in self.kernels for f in k.findings]


__all__ = ["KernelResult", "RunResult", "TimeOnly"]
