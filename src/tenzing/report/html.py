"""One self-contained page: sections of cards, tables, bars and pictures, in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final, Protocol

from tenzing.errors import Finding
from tenzing.report.picture import detail_html, timeline_svg
from tenzing.report.roofline import Point, Roof, roofline_svg
from tenzing.report.stylesheet import CSS
from tenzing.report.table import Table
from tenzing.timeline import Timeline, whole_file

PERCENT: Final = 100


class Section(Protocol):
    """A part of a page."""

    def html(self) -> str:
        """The part as HTML."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A heading that starts a new part of the page, with a sentence under it."""

    title: str
    lead: str = ""

    def html(self) -> str:
        """The part as HTML."""
        lead = f'<p class="lead">{escape(self.lead)}</p>' if self.lead else ""
        return f'<h2 class="part">{escape(self.title)}</h2>{lead}'


@dataclass(frozen=True, slots=True)
class Cards:
    """The figures to see first: (label, value) pairs."""

    items: Sequence[tuple[str, str]]

    def html(self) -> str:
        """The part as HTML."""
        cards = (
            f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
            for label, value in self.items
        )
        return f'<section class="plain"><div class="cards">{"".join(cards)}</div></section>'


@dataclass(frozen=True, slots=True)
class Rows:
    """A table with its title above and a note below."""

    table: Table
    note: str = ""

    def html(self) -> str:
        """The part as HTML."""
        sides = ["r" if side == "r" else "" for side in self.table.align]
        head = "".join(map(_cell, ["th"] * len(sides), sides, self.table.headers))
        body = "".join(
            f"<tr>{''.join(map(_cell, ['td'] * len(sides), sides, row))}</tr>"
            for row in self.table.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return _section(self.table.title, f'<div class="scroll">{table}</div>', self.note)


@dataclass(frozen=True, slots=True)
class Bars:
    """Shares as bars: (label, share between 0 and 1, words at the right)."""

    title: str
    items: Sequence[tuple[str, float, str]]
    note: str = ""

    def html(self) -> str:
        """The part as HTML."""
        bars = "".join(
            f'<span>{escape(label)}</span><div class="bar"><div style="width:'
            f'{min(max(share, 0.0), 1.0) * PERCENT:.2f}%"></div></div>'
            f'<span class="r">{escape(words)}</span>'
            for label, share, words in self.items
        )
        return _section(self.title, f'<div class="bars">{bars}</div>', self.note)


@dataclass(frozen=True, slots=True)
class TimelinePicture:
    """Engines over time, and of a long program some stretches in detail."""

    timeline: Timeline
    title: str = "Timeline"
    note: str = ""

    def html(self) -> str:
        """The part as HTML."""
        body = timeline_svg(self.timeline) + detail_html(self.timeline)
        return _section(self.title, body, self.note)


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing with its title above and a note below."""

    title: str
    drawing: str
    note: str = ""

    def html(self) -> str:
        """The part as HTML."""
        return _section(self.title, self.drawing, self.note)


@dataclass(frozen=True, slots=True)
class Roofline:
    """Reached TFLOPS under the ceilings of arithmetic and memory."""

    roofs: Sequence[Roof]
    points: Sequence[Point]
    note: str = ""

    def html(self) -> str:
        """The part as HTML."""
        return _section("Roofline", roofline_svg(self.roofs, self.points), self.note)


@dataclass(frozen=True, slots=True)
class Beside:
    """Sections next to each other where the window is wide enough."""

    parts: Sequence[Section]

    def html(self) -> str:
        """The part as HTML."""
        return f'<div class="beside">{"".join(part.html() for part in self.parts)}</div>'


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a page comes down to: (label, sentence) pairs."""

    items: Sequence[tuple[str, str]]

    def html(self) -> str:
        """The part as HTML."""
        pairs = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in self.items)
        return f'<section class="verdict"><dl>{pairs}</dl></section>'


@dataclass(frozen=True, slots=True)
class Warnings:
    """Broken rules, with the source lines that break them; nothing when there are none."""

    findings: Sequence[Finding]
    title: str = "Findings"

    def html(self) -> str:
        """The part as HTML."""
        if not self.findings:
            return ""
        body = "".join(map(_finding, self.findings))
        return f'<section class="warning"><h2>{escape(self.title)}</h2>{body}</section>'


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    title: str = ""

    def html(self) -> str:
        """The part as HTML."""
        return _section(self.title, "", self.text)


def page(title: str, sections: Sequence[Section], lead: str = "", footer: str = "") -> str:
    """A complete HTML document."""
    body = "\n".join(part.html() for part in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style></head>\n<body><main>\n"
        f"<h1>{escape(title)}</h1>\n"
        + (f'<p class="lead">{escape(lead)}</p>\n' if lead else "")
        + body
        + (f"\n<footer>{escape(footer)}</footer>" if footer else "")
        + "\n</main></body></html>\n"
    )


def write_html(
    path: str | Path, title: str, sections: Sequence[Section], lead: str = "", footer: str = ""
) -> Path:
    """Write one self-contained page; UsageError when the folder cannot be written."""
    target = Path(path)
    with whole_file(target) as out:
        out.write(page(title, sections, lead, footer).encode())
    return target


def _section(title: str, body: str, note: str) -> str:
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section>{heading}{body}{below}</section>"


def _cell(tag: str, side: str, text: str) -> str:
    return (
        f'<{tag} class="{side}">{escape(text)}</{tag}>'
        if side
        else f"<{tag}>{escape(text)}</{tag}>"
    )


def _finding(finding: Finding) -> str:
    places = [("at", finding.loc)] if finding.loc else []
    lines = [f"<h3>{escape(finding.rule)}</h3><p>{escape(finding.message)}</p>"]
    for label, loc in [*places, *finding.related]:
        lines.append(f'<p class="note">{escape(label)} {escape(f"{loc.file}:{loc.line}")}</p>')
        if loc.excerpt():
            lines.append(f"<pre>{escape(loc.excerpt())}</pre>")
    if finding.next_step:
        lines.append(f"<p>Next: {escape(finding.next_step)}</p>")
    return "".join(lines)
