"""Tables of events: instructions, transfers, what let what go, and which lines they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from tenzing.errors import Loc
from tenzing.isa.operand import Array, Layout, Space
from tenzing.isa.program import Template
from tenzing.machine import Analysis
from tenzing.machine.deps import DMA_READER
from tenzing.report.explorer.parquet import Column
from tenzing.units import PS_PER_NS, PS_PER_S

ENGINES: Final = ("tensor", "vector", "scalar", "gpsimd", "sync")  # in the order of the queues
TITLES: Final = ("Tensor", "Vector", "Scalar", "GpSimd", "Sync")
# Documented opcodes of instructions whose name differs; others are the name in capitals.
OPCODES: Final = {"nc_matmul": "MATMUL", "activation": "ACTIVATE"}
Columns = dict[str, Column]
Rows = tuple[Columns, int]
INSTRUCTIONS, TRANSFERS = "instruction", "dma_block"  # names of tables, as flows give them


def nanoseconds(times_ps: Array) -> Array:
    """Picoseconds as whole nanoseconds."""
    return (np.asarray(times_ps, np.int64) + PS_PER_NS // 2) // PS_PER_NS


def opcode(template: Template) -> str:
    """The name of an instruction as profiles show it."""
    return OPCODES.get(template.instruction.nki, template.instruction.nki.upper())


class Activity:
    """One core's program, with the columns that several tables share."""

    def __init__(self, analysis: Analysis, core: int, first_id: int) -> None:
        self.analysis, self.core, self.first_id = analysis, core, first_id
        self.program, self.times = analysis.program, analysis.times
        rows = self.program.rows
        self.template = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        self.queue = self.times.queue % DMA_READER
        self.is_dma = self.times.queue >= DMA_READER
        self.start = nanoseconds(self.times.start_ps)
        self.end = nanoseconds(self.times.issue_end_ps)
        self.data_start = nanoseconds(self.times.data_start_ps)
        self.done = nanoseconds(self.times.done_ps)
        self.ids = first_id + np.arange(len(rows))
        self.places = list(dict.fromkeys(t.loc for t in self.program.templates if t.loc))

    # -- columns by template ---------------------------------------------------------------------

    def numbers(self, of: Callable[[Template], int | None], rows: Array | None = None) -> Column:
        """A number of each instruction's template; None where it has none."""
        found = [of(template) for template in self.program.templates]
        known = np.array([x is not None for x in found], bool)
        values = np.array([x or 0 for x in found], np.int64)
        chosen = self.template if rows is None else self.template[rows]
        return Column(values[chosen], (), known[chosen])

    def words(self, of: Callable[[Template], str | None], rows: Array | None = None) -> Column:
        """A text of each instruction's template; None where it has none."""
        found = [of(template) for template in self.program.templates]
        texts = {text: k for k, text in enumerate(dict.fromkeys(x for x in found if x is not None))}
        known = np.array([x is not None for x in found], bool)
        values = np.array([0 if x is None else texts[x] for x in found], np.int32)
        chosen = self.template if rows is None else self.template[rows]
        return Column(values[chosen], tuple(texts), known[chosen])

    def same(self, value: int, count: int) -> Column:
        """One number in every row."""
        return Column(np.full(count, value, np.int64))

    def frame(self, loc: Loc) -> int:
        """The number of a source line's stack frame."""
        return self.places.index(loc) + 1

    # -- tables ----------------------------------------------------------------------------------

    def instructions(self) -> Rows:
        """Instruction: one row for each, on the engine that issues it."""
        count = len(self.template)
        frames = {loc: str([k + 1]) for k, loc in enumerate(self.places)}
        dma = self.is_dma
        columns = {
            "start_ts": Column(self.start), "end_ts": Column(self.end),
            "duration_ns": Column(self.end - self.start),
            "engine": Column(self.queue, ENGINES), "timeline_track": Column(self.queue, TITLES),
            "pcore_idx": self.same(self.core, count), "opcode": self.words(opcode),
            "operands": self.words(_operands), "id": Column(self.ids), "pc": Column(self._pc()),
            "stack_frame_ids": self.words(lambda t: frames[t.loc] if t.loc else None),
            "nki_source_location": self.words(_source),
            "evt_wait_time_ns": Column(self._waits()),
            "dma_trigger_start_ts": Column(self.data_start, (), dma),
            "dma_trigger_end_ts": Column(self.done, (), dma),
            "dma_wait_time_ns": Column(self.data_start - self.end, (), dma),
            "raw_flops": self.numbers(lambda t: t.instruction.flops() or None),
            "scalar_activation_fn": self.words(_function),
            **{name: self.numbers(_moved(*what)) for name, what in TRAFFIC.items()},
        }  # fmt: skip
        return columns, count

    def _pc(self) -> Array:
        """The place of each instruction on its engine."""
        found = np.zeros(len(self.queue), np.int64)
        for number in range(len(ENGINES)):
            rows = np.flatnonzero(self.queue == number)
            found[rows] = np.arange(len(rows))
        return found

    def _waits(self) -> Array:
        """How long the engine was idle before each instruction."""
        found = np.zeros(len(self.queue), np.int64)
        for number in range(len(ENGINES)):
            rows = np.flatnonzero(self.queue == number)
            rows = rows[np.argsort(self.times.start_ps[rows], kind="stable")]
            if len(rows):
                found[rows[1:]] = self.start[rows[1:]] - self.end[rows[:-1]]
                found[rows[0]] = self.start[rows[0]]
        return found

    def transfers(self) -> Rows:
        """DmaPacketAggregated: one row for each transfer."""
        rows = np.flatnonzero(self.is_dma)
        start, end = self.data_start[rows], self.done[rows]
        payload = self.numbers(lambda t: t.cost.transfer.payload_bytes if t.cost.transfer else None,
                               rows)  # fmt: skip
        assert payload.values is not None
        rate = payload.values / np.maximum(end - start, 1) * PS_PER_S / PS_PER_NS
        columns = {
            "start_ts": Column(start), "end_ts": Column(end), "duration_ns": Column(end - start),
            "id": Column(self.ids[rows]), "pcore_idx": self.same(self.core, len(rows)),
            "block_id": Column(np.arange(len(rows))), "op": self.words(_direction, rows),
            "variable": self._tensors(rows), "read_bytes": payload, "write_bytes": payload,
            "transfer_bytes": payload, "throughput": Column(rate),
            "source": self.words(lambda t: _memory(t, t.reads), rows),
            "dest": self.words(lambda t: _memory(t, t.writes), rows),
            "read_num_sbuf_partitions": self.numbers(lambda t: _partitions(t, t.reads), rows),
            "write_num_sbuf_partitions": self.numbers(lambda t: _partitions(t, t.writes), rows),
            "read_shape": self.words(lambda t: _shape(t, t.reads), rows),
            "write_shape": self.words(lambda t: _shape(t, t.writes), rows),
            "trigger": Column(self.start[rows]), "completion": Column(self.end[rows]),
        }  # fmt: skip
        return columns, len(rows)

    def _tensors(self, rows: Array) -> Column:
        """The tensor in HBM that each transfer reads or writes."""
        names: list[str | None] = []
        for index in rows.tolist():
            held = [s for s, *_ in self.program.accesses(index) if s.space is Space.HBM]
            names.append(held[0].name or f"tensor{held[0].id}" if held else None)
        return Column.of(names)

    def active(self) -> Rows:
        """ActiveTime: stretches in which an engine is never idle."""
        starts, ends, engines = [], [], []
        for number in range(len(ENGINES)):
            rows = np.flatnonzero(self.queue == number)
            first, last = merged(self.start[rows], self.end[rows])
            starts.append(first)
            ends.append(last)
            engines.append(np.full(len(first), number, np.int32))
        start, end = np.concatenate(starts), np.concatenate(ends)
        columns = {
            "start_ts": Column(start), "end_ts": Column(end), "duration_ns": Column(end - start),
            "engine": Column(np.concatenate(engines), ENGINES),
            "pcore_idx": self.same(self.core, len(start)),
        }  # fmt: skip
        return columns, len(start)

    def flows(self) -> Rows:
        """Flow: an edge to each instruction from the one that let it start, and to its transfer."""
        rows = np.flatnonzero(self.times.cause >= 0)
        cause, moves = self.times.cause[rows], np.flatnonzero(self.is_dma)
        kinds = INSTRUCTIONS, TRANSFERS
        moved = self.is_dma[cause] & (self.times.done_ps[cause] <= self.times.start_ps[rows])
        ends = np.where(moved, self.done[cause], self.end[cause])
        gap = np.concatenate([self.start[rows] - ends, self.data_start[moves] - self.end[moves]])
        source = np.concatenate([moved, np.zeros(len(moves), bool)]).astype(np.int32)
        target = np.concatenate([np.zeros(len(rows), np.int32), np.ones(len(moves), np.int32)])
        columns = {
            "in_id": Column(np.concatenate([self.ids[cause], self.ids[moves]])),
            "out_id": Column(np.concatenate([self.ids[rows], self.ids[moves]])),
            "in_table": Column(source, kinds), "out_table": Column(target, kinds),
            "gap_time": Column(gap),
        }  # fmt: skip
        return columns, len(gap)

    def frames(self) -> Mapping[str, Rows]:
        """The four tables of source lines; each line is a frame without a parent."""
        files = list(dict.fromkeys(loc.file for loc in self.places))
        functions = list(dict.fromkeys(loc.function for loc in self.places))
        function_ids = [functions.index(loc.function) + 1 for loc in self.places]
        ids = [str(k + 1) for k in range(len(self.places))]
        return {
            "StackFrame": ({
                "id": Column.of(ids), "file_location_id": Column.of([int(k) for k in ids]),
                "parent_frame_id": Column.of(["0" for _ in ids]),
            }, len(ids)),
            "StackFrameFileLocation": ({
                "id": Column.of(ids),
                "file_name_id": Column.of([files.index(x.file) + 1 for x in self.places]),
                "function_name_id": Column.of(function_ids),
                "line_number": Column.of([x.line for x in self.places]),
            }, len(ids)),
            "StackFrameFileName": _named(files),
            "StackFrameFunctionName": _named(functions),
        }  # fmt: skip


