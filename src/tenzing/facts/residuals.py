"""How far simulated kernel times lie from published ones, by class: derived, written by a tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenzing.facts import sheet as sheets

FILE: Final = "residuals.toml"


def residuals() -> Mapping[str, Any]:
    """``class`` (half width in ln, rows), ``sensitivity`` and ``assumed_half_width``."""
    file, text = sheets.file_text(FILE)
    return sheets.parse(text, file).data
