"""Rows in the schema of published measurements: only their configuration is ever read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenzing.errors import Loc, UsageError

# Columns that say what was run. Results, provenance, notes, traps and grades are not among them.
CONFIGURATION: Final[Mapping[str, tuple[str, ...]]] = {
    "inference_llm": (
        "model", "params_b", "arch", "accelerator", "instance", "n_instances", "chips_used",
        "cores_used", "lnc", "tp", "dp", "pp", "ep", "batch", "concurrency", "input_len",
        "output_len", "seq_len", "model_dtype", "autocast_dtype", "weights_dtype", "kv_dtype",
        "framework", "version", "run_mode", "app_type", "tok_s_scope", "spec_decode",
        "prefix_hit"),
    "inference_encoder_vision": (
        "model", "category", "task", "accelerator", "instance", "cores_used", "lnc", "tp", "dp",
        "batch", "seq_len", "resolution", "steps", "throughput_unit", "model_dtype",
        "autocast_dtype", "framework", "version", "run_mode", "app_type", "n_models",
        "workers_per_model", "threads"),
    "training": (
        "model", "task", "params_b", "accelerator", "instance", "nodes", "accelerators",
        "topology", "tp", "pp", "dp", "cp", "ep", "zero_fsdp", "microbatch", "global_batch",
        "seq_len", "dtype", "optimizer", "scaling", "framework", "version"),
    "kernels": (
        "kernel", "category", "variant", "shape", "M", "N", "K", "batch", "heads", "kv_heads",
        "head_dim", "seq_q", "seq_kv", "dtype", "accelerator", "hardware_scope", "framework",
        "version"),
    "collectives": (
        "op", "size_bytes", "size_convention", "ranks", "nodes", "group", "dtype", "accelerator",
        "instance", "algorithm", "bw_unit", "framework", "version"),
}  # fmt: skip
RESULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "inference_llm": (
        "ttft_ms_p50", "ttft_ms_p99", "ttft_ms_mean", "tpot_ms_p50", "tpot_ms_p99",
        "tpot_ms_mean", "latency_per_token_ms_p50", "latency_per_token_ms_p99", "e2e_latency_ms",
        "output_tok_s", "total_tok_s", "req_s", "mfu_pct"),
    "inference_encoder_vision": (
        "latency_ms_p50", "latency_ms_p90", "latency_ms_p95", "latency_ms_p99",
        "latency_ms_mean", "step_ms", "e2e_s", "throughput"),
    "training": (
        "seq_per_s", "tokens_per_s", "tokens_per_s_per_device", "tflops_per_device", "mfu_pct",
        "step_time_s", "time_to_train_min", "flops_per_seq_tflop"),
    "kernels": (
        "latency_us", "latency_us_min", "latency_us_max", "tflops", "gbps", "pct_peak",
        "hfu_pct", "mfu_pct", "mbu_pct", "hbm_read_bytes", "hbm_write_bytes",
        "spill_save_bytes", "spill_reload_bytes", "hardware_flops", "scalar_active_pct",
        "vector_active_pct", "gpsimd_active_pct", "speedup"),
    "collectives": (
        "latency_us", "latency_us_p50", "latency_us_p99", "algbw_gbps", "busbw_gbps"),
}  # fmt: skip
# Columns that tell the files apart.
_MARKS: Final = {
    "inference_llm": {"model", "accelerator", "input_len", "output_len", "spec_decode"},
    "inference_encoder_vision": {"model", "accelerator", "category", "resolution"},
    "training": {"model", "accelerator", "global_batch", "accelerators"},
    "kernels": {"kernel", "accelerator", "variant"},
    "collectives": {"op", "size_bytes", "ranks", "accelerator"},
}
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NEGATIVE: Final = re.compile(r"-\s*\d")
SMALLEST, LARGEST = 1e-6, 1e15  # sizes, counts and rates of a configuration lie within
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3})")


@dataclass(frozen=True)
class Row:
    """One configuration: ``kind`` is the file's kind, ``cells`` its configuration columns."""

    kind: str
    cells: Mapping[str, str]
    line: int = 0

    def text(self, name: str) -> str:
        """A configuration cell, empty when absent; asking for any other column is an error."""
        if name not in CONFIGURATION[self.kind]:
            raise KeyError(f"{name} is not a configuration column of {self.kind}")
        return self.cells.get(name, "")

    def number(self, name: str, otherwise: float = 0.0) -> float:
        """A configuration number; ``~200`` is 200, ``224-230`` its middle, words are absent.

        UsageError for a negative one and for one that nothing real has the size of.
        """
        text = self.text(name)
        value = number(text)
        if value is None and not _NEGATIVE.match(text.strip()):
            return otherwise
        if value is None or not (value == 0 or SMALLEST <= value <= LARGEST):
            raise UsageError(f"{name} {text.strip()[:20]} is not a size",
                             allowed=f"0, or {SMALLEST:g} to {LARGEST:g}")  # fmt: skip
        return value