def merged(start: Array, end: Array) -> tuple[Array, Array]:
    """Intervals that overlap or touch, as one each."""
    if not len(start):
        return start, end
    order = np.lexsort((end, start))
    start, latest = start[order], np.maximum.accumulate(end[order])
    first = np.concatenate([[True], start[1:] > latest[:-1]])
    last = np.concatenate([first[1:], [True]])
    return start[first], latest[last]


def _named(names: Sequence[str]) -> Rows:
    ids = Column.of([str(k + 1) for k in range(len(names))])
    return {"id": ids, "name": Column.of(list(names))}, len(names)


# Column -> space, and whether the bytes are read or written; PSUM to SBUF needs both.
TRAFFIC: Final[Mapping[str, tuple[Space, bool]]] = {
    "hbm_read_bytes": (Space.HBM, False), "hbm_write_bytes": (Space.HBM, True),
    "sbuf_read_bytes": (Space.SBUF, False), "sbuf_write_bytes": (Space.SBUF, True),
    "psum_read_bytes": (Space.PSUM, False), "psum_write_bytes": (Space.PSUM, True),
}  # fmt: skip


def _moved(space: Space, written: bool) -> Callable[[Template], int]:
    """Bytes that a template reads from a memory, or writes to it."""

    def moved(template: Template) -> int:
        places = template.writes if written else template.reads
        found = [template.layouts[k] for k in places if template.layouts[k].space is space]
        transfer = template.cost.transfer
        if transfer is not None and found:
            return transfer.payload_bytes
        return sum(x.size * x.itemsize for x in found)

    return moved


