"""Turn tables of a sheet into facts; refuse what the schema does not know or has no source."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from tenzing.facts import sheet as sheets
from tenzing.facts.fact import KINDS, UNITS, Alternative, Fact, Kind, Source, Value
from tenzing.facts.schema import Key
from tenzing.facts.sheet import Problem, Sheet

SCHEMA_VERSION: Final = 1
LEAF_KEYS: Final = (
    "value", "unknown", "unit", "kind", "source", "note", "alternatives", "confidence",
)  # fmt: skip
SOURCE_KEYS: Final = ("title", "where", "as_of")
_ALTERNATIVE_KEYS: Final = {"value", "source", "note"}
_AS_OF: Final = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?|unknown")


@functools.cache
def sources() -> Mapping[str, Source]:
    """Every source a fact may cite, by id."""
    file, text = sheets.file_text("sources.toml")
    return read_sources(sheets.parse(text, file))


def read_sources(sheet: Sheet) -> Mapping[str, Source]:
    """Sources of a sheet: tables of title, where, as_of."""
    found = {k: v for k, v in sheet.data.items() if k != "schema_version"}
    sheets.refuse(sheet, [p for k, v in found.items() for p in _source_problems(k, v)])
    return {k: Source(k, v["title"], v["where"], v["as_of"]) for k, v in found.items()}


def _source_problems(key: str, table: Any) -> Iterator[Problem]:
    if not isinstance(table, dict):
        yield Problem(key, "a source is a table", repr(table), ", ".join(SOURCE_KEYS))
        return
    for name in sorted(set(table) - set(SOURCE_KEYS)):
        yield Problem(f"{key}.{name}", "unknown key", name, ", ".join(SOURCE_KEYS))
    for name in SOURCE_KEYS:
        if not isinstance(table.get(name), str) or not table[name]:
            yield Problem(f"{key}.{name}", f"a source needs {name}", repr(table.get(name)), "text")
        elif name == "as_of" and not _AS_OF.fullmatch(table[name]):
            yield Problem(f"{key}.as_of", "not a date", repr(table[name]), "2026-01-31 or unknown")


def flatten(tables: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """(dotted key, leaf) for tables nested ``depth`` deep above the leaf."""
    for name, inner in tables.items():
        if depth and isinstance(inner, dict):
            for rest, leaf in flatten(inner, depth - 1):
                yield f"{name}.{rest}", leaf
        else:
            yield name, inner


def leaf_problems(
    place: str, path: str, leaf: Any, keys: Mapping[str, Key], known: Mapping[str, Source]
) -> Iterator[Problem]:
    """Everything wrong with one leaf; ``place`` is its key in the file, ``path`` in the schema."""
    if path not in keys:
        yield Problem(place, "unknown key", repr(path), _near(path, keys),
                      "declare it in schema.py with its unit and meaning")  # fmt: skip
        return
    if not isinstance(leaf, dict):
        yield Problem(place, "a fact is a table, never a bare value", repr(leaf),
                      "{ value, unit, kind, source }")  # fmt: skip
        return
    yield from _field_problems(place, leaf, known)
    yield from _value_problems(place, leaf, keys[path])


def _field_problems(
    place: str, leaf: Mapping[str, Any], known: Mapping[str, Source]
) -> Iterator[Problem]:
    for name in sorted(set(leaf) - set(LEAF_KEYS)):
        yield Problem(place, f"unknown field {name}", name, ", ".join(LEAF_KEYS))
    yield from source_problems(place, leaf.get("source"), known)
    if not isinstance(leaf.get("note", ""), str):
        yield Problem(place, "note is text", repr(leaf["note"]))
    if leaf.get("confidence", "disputed") != "disputed":
        yield Problem(place, "unknown confidence", repr(leaf["confidence"]), "disputed")
    if "confidence" in leaf and not leaf.get("alternatives"):
        yield Problem(place, "a disputed fact names what else is published", "no alternatives",
                      "alternatives = [{ value, source }]")  # fmt: skip
    yield from alternatives_problems(place, leaf.get("alternatives", []), known)


def alternatives_problems(
    place: str, alternatives: Any, known: Mapping[str, Source]
) -> Iterator[Problem]:
    """Alternatives are a list of tables with a scalar value and a known source."""
    if not isinstance(alternatives, list):
        yield Problem(place, "alternatives are a list", repr(alternatives), "[{ value, source }]")
        return
    for other in alternatives:
        good = isinstance(other, dict) and set(other) <= _ALTERNATIVE_KEYS
        if not good or not isinstance(other.get("value"), int | float | str):
            yield Problem(place, "bad alternative", repr(other), "{ value, source, note }")
        else:
            yield from source_problems(place, other.get("source"), known)


def source_problems(place: str, source: Any, known: Mapping[str, Source]) -> Iterator[Problem]:
    """A missing source, or one that sources.toml does not list."""
    if source is None:
        yield Problem(place, "missing source", None, "an id of sources.toml",
                      "say where the number comes from")  # fmt: skip
    elif not isinstance(source, str) or source not in known:
        yield Problem(place, "unknown source", repr(source), "an id of sources.toml",
                      "add the source to sources.toml")  # fmt: skip


def kind_problems(place: str, kind: Any) -> Iterator[Problem]:
    """A missing or unknown kind."""
    if kind is None:
        yield Problem(place, "missing kind", None, ", ".join(KINDS))
    elif not isinstance(kind, str) or kind not in KINDS:
        yield Problem(place, "bad kind", repr(kind), ", ".join(KINDS))


def _value_problems(place: str, leaf: Mapping[str, Any], key: Key) -> Iterator[Problem]:
    if "unit" not in leaf:
        yield Problem(place, "missing unit", None, repr(key.unit))
    elif leaf["unit"] != key.unit:
        yield Problem(place, "wrong unit", repr(leaf["unit"]), repr(key.unit),
                      f"convert the value to {UNITS[key.unit]}")  # fmt: skip
    if leaf.get("unknown") is True:
        for name in {"value", "kind"} & set(leaf):
            yield Problem(place, f"an unknown has no {name}", repr(leaf[name]), "no such field")
        return
    if "unknown" in leaf:
        yield Problem(place, "unknown is either true or absent", repr(leaf["unknown"]), "true")
    yield from kind_problems(place, leaf.get("kind"))
    if "value" not in leaf:
        yield Problem(place, "missing value", None, "value = ..., or unknown = true")
    elif not key.accepts(leaf["value"]):
        yield Problem(place, "wrong type of value", repr(leaf["value"]), key.type)


def make_fact(leaf: Mapping[str, Any]) -> Fact:
    """The fact of a leaf that was already checked."""
    value = leaf.get("value")
    return Fact(
        value=cast(Value | None, tuple(value) if isinstance(value, list) else value),
        unit=leaf["unit"],
        kind=cast(Kind | None, leaf.get("kind")),
        source=leaf["source"],
        note=leaf.get("note", ""),
        alternatives=tuple(
            Alternative(x["value"], x["source"], x.get("note", ""))
            for x in leaf.get("alternatives", ())
        ),
        disputed="confidence" in leaf,
    )


def header_problems(sheet: Sheet, header: Mapping[str, type]) -> Iterator[Problem]:
    """Top-level keys that are missing or of the wrong type."""
    for name, kind in {"schema_version": int, **header}.items():
        value = sheet.data.get(name)
        if value is None:
            yield Problem(name, f"missing {name} at the top of the file", None, kind.__name__)
        elif not isinstance(value, kind):
            yield Problem(name, f"wrong type of {name}", repr(value), kind.__name__)
    version = sheet.data.get("schema_version")
    if isinstance(version, int) and version != SCHEMA_VERSION:
        yield Problem("schema_version", "unknown schema version", version, SCHEMA_VERSION,
                      "use the tenzing release that wrote this file")  # fmt: skip


def _near(path: str, keys: Mapping[str, Key]) -> str:
    group = path.rpartition(".")[0]
    same = [k for k in keys if k.rpartition(".")[0] == group]
    groups = sorted({k.split(".")[0] for k in keys})
    return ", ".join(same) if same else "groups " + ", ".join(groups)