def number(text: str) -> float | None:
    """The number a cell states: ``~55`` 55, ``1500±150`` 1500, ``224-230`` 227, ``max`` None."""
    clean = _THOUSANDS.sub("", text.strip().lstrip("~<>= "))
    found = _NUMBER.match(clean)
    if not found:
        return None
    first = float(found.group())
    rest = clean[found.end() :].lstrip()
    if rest[:1] in ("-", "–"):
        second = _NUMBER.match(rest[1:].lstrip())
        if second and float(second.group()) >= first:
            return (first + float(second.group())) / 2
    return first


@dataclass(frozen=True)
class Table:
    """A CSV file as text: its header, its records in order, and the kind its header shows."""

    path: str
    kind: str
    header: Sequence[str]
    records: Sequence[Mapping[str, str]]

    def rows(self) -> list[Row]:
        """The configuration of every record, nothing else."""
        wanted = CONFIGURATION[self.kind]
        return [Row(self.kind, {k: (r.get(k) or "").strip() for k in wanted}, i + 2)
                for i, r in enumerate(self.records)]  # fmt: skip


def read_table(path: str | Path) -> Table:
    """Read a CSV; UsageError for an absent file, an unknown schema or a ragged line."""
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"no such file: {file}", next_step="give a CSV of rows") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file.name} is not UTF-8 text: {error.reason}",
                         next_step="save it as a CSV in UTF-8") from None  # fmt: skip
    reader = csv.reader(text.splitlines(keepends=True))
    try:
        lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise UsageError(f"{file.name} is not a CSV: {error}",
                         where=Loc(str(file), reader.line_num)) from None  # fmt: skip
    if not lines:
        raise UsageError(f"{file.name} is empty", next_step="give a CSV with a header line")
    header = [name.strip() for name in lines[0][1]]
    _check(file, header, lines)
    kind = kind_of(header, file)
    return Table(str(file), kind, header,
                 [dict(zip(header, line, strict=True)) for _, line in lines[1:]])  # fmt: skip


def _check(file: Path, header: list[str], lines: list[tuple[int, list[str]]]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UsageError(f"{file.name} has columns twice: {', '.join(twice)}",
                         where=Loc(str(file), 1), next_step="keep one of each")  # fmt: skip
    for at, line in lines:
        if len(line) != len(header):
            raise UsageError(
                f"{file.name} line {at} has {len(line)} cells",
                allowed=f"{len(header)}, as the header", where=Loc(str(file), at),
                next_step="quote cells that contain commas" if len(line) > len(header)
                else "keep the commas of empty cells",
            )  # fmt: skip


def kind_of(header: Iterable[str], file: Path) -> str:
    """Which schema a header follows; UsageError says what is missing."""
    names = set(header)
    for kind, marks in _MARKS.items():
        if marks <= names:
            return kind
    nearest = min(_MARKS, key=lambda kind: len(_MARKS[kind] - names))
    raise UsageError(
        f"{file.name} follows no known schema", got=", ".join(sorted(names))[:200],
        allowed=", ".join(_MARKS), where=Loc(str(file), 1),
        next_step=f"for {nearest} add the columns {', '.join(sorted(_MARKS[nearest] - names))}",
    )  # fmt: skip


__all__ = ["CONFIGURATION", "RESULTS", "Row", "Table", "kind_of", "number", "read_table"]