def _operands(template: Template) -> str:
    pairs = zip(template.operands, template.layouts, strict=True)
    return " ".join(f"{name}={x.dtype.name}{list(x.shape)}@{x.space.name}" for name, x in pairs)


def _source(template: Template) -> str | None:
    return f"{template.loc.file}:{template.loc.line}" if template.loc else None


def _function(template: Template) -> str | None:
    return str(template.cost.table).upper() if template.cost.table is not None else None


def _side(template: Template, places: Sequence[int]) -> Layout | None:
    return template.layouts[places[0]] if places else None


def _memory(template: Template, places: Sequence[int]) -> str | None:
    layout = _side(template, places)
    names: Mapping[Any, str] = {Space.SBUF: "[SB]"}
    return names.get(layout.space, f"[{layout.space.name}]") if layout else None


def _partitions(template: Template, places: Sequence[int]) -> int:
    layout = _side(template, places)
    return layout.partitions if layout and layout.space is Space.SBUF else 0


def _shape(template: Template, places: Sequence[int]) -> str | None:
    layout = _side(template, places)
    return str(list(layout.shape)) if layout else None


def _direction(template: Template) -> str:
    layout = _side(template, template.writes)
    return "write" if layout and layout.space is Space.HBM else "read"


__all__ = ["ENGINES", "Activity", "Columns", "Rows", "merged", "nanoseconds", "opcode"]
