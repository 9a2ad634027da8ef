"""A comparison of silicon as text, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tenzing.fleet import Choice, Comparison, instances_for
from tenzing.report.table import UNKNOWN, Cell, Table
from tenzing.timeline import whole_file
from tenzing.units import SECONDS_PER_HOUR

HOURS_PER_MONTH: Final = 730
BILLION: Final = 1e9
MS_PER_S: Final = 1e3
CALIBRATED: Final = "calibrated"
IMPLIED: Final = ("accepted",)
LABEL: Final = (
    "calibrated: what published software reaches on such a configuration; ranges hold 80 %"
)


def heading(found: Comparison) -> str:
    """Model and task in a line each."""
    shape = found.shape
    size = f"{shape.params / BILLION:.3g} billion parameters"
    if shape.experts:
        size += f", {shape.active / BILLION:.3g} active"
    sizes = dataclasses.asdict(found.task)
    said = [_said(name, value) for name, value in sizes.items() if value and name not in IMPLIED]
    accepted = sizes.get("accepted", 1.0)
    said += [f"{accepted:g} tokens a step"] if accepted > 1 else []
    return f"{found.model}: {size}; shape from {shape.source}\n{found.task_name}: {', '.join(said)}"


def _said(name: str, value: float) -> str:
    """A field of a task in words: ``prompt_tokens`` 1024 is "1,024 prompt tokens"."""
    number = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if name.endswith("_ms"):
        what = name.removesuffix("_ms")
        return f"{what.upper() if len(what) == len('ttft') else what} up to {number} ms"
    if name == "requests_s":
        return f"{number} requests/s"
    if name == "prefix_hit":
        return f"{value:.0%} of prompts cached"
    return f"{number} {name.replace('_', ' ')}"


def table_of(found: Comparison, choices: Sequence[Choice]) -> Table:
    """One row a configuration, columns as the task has figures."""
    columns = _columns(found)
    rows = [[cell(choice) for _, cell in columns] for choice in choices]
    return Table.of([name for name, _ in columns], rows)


def _columns(found: Comparison) -> list[tuple[str, Any]]:
    unit = found.choices[0].unit if found.choices else "units"
    serving = unit == "output tokens"
    training = unit == "trained tokens"
    single = unit.removesuffix("s").removeprefix("output ").removeprefix("trained ")
    columns: list[tuple[str, Any]] = [
        ("instance", lambda c: c.instance if c.instances == 1 else f"{c.instance} x{c.instances}"),
        ("layout", _layout),
        (f"{unit}/s", lambda c: _range(c.rate, c.rate_low, c.rate_high) if c.usable else None),
    ]
    if serving:
        columns += [("TTFT ms", _figure("ttft_ms")), ("TPOT ms", _figure("tpot_ms"))]
        if any(c.simulated_ms is not None for c in found.choices):
            columns.append(("simulated step ms", lambda c: c.simulated_ms))
    else:
        columns.append(("step ms" if training else "latency ms", _figure("latency_ms")))
    columns.append(
        (
            f"$/M {unit}",
            lambda c: (
                _range(c.usd_per_million, c.usd_per_million_low, c.usd_per_million_high)
                if c.usable
                else None
            ),
        )
    )
    if serving:
        columns += [("$/M in", lambda c: c.usd_per_million_input),
                    ("$/M out", lambda c: c.usd_per_million_output)]  # fmt: skip
    columns += [(f"J/{single}", lambda c: c.joules_per_unit if c.usable else None),
                ("MFU", lambda c: f"{c.mfu:.0%}" if c.usable and c.mfu else None)]  # fmt: skip
    if serving:
        columns.append(("MBU", lambda c: f"{c.mbu:.0%}" if c.usable and c.mbu else None))
    columns += _of_the_whole(found)
    return [*columns, ("$/h", lambda c: c.usd_per_hour), ("", lambda c: c.status)]


def _of_the_whole(found: Comparison) -> list[tuple[str, Any]]:
    """Columns for a demand to serve or a run to finish."""
    demand = getattr(found.task, "requests_s", 0.0)
    total = getattr(found.task, "total_tokens", 0)
    if total:
        return [("days", lambda c: run_days(c, total) if c.usable else None),
                ("million $", lambda c: run_usd(c, total)),
                ("MWh", lambda c: run_mwh(c, total))]  # fmt: skip
    if demand:
        return [(f"for {demand:g}/s", lambda c: instances_for(c, demand) or None),
                ("$/month", lambda c: month_usd(c, demand))]  # fmt: skip
    return []


def run_days(choice: Choice, tokens: int) -> float | None:
    """Days to train on that many tokens."""
    return tokens / choice.rate / SECONDS_PER_HOUR / 24 if choice.rate else None


def run_usd(choice: Choice, tokens: int) -> float | None:
    """Millions of dollars for the run."""
    if choice.usd_per_million is None or not choice.usable:
        return None
    return choice.usd_per_million * tokens / 1e12


def run_mwh(choice: Choice, tokens: int) -> float | None:
    """Megawatt-hours for the run."""
    if choice.joules_per_unit is None or not choice.usable:
        return None
    return choice.joules_per_unit * tokens / SECONDS_PER_HOUR / 1e6


def month_usd(choice: Choice, demand: float) -> float | None:
    """Dollars a month for the instances that serve a demand."""
    count = instances_for(choice, demand)
    if choice.usd_per_hour is None or not count:
        return None
    return count * choice.usd_per_hour * HOURS_PER_MONTH


def _layout(c: Choice) -> str:
    parts = [f"{c.replicas} x tp{c.tp}" + (f" pp{c.pp}" if c.pp > 1 else ""), f"batch {c.batch}"]
    if c.weights != "bf16" or c.kv != "bf16":
        parts.append(c.weights if c.kv == "bf16" else f"{c.weights}/{c.kv} cache")
    return ", ".join([*parts, *(["recompute"] if c.recompute else [])])


def _range(value: float | None, low: float | None, high: float | None) -> str | None:
    if value is None or low is None or high is None:
        return None
    if low == high:  # a source that states no interval
        return _short(value)
    return f"{_short(value)} ({_short(low)}-{_short(high)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - digits shown


def _figure(name: str) -> Any:
    def cell(c: Choice) -> Cell:
        if not c.usable:
            return None
        return _range(*(getattr(c, f"{name}{end}") for end in ("", "_low", "_high")))

    return cell


def prices_note(choices: Sequence[Choice]) -> str:
    """Which price was taken for each instance, and those for which none is known."""
    told = {
        c.instance: f"{c.term.replace('_', ' ')} of {c.price_date}" if c.price_date else UNKNOWN
        for c in choices
        if c.basis != "measured"
    }
    return "prices: " + ", ".join(f"{name} {words}" for name, words in told.items())


def assumptions(found: Comparison) -> str:
    """What was assumed, the same of several instances named once."""
    groups: dict[str, list[str]] = {}
    for line in found.assumed:
        where, _, what = line.rpartition(": ")
        groups.setdefault(what, []).append(where)
    instances = {c.instance for c in found.choices}
    told = []
    for what, places in groups.items():
        few = [place for place in places if place in instances]
        other = [place for place in places if place and place not in instances]
        named = "".join(f"{place}: " for place in other)
        told.append(f"{named}{what}" + (f" ({', '.join(few)})" if few else ""))
    return "; ".join(told)


def choices_text(found: Comparison, *, every: bool = False) -> str:
    """The best configuration of each target (or every one), what is missing, what was assumed."""
    shown = found.choices if every else found.best
    lines = [heading(found), LABEL, ""]
    if shown:
        lines.append(table_of(found, shown).text())
    notes = [f"{c.instance}: {c.status}: {c.why}" for c in found.best if c.why]
    notes += [f"{target}: {reason}" for target, reason in found.absent]
    notes += [f"{c.instance}: {c.basis}" for c in found.best if c.basis not in ("", CALIBRATED)]
    notes += [prices_note(shown)] if shown else []
    if notes:
        lines += ["", *notes]
    if found.assumed:
        lines += ["", "assumed: " + assumptions(found)]
    return "\n".join(lines)


def choices_json(found: Comparison, *, every: bool = False) -> dict[str, Any]:
    """One object: the question, the best of each target, frontiers, and all records on request."""
    made: dict[str, Any] = {
        "model": found.model, "shape": dataclasses.asdict(found.shape), "task": found.task_name,
        "sizes": dataclasses.asdict(found.task),
        "best": [dataclasses.asdict(c) for c in found.best],
        "absent": [{"target": t, "reason": r} for t, r in found.absent],
        "assumed": list(found.assumed), "configurations": len(found.choices),
    }  # fmt: skip
    if every:
        made["choices"] = [dataclasses.asdict(c) for c in found.choices]
    return made


def write_choices_csv(found: Comparison, path: Path) -> Path:
    """Every configuration as a row of a CSV file; the fields are those of the records."""
    names = [field.name for field in dataclasses.fields(Choice)]
    with whole_file(path) as out:
        text = _Utf8(out)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for choice in found.choices:
            writer.writerow(_cell(getattr(choice, name)) for name in names)
    return path


class _Utf8:
    """Text into a file of bytes."""

    def __init__(self, out: Any) -> None:
        self.out = out

    def write(self, text: str) -> int:
        return int(self.out.write(text.encode()))


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return "; ".join(value)
    return f"{value:.6g}" if isinstance(value, float) else value


__all__ = [
    "LABEL", "assumptions", "choices_json", "choices_text", "heading", "month_usd",
    "prices_note", "run_days", "run_mwh", "run_usd", "table_of", "write_choices_csv",
]  # fmt: skip
