"""A comparison of silicon as text, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tenzing import facts
from tenzing.fleet import Choice, Comparison
from tenzing.report.choices_table import OUTPUT, table_of, unit_of
from tenzing.report.choices_words import answer, dollars
from tenzing.report.table import UNKNOWN, format_cell
from tenzing.timeline import whole_file

BILLION: Final = 1e9
CALIBRATED: Final = "calibrated"
MEASURED: Final = "measured"
TIMES: Final = {1.0: "just", 2.0: "twice"}
IMPLIED: Final = ("accepted",)
WIDTH: Final = 120
ON_FRONTIER: Final = (
    "tp", "pp", "replicas", "batch", "weights", "kv", "status", "rate", "requests_s", "ttft_ms",
    "tpot_ms", "latency_ms", "usd_per_million", "joules_per_unit",
)  # fmt: skip
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
    return f"{found.model}: {size}; {_origin(shape.source)}\n{found.task_name}: {', '.join(said)}"


def _origin(source: str) -> str:
    """Where a shape comes from; one that was made up from the model's size is no source."""
    made_up = source.startswith("assumed:")
    return f"no such model is known, its shape is {source}" if made_up else f"shape from {source}"


def _said(name: str, value: float) -> str:
    """A field of a task in words: ``prompt_tokens`` 1024 is "1,024 prompt tokens"."""
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
    if name.endswith("_ms"):
        what = name.removesuffix("_ms")
        return f"{what.upper() if len(what) == len('ttft') else what} up to {number} ms"
    if name == "requests_s":
        return f"{number} requests/s"
    if name == "prefix_hit":
        return f"{value:.0%} of prompts cached"
    return f"{number} {name.replace('_', ' ')}"


def prices_note(choices: Sequence[Choice]) -> str:
    """Which price was taken for each instance; where none is known, which others are."""
    told = {c.instance: _price_said(c) for c in choices if c.basis != MEASURED}
    return "prices: " + ", ".join(f"{name} {words}" for name, words in told.items())


def _price_said(c: Choice) -> str:
    if c.price_date:
        age = (datetime.datetime.now(datetime.UTC).date() - _day(c.price_date)).days
        return f"{_spoken(c.term)} of {c.price_date} ({age} days old)"
    known = {row.term: row.region for row in facts.prices(c.instance)}
    others = ", ".join(f"{_spoken(term)} in {region}" for term, region in known.items())
    return f"{UNKNOWN} (known: {others})" if others else UNKNOWN


def _day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def _spoken(term: str) -> str:
    return term.replace("_", " ")


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


def leaned_on(found: Comparison) -> list[tuple[str, facts.Fact]]:
    """Name and fact of each assumed number that the answers lean on."""
    return [(f"{book}: {path}", facts.assumed_fact((book, path))) for book, path in found.leaned]


def leaned_rows(found: Comparison) -> list[tuple[str, str, facts.Fact]]:
    """The same with their values in words: one row for a number and its two bounds."""
    known = dict(leaned_on(found))
    rows = []
    for name, fact in known.items():
        whole = name.removesuffix("_low").removesuffix("_high")
        if whole != name and whole in known:
            continue
        bounds = [known.get(f"{name}{end}") for end in ("_low", "_high")]
        said = [format_cell(b.value) for b in bounds if b and isinstance(b.value, int | float)]
        rows.append((name, fact.text() + (f" ({'-'.join(said)})" if said else ""), fact))
    return rows


