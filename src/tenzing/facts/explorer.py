"""The published profile schema of Neuron Explorer: names and types of its tables' columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tenzing.facts import sheet as sheets
from tenzing.facts.fact import Source
from tenzing.facts.loader import sources

FILE: Final = "explorer.toml"


@dataclass(frozen=True)
class ExplorerField:
    """A column; types are int64, int32, float, double, boolean and string."""

    type: str
    unit: str = ""
    required: bool = False


@dataclass(frozen=True)
class ExplorerSchema:
    """Tables and their columns in the published order, with the schema's own version."""

    version: str
    source: Source
    tables: Mapping[str, Mapping[str, ExplorerField]]


@functools.cache
def explorer_schema() -> ExplorerSchema:
    """The tables of a device profile that this package writes."""
    file, text = sheets.file_text(FILE)
    data: Mapping[str, Any] = sheets.parse(text, file).data
    tables = {
        name: MappingProxyType({k: ExplorerField(**row) for k, row in rows.items()})
        for name, rows in data["table"].items()
    }
    return ExplorerSchema(data["version"], sources()[data["source"]], MappingProxyType(tables))


__all__ = ["ExplorerField", "ExplorerSchema", "explorer_schema"]
