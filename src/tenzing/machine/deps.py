"""Which earlier instructions each instruction waits for, and what reads unwritten memory.

Read-after-write, write-after-read and write-after-write, by region. Engines take instructions in
order, so a later write on the same compute engine needs no wait; DMA transfers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

from tenzing.errors import Finding
from tenzing.isa.instruction import Engine
from tenzing.isa.operand import Array, Layout, Space, resolve_loc
from tenzing.isa.program import Program, Row
from tenzing.machine import native
from tenzing.machine.place import Placement
from tenzing.machine.regions import (
    Region,
    RegionTable,
    common_area,
    distinct_bytes,
    is_written,
    row_bytes_of,
)

QUEUES: Final = (Engine.tensor, Engine.vector, Engine.scalar, Engine.gpsimd, Engine.sync)
QUEUE_OF: Final = {engine: k for k, engine in enumerate(QUEUES)} | {Engine.dma: 4}
DMA_READER: Final = 8  # DMA transfers count as their own reader, behind the queue's number


@dataclass
class Dependencies:
    """Predecessors of every instruction and the queue that issues it.

    The predecessors of instruction ``i`` are ``joined[start[i]:start[i + 1]]``, in order.
    """

    start: Array
    joined: Array
    queue: list[int]
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def before(self) -> list[list[int]]:
        """Predecessors as lists."""
        flat, edges = self.joined.tolist(), self.start.tolist()
        return [flat[a:b] for a, b in pairwise(edges)]


def analyse_dependencies(program: Program, placement: Placement) -> Dependencies:
    """One pass over the program in issue order."""
    return native_dependencies(program, placement) or _Pass(program, placement).run()


def native_dependencies(program: Program, placement: Placement) -> Dependencies | None:
    """The same by the native core; None when there is none."""
    queue = [QUEUE_OF[t.engine] for t in program.templates]
    kinds: dict[str, Sequence[int]] = {
        "queue": queue,
        "is_dma": [t.cost.transfer is not None for t in program.templates],
        "is_partial": [t.instruction.partial for t in program.templates],
    }
    storages: dict[str, Sequence[int]] = {
        "key": _keys(program),
        "given": _given(program),
        "row_bytes": [row_bytes_of(s) for s in program.storages],
    }
    earlier = [placement.earlier.get(s.id, []) for s in program.storages]
    found = native.analyse(program, kinds, storages, earlier, distinct_bytes)
    if found is None:
        return None
    start, joined, findings = found
    result = Dependencies(start, joined, [queue[row[0]] for row in program.rows])
    layouts = {id(x): x for t in program.templates for x in t.layouts}
    numbered = list(layouts.values())
    for kind, index, storage, other, partly in findings.tolist():
        result.findings.append(
            overwritten(program, index, storage, other) if kind else
            unwritten(program, index, storage, numbered[other], bool(partly))
        )  # fmt: skip
    return result


def _keys(program: Program) -> list[int]:
    """Storages with one key share a table of regions: all with an address in one memory do."""
    spaces = list(Space)
    return [
        -1 - spaces.index(s.space) if s.address is not None else s.id for s in program.storages
    ]  # fmt: skip


def _given(program: Program) -> list[bool]:
    return [s.origin in ("input", "constant") for s in program.storages]


class _Pass:
    """State of the pass: a region table per storage (one per memory for fixed addresses)."""

    def __init__(self, program: Program, placement: Placement) -> None:
        self.program = program
        self.earlier = placement.earlier
        self.tables: dict[int, RegionTable] = {}
        self.queues: list[int] = []
        self.findings: list[Finding] = []
        self.reported: set[int] = set()
        self.kind = [
            (QUEUE_OF[t.engine], t.cost.transfer is not None, t.reads, t.writes, t.layouts)
            for t in program.templates
        ]
        self.keys = _keys(program)
        self.given = _given(program)
        self.table_of: list[RegionTable | None] = [None] * len(program.storages)
        self.placed_written: set[int] = set()  # tensors with an address that something wrote

    def run(self) -> Dependencies:
        before: list[list[int]] = []
        queues = self.queues
        for index, row in enumerate(self.program.rows):
            queue, is_dma, reads, writes, layouts = self.kind[row[0]]
            waits: set[int] = set()
            for place in reads:
                self._read(index, row, place, layouts[place], waits)
            for place in writes:
                storage = row[1 + 2 * place]
                region = self._region(storage, row[2 + 2 * place], layouts[place])
                self._wait_for_writes(region, waits, queue, is_dma)
                if not region.direct and storage in self.earlier:
                    self._wait_for_earlier(storage, waits, queue, is_dma)
                self._mark_written(region, index)
                if self.keys[storage] < 0:
                    self.placed_written.add(storage)
            waits.discard(index)
            before.append(sorted(waits))
            queues.append(queue)
        return Dependencies(*native.ragged(before), queues, self.findings)

    def _read(self, index: int, row: Row, place: int, layout: Layout, waits: set[int]) -> None:
        """Wait for whoever wrote what is read, and look at whether anyone did."""
        queue, is_dma, _, writes, _ = self.kind[row[0]]
        queues = self.queues
        storage = row[1 + 2 * place]
        region = self._region(storage, row[2 + 2 * place], layout)
        # PSUM adds in order near the memory: a matmul does not wait for the one before
        adds_in_place = queue == 0 and place in writes
        writer = region.writer
        if writer >= 0 and not (adds_in_place and queues[writer] == 0):
            waits.add(writer)
        for other, _ in region.others:
            writer = other.writer
            if writer >= 0 and not (adds_in_place and queues[writer] == 0):
                waits.add(writer)
        region.readers[queue + DMA_READER if is_dma else queue] = index
        if not region.whole and not self.given[storage]:
            self._unwritten(index, storage, region, keeps=place in writes)
        if self.keys[storage] < 0:
            self._overwritten(index, storage, region)

    def _region(self, storage: int, offset: int, layout: Layout) -> Region:
        table = self.table_of[storage]
        if table is None:
            key = self.keys[storage]
            table = self.tables.get(key)
            if table is None:
                source = self.program.storages[storage]
                table = self.tables[key] = RegionTable(row_bytes_of(source))
            self.table_of[storage] = table
        found = table.by_view.get((offset, layout))
        return found if found is not None else table.add(offset, layout)

    def _wait_for_writes(self, region: Region, waits: set[int], queue: int, is_dma: bool) -> None:
        queues = self.queues
        overlapping = [region, *[o for o, _ in region.others]] if region.others else (region,)
        for other in overlapping:
            writer = other.writer
            if writer >= 0 and (is_dma or queues[writer] != queue or self._is_dma(writer)):
                waits.add(writer)
            for reader, when in other.readers.items():
                if is_dma or reader != queue:
                    waits.add(when)

    def _is_dma(self, index: int) -> bool:
        return self.kind[self.program.rows[index][0]][1]

    def _wait_for_earlier(self, storage: int, waits: set[int], queue: int, is_dma: bool) -> None:
        """The bytes belonged to other tensors before: wait until those are done with."""
        for number in self.earlier[storage]:
            table = self.tables.get(self.keys[number])
            if table is None:
                continue
            for region in table.by_view.values():
                if region.writer >= 0:
                    waits.add(region.writer)
                waits.update(
                    when for reader, when in region.readers.items() if is_dma or reader != queue
                )

    def _mark_written(self, region: Region, index: int) -> None:
        fresh = not region.direct
        region.direct = True
        region.writer = index
        region.whole = True
        region.written_area = region.area
        region.readers.clear()
        for other, covered in region.others:
            if covered:
                other.writer = index
                other.readers.clear()
                other.whole = True
                other.written_area = other.area
            elif fresh and other.written_area < other.area:
                other.written_area = min(
                    other.area, other.written_area + common_area(region, other)
                )

    def _overwritten(self, index: int, storage: int, region: Region) -> None:
        """A tensor with an address is read after another one at the same bytes was written."""
        latest = max([region.writer, *[o.writer for o, _ in region.others]])
        template = self.program.template(index)
        if latest < 0 or storage not in self.placed_written or template.number in self.reported:
            return
        row = self.program.rows[latest]
        writer = self.program.templates[row[0]]
        written = [row[1 + 2 * place] for place in writer.writes]
        if storage in written:
            return
        self.reported.add(template.number)
        self.findings.append(overwritten(self.program, index, storage, latest))

    def _unwritten(self, index: int, storage: int, region: Region, keeps: bool) -> None:
        template = self.program.template(index)
        if keeps and template.instruction.partial:
            return
        if template.number in self.reported or is_written(region):
            return
        self.reported.add(template.number)
        partly = bool(region.written_area)
        self.findings.append(unwritten(self.program, index, storage, region.layout, partly))


def overwritten(program: Program, index: int, storage: int, latest: int) -> Finding:
    """Instruction ``index`` reads bytes that ``latest`` wrote through another tensor."""
    template, writer = program.template(index), program.template(latest)
    other = program.storages[program.rows[latest][1 + 2 * writer.writes[0]]]
    source = program.storages[storage]
    places = (("overwritten", writer.loc), ("this tensor is made", resolve_loc(source.loc_key)))
    return Finding(
        "overlap",
        f"nki.isa.{template.instruction.nki} reads {source.space.name} tensor "
        f"{source.name or 'x'.join(map(str, source.shape))} after its bytes were overwritten "
        f"through {other.name or 'another tensor'} at an overlapping address",
        template.loc, "give them different addresses, or read before the other is written",
        tuple((label, loc) for label, loc in places if loc is not None),
    )  # fmt: skip


def unwritten(program: Program, index: int, storage: int, layout: Layout, partly: bool) -> Finding:
    """Instruction ``index`` reads bytes of a storage that nobody wrote."""
    template, source = program.template(index), program.storages[storage]
    made = resolve_loc(source.loc_key)
    part = "partly unwritten" if partly else "unwritten"
    shape = "x".join(map(str, layout.shape))
    return Finding(
        "uninitialised",
        f"nki.isa.{template.instruction.nki} reads {part} {source.space.name}: {shape} "
        f"{layout.dtype.name} of tensor {source.name or 'allocated below'}",
        template.loc, "write it first (nl.load, dma_copy, memset)",
        (("allocated", made),) if made else (),
    )  # fmt: skip
