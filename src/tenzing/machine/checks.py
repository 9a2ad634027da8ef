"""Legality that depends on addresses: start partitions and PSUM banks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenzing.errors import Finding
from tenzing.isa.operand import Layout, Space
from tenzing.isa.program import Program, Template
from tenzing.machine.place import Placement

START_RULE: Final = (
    "0/32/64/96 for up to 32 partitions, 0/64 for up to 64, 0 for more (sbuf.start_partition)"
)


def check_addresses(program: Program, placement: Placement) -> list[Finding]:
    """Every broken address rule, once per call site and operand."""
    findings: list[Finding] = []
    seen: set[tuple[int, int, int]] = set()
    reported: set[tuple[int, str]] = set()
    quantum = program.chip.integer("sbuf.start_partition_quantum")
    for row in program.rows:
        template = program.templates[row[0]]
        if template.cost.transfer is not None:
            continue
        for place, layout in enumerate(template.layouts):
            storage, offset = row[1 + 2 * place], row[2 + 2 * place]
            byte = offset % layout.pitch
            source = program.storages[storage]
            if source.address is None:
                byte += int(placement.address[storage])
            key = (row[0] * 8 + place, offset // layout.pitch, byte)
            if key in seen:
                continue
            seen.add(key)
            for rule, text in _broken(program, template, place, layout, key[1], byte, quantum):
                if (template.number, rule) not in reported:
                    reported.add((template.number, rule))
                    findings.append(Finding(
                        rule, f"nki.isa.{template.instruction.nki}: "
                        f"{template.operands[place]} {text}", template.loc,
                        "move the tile or split the instruction"))  # fmt: skip
    return findings


def _broken(
    program: Program, template: Template, place: int, layout: Layout, partition: int, byte: int,
    quantum: int,
) -> Iterator[tuple[str, str]]:  # fmt: skip
    if not layout.space.on_chip:
        return
    if not start_partition_ok(partition, layout.partitions, quantum):
        yield ("start-partition", f"covers {layout.partitions} partitions from {partition}; "
               f"{program.chip.name} allows a start at {START_RULE}")  # fmt: skip
    if layout.space is Space.PSUM and template.instruction.flops():
        bank = program.chip.integer("psum.bank_bytes")
        wide = program.chip.integer("tensor.moving_free_max") * 4 > bank
        end = byte + layout.free_bytes
        if not wide and byte // bank != (end - 1) // bank:
            yield ("psum-bank", f"spans bytes {byte}..{end} of a partition; a matmul writes inside "
                   f"one PSUM bank of {bank} bytes (psum.bank_bytes)")  # fmt: skip


def start_partition_ok(start: int, count: int, quantum: int) -> bool:
    """The documented start rule: multiples of 32, 64 or 128 by size."""
    step = quantum
    while step < count:
        step *= 2
    return start % step == 0
