"""Facts as text tables, as JSON and as the schema's reference page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tenzing.facts.book import Book
from tenzing.facts.chip import Chip
from tenzing.facts.fact import KINDS, UNITS, Fact
from tenzing.facts.instance import Instance
from tenzing.facts.loader import sources
from tenzing.facts.price import Price, best_price, no_price, prices_of
from tenzing.facts.schema import (
    CHIP_KEYS,
    INSTANCE_KEYS,
    PRICE_FIELDS,
    SOFTWARE_KEYS,
    TERMS,
    Key,
)

_COLUMNS: Final = ("key", "value", "kind", "source", "note")


def render(book: Chip | Instance) -> str:
    """Aligned text: key, value with unit, kind, source, note; then the sources it cites.

    An Instance is followed by its prices; a chip that cannot be run says what is missing.
    """
    lines = _heading(book)
    lines += _table([_COLUMNS, *(_row(path, fact) for path, fact in book.items())])
    if isinstance(book, Instance):
        lines += ["", *_price_lines(book.name)]
    cited = {fact.source for _, fact in book.items()}
    listed = sources()
    lines += ["", "sources:"]
    lines += _table([(f"  {x}", listed[x].where, listed[x].as_of) for x in sorted(cited)])
    return "\n".join(lines)


def as_json(book: Chip | Instance) -> dict[str, Any]:
    """The same content as plain data; an unknown has ``value`` null and ``kind`` null."""
    content: dict[str, Any] = {
        "name": book.name,
        "facts": {path: _fact_json(fact) for path, fact in book.items()},
    }
    if isinstance(book, Chip):
        content |= {
            "title": book.title,
            "generation": book.generation,
            "complete": book.complete,
            "missing": list(book.missing),
        }
    else:
        best = best_price(book.name)
        content |= {
            "accelerator": book.accelerator,
            "provider": book.provider,
            "best_price": _price_json(best) if best else None,
            "prices": [_price_json(row) for row in prices_of(book.name)],
        }
    return content


def schema_page() -> str:
    """The reference page of the facts schema, as Markdown."""
    lines = [
        "# Facts schema", "",
        "Every number about hardware is a fact: value, unit, kind, source. A key that is not "
        "listed here is refused.", "",
        "## Kinds", "", *(f"- **{name}**: {text}" for name, text in KINDS.items()),
        "- **unknown** is no kind: `unknown = true` replaces value and kind, and the source says "
        "where it was looked for", "",
        "## Units", "", *(f"- `{name}`: {text}" for name, text in UNITS.items()), "",
        "## Chips (`facts/chips/*.toml`)", "",
        "A chip that runs NKI has every required key.", "",
    ]  # fmt: skip
    for group, keys in itertools.groupby(CHIP_KEYS.values(), lambda k: k.path.split(".")[0]):
        lines += [f"### {group}", "", *_key_rows(keys), ""]
    lines += ["## Instances (`facts/instances/*.toml`)", "", *_key_rows(INSTANCE_KEYS.values())]
    lines += ["", "## Software (`facts/software.toml`)", "", *_key_rows(SOFTWARE_KEYS.values())]
    lines += ["", "## Prices (`facts/prices/*.toml`)", "", "| field | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in PRICE_FIELDS.items()]
    lines += ["", "Terms: " + "; ".join(f"`{k}`: {v}" for k, v in TERMS.items()) + "."]
    return "\n".join(lines) + "\n"


def _key_rows(keys: Iterable[Key]) -> list[str]:
    rows = ["| key | unit | type | required | meaning |", "|---|---|---|---|---|"]
    for key in keys:
        need = "yes" if key.required else ""
        rows.append(f"| `{key.path}` | {key.unit} | {key.type} | {need} | {key.meaning} |")
    return rows


def _heading(book: Book) -> list[str]:
    if isinstance(book, Instance):
        return [f"{book.name}: {book.facts['chips'].text()} x {book.accelerator}", ""]
    assert isinstance(book, Chip)
    lines = [f"{book.name}: {book.title}, generation {book.generation}"]
    if book.missing:
        groups = ", ".join(dict.fromkeys(path.split(".")[0] for path in book.missing))
        needed = sum(key.required for key in book.keys.values())
        lines.append(
            f"incomplete, cannot be simulated: {len(book.missing)} of {needed} needed keys are "
            f"missing or unknown, in {groups}"
        )
    return [*lines, ""]


def _row(path: str, fact: Fact) -> tuple[str, ...]:
    also = "; ".join(
        f"also {x.value} ({', '.join(y for y in (x.note, x.source) if y)})"
        for x in fact.alternatives
    )
    kind = (fact.kind or "-") + (", disputed" if fact.disputed else "")
    note = "; ".join(x for x in (fact.note, also) if x)
    return path, fact.text(), kind, fact.source, note


def _price_lines(name: str) -> list[str]:
    rows = [
        (f"{r.usd_per_hour:.4f} USD/h", r.term, r.region, str(r.date), r.kind, r.source, r.note)
        for r in prices_of(name)
    ]
    absent = [
        ("none published", term, "-", str(found.date), "-", found.source, found.note)
        for term in TERMS
        if (found := no_price(name, term)) is not None
    ]
    if not rows and not absent:
        return ["price: unknown"]
    head = ("price", "term", "region", "date", "kind", "source", "note")
    return _table([head, *rows, *absent])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _fact_json(fact: Fact) -> dict[str, Any]:
    value = list(fact.value) if isinstance(fact.value, tuple) else fact.value
    content: dict[str, Any] = {
        "value": value, "unit": fact.unit, "kind": fact.kind, "source": fact.source,
    }  # fmt: skip
    if fact.note:
        content["note"] = fact.note
    if fact.disputed:
        content["disputed"] = True
    if fact.alternatives:
        content["alternatives"] = [dataclasses.asdict(x) for x in fact.alternatives]
    return content


def _price_json(row: Price) -> dict[str, Any]:
    return {
        "usd_per_hour": row.usd_per_hour, "term": row.term, "region": row.region,
        "date": row.date.isoformat(), "kind": row.kind, "source": row.source, "note": row.note,
    }  # fmt: skip