def elsewhere_note(found: Comparison) -> str:
    """What the same work costs where tokens are bought one by one; empty without such prices."""
    if found.elsewhere is None:
        return ""
    prices, whole = found.elsewhere.prices, found.elsewhere.per_million
    unit = unit_of(found)
    if unit == OUTPUT:
        read, written = map(dollars, prices)
        said = (f"{read} a million input tokens and {written} a million output tokens are "
                f"{dollars(whole.amount)} a million output tokens with their prompts")  # fmt: skip
    elif whole.amount == prices[0]:
        said = f"{dollars(whole.amount)} a million {unit}"
    else:
        said = f"{dollars(prices[0])} a million tokens are {dollars(whole.amount)} a million {unit}"
    bought = next((c.usd_per_month_elsewhere for c in found.best
                   if c.usd_per_month_elsewhere is not None), None)  # fmt: skip
    monthly = "" if bought is None else f", {dollars(bought)} a month for the demand"
    return (f"elsewhere: {said}{monthly}; break-even is the load from which renting costs less, "
            "above 100 % of capacity it never does")  # fmt: skip


def demand_note(found: Comparison) -> str:
    """How the instances for a demand were counted; empty without one."""
    asked = found.demand
    if asked is None:
        return ""
    times = TIMES.get(asked.peak_to_mean, f"{asked.peak_to_mean:g} times")
    peak = f" on average, {times} as many in the busiest hour"
    free = f"{asked.headroom:.0%} of the capacity stays free"
    return (f"instances: for {asked.mean_per_s:,.10g} requests/s{peak}, {free}, and enough work in "
            f"{asked.availability:.4g} of the hours when each works in "
            f"{asked.instance_availability:.4g} (spares included)")  # fmt: skip


def choices_text(found: Comparison, *, every: bool = False) -> str:
    """The best configuration of each target (or every one), what is missing, what was assumed."""
    shown = found.choices if every else found.best
    lines = [heading(found), LABEL, ""]
    if shown:
        lines += [table_of(found, shown).text(), "", answer(found)]
    notes = [*_notes(found), *([prices_note(shown)] if shown else [])]
    if notes:
        lines += ["", *notes]
    if found.assumed:
        lines += ["", "assumed: " + assumptions(found)]
    numbers = ", ".join(f"{name} {value}" for name, value, _ in leaned_rows(found))
    if numbers:
        lines += ["", textwrap.fill(f"assumed numbers (tenzing facts): {numbers}", WIDTH)]
    return "\n".join(lines)


def _notes(found: Comparison) -> Iterator[str]:
    yield from (f"{c.instance}: {c.status}: {c.why}" for c in found.best if c.why)
    yield from (f"{target}: {reason}" for target, reason in found.absent)
    yield from (f"{c.instance}: {c.basis}" for c in found.best if c.basis not in ("", CALIBRATED))
    yield from filter(None, (elsewhere_note(found), demand_note(found)))


def choices_json(found: Comparison, *, every: bool = False) -> dict[str, Any]:
    """One object: the question, the best of each target, frontiers, and all records on request."""
    made: dict[str, Any] = {
        "model": found.model, "shape": dataclasses.asdict(found.shape), "task": found.task_name,
        "sizes": dataclasses.asdict(found.task),
        "best": [dataclasses.asdict(c) for c in found.best],
        "frontiers": [{"target": c.target, "instance": c.instance,
                       "choices": [_point(k) for k in found.frontier(c.target, c.instance)]}
                      for c in found.best],
        "absent": [{"target": t, "reason": r} for t, r in found.absent],
        "elsewhere": None if found.elsewhere is None else {
            "usd_per_million_tokens": list(found.elsewhere.prices),
            "usd_per_million": found.elsewhere.per_million.amount},
        "assumed": list(found.assumed),
        "assumed_facts": [{"fact": name, "value": fact.value, "unit": fact.unit,
                           "source": fact.source} for name, fact in leaned_on(found)],
        "configurations": len(found.choices),
    }  # fmt: skip
    if every:
        made["choices"] = [dataclasses.asdict(c) for c in found.choices]
    return made


def _point(choice: Choice) -> dict[str, Any]:
    return {name: getattr(choice, name) for name in ON_FRONTIER}


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
    "LABEL", "assumptions", "choices_json", "choices_text", "demand_note", "elsewhere_note",
    "heading", "leaned_on", "leaned_rows", "prices_note", "write_choices_csv",
]  # fmt: skip
