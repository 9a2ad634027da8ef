"""Regions and Local Zones: name, place, coordinates; Local Zones are regions with a parent."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.schema import REGION_KEYS
from tenzing.facts.sheet import Problem, Sheet
from tenzing.facts.tables import Part, open_sheet, read_parts

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
    return read_regions(*open_sheet(FILE))


def read_regions(sheet: Sheet, known: Mapping[str, Source]) -> dict[str, Book]:
    """Regions by code; FactsError with every broken rule."""

    def problems(code: str, row: Mapping[str, Any]) -> Iterator[Problem]:
        yield from _off_earth(code, row)
        parent, rows = _value(row, "parent", code), sheet.data["region"]
        if parent not in rows:
            yield Problem(f"region.{code}.parent", "unknown region", repr(parent), ", ".join(rows))

    part = Part("region", REGION_KEYS, rows=True, check=problems)
    return read_parts(sheet, [part], known)[part.table]


def _off_earth(code: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    for path, most in _LIMITS.items():
        value = _value(row, path, 0)
        if isinstance(value, int | float) and abs(value) > most:
            yield Problem(f"region.{code}.{path}", "not on Earth", value, f"-{most} to {most}")


def _value(row: Mapping[str, Any], path: str, otherwise: Any) -> Any:
    leaf = row.get(path)
    return leaf.get("value", otherwise) if isinstance(leaf, dict) else otherwise


__all__ = ["read_regions", "region", "regions"]
