"""What would make a program faster: each change is timed by scheduling the changed program.

A change is tried on the record, not on the kernel: transfers of one line joined, a tile in two
buffers, a product in bf16. Its gain is the difference between two simulated times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tenzing.errors import Loc
from tenzing.facts import Chip
from tenzing.isa.dma import DmaCopy
from tenzing.isa.instruction import Cost
from tenzing.isa.operand import Layout, Space
from tenzing.isa.program import Program, Template
from tenzing.machine.deps import Dependencies
from tenzing.machine.place import Placement, storage_bytes
from tenzing.machine.schedule import Schedule, schedule

JOINED: Final = 8  # transfers of a line that are tried as one
FEWEST: Final = 2 * JOINED  # transfers of a line that are worth joining
SMALL_BYTES: Final = 1 << 19  # a transfer of this size hides its own latency
FACTORS: Final = ("stationary", "moving")  # operands of a matrix product
WORTH: Final = 0.02  # share of the time that a change must gain to be told


@dataclass(frozen=True)
class Advice:
    """A change at a source line, and what it is worth: the program's time before and after."""

    loc: Loc | None
    change: str
    why: str
    before_ps: int
    after_ps: int

    @property
    def gain(self) -> float:
        """Share of the time saved."""
        return 1 - self.after_ps / self.before_ps if self.before_ps else 0.0


@dataclass(frozen=True)
class Recorded:
    """A program with all that scheduling it again needs."""

    program: Program
    placement: Placement
    dependencies: Dependencies
    times: Schedule


Change = tuple[Loc | None, str, str, Program, Dependencies]


def advise(recorded: Recorded) -> list[Advice]:
    """Changes that would gain at least 2 % of the time, the best first."""
    before = recorded.times.total_ps
    found = []
    for changes in (joined_transfers, second_buffers, narrow_products):
        for loc, change, why, program, dependencies in changes(recorded):
            after = schedule(program, dependencies).total_ps
            found.append(Advice(loc, change, why, before, after))
    return sorted((a for a in found if a.gain >= WORTH), key=lambda a: -a.gain)


# -- transfers ---------------------------------------------------------------------------------


def joined_transfers(recorded: Recorded) -> Iterator[Change]:
    """Lines with many small transfers: eight of them as one."""
    program = recorded.program
    rows: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(program.rows):
        rows[row[0]].append(index)
    for number, where in rows.items():
        template = program.templates[number]
        transfer = template.cost.transfer
        if transfer is None or len(where) < FEWEST or transfer.payload_bytes >= SMALL_BYTES:
            continue
        why = (f"{len(where)} transfers of {transfer.payload_bytes} bytes, each with "
               f"{transfer.fixed_ps / 1e6:.2g} us of latency and its own trigger")  # fmt: skip
        change = f"move {JOINED} of them at a time, as one larger transfer"
        yield template.loc, change, why, *_join(recorded, template, where)


def _join(
    recorded: Recorded, template: Template, where: Sequence[int]
) -> tuple[Program, Dependencies]:
    """Every first of eight does the work of all; the others cost nothing and wait for it."""
    program = recorded.program
    transfer = template.cost.transfer
    assert transfer is not None
    count = len(program.templates)
    whole = _template(template, count, _widened(template, program.chip))
    empty = replace(transfer, hbm_bytes=0, service_ps=0, fixed_ps=0, descriptors=0)
    cost = replace(template.cost, issue_ps=0, latency_ps=0, transfer=empty)
    nothing = _template(template, count + 1, cost)
    rows, before = list(program.rows), list(recorded.dependencies.before)
    for start in range(0, len(where), JOINED):
        first, *others = where[start : start + JOINED]
        rows[first] = (whole.number, *rows[first][1:])
        for other in others:
            rows[other] = (nothing.number, *rows[other][1:])
            before[other] = [first]
    changed = replace(program, templates=[*program.templates, whole, nothing], rows=rows)
    return changed, _edges(recorded.dependencies, before)


def _widened(template: Template, chip: Chip) -> Cost:
    """Cost of a transfer of eight times the columns; of eight times the work where rows end."""
    instruction, transfer = template.instruction, template.cost.transfer
    assert transfer is not None
    sides = [x for x in (instruction.dst, instruction.src) if isinstance(x, Layout)]  # type: ignore[attr-defined]
    if type(instruction) is DmaCopy and all(_contiguous(side) for side in sides):
        wide = [
            Layout.of(x.space, x.dtype, (*x.shape[:-1], JOINED * x.shape[-1]), x.strides, x.pitch)
            for x in sides
        ]
        longer = copy(instruction)
        longer.dst, longer.src = wide
        return longer.cost(chip)
    return replace(
        template.cost,
        transfer=replace(
            transfer, payload_bytes=JOINED * transfer.payload_bytes,
            hbm_bytes=JOINED * transfer.hbm_bytes, service_ps=JOINED * transfer.service_ps,
            descriptors=JOINED * transfer.descriptors,
        ),
    )  # fmt: skip


