"""Regions for an instance, as a table and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenzing.fleet.regions import Where
from tenzing.report.table import table

HEADERS = ("region", "place", "offered", "mean ms", "worst ms", "fibre ms", "USD/h", "price of")
ABOUT = (
    "mean and worst: round trips over assumed routes with the last mile; fibre: light on the great "
    "circle.\noffered: yes where a price is public, else unknown."
)


def regions_text(found: Sequence[Where]) -> str:
    """All regions, the best first; those beyond the limit are marked."""
    return table(HEADERS, map(_row, found)) + "\n\n" + ABOUT


def _row(where: Where) -> tuple[str | float | None, ...]:
    price = where.price
    return (
        where.region, where.place.name, "yes" if where.offered else None,
        f"{where.mean_ms:.0f}" + ("" if where.near else " (too far)"), f"{where.worst_ms:.0f}",
        f"{where.floor_ms:.0f}", None if price is None else f"{price.usd_per_hour:.2f}",
        "-" if price is None else f"{price.term}, {price.date}",
    )  # fmt: skip


def regions_json(found: Sequence[Where]) -> list[dict[str, Any]]:
    """One object for each region; unknown is null."""
    return [
        {
            "region": w.region, "place": w.place.name, "parent": w.parent or None,
            "mean_ms": w.mean_ms, "worst_ms": w.worst_ms, "floor_ms": w.floor_ms,
            "offered": w.offered, "near": w.near,
            "usd_per_hour": None if w.price is None else w.price.usd_per_hour,
            "term": None if w.price is None else w.price.term,
            "date": None if w.price is None else str(w.price.date),
            "source": None if w.price is None else w.price.source,
        }
        for w in found
    ]  # fmt: skip


__all__ = ["regions_json", "regions_text"]
