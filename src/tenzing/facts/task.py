"""What people run: sizes and limits of a task, each a fact that a user may override."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.loader import header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import TASK_KEYS
from tenzing.facts.sheet import Problem, Sheet

FAMILIES: Final = ("serving", "encoding", "imaging", "training")
_HEADER: Final = ("family", "about")


def tasks() -> tuple[str, ...]:
    """Names of the tasks."""
    return tuple(_tasks())


def task(name: str) -> tuple[str, Book]:
    """Family and facts of a task; FactsError lists the names."""
    found = _tasks().get(name.strip().lower())
    if found is None:
        raise FactsError("no such task", got=repr(name), allowed=", ".join(tasks()))
    return found


def task_about(name: str) -> str:
    """A task in a sentence."""
    file, text = sheets.file_text("tasks.toml")
    return str(sheets.parse(text, file).data["task"][name]["about"])


@functools.cache
def _tasks() -> Mapping[str, tuple[str, Book]]:
    file, text = sheets.file_text("tasks.toml")
    return read_tasks(sheets.parse(text, file), sources())


def read_tasks(sheet: Sheet, known: Mapping[str, Source]) -> dict[str, tuple[str, Book]]:
    """Family and facts by name; FactsError with every broken rule."""
    sheets.refuse(sheet, header_problems(sheet, {"task": dict}))
    rows = sheet.data["task"]
    sheets.refuse(sheet, [p for name in rows for p in _problems(name, rows[name], known)])
    found = {}
    for name, row in rows.items():
        leaves = {k: make_fact(v) for k, v in row.items() if k not in _HEADER}
        found[name] = (str(row["family"]), Book(name, sheet.file, leaves, TASK_KEYS))
    return found


def _problems(name: str, row: Any, known: Mapping[str, Source]) -> Iterator[Problem]:
    place = f"task.{name}"
    if row.get("family") not in FAMILIES:
        yield Problem(f"{place}.family", "unknown family", repr(row.get("family")),
                      ", ".join(FAMILIES))  # fmt: skip
    if not isinstance(row.get("about"), str):
        yield Problem(f"{place}.about", "a task needs a sentence", repr(row.get("about")))
    for path, leaf in row.items():
        if path not in _HEADER:
            yield from leaf_problems(f"{place}.{path}", path, leaf, TASK_KEYS, known)


__all__ = ["FAMILIES", "read_tasks", "task", "task_about", "tasks"]
