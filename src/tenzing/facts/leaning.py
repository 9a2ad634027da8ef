"""On which assumed facts an answer leaned: what was asked for while it was made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from tenzing.facts.book import Book
from tenzing.facts.economy import economy
from tenzing.facts.fact import Fact
from tenzing.facts.power import power_facts
from tenzing.facts.software import software_facts

Assumed = tuple[str, str]  # name of a book, key of a fact


@dataclass
class Recording:
    """The assumed facts that were asked for; complete once the ``with`` is left."""

    found: set[Assumed] = field(default_factory=set)


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Record what is asked for meanwhile, of software, economics and power; recordings nest."""
    before = [(book, set(book.used)) for book in _books()]
    for book, _ in before:
        book.used.clear()
    made = Recording()
    try:
        yield made
    finally:
        for book, used in before:
            made.found |= {(book.name, path) for path, _ in book.assumed_used()}
            book.used.update(used)


def assumed_fact(name: Assumed) -> Fact:
    """The fact behind an entry of a recording; looking does not count as use."""
    book, path = name
    return next(b for b in _books() if b.name == book).facts[path]


def _books() -> list[Book]:
    return [software_facts(), economy(), *power_facts()]


__all__ = ["Assumed", "Recording", "assumed_fact", "recording"]
