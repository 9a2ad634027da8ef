"""Shapes of public models, each with where it was published and where it was read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts.fact import KINDS
from tenzing.facts.loader import sources

FILES: Final = ("decoders.toml", "encoders.toml")
# of an entry; the rest is the configuration
ABOUT: Final = ("where", "kind", "source", "params_m", "aliases")
Entry = dict[str, Any]


@lru_cache(maxsize=1)
def _all() -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for name in FILES:
        text = files("tenzing.facts").joinpath("models", name).read_text()
        found.update(read_models(text))
    return found


def read_models(text: str) -> dict[str, Entry]:
    """The entries of a sheet of models; FactsError for one without place, kind or source."""
    found: dict[str, Entry] = tomllib.loads(text)
    for name, entry in found.items():
        if not entry.get("where"):
            raise FactsError(f"model {name} has no source", next_step="name it under `where`")
        if entry.get("kind") not in KINDS:
            raise FactsError(f"model {name}: kind", got=entry.get("kind"), allowed=", ".join(KINDS))
        if not isinstance(entry.get("params_m"), int | float):
            raise FactsError(f"model {name} needs params_m", got=entry.get("params_m"),
                             next_step="give its published parameters in millions")  # fmt: skip
        if entry.get("source") not in sources():
            raise FactsError(f"model {name}: unknown source", got=entry.get("source"),
                             next_step="add it to sources.toml")  # fmt: skip
    return found


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    """Entries by every name they go by: their own, and those of repositories, whole and short."""
    table: dict[str, str] = {}
    for name, entry in _all().items():
        for repository in (entry["where"], *entry.get("aliases", ())):
            for known in (repository.lower(), repository.split("/")[-1].lower()):
                table.setdefault(known, name)
    table.update((name, name) for name in _all())
    return table


def models() -> tuple[str, ...]:
    """Names of the models whose shapes are known; each also goes by its repository's name."""
    return tuple(_all())


def knows_model(name: str) -> bool:
    """Whether a name or the name of a repository stands for a known model."""
    return name.lower() in _names()


def model(name: str) -> dict[str, Any]:
    """The configuration of a model; FactsError lists the known ones."""
    entry = model_entry(name)
    return {key: value for key, value in entry.items() if key not in ABOUT}


def model_entry(name: str) -> dict[str, Any]:
    """The same with where it is published, its kind, its source and its aliases."""
    found = _names().get(name.lower())
    if found is None:
        raise FactsError("unknown model", got=name, allowed=", ".join(_all()),
                         next_step="give a config.json, or one of these names")  # fmt: skip
    return dict(_all()[found])


__all__ = ["knows_model", "model", "model_entry", "models"]
