"""Numbers about software that estimators start from: host time, layers, memory that is usable."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.loader import header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import SOFTWARE_KEYS
from tenzing.facts.sheet import Problem, Sheet

FILE: Final = "software.toml"


def software(path: str) -> float:
    """The number at ``group.name`` (``serving.layer_s``), remembered as used."""
    return software_facts().number(path)


@functools.cache
def software_facts() -> Book:
    """Every such fact; ``assumed_used()`` tells which ones answers leaned on."""
    file, text = sheets.file_text(FILE)
    return read_software(sheets.parse(text, file), sources())


def read_software(sheet: Sheet, known: Mapping[str, Source]) -> Book:
    """The book of a sheet; FactsError with every broken rule."""
    sheets.refuse(sheet, header_problems(sheet, {"software": dict}))
    groups = sheet.data["software"]
    leaves = {f"{group}.{name}": leaf for group in groups for name, leaf in groups[group].items()}
    sheets.refuse(sheet, _problems(leaves, known))
    return Book("software", sheet.file, {k: make_fact(v) for k, v in leaves.items()}, SOFTWARE_KEYS)


def _problems(leaves: Mapping[str, Any], known: Mapping[str, Source]) -> list[Problem]:
    def every() -> Iterator[Problem]:
        for path, leaf in leaves.items():
            yield from leaf_problems(f"software.{path}", path, leaf, SOFTWARE_KEYS, known)
        for path in SOFTWARE_KEYS:
            if path not in leaves:
                yield Problem(f"software.{path}", "this fact is needed",
                              next_step="give it with value, unit, kind and source")  # fmt: skip

    return list(every())


__all__ = ["read_software", "software", "software_facts"]
