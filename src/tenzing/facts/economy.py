"""What owning, sizing and distance cost by default, servers that can be bought, days of launch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from tenzing.facts.book import Book
from tenzing.facts.fact import Fact, Source
from tenzing.facts.schema import ECONOMY_KEYS, LAUNCH_KEYS, SERVER_KEYS
from tenzing.facts.sheet import Sheet
from tenzing.facts.tables import Part, open_sheet, read_parts

FILE: Final = "economics.toml"
PARTS: Final = (
    Part("economy", ECONOMY_KEYS), Part("server", SERVER_KEYS, rows=True),
    Part("launch", LAUNCH_KEYS, rows=True),
)  # fmt: skip


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
    return read_economy(*open_sheet(FILE))


def read_economy(
    sheet: Sheet, known: Mapping[str, Source]
) -> tuple[Book, Mapping[str, Book], Mapping[str, Fact]]:
    """Defaults, servers and launches of a sheet; FactsError with every broken rule."""
    books = read_parts(sheet, PARTS, known)
    months = {name: book.fact("month") for name, book in books["launch"].items()}
    ordered = dict(sorted(months.items(), key=lambda pair: str(pair[1].value)))
    return books["economy"]["economy"], books["server"], ordered


__all__ = ["economy", "launches", "read_economy", "server"]
