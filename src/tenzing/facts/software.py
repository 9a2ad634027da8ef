"""Numbers about software that estimators start from: host time, layers, memory that is usable."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.schema import SOFTWARE_KEYS
from tenzing.facts.sheet import Sheet
from tenzing.facts.tables import Part, open_sheet, read_parts

FILE: Final = "software.toml"


def software(path: str) -> float:
    """The number at ``group.name`` (``serving.layer_s``), remembered as used."""
    return software_facts().number(path)


@functools.cache
def software_facts() -> Book:
    """Every such fact; ``assumed_used()`` tells which ones answers leaned on."""
    return read_software(*open_sheet(FILE))


def read_software(sheet: Sheet, known: Mapping[str, Source]) -> Book:
    """The book of a sheet; FactsError with every broken rule."""
    part = Part("software", SOFTWARE_KEYS)
    return read_parts(sheet, [part], known)[part.table][part.table]


__all__ = ["read_software", "software", "software_facts"]
