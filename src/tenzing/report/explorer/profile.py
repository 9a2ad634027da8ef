"""One core's profile as tables in files: Parquet as Neuron Explorer writes it, or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.machine import Analysis
from tenzing.report.explorer.activity import (
    ENGINES,
    Activity,
    Rows,
    merged,
    nanoseconds,
    opcode,
)
from tenzing.report.explorer.parquet import Column, write_parquet
from tenzing.report.explorer.usage import (
    bandwidth,
    psum_usage,
    sbuf_allocations,
    sbuf_usage,
    tensors,
)
from tenzing.timeline import whole_file
from tenzing.units import GIGA, PS_PER_NS, PS_PER_S

FORMATS: Final = ("parquet", "csv")
PERCENT: Final = 100
SHORTEST_S: Final = 1 / PS_PER_S
TERA: Final = 10**12
EPOCH: Final = "1970-01-01 00:00:00+00:00"  # a simulated program runs at no time of day
CHUNK: Final = 10_000  # rows of a CSV file formatted at a time
WARNING: Final = (
    "Simulated by tenzing from public facts, not captured on a device. Columns without a value are "
    "those that a simulation does not know."
)


def explorer_tables(
    analysis: Analysis, name: str, more: Mapping[str, Column] | None = None
) -> dict[str, Rows]:
    """The tables of one core's program by name: columns in the published schema, and rows.

    ``more``: further columns of its instructions.
    """
    activity = Activity(analysis, core=0, first_id=1)
    instructions, count = activity.instructions()
    found = {
        "Instruction": ({**instructions, **(more or {})}, count),
        "DmaPacketAggregated": activity.transfers(),
        "ActiveTime": activity.active(), "Flow": activity.flows(), **activity.frames(),
        "OpcodeSummary": _opcodes(activity), "Summary": _summary(activity),
        "Metadata": _metadata(activity, name), "SbufUsage": sbuf_usage(activity),
        "PsumUsage": psum_usage(activity), "SbufAllocation": sbuf_allocations(activity),
        "DmaUsage": bandwidth(activity, hbm_only=False),
        "HbmUsage": bandwidth(activity, hbm_only=True), "TensorInfo": tensors(activity),
        "SchemaFields": _schema_fields(),
        "Warning": _row({"message": WARNING, "category": "Simulation"}),
    }  # fmt: skip
    return {table: rows for table, rows in found.items() if rows[1]}


def write_explorer(
    analysis: Analysis, folder: str | Path, name: str, form: str,
    more: Mapping[str, Column] | None = None,
) -> list[Path]:  # fmt: skip
    """Write the tables of one core's program into a folder, in ``parquet`` or ``csv``.

    Tables without rows are left out, as Neuron Explorer does. Raises UsageError for a folder that
    cannot be written and a form that does not exist.
    """
    if form not in FORMATS:
        raise UsageError("no such form of tables", got=form, allowed=", ".join(FORMATS))
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {target}", got=error.strerror or error,
                         next_step="give a folder that can be written") from None  # fmt: skip
    schema, written = facts.explorer_schema().tables, []
    for table, (columns, rows) in explorer_tables(analysis, name, more).items():
        path = target / f"{table}.{form}"
        if form == "csv":
            _write_csv(path, list(schema[table]), columns, rows)
        else:
            write_parquet(path, {k: f.type for k, f in schema[table].items()}, columns, rows)
        written.append(path)
    return written


def _write_csv(path: Path, names: list[str], columns: Mapping[str, Column], rows: int) -> None:
    with whole_file(path) as out:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(names)
        for first in range(0, rows, CHUNK):
            last = min(first + CHUNK, rows)
            parts = [_cells(columns.get(name, Column()), first, last) for name in names]
            writer.writerows(zip(*parts, strict=True))
            out.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()


def _cells(column: Column, first: int, last: int) -> list[Any]:
    """Values of some rows; nothing where nothing is known."""
    if column.values is None:
        return [""] * (last - first)
    values = column.values[first:last].tolist()
    known = column.known(len(column.values))[first:last].tolist()
    named = [column.texts[v] if k else "" for v, k in zip(values, known, strict=True)] if (
        column.texts) else values  # fmt: skip
    return [v if k else "" for v, k in zip(named, known, strict=True)]


def _row(values: Mapping[str, Any]) -> Rows:
    """A table of one row."""
    return {name: Column.of([value]) for name, value in values.items() if value is not None}, 1


# -- totals --------------------------------------------------------------------------------------


def _opcodes(activity: Activity) -> Rows:
    """OpcodeSummary: instructions by engine and opcode."""
    names = [opcode(t) for t in activity.program.templates]
    kinds = {name: k for k, name in enumerate(dict.fromkeys(names))}
    kind = np.array([kinds[name] for name in names], np.int64)[activity.template]
    total = max(activity.analysis.total_ps / PS_PER_NS, 1)
    rows = []
    for number, engine in enumerate(ENGINES):
        for name, code in kinds.items():
            chosen = np.flatnonzero((activity.queue == number) & (kind == code))
            if not len(chosen):
                continue
            start, end = activity.start[chosen], activity.end[chosen]
            first, last = merged(start, end)
            active = int((last - first).sum())
            rows.append((engine, name, len(chosen), int((end - start).sum()), active,
                         active / total * PERCENT))  # fmt: skip
    fields = ("engine", "opcode", "instruction_count", "instruction_time_ns", "active_time_ns",
              "active_time_percent")  # fmt: skip
    return {f: Column.of([row[k] for row in rows]) for k, f in enumerate(fields)}, len(rows)


def _summary(activity: Activity) -> Rows:
    """Summary: totals of the program, the launch not counted."""
    analysis = activity.analysis
    seconds = analysis.total_ps / PS_PER_S
    moved = analysis.hbm_read_bytes + analysis.hbm_write_bytes
    peak = analysis.chip.number("core.peak_bf16_tflops") * TERA
    transfers = int(activity.is_dma.sum())
    dma = activity.times.dma_active_ps / PS_PER_S
    first, last = merged(*_everything(activity))
    values: dict[str, Any] = {
        "total_time": seconds, "total_exec_time": seconds,
        "mm_arithmetic_intensity": analysis.flops / moved if moved else None,
        "peak_flops_bandwidth_ratio": peak / (analysis.chip.number("hbm.core_gb_s") * GIGA),
        "trace_count": len(analysis.program) + transfers,
        "dma_active_time": dma, "dma_active_time_percent": dma / max(seconds, SHORTEST_S) * PERCENT,
        "dma_transfer_count": transfers, "dma_transfer_total_bytes": analysis.dma_bytes,
        "dma_transfer_average_bytes": analysis.dma_bytes / max(transfers, 1),
        "dma_transfer_time": float((activity.done - activity.data_start).sum()) / GIGA,
        "hbm_read_bytes": analysis.hbm_read_bytes, "hbm_write_bytes": analysis.hbm_write_bytes,
        "mfu_inst_estimated_percent": analysis.mfu * PERCENT,
        "total_active_time": float((last - first).sum()) / GIGA,
        "matmul_instruction_count": _count(activity, "MATMUL"),
        "activate_instruction_count": _count(activity, "ACTIVATE"),
    }  # fmt: skip
    for number, engine in enumerate(ENGINES):
        values |= dict(_engine(activity, number, engine, seconds))
    return _row(values)


def _everything(activity: Activity) -> tuple[Any, Any]:
    """Intervals of all instructions and transfers."""
    dma = activity.is_dma
    return (np.concatenate([activity.start, activity.data_start[dma]]),
            np.concatenate([activity.end, activity.done[dma]]))  # fmt: skip


def _engine(
    activity: Activity, number: int, name: str, seconds: float
) -> Iterator[tuple[str, Any]]:
    chosen = activity.queue == number
    start, end = activity.start[chosen], activity.end[chosen]
    first, last = merged(start, end)
    active = float((last - first).sum()) / GIGA
    yield f"{name}_engine_instruction_count", int(chosen.sum())
    yield f"{name}_engine_instruction_time", float((end - start).sum()) / GIGA
    yield f"{name}_engine_active_time", active
    yield f"{name}_engine_active_time_percent", active / max(seconds, SHORTEST_S) * PERCENT


def _count(activity: Activity, name: str) -> int:
    named = np.array([opcode(t) == name for t in activity.program.templates], bool)
    return int(named[activity.template].sum()) if len(named) else 0


def _metadata(activity: Activity, name: str) -> Rows:
    """Metadata: the chip's published figures, and that this is a simulation."""
    chip = activity.analysis.chip
    last = int(nanoseconds(np.array([activity.analysis.total_ps]))[0])
    partitions = chip.integer("core.partitions")
    engines = chip.integer("dma.engines")
    return _row({
        "profile_schema_version": facts.explorer_schema().version, "num_physical_cores": 1,
        "vnc_enabled": False, "first_hw_timestamp": 0, "last_hw_timestamp": last,
        "first_ts": EPOCH, "last_ts": EPOCH,
        "dma_ddr_bandwidth": engines * chip.number("dma.engine_gb_s") * GIGA,
        "num_dma_engines_per_neuroncore": engines,
        "tensor_engine_num_rows": chip.integer("tensor.rows"),
        "tensor_engine_num_cols": chip.integer("tensor.columns"),
        **{f"{engine}_engine_clock_freq": chip.number(f"{engine}.clock_ghz")
           for engine in ENGINES[:-1]},
        **{f"{engine}_engine_num_channels": partitions for engine in ENGINES[1:-1]},
        "ticks_per_nanosec": 1, "profile_name": name, "is_simulation": True,
    })  # fmt: skip


def _schema_fields() -> Rows:
    """SchemaFields: the columns of all tables; descriptions are the vendor's and left out."""
    rows = [(table, name, field) for table, fields in facts.explorer_schema().tables.items()
            for name, field in fields.items()]  # fmt: skip
    kinds = {"int64": "integer", "int32": "integer", "float": "number", "double": "number"}
    columns = {
        "table_name": Column.of([table for table, _, _ in rows]),
        "field_name": Column.of([name for _, name, _ in rows]),
        "field_type": Column.of([kinds.get(f.type, f.type) for _, _, f in rows]),
        "field_format": Column.of([f.type if f.type in kinds else None for _, _, f in rows]),
        "field_required": Column.of([f.required for _, _, f in rows]),
        "field_unit": Column.of([f.unit or None for _, _, f in rows]),
    }  # fmt: skip
    return columns, len(rows)


__all__ = ["FORMATS", "explorer_tables", "write_explorer"]
