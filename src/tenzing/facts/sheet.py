"""A TOML file with the line of every key, so that an error can point at it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

from tenzing.errors import FactsError, Loc

_HEADER: Final = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_ENTRY: Final = re.compile(r"^\s*([A-Za-z0-9_\-.\"]+)\s*=")
_AT_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")


@dataclass(frozen=True, slots=True)
class Sheet:
    """The parsed content of one file and the line on which each dotted key stands."""

    file: str
    data: Mapping[str, Any]
    lines: Mapping[str, int]

    def loc(self, key: str) -> Loc:
        """Where ``key`` stands, or its nearest enclosing table, or the top of the file."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return Loc(self.file, self.lines.get(key, 1))


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule of the schema, at a key of a sheet."""

    key: str
    what: str
    got: object = None
    allowed: object = None
    next_step: str = ""


def parse(text: str, file: str) -> Sheet:
    """Parse TOML; a syntax error becomes a FactsError with file and line."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = int(found.group(1)) if found else max(text.count("\n"), 1)
        raise FactsError(
            f"{_short(file)} is not valid TOML: {_AT_LINE.sub('', str(error)).strip()}",
            where=Loc(file, line),
            next_step="correct the syntax of that line",
        ) from None
    return Sheet(file, data, key_lines(text))


def key_lines(text: str) -> dict[str, int]:
    """The 1-based line of each dotted key; the n-th ``[[row]]`` counts as ``row.n``, from 0."""
    lines: dict[str, int] = {}
    rows: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header, entry = _HEADER.match(line), _ENTRY.match(line)
        if header:
            prefix = header.group(2).replace('"', "")
            if header.group(1) == "[[":
                rows[prefix] = rows.get(prefix, -1) + 1
                prefix = f"{prefix}.{rows[prefix]}"
            lines[prefix] = number
        elif entry:
            key = entry.group(1).replace('"', "")
            lines[f"{prefix}.{key}" if prefix else key] = number
    return lines


def refuse(sheet: Sheet, problems: Iterable[Problem]) -> None:
    """Raise one FactsError that carries every problem, or return when there is none."""
    found = sorted(problems, key=lambda p: sheet.loc(p.key).line)
    if not found:
        return
    first, rest = found[0], found[1:]
    raise FactsError(
        f"{_short(sheet.file)}: {first.key}: {first.what}",
        got=first.got,
        allowed=first.allowed,
        where=sheet.loc(first.key),
        next_step=first.next_step,
        related=[(f"also {p.key}: {p.what}", sheet.loc(p.key)) for p in rest],
    )


def files_in(folder: str) -> Sequence[tuple[str, str]]:
    """(path, text) of every TOML file of a folder of this package, by name.

    Read through importlib.resources: the files are also found in an installed wheel.
    """
    root = resources.files("tenzing.facts").joinpath(folder)
    found = [x for x in root.iterdir() if x.name.endswith(".toml")]
    return [(str(x), _read(x)) for x in sorted(found, key=lambda x: x.name)]


def file_text(name: str) -> tuple[str, str]:
    """(path, text) of one file of this package."""
    found = resources.files("tenzing.facts").joinpath(name)
    return str(found), _read(found)


def _read(found: Traversable) -> str:
    try:
        return found.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FactsError(
            f"{found.name} cannot be read: {error}",
            where=Loc(str(found), 1),
            next_step="reinstall tenzing",
        ) from None


def _short(file: str) -> str:
    return re.split(r"[\\/]", file)[-1]
