"""What owning, sizing and distance cost by default, servers that can be bought, days of launch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.fact import Fact, Source
from tenzing.facts.loader import flatten, header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import ECONOMY_KEYS, SERVER_KEYS, Key
from tenzing.facts.sheet import Problem, Sheet

FILE: Final = "economics.toml"
_GROUPS: Final = ("own", "demand", "swing", "distance")
_LAUNCH: Final = Key("launch", "text", "text", "month of general availability, 2024-12")


def economy() -> Book:
    """The defaults under ``own.``, ``demand.``, ``swing.`` and ``distance.``."""
    return _all()[0]


def server(instance: str) -> Book | None:
    """Price and power of a server that stands for an instance; None where none can be bought."""
    return _all()[1].get(instance)


def launches() -> Mapping[str, Fact]:
    """Month of general availability by instance, oldest first."""
    return _all()[2]


@functools.cache
def _all() -> tuple[Book, Mapping[str, Book], Mapping[str, Fact]]:
    file, text = sheets.file_text(FILE)
    return read_economy(sheets.parse(text, file), sources())


def read_economy(
    sheet: Sheet, known: Mapping[str, Source]
) -> tuple[Book, Mapping[str, Book], Mapping[str, Fact]]:
    """Defaults, servers and launches of a sheet; FactsError with every broken rule."""
    sheets.refuse(
        sheet, header_problems(sheet, dict.fromkeys((*_GROUPS, "server", "launch"), dict))
    )
    sheets.refuse(sheet, list(_problems(sheet.data, known)))
    leaves = {path: make_fact(leaf) for path, leaf in _defaults(sheet.data)}
    servers = {
        name: Book(name, sheet.file, {k: make_fact(v) for k, v in row.items()}, SERVER_KEYS)
        for name, row in sheet.data["server"].items()
    }
    days = {name: make_fact(leaf) for name, leaf in sheet.data["launch"].items()}
    ordered = dict(sorted(days.items(), key=lambda pair: str(pair[1].value)))
    return Book("economy", sheet.file, leaves, ECONOMY_KEYS), servers, ordered


def _defaults(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from flatten({group: data[group] for group in _GROUPS}, 1)


def _problems(data: Mapping[str, Any], known: Mapping[str, Source]) -> Iterator[Problem]:
    found = dict(_defaults(data))
    for path, leaf in found.items():
        yield from leaf_problems(path, path, leaf, ECONOMY_KEYS, known)
    for path in sorted(set(ECONOMY_KEYS) - set(found)):
        yield Problem(path, "a default is missing", None, "every key of the schema")
    for name, row in data["server"].items():
        for key, leaf in row.items():
            yield from leaf_problems(f"server.{name}.{key}", key, leaf, SERVER_KEYS, known)
    for name, leaf in data["launch"].items():
        yield from leaf_problems(f"launch.{name}", "launch", leaf, {"launch": _LAUNCH}, known)


__all__ = ["economy", "launches", "read_economy", "server"]
