"""A comparison of silicon as a page: figures first, frontiers, a table to sort, sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from tenzing.fleet import Choice, Comparison, sensitivity
from tenzing.fleet.economics import Bar
from tenzing.report.choices import (
    LABEL,
    assumptions,
    demand_note,
    elsewhere_note,
    heading,
    prices_note,
)
from tenzing.report.choices_table import table_of
from tenzing.report.html import Cards, Section, Text, write_html
from tenzing.report.plot import Mark, Series, plot_svg
from tenzing.report.table import Table

MOST_ROWS: Final = 400  # of the table with every configuration
MOST_SWINGS: Final = 6
SCRIPT: Final = """<script>
document.querySelectorAll("table.sortable th").forEach(function (head) {
  head.tabIndex = 0;
  head.setAttribute("role", "button");
  function sort() {
    var table = head.closest("table"), body = table.tBodies[0];
    var at = Array.prototype.indexOf.call(head.parentNode.children, head);
    var up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(function (h) { h.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    var key = function (row) {
      var text = row.cells[at].textContent.replace(/[$,%]/g, "");
      var number = parseFloat(text);
      return isNaN(number) ? text : number;
    };
    var rows = Array.prototype.slice.call(body.rows);
    rows.sort(function (a, b) {
      var x = key(a), y = key(b);
      if (typeof x !== typeof y) { return typeof x === "number" ? -1 : 1; }
      return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
    });
    rows.forEach(function (row) { body.appendChild(row); });
  }
  head.addEventListener("click", sort);
  head.addEventListener("keydown", function (e) { if (e.key === "Enter") { sort(); } });
});
</script>"""


@dataclass(frozen=True, slots=True)
class Sortable:
    """A table whose columns sort by a click on their heads."""

    table: Table
    title: str
    note: str = ""

    def html(self) -> str:
        """The part as HTML."""
        sides = ["r" if side == "r" else "" for side in self.table.align]

        def row(tag: str, cells: Sequence[str]) -> str:
            return "".join(f'<{tag} class="{s}">{escape(c)}</{tag}>'
                           for s, c in zip(sides, cells, strict=True))  # fmt: skip

        body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in self.table.rows)
        return (
            f"<section><h2>{escape(self.title)}</h2>"
            f'<div class="scroll"><table class="sortable"><thead><tr>'
            f"{row('th', self.table.headers)}</tr></thead><tbody>{body}</tbody></table></div>"
            f'<p class="note">{escape(self.note)}</p></section>'
        )


@dataclass(frozen=True, slots=True)
class Frontiers:
    """Cost over waiting time, a line per target."""

    found: Comparison

    def html(self) -> str:
        """The part as HTML."""
        best = set(self.found.best)
        series = []
        for choice in self.found.best:
            kept = self.found.frontier(choice.target, choice.instance)
            marks = [_mark(c, c in best) for c in kept if c.usd_per_million and c.wait_ms]
            if marks:
                name = choice.instance
                count = f" x{choice.instances}" if choice.instances > 1 else ""
                series.append(Series(name + count, marks))
        unit = self.found.choices[0].unit if self.found.choices else "units"
        serving = unit == "output tokens"
        across = "ms between tokens" if serving else "ms for a batch or step"
        picture = plot_svg(series, across, f"$ per million {unit}")
        note = ("Each mark is a layout and batch that no other of its target beats in both; the "
                "large mark is the cheapest within the limits. Targets without a price are in the "
                "table only. Point at a mark for its figures.")  # fmt: skip
        return (
            f'<section><h2>Cost against waiting</h2><div class="scroll">{picture}</div>'
            f'<p class="note">{note}</p></section>'
        )


def _mark(c: Choice, best: bool) -> Mark:
    words = (f"{c.replicas} x tp{c.tp}, batch {c.batch}, {c.weights}: {c.rate:,.0f} {c.unit}/s, "
             f"{c.wait_ms:.3g} ms, ${c.usd_per_million:.4g} per million")  # fmt: skip
    return Mark(c.wait_ms, c.usd_per_million or 0.0, words, best)


@dataclass(frozen=True, slots=True)
class Swings:
    """What moves the cost of the best configurations, one bar an input."""

    choices: Sequence[Choice]

    def html(self) -> str:
        """The part as HTML; nothing where no price is known."""
        parts = "".join(map(self._target, self.choices))
        if not parts:
            return ""
        note = "One input at a time; the line inside a bar is the cost as shown above."
        return (f'<section><h2>What the cost hangs on</h2><div class="swings">{parts}</div>'
                f'<p class="note">{note}</p></section>')  # fmt: skip

    @staticmethod
    def _target(c: Choice) -> str:
        bars = sensitivity(c)
        if not bars or c.usd_per_million is None:
            return ""
        ends = [sorted(x.amount for x in (bar.at_low, bar.at_high) if x) for bar in bars]
        top = max(high for _, high in ends)
        rows = "".join(
            f"<span>{escape(_input(bar))}</span>"
            f'<div class="swing"><div style="left:{low / top:.2%};'
            f'width:{(high - low) / top:.2%}"></div><i style="left:{c.usd_per_million / top:.2%}">'
            f'</i></div><span class="r">${low:.3g} to ${high:.3g}</span>'
            for bar, (low, high) in zip(bars, ends, strict=True)
        )
        return f'<h3>{escape(c.instance)}</h3><div class="bars">{rows}</div>'


def _input(bar: Bar) -> str:
    """What was moved from where to where."""
    if bar.name == "rate":
        return f"price {bar.low_input} to {bar.high_input}"
    if bar.name == "per_s":
        return "speed, within its 80 % interval"
    return f"busy {bar.low_input:.0%} to {bar.high_input:.0%} of the paid hours"


@dataclass(frozen=True, slots=True)
class Script:
    """The one script of the page."""

    def html(self) -> str:
        """The part as HTML."""
        return SCRIPT


def write_choices_html(found: Comparison, path: Path) -> Path:
    """One self-contained page; it needs nothing from the network."""
    title, lead = heading(found).split("\n")
    usable = [c for c in found.best if c.usable]
    sections: list[Section] = [_cards(usable), Frontiers(found)]
    if found.best:
        sections.append(Sortable(table_of(found, found.best), "The best of each target", LABEL))
    sections += [_reasons(found), Swings(usable[:MOST_SWINGS])]
    every = [c for c in found.choices if c.usable][:MOST_ROWS]
    if every:
        note = f"{len(every)} of {len(found.choices)} configurations; the CSV has all."
        sections.append(Sortable(table_of(found, every), "Configurations", note))
    if found.assumed:
        sections.append(Text(assumptions(found), "Assumed"))
    sections.append(Script())
    return write_html(path, title.split(":")[0] + ": which silicon", sections,
                      f"{title}. {lead}.", "Calibrated on published measurements; see the "
                      "documentation for how far that reaches.")  # fmt: skip


def _cards(usable: Sequence[Choice]) -> Cards:
    items: list[tuple[str, str]] = []
    within = [c for c in usable if c.status == "ok"] or list(usable)
    priced = [c for c in within if c.usd_per_million is not None]
    if priced:
        cheap = min(priced, key=lambda c: c.usd_per_million or 0.0)
        items.append((f"per million {cheap.unit}: the cheapest, {cheap.instance}",
                      f"${cheap.usd_per_million:.3g}"))  # fmt: skip
    if within:
        fast = max(within, key=lambda c: c.rate / c.instances)
        items.append((f"{fast.unit} a second: the most of one instance, {fast.instance}",
                      f"{fast.rate / fast.instances:,.0f}"))  # fmt: skip
    saving = [c for c in within if c.joules_per_unit is not None]
    if saving:
        least = min(saving, key=lambda c: c.joules_per_unit or 0.0)
        unit = least.unit.removesuffix("s")
        items.append((f"J per {unit}: the least energy, {least.instance}",
                      f"{least.joules_per_unit:.3g}"))  # fmt: skip
    return Cards(items)


def _reasons(found: Comparison) -> Text:
    lines = [f"{c.instance}: {c.status}: {c.why}." for c in found.best if c.why]
    lines += [f"{target}: {reason}." for target, reason in found.absent]
    lines = lines or ["Every target has a configuration within the limits."]
    notes = (prices_note(found.best), elsewhere_note(found), demand_note(found))
    lines += [f"{note.capitalize()}." for note in notes if note]
    return Text(" ".join(lines), "What is missing, and which prices")


__all__ = ["write_choices_html"]
