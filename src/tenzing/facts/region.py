"""Regions and Local Zones: name, place, coordinates; Local Zones are regions with a parent."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.loader import header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import REGION_KEYS
from tenzing.facts.sheet import Problem, Sheet

FILE: Final = "regions.toml"
_LIMITS: Final = {"latitude": 90, "longitude": 180}


def regions() -> tuple[str, ...]:
    """Codes of the regions, Local Zones last."""
    return tuple(_regions())


def region(code: str) -> Book:
    """The facts of a region; FactsError lists the codes."""
    found = _regions().get(code)
    if found is None:
        raise FactsError("no such region", got=repr(code), allowed=", ".join(_regions()))
    return found


@functools.cache
def _regions() -> Mapping[str, Book]:
    file, text = sheets.file_text(FILE)
    return read_regions(sheets.parse(text, file), sources())


def read_regions(sheet: Sheet, known: Mapping[str, Source]) -> dict[str, Book]:
    """Regions by code; FactsError with every broken rule."""
    sheets.refuse(sheet, header_problems(sheet, {"region": dict}))
    rows = sheet.data["region"]
    sheets.refuse(sheet, [p for code in rows for p in _problems(code, rows, known)])
    return {
        code: Book(code, sheet.file, {k: make_fact(v) for k, v in row.items()}, REGION_KEYS)
        for code, row in rows.items()
    }


def _problems(code: str, rows: Mapping[str, Any], known: Mapping[str, Source]) -> Iterator[Problem]:
    row, place = rows[code], f"region.{code}"
    for path, leaf in row.items():
        yield from leaf_problems(f"{place}.{path}", path, leaf, REGION_KEYS, known)
    for path, key in REGION_KEYS.items():
        if key.required and path not in row:
            yield Problem(place, f"a region needs {path}", None, key.meaning)
    for path, most in _LIMITS.items():
        value = row.get(path, {}).get("value", 0)
        if isinstance(value, int | float) and abs(value) > most:
            yield Problem(f"{place}.{path}", "not on Earth", value, f"-{most} to {most}")
    parent = row.get("parent", {}).get("value", code)
    if parent not in rows:
        yield Problem(f"{place}.parent", "unknown region", repr(parent), ", ".join(rows))


__all__ = ["read_regions", "region", "regions"]
