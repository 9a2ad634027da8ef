"""What people run: sizes and limits of a task, each a fact that a user may override."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.schema import TASK_KEYS
from tenzing.facts.sheet import Problem, Sheet
from tenzing.facts.tables import Part, open_sheet, read_parts

FAMILIES: Final = ("serving", "encoding", "imaging", "perceiving", "training")


@dataclass(frozen=True)
class TaskFacts:
    """A task: its family, a sentence about it, its sizes and limits."""

    family: str
    about: str
    book: Book


def tasks() -> tuple[str, ...]:
    """Names of the tasks."""
    return tuple(_tasks())


def task(name: str) -> tuple[str, Book]:
    """Family and facts of a task; FactsError lists the names."""
    found = _named(name)
    return found.family, found.book


def task_about(name: str) -> str:
    """A task in a sentence; FactsError lists the names."""
    return _named(name).about


def _named(name: str) -> TaskFacts:
    found = _tasks().get(name.strip().lower())
    if found is None:
        raise FactsError("no such task", got=repr(name), allowed=", ".join(tasks()))
    return found


@functools.cache
def _tasks() -> Mapping[str, TaskFacts]:
    return read_tasks(*open_sheet("tasks.toml"))


def read_tasks(sheet: Sheet, known: Mapping[str, Source]) -> dict[str, TaskFacts]:
    """Tasks by name; FactsError with every broken rule."""
    part = Part("task", TASK_KEYS, rows=True, words=("family", "about"), check=_problems)
    books = read_parts(sheet, [part], known)["task"]
    rows = sheet.data["task"]
    return {name: TaskFacts(rows[name]["family"], rows[name]["about"], book)
            for name, book in books.items()}  # fmt: skip


def _problems(name: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    if row.get("family") not in FAMILIES:
        yield Problem(f"task.{name}.family", "unknown family", repr(row.get("family")),
                      ", ".join(FAMILIES))  # fmt: skip
    if not isinstance(row.get("about"), str):
        yield Problem(f"task.{name}.about", "a task needs a sentence", repr(row.get("about")),
                      "text")  # fmt: skip


__all__ = ["FAMILIES", "read_tasks", "task", "task_about", "tasks"]
