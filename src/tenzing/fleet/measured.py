"""Measurements of a model on somebody's own machine: what was run, on what, how long, as a file."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from tenzing.errors import UsageError

SCHEMA: Final = "tenzing measurements 1"
KIND: Final = "measured"
LOW, HIGH = 0.1, 0.9  # the spread that is told: eight of ten runs lie inside
ENERGY_FROM_S: Final = 1.0  # a GPU's counter moves too seldom for less


@dataclass(frozen=True)
class Measurement:
    """Runs of one task of one model on one machine.

    ``task``: prefill, decode, encoder or training. ``length`` is that of the prompt, of the text,
    or of the cache of a decode step; 0 where the user's own inputs were run. ``energy_j`` is that
    of the device for all runs together.
    """

    model: str
    task: str
    batch: int
    length: int
    dtype: str
    device: str
    threads: int
    compiled: bool
    date: str
    machine: Mapping[str, str]
    times_s: tuple[float, ...]
    parameters: int
    peak_bytes: int | None = None
    energy_j: float | None = None
    kind: str = KIND

    @property
    def median_s(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.times_s)

    @property
    def spread_s(self) -> tuple[float, float]:
        """Between these lie eight of ten runs."""
        return _quantile(self.times_s, LOW), _quantile(self.times_s, HIGH)

    @property
    def tokens_per_run(self) -> int | None:
        """Tokens of one run, all sequences together; None where the user's own inputs were run."""
        if not self.length:
            return None
        return self.batch * (1 if self.task == "decode" else self.length)

    @property
    def tokens_per_s(self) -> float | None:
        """Throughput at the median."""
        return self.tokens_per_run / self.median_s if self.tokens_per_run else None

    @property
    def j_per_token(self) -> float | None:
        """Energy of the device; None where it does not count, or the runs are too short."""
        if self.energy_j is None or not self.tokens_per_run or sum(self.times_s) < ENERGY_FROM_S:
            return None
        return self.energy_j / (len(self.times_s) * self.tokens_per_run)

    @property
    def accelerator(self) -> str:
        """What the work ran on: the GPU's name, or the processor's."""
        return self.machine.get("gpu", self.machine.get("cpu", self.device))


def _quantile(values: Sequence[float], share: float) -> float:
    """Linear between the sorted values, as NumPy's default."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, rest = math.floor(place), place - math.floor(place)
    return ordered[low] + rest * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def measurements_json(found: Sequence[Measurement]) -> dict[str, Any]:
    """The file's content: every measurement with its runs, and what is derived from them."""
    rows = [
        {**asdict(m), "median_s": m.median_s, "spread_s": list(m.spread_s),
         "tokens_per_s": m.tokens_per_s, "j_per_token": m.j_per_token}
        for m in found
    ]  # fmt: skip
    return {"schema": SCHEMA, "measurements": rows}


def write_measurements(found: Sequence[Measurement], path: str | Path) -> None:
    """Write them as JSON, beside those the file holds already."""
    file = Path(path)
    earlier = read_measurements(file) if file.exists() else []
    content = json.dumps(measurements_json([*earlier, *found]), indent=2)
    file.write_text(content + "\n", encoding="utf-8")


def read_measurements(path: str | Path) -> list[Measurement]:
    """What ``tenzing measure`` wrote; UsageError names what is wrong with a file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"it is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise _wrong(path, f"its schema is {found!r}")
    rows = content.get("measurements")
    if not isinstance(rows, list):
        raise _wrong(path, "it lists no measurements")
    return [_measurement(path, number, row) for number, row in enumerate(rows)]


_NUMBERS: Final = {"batch": int, "length": int, "threads": int, "parameters": int}
_WORDS: Final = ("model", "task", "dtype", "device", "date")
_OPTIONAL: Final = ("peak_bytes", "energy_j")


def _measurement(path: str | Path, number: int, row: Any) -> Measurement:
    place = f"measurement {number}"
    if not isinstance(row, dict):
        raise _wrong(path, f"{place} is not an object")
    given = {f.name: row[f.name] for f in fields(Measurement) if f.name in row}
    missing = {f.name for f in fields(Measurement)} - set(given) - {"kind", *_OPTIONAL}
    if missing:
        raise _wrong(path, f"{place} lacks {', '.join(sorted(missing))}")
    for name in (*_WORDS, *_NUMBERS, *_OPTIONAL):
        if not _good(name, given.get(name)):
            raise _wrong(path, f"{place} has {name} {given[name]!r}")
    times, machine = given["times_s"], given["machine"]
    if not isinstance(times, list) or not times or not all(map(_positive, times)):
        raise _wrong(path, f"{place} has times_s {str(times)[:40]}")
    if not isinstance(machine, dict) or given.get("kind", KIND) != KIND:
        raise _wrong(path, f"{place} says neither what machine nor that it was measured")
    given["machine"] = {str(k): str(v) for k, v in machine.items()}
    given["compiled"] = bool(given["compiled"])
    return Measurement(**{**given, "times_s": tuple(map(float, times))})


def _good(name: str, value: Any) -> bool:
    if name in _WORDS:
        return isinstance(value, str)
    if name in _OPTIONAL:
        return value is None or _positive(value) or value == 0
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _wrong(path: str | Path, what: str) -> UsageError:
    return UsageError(f"{path} holds no measurements: {what}",
                      next_step="give a file that `tenzing measure -o FILE` wrote")  # fmt: skip


__all__ = ["Measurement", "measurements_json", "read_measurements", "write_measurements"]
