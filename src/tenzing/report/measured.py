"""Measurements as text: a table of times, and what they were taken on."""

from __future__ import annotations

from collections.abc import Sequence

from tenzing.fleet import Measurement
from tenzing.report.table import table
from tenzing.units import GIB, PS_PER_S, format_time

HEADERS = ("task", "batch", "length", "dtype", "median", "8 of 10 within", "tokens/s", "memory",
           "J/token")  # fmt: skip


def measured_text(found: Sequence[Measurement]) -> str:
    """A table, and below it the machine of the last one."""
    last = found[-1]
    about = [
        f"{last.model}: {last.parameters:,} parameters, measured on {last.date}, "
        f"{len(last.times_s)} runs each" + (", torch.compile" if last.compiled else ""),
        "on " + ", ".join(f"{name} {value}" for name, value in last.machine.items()),
    ]
    if last.device == "cpu":
        about.append(f"with {last.threads} threads")
    return table(HEADERS, map(_row, found)) + "\n\n" + "\n".join(about)


def _row(one: Measurement) -> tuple[str | int | float | None, ...]:
    low, high = one.spread_s
    peak = "-" if one.peak_bytes is None else f"{one.peak_bytes / GIB:.1f} GiB"
    return (
        one.task, one.batch, one.length or "own", one.dtype, _time(one.median_s),
        f"{_time(low)} to {_time(high)}", one.tokens_per_s or "-", peak, one.j_per_token or "-",
    )  # fmt: skip


def _time(seconds: float) -> str:
    return format_time(seconds * PS_PER_S)


__all__ = ["measured_text"]
