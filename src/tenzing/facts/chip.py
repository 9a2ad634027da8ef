"""Chips: one TOML file each, complete for every generation that runs NKI."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from tenzing.errors import FactsError, UsageError
from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.fact import Source
from tenzing.facts.loader import flatten, header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import CHIP_KEYS
from tenzing.facts.sheet import Problem, Sheet

_HEADER: Final = {
    "name": str, "title": str, "generation": int, "aliases": list, "runs_nki": bool,
}  # fmt: skip


@final
@dataclass(frozen=True, eq=False, repr=False)
class Chip(Book):
    """A generation of silicon. ``generation``: 1 Inferentia1, 2 Trainium1 and Inferentia2, ..."""

    title: str = ""
    generation: int = 0
    aliases: tuple[str, ...] = ()
    runs_nki: bool = True

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys the simulator needs that are absent or unknown for this chip."""
        return tuple(k.path for k in self.keys.values() if k.required and not self.known(k.path))

    @property
    def complete(self) -> bool:
        """Whether a program can be run and timed on this chip."""
        return not self.missing


def chips() -> tuple[str, ...]:
    """Names of the chips that can run NKI, oldest first."""
    return tuple(name for name, record in _records().items() if record["runs_nki"])


def all_chips() -> tuple[str, ...]:
    """Names of all chips we hold facts about, oldest first."""
    return tuple(_records())


def chip(name: str) -> Chip:
    """A fresh Chip by name or alias (``trn2``, ``trainium2``, ``gen3``), case ignored.

    Raises FactsError that lists the names when there is no such chip.
    """
    wanted = name.strip().lower()
    for record in _records().values():
        if wanted == record["name"] or wanted in record["aliases"]:
            return Chip(**record)
    named = ", ".join(f"{n} ({', '.join(r['aliases'])})" for n, r in _records().items())
    raise FactsError(
        f"no chip is named {name!r}", allowed=named,
        next_step="run `tenzing facts` for what is known about each",
    )  # fmt: skip


def simulated_chip(name: str) -> Chip:
    """A fresh Chip that can be simulated; UsageError for one whose facts do not reach that far."""
    found = chip(name)
    if found.name not in chips():
        raise UsageError(
            f"{found.name} runs no NKI, and too little is published to simulate it", got=repr(name),
            allowed=", ".join(chips()),
            next_step=f"`tenzing facts {found.name}` shows what is known",
        )  # fmt: skip
    return found


@functools.cache
def _records() -> Mapping[str, Mapping[str, Any]]:
    found = [read_chip(sheets.parse(t, f), sources()) for f, t in sheets.files_in("chips")]
    found.sort(key=lambda r: (r["generation"], not r["name"].startswith("trn")))
    return {r["name"]: r for r in found}


def read_chip(sheet: Sheet, known: Mapping[str, Source]) -> Mapping[str, Any]:
    """Checked arguments of a Chip.

    Raises FactsError with file and line for an unknown key, a wrong unit, kind or type, a
    missing or unknown source, and a missing key on a chip that claims to run NKI.
    """
    sheets.refuse(sheet, header_problems(sheet, _HEADER))
    sheets.refuse(sheet, _header_values(sheet))
    leaves = _leaves(sheet)
    sheets.refuse(sheet, _problems(sheet, leaves, known))
    return {
        "name": sheet.data["name"],
        "file": sheet.file,
        "facts": {path: make_fact(leaf) for path, leaf in leaves.items()},
        "keys": CHIP_KEYS,
        "title": sheet.data["title"],
        "generation": sheet.data["generation"],
        "aliases": tuple(sheet.data["aliases"]),
        "runs_nki": sheet.data["runs_nki"],
    }


def _header_values(sheet: Sheet) -> Iterator[Problem]:
    for alias in sheet.data["aliases"]:
        if not isinstance(alias, str) or alias != alias.strip().lower() or not alias:
            yield Problem("aliases", "not a name", repr(alias), "lower case words")


def _leaves(sheet: Sheet) -> dict[str, Any]:
    body = {k: v for k, v in sheet.data.items() if k not in _HEADER and k != "schema_version"}
    return dict(flatten(body, depth=1))


def _problems(
    sheet: Sheet, leaves: Mapping[str, Any], known: Mapping[str, Source]
) -> Iterator[Problem]:
    for path, leaf in leaves.items():
        yield from leaf_problems(path, path, leaf, CHIP_KEYS, known)
    if not sheet.data["runs_nki"]:
        return
    for key in CHIP_KEYS.values():
        leaf = leaves.get(key.path)
        if key.required and (leaf is None or (isinstance(leaf, dict) and leaf.get("unknown"))):
            yield Problem(
                key.path, f"a chip that runs NKI needs this key ({key.meaning}, in {key.unit})",
                got=leaf and "unknown",
                next_step='carry over the nearest generation with kind = "assumed" and a note',
            )  # fmt: skip