def _contiguous(layout: Layout) -> bool:
    return bool(layout.shape) and layout.strides[-1] == layout.itemsize


def _template(template: Template, number: int, cost: object) -> Template:
    return replace(template, number=number, cost=cost)  # type: ignore[arg-type]


def _edges(old: Dependencies, before: Sequence[Sequence[int]]) -> Dependencies:
    start = np.cumsum([0, *map(len, before)]).astype(np.int64)
    joined = np.array([k for row in before for k in row], np.int64)
    return Dependencies(start, joined, old.queue)


# -- buffers -----------------------------------------------------------------------------------


@dataclass
class _Fill:
    """One content of a tile: who writes it and who reads it."""

    writers: list[int]
    readers: list[int]

    @property
    def users(self) -> set[int]:
        """All that must be done before the tile is written again."""
        return {*self.writers, *self.readers}


def second_buffers(recorded: Recorded) -> Iterator[Change]:
    """On-chip tiles that transfers fill again and again: every other content in a second tile."""
    program = recorded.program
    for storage, fills in _fills(recorded).items():
        before = list(recorded.dependencies.before)
        dropped = 0
        for number, fill in enumerate(fills[1:], 1):
            last = fills[number - 1].users
            older = fills[number - 2].users if number > 1 else set()
            for index in fill.writers:
                kept = [k for k in before[index] if k not in last]
                dropped += len(kept) < len(before[index])
                before[index] = sorted({*kept, *older})
        if not dropped:
            continue
        size = storage_bytes(program.storages[storage])
        why = f"{dropped} transfers wait until the tile they overwrite has been read"
        change = f"give the tile a second buffer ({size} more bytes per partition)"
        loc = program.template(fills[0].writers[0]).loc
        yield loc, change, why, program, _edges(recorded.dependencies, before)


def _fills(recorded: Recorded) -> dict[int, list[_Fill]]:
    """The contents of every on-chip tile that transfers alone write, more than once."""
    program, fills = recorded.program, defaultdict[int, list[_Fill]](list)
    computed = set()
    for index, row in enumerate(program.rows):
        template = program.templates[row[0]]
        for place, layout in enumerate(template.layouts):
            storage = row[1 + 2 * place]
            if layout.space is Space.HBM:
                continue
            found = fills[storage]
            if place in template.reads and found:
                found[-1].readers.append(index)
            if place in template.writes:
                if template.cost.transfer is None:
                    computed.add(storage)
                if not found or found[-1].readers:
                    found.append(_Fill([], []))
                found[-1].writers.append(index)
    return {k: f for k, f in fills.items() if len(f) > 1 and k not in computed}


# -- products ----------------------------------------------------------------------------------


def narrow_products(recorded: Recorded) -> Iterator[Change]:
    """Lines that multiply in float32: the same in one pass."""
    program = recorded.program
    lines: dict[Loc | None, list[Template]] = defaultdict(list)
    for template in program.templates:
        pairs = zip(template.operands, template.layouts, strict=True)
        wide = [x.dtype.name == "float32" for name, x in pairs if name in FACTORS]
        if wide and all(wide) and template.instruction.flops():
            lines[template.loc].append(template)
    chip = program.chip
    share = chip.number("tensor.fp32_cycles_per_row") * chip.integer("tensor.fp32_passes")
    loads = chip.number("tensor.load_cycles_16bit") / chip.number("tensor.load_cycles_fp32")
    for loc, templates in lines.items():
        narrow = list(program.templates)
        for template in templates:
            cost = template.cost
            shorter = round(cost.issue_ps / share)
            saved = cost.issue_ps - shorter
            narrow[template.number] = _template(
                template, template.number,
                replace(cost, issue_ps=shorter, latency_ps=cost.latency_ps - saved,
                        load_ps=round(cost.load_ps * loads)),
            )  # fmt: skip
        why = f"float32 takes {share:g} times the cycles of bf16"
        changed = replace(program, templates=narrow)
        yield loc, "multiply in bf16", why, changed, recorded.dependencies


__all__ = ["Advice", "Recorded", "advise"]
