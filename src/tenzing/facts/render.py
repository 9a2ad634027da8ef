"""Facts as text tables, as JSON and as the schema's reference page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tenzing.facts.accelerator import accelerator
from tenzing.facts.book import Book
from tenzing.facts.catalogue import find_shape
from tenzing.facts.chip import Chip
from tenzing.facts.fact import KINDS, UNITS, Fact
from tenzing.facts.instance import Instance, instances_of
from tenzing.facts.loader import sources
from tenzing.facts.model import ABOUT, knows_model, model_entry
from tenzing.facts.power import Draw, Power, power
from tenzing.facts.price import Price, best_price, no_price, prices
from tenzing.facts.schema import (
    ACCELERATOR_KEYS,
    CHIP_KEYS,
    DEVICE_POWER_KEYS,
    HOST_POWER_KEYS,
    INSTANCE_KEYS,
    PRICE_FIELDS,
    SOFTWARE_KEYS,
    TERMS,
    Key,
)

_COLUMNS: Final = ("key", "value", "kind", "source", "note")


def render(book: Book) -> str:
    """Aligned text: key, value with unit, kind, source, note; then the sources it cites.

    An Instance is followed by its power and its prices with their age; a chip or an accelerator by
    the instances that have it; a chip that cannot be run says what is missing.
    """
    lines = _heading(book)
    lines += _table([_COLUMNS, *(_row(path, fact) for path, fact in book.items())])
    if isinstance(book, Instance):
        lines += ["", *_power_lines(book), "", *_price_lines(book.name)]
    else:
        lines += ["", "instances: " + (", ".join(instances_of(book.name)) or "none known")]
    cited = {fact.source for _, fact in book.items()}
    listed = sources()
    lines += ["", "sources:"]
    lines += _table([(f"  {x}", listed[x].where, listed[x].as_of) for x in sorted(cited)])
    return "\n".join(lines)


def as_json(book: Book) -> dict[str, Any]:
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
            "instances": list(instances_of(book.name)),
        }
    elif isinstance(book, Instance):
        best, drawn = best_price(book.name), power(book)
        content |= {
            "accelerator": book.accelerator,
            "provider": book.provider,
            "power": _power_json(drawn) if drawn else None,
            "best_price": _price_json(best) if best else None,
            "prices": [_price_json(row) for row in prices(book.name)],
        }
    else:
        content |= {"family": accelerator(book.name).family,
                    "instances": list(instances_of(book.name))}  # fmt: skip
    return content


def render_model(name: str) -> str:
    """A model's shape as text: every key of its configuration, where it was published and read."""
    content = model_json(name)
    about = ("name", "where", "kind", "source", "read_from")
    lines = [f"{content['name']}: {content['where']}", ""]
    rows = [(key, str(value)) for key, value in content.items() if key not in about]
    lines += _table([("key", "value"), *rows])
    lines += ["", f"kind: {content['kind']}", f"where: {content['where']}"]
    if "source" in content:
        lines.append(f"source: {content['source']}, {content['read_from']}")
    return "\n".join(lines)


def model_json(name: str) -> dict[str, Any]:
    """The same as plain data; FactsError where no model has that name.

    A model with an exact configuration gives that; one that is only estimated, its shape.
    """
    shape = None if knows_model(name) else find_shape(name)
    if shape is not None:
        return dict(shape.values) | {"name": shape.name, "where": shape.where}
    entry = model_entry(name)
    content: dict[str, Any] = {"name": name}
    content |= {key: entry[key] for key in ABOUT if key in entry}
    content["read_from"] = sources()[entry["source"]].where
    return content | {key: value for key, value in entry.items() if key not in ABOUT}


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
    lines += ["", "## Accelerators that are not AWS silicon (`facts/accelerators.toml`)", "",
              *_key_rows(ACCELERATOR_KEYS.values())]  # fmt: skip
    lines += ["", "## Power (`facts/power.toml`)", "", "### device", "",
              *_key_rows(DEVICE_POWER_KEYS.values()), "", "### host", "",
              *_key_rows(HOST_POWER_KEYS.values())]  # fmt: skip
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
    if not isinstance(book, Chip):
        return [f"{book.name}: {accelerator(book.name).family}", ""]
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


def _power_lines(book: Instance) -> list[str]:
    drawn = power(book)
    if drawn is None:
        return ["power: unknown"]
    rows: list[tuple[str, ...]] = [("power", "watts", "from", "to", "kind")]
    named = {"idle": drawn.idle, "under load": drawn.peak, "of it devices": drawn.devices,
             "of it host": drawn.host}  # fmt: skip
    for name, draw in named.items():
        rows.append((name, *(f"{x.amount:.0f}" for x in (draw.watts, draw.low, draw.high)),
                     draw.kind))  # fmt: skip
    note = f"; {drawn.note}" if drawn.note else ""
    told = f"{book.chip}: {drawn.tdp.amount:g} W each, {drawn.kind}, {drawn.source}{note}"
    return [*_table(rows), told, "assumed: " + "; ".join(drawn.assumed)]


def _price_lines(name: str) -> list[str]:
    rows = [
        (
            f"{r.usd_per_hour:.4f} USD/h",
            r.term,
            r.region,
            str(r.date),
            f"{r.age_days()} days",
            r.kind,
            r.source,
            r.note,
        )
        for r in prices(name)
    ]
    absent = [
        ("none published", term, "-", str(found.date), "-", "-", found.source, found.note)
        for term in TERMS
        if (found := no_price(name, term)) is not None
    ]
    if not rows and not absent:
        return ["price: unknown"]
    head = ("price", "term", "region", "date", "age", "kind", "source", "note")
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


def _power_json(drawn: Power) -> dict[str, Any]:
    parts = {"idle": drawn.idle, "peak": drawn.peak, "devices": drawn.devices, "host": drawn.host}
    return {
        **{name: _draw_json(draw) for name, draw in parts.items()},
        "tdp_watts": drawn.tdp.amount, "kind": drawn.kind, "source": drawn.source,
        "note": drawn.note, "assumed": list(drawn.assumed),
    }  # fmt: skip


def _draw_json(draw: Draw) -> dict[str, Any]:
    return {"watts": draw.watts.amount, "low": draw.low.amount, "high": draw.high.amount,
            "kind": draw.kind}  # fmt: skip


def _price_json(row: Price) -> dict[str, Any]:
    return {
        "usd_per_hour": row.usd_per_hour, "term": row.term, "region": row.region,
        "date": row.date.isoformat(), "age_days": row.age_days(),
        "kind": row.kind, "source": row.source, "note": row.note,
    }  # fmt: skip
