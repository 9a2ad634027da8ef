"""Which assumed numbers about software the answers so far leaned on."""

from __future__ import annotations

import textwrap

from tenzing import facts


def leaning_json() -> list[dict[str, object]]:
    """Key, value, unit and source of each assumed fact that was asked for."""
    return [
        {"fact": path, "value": fact.value, "unit": fact.unit, "source": fact.source}
        for path, fact in facts.software_facts().assumed_used()
    ]


def leaning_text() -> str:
    """The same as a sentence; empty when nothing assumed was asked for."""
    used = facts.software_facts().assumed_used()
    if not used:
        return ""
    shown = ", ".join(f"{path} {fact.text()}" for path, fact in used)
    return textwrap.fill(
        f"assumed, as starting points that the fit scales (facts/software.toml): {shown}", 100
    )


__all__ = ["leaning_json", "leaning_text"]
