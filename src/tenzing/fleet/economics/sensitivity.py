"""Sensitivity: one input at a time to its low and its high end, the widest swing first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fleet.economics.tokens import usd_per_million
from tenzing.units import Quantity, Usd, UsdPerHour

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


@dataclass(frozen=True)
class Load:
    """A machine at work: what an hour costs, what it makes when busy, the share of hours used."""

    rate: UsdPerHour
    per_s: float
    load: float = 1.0

    @property
    def cost(self) -> Usd | None:
        """Dollars per million units."""
        return usd_per_million(self.rate / self.load, self.per_s)


def work_bars(
    rate: UsdPerHour | None, per_s: float, speeds: tuple[float, float] | None = None
) -> tuple[Bar, ...]:
    """Swings of the dollars per million units, by price, speed and load; none without a price.

    ``speeds`` is the interval of ``per_s`` where one is known, else facts say how far it may be
    off, as they do for the price and the load.
    """
    if rate is None or per_s <= 0:
        return ()
    ranges: dict[str, tuple[Any, Any]] = {
        "rate": around(rate, facts.economy().number("swing.price_share")),
        "per_s": speeds or around(per_s, facts.economy().number("swing.speed_share")),
        "load": loads(),
    }
    return tuple(tornado(lambda case: case.cost, Load(rate, per_s), ranges))


def loads() -> tuple[float, float]:
    """Shares of the hours paid for that are used, from little to all of them."""
    return facts.economy().number("swing.load_low"), 1.0


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


__all__ = ["Bar", "Load", "around", "loads", "tornado", "work_bars"]
