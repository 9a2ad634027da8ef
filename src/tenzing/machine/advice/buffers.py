"""A second buffer for tiles that are filled again before anything else can go on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from tenzing.isa.operand import Space, Storage
from tenzing.isa.program import Program, Template
from tenzing.machine.advice.edits import Change, Recorded, rewritten
from tenzing.machine.place import storage_bytes

TRIED: Final = 6  # tiles that are tried, those first that most instructions wait for


@dataclass
class _Fill:
    """One content of a tile: the instructions that write it and that read it."""

    writers: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)
    written: int = 0  # elements
    read: int = 0  # elements of the largest reader


def second_buffers(recorded: Recorded) -> Iterator[Change]:
    """Tiles that are filled again and again: every other content in a second tile."""
    fills = _fills(recorded)
    waits = {storage: _waits(recorded, found) for storage, found in fills.items()}
    held = {storage: waiting for storage, waiting in waits.items() if waiting}
    tried = sorted(held, key=lambda storage: -held[storage])[:TRIED]
    for chosen in ([storage] for storage in tried):
        yield from _doubled(recorded, fills, chosen, held)
    if len(tried) > 1:
        yield from _doubled(recorded, fills, tried, held)


def _waits(recorded: Recorded, fills: Sequence[_Fill]) -> int:
    """How many instructions start when the content that they overwrite is no longer used."""
    cause, found = recorded.times.cause, 0
    for older, newer in pairwise(fills):
        users = {*older.readers, *older.writers}
        found += sum(int(cause[index]) in users for index in newer.writers)
    return found


def _doubled(
    recorded: Recorded, fills: dict[int, list[_Fill]], chosen: Sequence[int], held: dict[int, int]
) -> Iterator[Change]:
    program = recorded.program
    rows, storages = list(program.rows), list(program.storages)
    for storage in chosen:
        twin = _twin(storages[storage], len(storages))
        storages.append(twin)
        for fill in fills[storage][1::2]:
            for index in {*fill.writers, *fill.readers}:
                rows[index] = _renamed(rows[index], storage, twin.id)
    more = sum(storage_bytes(program.storages[storage]) for storage in chosen)
    count = sum(held[storage] for storage in chosen)
    subject = "the tile" if len(chosen) == 1 else f"each of {len(chosen)} tiles"
    kind = "transfers" if all(_is_transfer(recorded, fills, s) for s in chosen) else "instructions"
    changed = rewritten(
        recorded, replace(program, rows=rows, storages=storages),
        program.template(fills[chosen[0]][0].writers[0]).loc,
        f"give {subject} a second buffer ({more} more bytes per partition)",
        f"{count} {kind} wait until the tile they overwrite has been read",
    )  # fmt: skip
    if changed is not None:
        yield changed


def _is_transfer(recorded: Recorded, fills: dict[int, list[_Fill]], storage: int) -> bool:
    first = recorded.program.template(fills[storage][0].writers[0])
    return first.cost.transfer is not None


def _twin(storage: Storage, number: int) -> Storage:
    twin = copy(storage)
    twin.id, twin.address = number, None
    return twin


def _renamed(row: tuple[int, ...], old: int, new: int) -> tuple[int, ...]:
    named = list(row)
    for place in range(1, len(named), 2):
        if named[place] == old:
            named[place] = new
    return tuple(named)


def _fills(recorded: Recorded) -> dict[int, list[_Fill]]:
    """The contents of every on-chip tile that is filled afresh more than once.

    A content begins with a write that reads nothing of the tile, after the one before was read.
    Tiles are left out when somebody reads more than was written since: older content shows through.
    """
    program, fills = recorded.program, defaultdict[int, list[_Fill]](list)
    for index, row in enumerate(program.rows):
        template = program.templates[row[0]]
        for storage, (read, written) in _touched(template, row, program).items():
            found = fills[storage]
            if written and not read and (not found or found[-1].readers):
                found.append(_Fill())
            if not found:
                found.append(_Fill())
            last = found[-1]
            if written:
                last.writers.append(index)
                last.written += written
            if read and not written:
                last.readers.append(index)
                last.read = max(last.read, read)
    return {
        storage: found for storage, found in fills.items()
        if len(found) > 1 and all(f.writers and f.read <= f.written for f in found)
    }  # fmt: skip


def _touched(
    template: Template, row: tuple[int, ...], program: Program
) -> dict[int, tuple[int, int]]:
    """Elements that an instruction reads and writes of each on-chip tile."""
    found: dict[int, tuple[int, int]] = {}
    for place, layout in enumerate(template.layouts):
        if layout.space is Space.HBM:
            continue
        storage = row[1 + 2 * place]
        read, written = found.get(storage, (0, 0))
        read += layout.size * (place in template.reads)
        written += layout.size * (place in template.writes)
        found[storage] = read, written
    return found


__all__ = ["second_buffers"]
