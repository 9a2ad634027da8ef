"""Workload shapes by name: what a model that is only named costs, as its publishers state it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenzing.facts import sheet as sheets
from tenzing.facts.loader import header_problems
from tenzing.facts.sheet import Problem, Sheet

REQUIRED: Final[Mapping[str, type | tuple[type, ...]]] = {
    "where": str,
    "match": list,
    "kind": str,
    "params_m": (int, float),
}
OPTIONAL: Final = frozenset({
    "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "experts", "top_k",
    "active_b", "tokens", "gmacs", "resolution", "steps", "passes", "decode_gmacs", "towers",
    "decoder_layers", "shared_layers", "spatial", "temporal", "window", "windowed", "gated", "tied",
})  # fmt: skip
ORDER: Final = ("experts.toml", "named_decoders.toml", "vision.toml", "transformers.toml")


@dataclass(frozen=True)
class Entry:
    """One named shape: ``where`` it is published and its ``values`` by key."""

    name: str
    where: str
    patterns: tuple[re.Pattern[str], ...]
    values: Mapping[str, Any]

    def matches(self, name: str) -> bool:
        """Whether a lower-case model name means this entry."""
        return any(pattern.search(name) for pattern in self.patterns)


def find_shape(name: str) -> Entry | None:
    """The first entry whose patterns match a model's name; None when none does."""
    wanted = name.strip().lower()
    return next((entry for entry in catalogue() if entry.matches(wanted)), None)


def shapes() -> tuple[str, ...]:
    """Names of the models that are known as shapes for estimates."""
    return tuple(entry.name for entry in catalogue())


@functools.cache
def catalogue() -> tuple[Entry, ...]:
    """Every named shape, in the order in which names are tried."""
    texts = {file.replace("\\", "/").rsplit("/", 1)[-1]: (file, text)
             for file, text in sheets.files_in("catalogue")}  # fmt: skip
    found: list[Entry] = []
    for name in (*ORDER, *sorted(set(texts) - set(ORDER))):
        file, text = texts[name]
        found.extend(read_catalogue(sheets.parse(text, file)))
    return tuple(found)


def read_catalogue(sheet: Sheet) -> tuple[Entry, ...]:
    """The entries of a sheet; FactsError names every broken one."""
    sheets.refuse(sheet, header_problems(sheet, {"model": dict}))
    rows = sheet.data["model"]
    sheets.refuse(sheet, [p for name in rows for p in _problems(name, rows[name])])
    return tuple(
        Entry(name, row["where"], tuple(re.compile(p) for p in row["match"]),
              {k: v for k, v in row.items() if k not in ("where", "match")})
        for name, row in rows.items()
    )  # fmt: skip


def _problems(name: str, row: Any) -> Iterator[Problem]:
    place = f"model.{name}"
    for key, kind in REQUIRED.items():
        if not isinstance(row.get(key), kind):
            yield Problem(place, f"a shape needs {key}", repr(row.get(key)), str(kind))
    for key in sorted(set(row) - set(REQUIRED) - OPTIONAL):
        yield Problem(f"{place}.{key}", "unknown key", key, ", ".join(sorted(OPTIONAL)))
    for pattern in row.get("match", ()):
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            yield Problem(place, f"not a regular expression: {error}", repr(pattern))
