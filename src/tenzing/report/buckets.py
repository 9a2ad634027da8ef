"""Padding waste and bucket advice as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tenzing.compiler import Advice, Traffic, Waste
from tenzing.report.table import Table

TOKENS: Final = "tokens"
TIME: Final = "us"
SEARCHED: Final = "found by search: one fewer may do"
EXACT: Final = "the fewest there can be"


def waste_table(waste: Waste, unit: str, title: str) -> Table:
    """One row per bucket and one for all."""
    rows: list[Sequence[str | int | float]] = [
        (spelled(use.bucket), use.requests, round(use.cost), round(use.padded), f"{use.waste:.1%}")
        for use in waste.uses
    ]
    whole = sum(u.cost for u in waste.uses), sum(u.padded for u in waste.uses)
    rows.append(("all", sum(u.requests for u in waste.uses), *map(round, whole),
                 f"{waste.waste:.1%}"))  # fmt: skip
    name = " x ".join(waste.dims)
    return Table.of([name, "requests", unit, f"padded {unit}", "padding"], rows, title)


def spelled(bucket: Sequence[int]) -> str:
    """A bucket as the command line takes it: 8x512."""
    return "x".join(map(str, bucket))


def advice_text(traffic: Traffic, advice: Advice, given: Waste | None, unit: str) -> str:
    """The traffic, the buckets given, and the buckets advised."""
    largest = spelled(traffic.largest)
    parts = [f"{traffic.requests:,} requests, {len(traffic.counts):,} sizes, the largest {largest}"]
    if given is not None:
        parts.append(waste_table(given, unit, "the buckets given").text())
        if given.unfit:
            parts.append(f"{given.unfit:,} requests fit none of them; the largest is "
                         f"{spelled(given.largest_unfit)}")  # fmt: skip
    kind = EXACT if advice.exact and advice.reached else SEARCHED if advice.reached else (
        f"they do not reach {advice.target:.1%}: allow more buckets or a finer multiple"
    )  # fmt: skip
    number = len(advice.buckets)
    title = f"{number} bucket{'s' if number > 1 else ''} for {advice.target:.1%} padding ({kind})"
    parts.append(waste_table(advice.waste, unit, title).text())
    parts.append("buckets: " + ",".join(map(spelled, advice.buckets)))
    return "\n\n".join(parts)


def advice_json(traffic: Traffic, advice: Advice, given: Waste | None, unit: str) -> dict[str, Any]:
    """The same in plain types."""
    return {
        "dims": list(traffic.dims),
        "requests": traffic.requests,
        "counted_in": unit,
        "target": advice.target,
        "reached": advice.reached,
        "exact": advice.exact,
        "buckets": [list(bucket) for bucket in advice.buckets],
        "advised": _waste_json(advice.waste),
        "given": _waste_json(given) if given is not None else None,
    }


def _waste_json(waste: Waste) -> dict[str, Any]:
    return {
        "waste": waste.waste,
        "unfit_requests": waste.unfit,
        "buckets": [
            {"bucket": list(use.bucket), "requests": use.requests, "cost": use.cost,
             "padded_cost": use.padded, "waste": use.waste}
            for use in waste.uses
        ],
    }  # fmt: skip


__all__ = ["advice_json", "advice_text", "spelled", "waste_table"]
