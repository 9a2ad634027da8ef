"""Tables of a sheet as books of facts: the one reader of tasks, software, regions, money, power."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.loader import flatten, header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import Key
from tenzing.facts.sheet import Problem, Sheet

VERSION: Final = "schema_version"
Check = Callable[[str, Mapping[str, Any]], Iterator[Problem]]


def _nothing(_: str, __: Mapping[str, Any]) -> Iterator[Problem]:
    yield from ()


@dataclass(frozen=True)
class Part:
    """A top-level table of a sheet and the keys it may have.

    With ``rows`` every table inside is a book under its own name, else the whole is one. ``words``
    are plain fields of a row that are no facts. ``check`` finds what else is wrong with a row,
    given its name and content; its problems have keys that start with the table's name.
    """

    table: str
    keys: Mapping[str, Key]
    rows: bool = False
    words: tuple[str, ...] = ()
    check: Check = _nothing


def open_sheet(file_name: str) -> tuple[Sheet, Mapping[str, Source]]:
    """A sheet of this package, and the sources that it may cite."""
    file, text = sheets.file_text(file_name)
    return sheets.parse(text, file), sources()


def read_parts(
    sheet: Sheet, parts: Sequence[Part], known: Mapping[str, Source]
) -> dict[str, dict[str, Book]]:
    """Books by table and name; a table without rows holds one, of the table's own name.

    Raises one FactsError for every broken rule together: what, got, allowed, file and line.
    """
    tables = {part.table: dict for part in parts}
    sheets.refuse(sheet, [*header_problems(sheet, tables), *_extra(sheet, tables)])
    rows = [(part, name, row) for part in parts for name, row in _rows(part, sheet)]
    sheets.refuse(sheet, [p for part, name, row in rows for p in _problems(part, name, row, known)])
    found: dict[str, dict[str, Book]] = {part.table: {} for part in parts}
    for part, name, row in rows:
        leaves = {path: make_fact(leaf) for path, leaf in _leaves(part, row)}
        found[part.table][name] = Book(name, sheet.file, leaves, part.keys)
    return found


def _extra(sheet: Sheet, tables: Mapping[str, type]) -> Iterator[Problem]:
    for name in sheet.data:
        if name not in tables and name != VERSION:
            yield Problem(name, "unknown table", repr(name), ", ".join(tables))


def _rows(part: Part, sheet: Sheet) -> list[tuple[str, Any]]:
    table = sheet.data[part.table]
    return list(table.items()) if part.rows else [(part.table, table)]


def _leaves(part: Part, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    depth = max(path.count(".") for path in part.keys)
    return flatten({name: leaf for name, leaf in row.items() if name not in part.words}, depth)


def _problems(part: Part, name: str, row: Any, known: Mapping[str, Source]) -> Iterator[Problem]:
    place = f"{part.table}.{name}" if part.rows else part.table
    if not isinstance(row, dict):
        yield Problem(place, "a row is a table", repr(row), f"[{place}]")
        return
    leaves = dict(_leaves(part, row))
    for path, leaf in leaves.items():
        yield from leaf_problems(f"{place}.{path}", path, leaf, part.keys, known)
    for path, key in part.keys.items():
        if key.required and path not in leaves:
            yield Problem(f"{place}.{path}", "this fact is needed", None, key.meaning,
                          "give it with value, unit, kind and source")  # fmt: skip
    yield from part.check(name, row)


__all__ = ["Part", "open_sheet", "read_parts"]
