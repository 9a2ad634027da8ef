"""What transfers of each size achieve: DMA engines are fast only with enough bytes at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.facts import Chip
from tenzing.isa.program import Program
from tenzing.machine.schedule import Schedule
from tenzing.units import PS_PER_NS

WHOLE: Final = 1.0


@dataclass(frozen=True)
class TransferClass:
    """Transfers whose payloads round up to one power of two; bytes, picoseconds, GB/s.

    ``alone_ps``: what they would take each with all engines to itself, ``busy_ps``: what they took,
    waiting for others included; both count latency. ``full_gb_s``: what all DMA engines move.
    """

    up_to_bytes: int
    number: int
    moved_bytes: int
    descriptors: int
    alone_ps: int
    busy_ps: int
    full_gb_s: float

    @property
    def alone_gb_s(self) -> float:
        """The rate of one of them with nothing else under way."""
        return self.moved_bytes * PS_PER_NS / max(self.alone_ps, 1)

    @property
    def reached_gb_s(self) -> float:
        """The rate of one of them as it was, beside others."""
        return self.moved_bytes * PS_PER_NS / max(self.busy_ps, 1)

    @property
    def efficiency(self) -> float:
        """Share of the engines' rate that the size allows."""
        return min(self.alone_gb_s / self.full_gb_s, WHOLE)

    @property
    def descriptor_bytes(self) -> float:
        """Mean bytes that one descriptor moves."""
        return self.moved_bytes / max(self.descriptors, 1)


def full_rate(chip: Chip) -> float:
    """GB/s that all DMA engines of a core move, or that its HBM gives if that is less."""
    engines = chip.integer("dma.engines") * chip.number("dma.engine_gb_s")
    return min(engines, chip.number("hbm.core_gb_s"))


def transfers_by_size(program: Program, times: Schedule) -> list[TransferClass]:
    """Transfers by payload, in powers of two, the smallest first."""
    if not program.rows:
        return []
    used = np.array([row[0] for row in program.rows], np.int64)
    spent = (times.done_ps - times.issue_end_ps).astype(np.float64)
    numbers = np.bincount(used, minlength=len(program.templates))
    busy = np.bincount(used, spent, len(program.templates))
    sums: dict[int, list[int]] = {}
    for template, number, took in zip(program.templates, numbers.tolist(), busy, strict=True):
        transfer = template.cost.transfer
        if transfer is None or not number:
            continue
        size = 1 << max(transfer.payload_bytes - 1, 0).bit_length()
        found = sums.setdefault(size, [0, 0, 0, 0, 0])
        amounts = (1, transfer.payload_bytes, transfer.descriptors,
                   transfer.fixed_ps + transfer.service_ps)  # fmt: skip
        for place, amount in enumerate(amounts):
            found[place] += number * amount
        found[-1] += round(took)
    rate = full_rate(program.chip)
    classes = []
    for size, (number, moved, descriptors, alone, took) in sorted(sums.items()):
        classes.append(TransferClass(size, number, moved, descriptors, alone, took, rate))
    return classes


__all__ = ["TransferClass", "full_rate", "transfers_by_size"]
