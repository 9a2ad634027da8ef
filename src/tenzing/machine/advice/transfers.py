"""Changes to transfers: fewer and larger ones, and none that move the same data twice."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from typing import Final

from tenzing.facts import Chip
from tenzing.isa.dma import DmaCopy
from tenzing.isa.instruction import Cost
from tenzing.isa.operand import Layout, Space
from tenzing.isa.program import Template
from tenzing.machine.advice.edits import Change, Edit, Recorded
from tenzing.machine.place import storage_bytes
from tenzing.units import PS_PER_US, format_bytes

JOINED: Final = 8  # transfers of a line that are tried as one
FEWEST: Final = 2 * JOINED  # transfers of a line that are worth joining
SMALL_BYTES: Final = 1 << 19  # a transfer of this size hides its own latency


def joined_transfers(recorded: Recorded) -> Iterator[Change]:
    """Lines with many small transfers: eight of them as one."""
    program = recorded.program
    for number, where in recorded.by_template.items():
        template = program.templates[number]
        transfer = template.cost.transfer
        if transfer is None or len(where) < FEWEST or transfer.payload_bytes >= SMALL_BYTES:
            continue
        edit = Edit(recorded)
        whole = edit.add(template, _widened(template, program.chip))
        for start in range(0, len(where), JOINED):
            first, *others = where[start : start + JOINED]
            edit.give(first, whole)
            for other in others:
                edit.drop(other, [first])
        what = f"move {JOINED} of them at a time, as one larger transfer"
        latency = f"{transfer.fixed_ps / PS_PER_US:.2g} us of latency"
        why = (f"{len(where)} transfers of {transfer.payload_bytes} bytes, each with {latency} and "
               f"its own trigger")  # fmt: skip
        yield edit.change(template.loc, what, why)


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


def kept_tiles(recorded: Recorded) -> Iterator[Change]:
    """Lines that load the same data again and again: once, if SBUF can keep it."""
    program = recorded.program
    room = program.chip.integer("sbuf.bytes_per_partition") - recorded.placement.sbuf_peak_bytes
    for numbers in recorded.by_line.values():
        first: dict[tuple[int, ...], int] = {}
        repeated: list[tuple[int, int]] = []
        needed = 0
        for index, source, size in _loads(recorded, numbers):
            if source in first:
                repeated.append((index, first[source]))
            else:
                first[source] = index
                needed += size
        if not repeated or needed > room:
            continue
        edit = Edit(recorded)
        for index, earlier in repeated:
            edit.drop(index, [earlier])
        times = 1 + len(repeated) / len(first)
        what = f"load it once and keep it in SBUF ({format_bytes(needed)} per partition)"
        why = f"each of {len(first)} pieces of HBM is loaded {times:.3g} times"
        yield edit.change(program.templates[numbers[0]].loc, what, why)


def _loads(recorded: Recorded, numbers: list[int]) -> Iterator[tuple[int, tuple[int, ...], int]]:
    """Loads of some templates from tensors that nothing writes: index, source, SBUF bytes."""
    program = recorded.program
    written = _written(recorded)
    where = sorted((index, number) for number in numbers for index in recorded.by_template[number])
    for index, number in where:
        template = program.templates[number]
        if template.cost.transfer is None or len(template.layouts) != len(("dst", "src")):
            continue
        row, source, target = program.rows[index], template.reads, template.writes
        if len(source) != 1 or len(target) != 1:
            continue
        layout = template.layouts[source[0]]
        storage, offset = row[1 + 2 * source[0]], row[2 + 2 * source[0]]
        held = program.storages[row[1 + 2 * target[0]]]
        if layout.space is Space.HBM and held.space is Space.SBUF and storage not in written:
            kind = id(layout), id(template.layouts[target[0]])
            yield index, (storage, offset, *kind), storage_bytes(held)


def _written(recorded: Recorded) -> set[int]:
    """HBM tensors that the program itself writes."""
    program = recorded.program
    found: set[int] = set()
    for number, where in recorded.by_template.items():
        template = program.templates[number]
        for place in template.writes:
            if template.layouts[place].space is Space.HBM:
                found.update(program.rows[index][1 + 2 * place] for index in where)
    return found


__all__ = ["joined_transfers", "kept_tiles"]
