"""A comparison of silicon as a page: the answer first, pictures, a table to sort, assumptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tenzing import facts
from tenzing.fleet import Choice, Comparison
from tenzing.report.choices import (
    LABEL,
    assumptions,
    demand_note,
    elsewhere_note,
    heading,
    leaned_rows,
    prices_note,
)
from tenzing.report.choices_parts import (
    Answer,
    Frontiers,
    Points,
    Ranges,
    Script,
    Sortable,
    Swings,
)
from tenzing.report.choices_table import named, short, table_of
from tenzing.report.choices_words import answer, dollars, plain_words, usable, verdict
from tenzing.report.html import Cards, Section, Verdict, write_html
from tenzing.report.table import Table

MOST_ROWS: Final = 400  # of the table with every configuration
MOST_SWINGS: Final = 6


def write_choices_html(found: Comparison, path: Path) -> Path:
    """One self-contained page; it needs nothing from the network."""
    model, task = heading(found).split("\n")
    sections: list[Section] = [Answer(answer(found)), _cards(found), Verdict(verdict(found))]
    sections += [Ranges(found), Frontiers(found)]
    if found.best:
        table = table_of(found, found.best)
        sections.append(Sortable(table, "The best of each target", " ".join(_notes(found))))
    sections.append(Swings([c for c in found.best if c.usable][:MOST_SWINGS]))
    sections.append(_leans(found))
    every = [c for c in found.choices if c.usable][:MOST_ROWS]
    if every:
        note = f"{len(every)} of {len(found.choices)} configurations; the CSV has all."
        sections.append(Sortable(table_of(found, every), f"Every configuration ({len(every)})",
                                 note, folded=True))  # fmt: skip
    sections.append(Script())
    return write_html(path, f"Which silicon for {found.model}?", sections, f"{task}. {model}.",
                      "Calibrated on published measurements; see the documentation for how far "
                      "that reaches.")  # fmt: skip


def _cards(found: Comparison) -> Cards:
    """The figures to see first, of targets within the limits."""
    running = usable(found)
    least = [_card(running, name, say, label) for name, say, label in (
        ("usd_per_million", dollars, "per million {unit}, the cheapest: {who}"),
        ("usd_per_month", dollars, "a month for the demand: {fleet_instances} {instance}"),
        ("run_usd", dollars, "for the whole run, the cheapest: {who}"),
        ("run_days", "{:,.3g} days".format, "for the whole run, the soonest: {who}"),
        ("joules_per_unit", lambda joules: f"{short(joules)} J",
         "per {single}, the least energy: {who}"),
    )]  # fmt: skip
    if running:
        fast = max(running, key=lambda c: c.rate / c.instances)
        label = f"{fast.unit} a second, the most of one instance: {fast.instance}"
        least.append((label, short(fast.rate / fast.instances)))
    return Cards([card for card in least if card])


def _card(
    running: Sequence[Choice], name: str, say: Callable[[float], str], label: str
) -> tuple[str, str] | None:
    """Label and value of the smallest of a figure; None where it is not known of any."""
    known = [c for c in running if getattr(c, name) is not None]
    if not known:
        return None
    least = min(known, key=lambda c: float(getattr(c, name)))
    words = {"who": named(least), "unit": least.unit, "single": least.unit.removesuffix("s"),
             "instance": least.instance, "fleet_instances": least.fleet_instances}  # fmt: skip
    return label.format(**words), say(float(getattr(least, name)))


def _notes(found: Comparison) -> Iterator[str]:
    for note in (LABEL, prices_note(found.best), elsewhere_note(found), demand_note(found)):
        if note:
            yield f"{note[0].upper()}{note[1:]}."


def _leans(found: Comparison) -> Points:
    """What was assumed, in plain words; every number behind it in a table."""
    said = [*plain_words(found)]
    if found.assumed:
        said.append(f"Assumed here: {assumptions(found)}.")
    known = facts.sources()
    rows = [(name, value, fact.note, known[fact.source].title)
            for name, value, fact in leaned_rows(found)]  # fmt: skip
    table = Table.of(("fact", "value", "why", "source"), rows)
    return Points("What this rests on", said, table, f"{len(rows)} assumed numbers")


__all__ = ["write_choices_html"]
