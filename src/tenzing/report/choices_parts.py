"""The parts of the page of a comparison: ranges, frontiers, tables that sort, swings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tenzing.fleet import Choice, Comparison, sensitivity
from tenzing.fleet.economics import Bar
from tenzing.report.choices_table import OUTPUT, TRAINED, layout, named, short, unit_of
from tenzing.report.choices_words import dollars
from tenzing.report.plot import PALETTE, Axis, Frame, Mark, Series, axis, plot_svg
from tenzing.report.table import Table

SIZES: Final = {"plot": (760, 400), "plot small": (400, 430)}  # of the window and of a phone
PERCENT: Final = 100
THOUSAND: Final = 1000
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
class Script:
    """The one script of the page."""

    def html(self) -> str:
        """The part as HTML."""
        return SCRIPT


@dataclass(frozen=True, slots=True)
class Answer:
    """The sentence to remember."""

    text: str

    def html(self) -> str:
        """The part as HTML."""
        return f'<p class="answer">{escape(self.text)}</p>'


@dataclass(frozen=True, slots=True)
class Sortable:
    """A table whose columns sort by a click on their heads; ``folded`` until somebody opens it."""

    table: Table
    title: str
    note: str = ""
    folded: bool = False

    def html(self) -> str:
        """The part as HTML."""
        sides = ["r" if side == "r" else "" for side in self.table.align]

        def row(tag: str, cells: Sequence[str]) -> str:
            return "".join(f'<{tag} class="{s}">{escape(c)}</{tag}>' if s else
                           f"<{tag}>{escape(c)}</{tag}>"
                           for s, c in zip(sides, cells, strict=True))  # fmt: skip

        body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in self.table.rows)
        table = (f'<div class="scroll"><table class="sortable"><thead><tr>'
                 f"{row('th', self.table.headers)}</tr></thead><tbody>{body}</tbody></table></div>"
                 f'<p class="note">{escape(self.note)}</p>')  # fmt: skip
        title = escape(self.title)
        if self.folded:
            return f"<section><details><summary>{title}</summary>{table}</details></section>"
        return f"<section><h2>{title}</h2>{table}</section>"


@dataclass(frozen=True, slots=True)
class Ranges:
    """The cost of every target with its interval, on one scale, the best first."""

    found: Comparison

    def html(self) -> str:
        """The part as HTML; nothing where no price is known."""
        priced = [c for c in self.found.best if c.usable and c.usd_per_million is not None]
        if not priced:
            return ""
        elsewhere = self.found.elsewhere
        price = elsewhere.per_million.amount if elsewhere else 0.0
        ends = [v for c in priced for v in _ends(c)] + ([price] if price else [])
        scale = axis(ends, 0.0, PERCENT)
        order = {c: n for n, c in enumerate(self.found.best)}
        rows = "".join(_range_row(c, order[c], scale, price) for c in priced)
        note = "Bar: 80 % range; dot: the expected value. Every step to the right of the same "
        note += "length is the same factor."
        note += f" Dashed: {dollars(price)}, what it costs elsewhere." if price else ""
        return (f"<section><h2>$ per million {unit_of(self.found)}</h2>"
                f'<div class="ranges">{rows}</div><p class="note">{note}</p></section>'
                )  # fmt: skip


def _ends(c: Choice) -> tuple[float, float, float]:
    middle = c.usd_per_million or 0.0
    return c.usd_per_million_low or middle, middle, c.usd_per_million_high or middle


def _range_row(c: Choice, number: int, scale: Axis, price: float) -> str:
    low, middle, high = map(scale.at, _ends(c))
    mark = f'<u style="left:{scale.at(price):.2f}%"></u>' if price else ""
    status = "" if c.status == "ok" else f" <em>{escape(c.status)}</em>"
    said = " to ".join(dollars(x) for x in (_ends(c)[0], _ends(c)[2]))
    return (
        f'<span class="who">{escape(named(c))}{status}</span>'
        f'<div class="range"><div class="c{number % PALETTE}" style="left:{low:.2f}%;'
        f'width:{high - low:.2f}%"></div>{mark}<i class="c{number % PALETTE}" '
        f'style="left:{middle:.2f}%"></i></div>'
        f'<span class="r"><b>{dollars(_ends(c)[1])}</b> {said}</span>'
    )


@dataclass(frozen=True, slots=True)
class Frontiers:
    """Cost over waiting time, a line per target; once for a wide window and once for a phone."""

    found: Comparison

    def html(self) -> str:
        """The part as HTML."""
        series = list(self._series())
        unit = unit_of(self.found)
        across = {OUTPUT: "ms between tokens", TRAINED: "days for the run"}.get(unit, "ms a batch")
        frames = {kind: Frame(across, f"$ per million {unit}", _tick, self._limit(), *size)
                  for kind, size in SIZES.items()}  # fmt: skip
        pictures = "".join(plot_svg(series, frame, kind) for kind, frame in frames.items())
        if not any(one.marks for one in series):
            pictures = plot_svg(series, next(iter(frames.values())))
        note = ("Each mark is a layout and batch that no other of its target beats in both; the "
                "large mark is the cheapest within the limits, with its 80 % ranges. Further down "
                "is cheaper, further left is faster. Targets without a price are in the table "
                "only. Point at a mark for its figures.")  # fmt: skip
        return (f"<section><h2>Cost against waiting</h2>{pictures}"
                f'<p class="note">{note}</p></section>')  # fmt: skip

    def _series(self) -> Iterator[Series]:
        best = set(self.found.best)
        for choice in self.found.best:
            kept = self.found.frontier(choice.target, choice.instance)
            marks = [_mark(c, c in best) for c in kept if c.usd_per_million and _wait(c)[0]]
            yield Series(named(choice), marks)

    def _limit(self) -> tuple[float, str] | None:
        for name in ("tpot_ms", "latency_ms"):
            value = getattr(self.found.task, name, 0.0)
            if value:
                return value, f"limit {value:,g} ms"
        return None


def _wait(c: Choice) -> tuple[float, float, float]:
    """What somebody waits for, with its interval: a token, a batch (ms), or a whole run (days)."""
    if c.run_days:
        return c.run_days, c.run_days_low or c.run_days, c.run_days_high or c.run_days
    if c.tpot_ms:
        return c.tpot_ms, c.tpot_ms_low, c.tpot_ms_high
    return c.latency_ms, c.latency_ms_low, c.latency_ms_high


def _tick(amount: float) -> str:
    return f"${amount / THOUSAND:g}k" if amount >= THOUSAND else f"${amount:g}"


def _mark(c: Choice, best: bool) -> Mark:
    wait, low, high = _wait(c)
    words = (f"{layout(c)}: {c.rate:,.0f} {c.unit}/s, {wait:.3g} {'days' if c.run_days else 'ms'}, "
             f"{dollars(c.usd_per_million or 0.0)} per million")  # fmt: skip
    return Mark(wait, c.usd_per_million or 0.0, words, best, (low, high) if low else None,
                (_ends(c)[0], _ends(c)[2]))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Swings:
    """What moves the cost of the best configurations, one bar an input."""

    choices: Sequence[Choice]

    def html(self) -> str:
        """The part as HTML; nothing where no price is known."""
        parts = "".join(map(_swings, self.choices))
        if not parts:
            return ""
        note = ("$ per million, one input at a time; the line inside a bar is the cost as above. "
                "Load: of the hours paid for, those used.")  # fmt: skip
        return (f'<section><h2>What the cost hangs on</h2><div class="swings">{parts}</div>'
                f'<p class="note">{note}</p></section>')  # fmt: skip


def _swings(c: Choice) -> str:
    bars = sensitivity(c)
    if not bars or c.usd_per_million is None:
        return ""
    ends = [sorted(x.amount for x in (bar.at_low, bar.at_high) if x) for bar in bars]
    top = max(high for _, high in ends)
    rows = "".join(
        f"<span>{escape(_input(bar, c))}</span>"
        f'<div class="swing"><div style="left:{low / top:.2%};width:{(high - low) / top:.2%}">'
        f'</div><i style="left:{c.usd_per_million / top:.2%}"></i></div>'
        f'<span class="r">{dollars(low)} to {dollars(high)}</span>'
        for bar, (low, high) in zip(bars, ends, strict=True)
    )
    return f'<div><h3>{escape(named(c))}</h3><div class="bars">{rows}</div></div>'


def _input(bar: Bar, c: Choice) -> str:
    """What was moved from where to where."""
    if bar.name == "rate":
        return f"price {dollars(bar.low_input.amount)} to {dollars(bar.high_input.amount)} an hour"
    if bar.name == "per_s":
        unit = "tokens" if c.unit in (OUTPUT, TRAINED) else c.unit
        return f"speed {short(bar.low_input)} to {short(bar.high_input)} {unit}/s"
    return f"load {bar.low_input:.0%} to {bar.high_input:.0%}"


@dataclass(frozen=True, slots=True)
class Points:
    """Sentences one under another, with a title above and a folded table below."""

    title: str
    items: Sequence[str]
    table: Table
    summary: str

    def html(self) -> str:
        """The part as HTML."""
        items = "".join(f"<li>{escape(item)}</li>" for item in self.items)
        head = "".join(f"<th>{escape(h)}</th>" for h in self.table.headers)
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>"
                       for row in self.table.rows)  # fmt: skip
        folded = (f"<details><summary>{escape(self.summary)}</summary>"
                  f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
                  "</table></div></details>") if body else ""  # fmt: skip
        return f"<section><h2>{escape(self.title)}</h2><ul>{items}</ul>{folded}</section>"


__all__ = ["Answer", "Frontiers", "Points", "Ranges", "Script", "Sortable", "Swings"]
