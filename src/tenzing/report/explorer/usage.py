"""Tables of memories and bandwidth over time, and of the tensors in HBM."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from tenzing.isa.operand import Array, Space, Storage
from tenzing.machine.place import storage_bytes
from tenzing.report.explorer.activity import Activity, Rows, nanoseconds, opcode
from tenzing.report.explorer.parquet import Column
from tenzing.units import PS_PER_S

PERCENT: Final = 100
SAMPLED: Final = (0, 32, 64, 96)  # the partitions that the schema names
KINDS: Final = {"input": "IN", "output": "OUT", "constant": "WEIGHT"}


def _held(activity: Activity, space: Space) -> list[Storage]:
    first = activity.analysis.placement.first
    return [s for s in activity.program.storages if s.space is space and first[s.id] >= 0]


def _span(activity: Activity, held: list[Storage]) -> tuple[Array, Array]:
    """When each of some tiles is first touched and last used; picoseconds."""
    placement, numbers = activity.analysis.placement, [s.id for s in held]
    times = activity.times
    return times.start_ps[placement.first[numbers]], times.done_ps[placement.last[numbers]]


def _levels(times: Array, start: Array, end: Array, sizes: Array) -> Array:
    """The sum of sizes held at each time."""
    found = np.zeros(len(times))
    np.add.at(found, np.searchsorted(times, start), sizes)
    np.add.at(found, np.searchsorted(times, end), -sizes)
    return np.cumsum(found)


def sbuf_usage(activity: Activity) -> Rows:
    """SbufUsage: how full some partitions are, at every change."""
    held = _held(activity, Space.SBUF)
    start, end = _span(activity, held)
    times = np.unique(np.concatenate([start, end]))
    chip = activity.analysis.chip
    room, partitions = chip.integer("sbuf.bytes_per_partition"), chip.integer("core.partitions")
    sizes = np.array([storage_bytes(s) for s in held], float) / room * PERCENT
    high = np.array([s.partitions for s in held], float)
    columns = {
        "timestamp": Column(nanoseconds(times)),
        "avg_util_percent": Column(_levels(times, start, end, sizes * high / partitions)),
        "pcore_idx": activity.same(activity.core, len(times)),
    }  # fmt: skip
    for number in SAMPLED:
        found = _levels(times, start, end, sizes * (high > number))
        columns[f"partition_{number}_util_percent"] = Column(found)
    return columns, len(times)


def psum_usage(activity: Activity) -> Rows:
    """PsumUsage: how full each bank is, at every change."""
    held = _held(activity, Space.PSUM)
    start, end = _span(activity, held)
    times = np.unique(np.concatenate([start, end]))
    chip = activity.analysis.chip
    banks, room = chip.integer("psum.banks"), chip.integer("psum.bank_bytes")
    address = activity.analysis.placement.address
    begin = np.array([address[s.id] for s in held], float)
    stop = begin + np.array([storage_bytes(s) for s in held], float)
    columns = {
        "timestamp": Column(nanoseconds(times)),
        "pcore_idx": activity.same(activity.core, len(times)),
    }  # fmt: skip
    total = np.zeros(len(times))
    for bank in range(banks):
        inside = np.clip(
            np.minimum(stop, (bank + 1) * room) - np.maximum(begin, bank * room), 0, room
        )
        level = _levels(times, start, end, inside / room * PERCENT)
        columns[f"bank_{bank}_util_percent"] = Column(level)
        total += level
    columns["avg_util_percent"] = Column(total / banks)
    return columns, len(times)


def sbuf_allocations(activity: Activity) -> Rows:
    """SbufAllocation: every tile at its address, for each partition of the schema."""
    address = activity.analysis.placement.address
    first = activity.analysis.placement.first
    held = [s for s in _held(activity, Space.SBUF) if address[s.id] >= 0]
    start, end = _span(activity, held)
    rows = [(k, number) for k, s in enumerate(held) for number in SAMPLED if s.partitions > number]
    order = np.array([k for k, _ in rows], np.int64)
    begin = np.array([address[s.id] for s in held], np.int64)
    size = np.array([storage_bytes(s) for s in held], np.int64)
    makers = [activity.program.template(int(first[s.id])) for s in held]
    columns = {
        "start_ts": Column(nanoseconds(start)[order]), "end_ts": Column(nanoseconds(end)[order]),
        "start_address": Column(begin[order]), "end_address": Column((begin + size - 1)[order]),
        "partition": Column(np.array([number for _, number in rows], np.int64)),
        "opcode": Column.of([opcode(makers[k]) for k, _ in rows]),
        "tensor_name": Column.of([held[k].name or None for k, _ in rows]),
        "pcore_idx": activity.same(activity.core, len(rows)),
    }  # fmt: skip
    return columns, len(rows)


def bandwidth(activity: Activity, hbm_only: bool) -> Rows:
    """DmaUsage or HbmUsage: bytes per second under way, and moved so far, at every change."""
    rows = np.flatnonzero(activity.is_dma)
    if hbm_only:
        touched = [any(x.space is Space.HBM for x in t.layouts) for t in activity.program.templates]
        rows = rows[np.array(touched, bool)[activity.template[rows]]]
    start, end = activity.times.data_start_ps[rows], activity.times.done_ps[rows]
    transfers = [t.cost.transfer for t in activity.program.templates]
    field = [(m.hbm_bytes if hbm_only else m.payload_bytes) if m else 0 for m in transfers]
    moved = np.array(field, float)[activity.template[rows]]
    times = np.unique(np.concatenate([start, end]))
    rate = _levels(times, start, end, moved / np.maximum(end - start, 1) * PS_PER_S)
    done = np.zeros(len(times))
    np.add.at(done, np.searchsorted(times, end), moved)
    columns = {
        "timestamp": Column(nanoseconds(times)),
        "current_throughput": Column(np.maximum(rate, 0)),
        "total_transfer_bytes": Column(np.cumsum(done).astype(np.int64)),
        "pcore_idx": activity.same(activity.core, len(times)),
    }  # fmt: skip
    return columns, len(times)


def tensors(activity: Activity) -> Rows:
    """TensorInfo: the tensors in HBM, and how often they were loaded."""
    program = activity.program
    loads: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(activity.is_dma).tolist():
        transfer = program.template(index).cost.transfer
        sides = list(program.accesses(index))
        into_sbuf = any(written and s.space is Space.SBUF for s, _, _, _, written in sides)
        for storage, _, _, read, _ in sides:
            if read and into_sbuf and storage.space is Space.HBM and transfer is not None:
                loads[storage.id].append(transfer.payload_bytes)
    held = [s for s in program.storages if s.space is Space.HBM]
    total = [sum(loads[s.id]) for s in held]
    count = [len(loads[s.id]) for s in held]
    columns = {
        "variable_name": Column.of([s.name or f"tensor{s.id}" for s in held]),
        "type": Column.of([KINDS.get(s.origin) for s in held]),
        "shape": Column.of([" ".join(map(str, s.shape)) for s in held]),
        "size": Column.of([s.nbytes for s in held]),
        "pcore_idx": activity.same(activity.core, len(held)),
        "load_to_sbuf_total_size_bytes": Column.of(total),
        "load_to_sbuf_dma_count": Column.of(count),
        "load_to_sbuf_avg_size_bytes": Column.of(
            [t // n if n else None for t, n in zip(total, count, strict=True)]),
        "load_to_sbuf_repeat_factor": Column.of(
            [t / max(s.nbytes, 1) for t, s in zip(total, held, strict=True)]),
    }  # fmt: skip
    return columns, len(held)


__all__ = ["bandwidth", "psum_usage", "sbuf_allocations", "sbuf_usage", "tensors"]
