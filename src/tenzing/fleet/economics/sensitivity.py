"""Sensitivity: one input at a time to its low and its high end, the widest swing first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from tenzing.errors import UsageError
from tenzing.units import Quantity

Case = TypeVar("Case")


@dataclass(frozen=True)
class Bar:
    """Results with one input at its two ends; None where the result is unknown."""

    name: str
    low_input: Any
    high_input: Any
    at_low: Quantity | None
    at_high: Quantity | None

    @property
    def width(self) -> float:
        """Distance of the two results, in their unit; 0 where one is unknown."""
        if self.at_low is None or self.at_high is None:
            return 0.0
        return abs((self.at_high - self.at_low).amount)


def tornado(
    compute: Callable[[Case], Quantity | None], case: Case, ranges: Mapping[str, tuple[Any, Any]]
) -> list[Bar]:
    """What ``compute`` makes of a dataclass with each field of ``ranges`` at (low, high).

    Raises UsageError for a field it does not have.
    """
    names = [field.name for field in fields(case)]  # type: ignore[arg-type]
    if wrong := sorted(set(ranges) - set(names)):
        raise UsageError("no such input", got=", ".join(wrong), allowed=", ".join(names))

    def at(name: str, value: Any) -> Quantity | None:
        return compute(replace(case, **{name: value}))  # type: ignore[type-var]

    bars = [Bar(n, low, high, at(n, low), at(n, high)) for n, (low, high) in ranges.items()]
    return sorted(bars, key=lambda bar: -bar.width)


def around(value: Any, share: float) -> tuple[Any, Any]:
    """A value less and more a share of it."""
    return value * (1 - share), value * (1 + share)


__all__ = ["Bar", "around", "tornado"]
