"""Shapes of public models, as their publishers state them."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from tenzing.errors import FactsError


@lru_cache(maxsize=1)
def _all() -> dict[str, dict[str, Any]]:
    text = files("tenzing.facts").joinpath("models", "decoders.toml").read_text()
    found: dict[str, dict[str, Any]] = tomllib.loads(text)
    for name, entry in found.items():
        if not entry.get("where"):
            raise FactsError(f"model {name} has no source", next_step="name it under `where`")
    return found


def models() -> tuple[str, ...]:
    """Names of the models whose shapes are known."""
    return tuple(_all())


def model(name: str) -> dict[str, Any]:
    """The published configuration of a model; FactsError lists the known ones."""
    found = _all().get(name.lower())
    if found is None:
        raise FactsError("unknown model", got=name, allowed=", ".join(_all()),
                         next_step="give a config.json, or one of these names")  # fmt: skip
    return dict(found)


__all__ = ["model", "models"]
