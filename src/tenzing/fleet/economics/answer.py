"""Own or rent an instance, what a token costs, how many a demand needs, what matters most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fleet.economics.owning import Ownership, OwnOrRent, ownership, rental
from tenzing.fleet.economics.sensitivity import Bar, around, loads, tornado, work_bars
from tenzing.fleet.economics.sizing import Month, size_fleet
from tenzing.fleet.economics.sizing import demand as forecast_of
from tenzing.fleet.economics.tokens import BreakEven, break_even, joules_per_unit
from tenzing.fleet.economics.tokens import usd_per_million as per_million
from tenzing.units import Joules, Usd, Watts

OWN_RANGES: Final = ("price", "electricity", "capital_share", "staff_share", "depreciation_years")


@dataclass(frozen=True)
class Economics:
    """Everything about one instance. What is unknown is None; lists are empty without an input.

    Per million and per unit need a throughput; ``break_even`` a price to compare with; ``months`` a
    demand. ``rent_bars`` are dollars per million units, ``own_bars`` dollars per hour with work.
    """

    instance: str
    both: OwnOrRent
    per_s: float | None
    rent_per_million: Usd | None
    own_per_million: Usd | None
    energy: Joules | None
    break_even: BreakEven | None
    months: tuple[Month, ...]
    rent_bars: tuple[Bar, ...]
    own_bars: tuple[Bar, ...]
    assumed: tuple[str, ...]


def economics(
    instance: str, *, term: str = "", region: str | None = None,
    usd_per_hour: float | None = None, per_s: float | None = None,
    usd_per_million: float | None = None, demand: float | None = None,
    own: Mapping[str, float] | None = None, forecast: Mapping[str, Any] | None = None,
) -> Economics:  # fmt: skip
    """Own against rent, and with more inputs the price of work, break-even load and fleet.

    ``per_s``: units (tokens, requests) that one busy instance makes a second; ``usd_per_million``:
    what a million of them costs elsewhere; ``demand``: units a second asked for on average. ``own``
    and ``forecast`` override defaults of :mod:`tenzing.fleet.economics`.
    """
    if instance not in facts.instances() and usd_per_hour is None:
        raise UsageError(f"{instance} is no instance we know", allowed=", ".join(facts.instances()),
                         next_step="give --usd-per-hour for another machine")  # fmt: skip
    for name, given in (("per_s", per_s), ("usd_per_million", usd_per_million)):
        if given is not None and not 0 < given < float("inf"):
            raise UsageError(name, got=given, allowed="above 0")
    owned = ownership(instance, **(own or {}))
    rent = rental(instance, term, region, usd_per_hour=usd_per_hour,
                        utilisation=owned.utilisation)  # fmt: skip
    both = OwnOrRent(owned, rent)
    asked = forecast_of(demand, **(forecast or {})) if demand is not None else None
    if asked is not None and per_s is None:
        raise UsageError("a demand needs the throughput of one instance", next_step="give --per-s")
    elsewhere = None if usd_per_million is None else Usd(usd_per_million)
    speed = per_s or 0.0
    return Economics(
        instance, both, per_s, per_million(rent.per_used_hour, speed),
        per_million(owned.per_used_hour, speed),
        joules_per_unit(_busy(owned), speed), break_even(rent.rate, elsewhere, speed),
        tuple(size_fleet(asked, speed, rent.rate)) if asked else (),
        work_bars(rent.rate, speed), _own_bars(owned),
        (*owned.assumed, *(asked.assumed if asked else ())),
    )  # fmt: skip


def _busy(owned: Ownership) -> Watts | None:
    """What the server draws at work, without the site around it."""
    return None if owned.peak is None else owned.peak * owned.load_share


def _own_bars(owned: Ownership) -> tuple[Bar, ...]:
    if owned.per_used_hour is None:
        return ()
    share = facts.economy().number("swing.input_share")
    ranges: dict[str, tuple[Any, Any]] = {
        name: around(getattr(owned, name), share) for name in OWN_RANGES
    }
    ranges["utilisation"] = loads()
    return tuple(tornado(lambda c: c.per_used_hour, replace(owned), ranges))


__all__ = ["Economics", "economics"]
