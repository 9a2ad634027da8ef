"""A server of one's own against a rented one: what an hour of each costs, and when owning pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.units import (
    HOURS_PER_YEAR,
    WATTS_PER_KW,
    Hours,
    Quantity,
    Usd,
    UsdPerHour,
    UsdPerKwh,
    Watts,
)

YEAR: Final = Hours(HOURS_PER_YEAR)
MONTHS: Final = 12
COMMITTED: Final = ("reserved", "capacity_block")  # paid for whether there is work or not
SHARES: Final = ("load_share", "utilisation", "residual_share", "margin")


class UsdPerKwMonth(Quantity):
    """United States dollars per kilowatt and month."""

    def of(self, power: Watts) -> UsdPerHour:
        """What the space for a power costs."""
        yearly = Usd(self.amount * power.amount / WATTS_PER_KW * MONTHS)
        return yearly.per(YEAR)


@dataclass(frozen=True)
class Ownership:
    """A server one buys, and how one runs it. Shares are of one; those of ``price`` are a year's.

    Cooling energy is in ``pue``, cooling plant in ``space``. ``price`` and ``peak`` are None where
    they are unknown. ``assumed`` names the defaults that nobody overrode.
    """

    price: Usd | None
    peak: Watts | None
    electricity: UsdPerKwh
    space: UsdPerKwMonth
    pue: float
    load_share: float
    network_share: float
    staff_share: float
    maintenance_share: float
    depreciation_years: float
    residual_share: float
    capital_share: float
    utilisation: float
    margin: float
    assumed: tuple[str, ...] = ()

    @property
    def invested(self) -> Usd | None:
        """Server and its share of network and storage."""
        return None if self.price is None else self.price * (1 + self.network_share)

    @property
    def parts(self) -> Mapping[str, UsdPerHour | None]:
        """What an hour costs whether there is work or not, by what it is paid for."""
        price, peak = self.price, self.peak
        yearly = {
            "capital": self._capital_a_year(),
            "staff": None if price is None else price * self.staff_share,
            "maintenance": None if price is None else price * self.maintenance_share,
        }
        return {
            **{name: None if cost is None else cost.per(YEAR) for name, cost in yearly.items()},
            "energy": None if peak is None else self.electricity.of(
                (peak * self.load_share * self.pue).over(Hours(1))).per(Hours(1)),
            "space": None if peak is None else self.space.of(peak),
        }  # fmt: skip

    def _capital_a_year(self) -> Usd | None:
        """The level payment that returns the investment, less what it sells for, with interest."""
        if self.price is None or self.invested is None:
            return None
        rate, years = self.capital_share, self.depreciation_years
        residual = self.price * self.residual_share
        if rate == 0:
            return (self.invested - residual) / years
        discount: float = (1 + rate) ** -years
        return (self.invested - residual * discount) * (rate / (1 - discount))

    @property
    def per_hour(self) -> UsdPerHour | None:
        """An hour of the year; None when a part is unknown."""
        known = [cost for cost in self.parts.values() if cost is not None]
        return sum(known, UsdPerHour(0)) if len(known) == len(self.parts) else None

    @property
    def per_used_hour(self) -> UsdPerHour | None:
        """An hour with work, which also pays for those without."""
        return None if self.per_hour is None else self.per_hour / self.utilisation

    @property
    def asked(self) -> UsdPerHour | None:
        """What a provider would ask for an hour with work, to keep ``margin`` of it."""
        return None if self.per_used_hour is None else self.per_used_hour / (1 - self.margin)


def ownership(instance: str = "", **given: float) -> Ownership:
    """A server that stands for an instance, run by default facts unless overridden.

    ``given``: ``usd`` and ``peak_w`` of the server, and any default of ``tenzing.facts.economy``
    under ``own.`` (``pue=1.3``). Raises UsageError for what does not exist or cannot be.
    """
    economy, server = facts.economy(), facts.server(instance)
    known = {path.removeprefix("own."): fact for path, fact in economy.items()
             if path.startswith("own.")}  # fmt: skip
    if wrong := sorted(set(given) - set(known) - {"usd", "peak_w"}):
        raise UsageError("no such input of owning", got=", ".join(wrong),
                         allowed=", ".join(("usd", "peak_w", *known)))  # fmt: skip
    _check(given)
    values: dict[str, Any] = {name: economy.number(f"own.{name}") for name in known} | given
    for name in ("usd", "peak_w"):
        if server is not None and name not in given:
            values[name] = server.number(name)
    power = facts.power(instance) if instance in facts.instances() else None
    if "peak_w" not in values and power is not None:
        values["peak_w"] = power.peak.watts.amount
    assumed = [name for name, fact in known.items() if name not in given and fact.kind == "assumed"]
    bought = [name for name in ("usd", "peak_w") if name in values and name not in given]
    price, peak = values.pop("usd", None), values.pop("peak_w", None)
    return Ownership(
        price=None if price is None else Usd(price), peak=None if peak is None else Watts(peak),
        electricity=UsdPerKwh(values.pop("usd_per_kwh")),
        space=UsdPerKwMonth(values.pop("space_usd_per_kw_month")),
        assumed=(*bought, *assumed), **values,
    )  # fmt: skip


def _check(given: Mapping[str, float]) -> None:
    for name, value in given.items():
        if not 0 <= value < float("inf"):
            raise UsageError(name, got=value, allowed="a number from 0 on")
        if name in SHARES and value > 1:
            raise UsageError(name, got=value, allowed="a share from 0 to 1")
    for name in ("utilisation", "depreciation_years"):
        if given.get(name) == 0:
            raise UsageError(name, got=0, allowed="above 0")
    if given.get("margin") == 1:
        raise UsageError("margin", got=1, allowed="below 1")


@dataclass(frozen=True)
class Rental:
    """An instance one rents. ``rate`` is None where no price is known.

    ``used_share``: hours with work of the hours paid for; 1 where it is given back when idle.
    """

    instance: str
    rate: UsdPerHour | None
    term: str = ""
    region: str = ""
    date: str = ""
    source: str = ""
    used_share: float = 1.0

    @property
    def per_used_hour(self) -> UsdPerHour | None:
        """An hour with work."""
        return None if self.rate is None else self.rate / self.used_share


def rental(
    instance: str, term: str = "", region: str | None = None, *,
    usd_per_hour: float | None = None, utilisation: float | None = None,
) -> Rental:  # fmt: skip
    """The price to plan with, or the one for a term, or the user's own.

    On demand and spot are given back when idle; other terms are paid for at ``utilisation``.
    """
    share = facts.economy().number("own.utilisation") if utilisation is None else utilisation
    if not 0 < share <= 1:
        raise UsageError("utilisation", got=share, allowed="above 0, at most 1")
    if usd_per_hour is not None:
        if not 0 <= usd_per_hour < float("inf"):
            raise UsageError("usd_per_hour", got=usd_per_hour, allowed="a number from 0 on")
        return Rental(instance, UsdPerHour(usd_per_hour), term or "given", region or "",
                      used_share=share if term in COMMITTED else 1.0)  # fmt: skip
    found = facts.price(instance, term, region) if term else facts.best_price(instance, region)
    if found is None:
        return Rental(instance, None, term or "unknown", region or "")
    return Rental(instance, UsdPerHour(found.usd_per_hour), found.term, found.region,
                  str(found.date), found.source,
                  share if found.term in COMMITTED else 1.0)  # fmt: skip


@dataclass(frozen=True)
class OwnOrRent:
    """Both side by side. Everything is None where a price or a power is unknown."""

    own: Ownership
    rent: Rental

    @property
    def break_even_utilisation(self) -> float | None:
        """Share of the hours with work from which owning is cheaper; above 1 it never is."""
        if self.own.per_hour is None or self.rent.per_used_hour is None:
            return None
        if self.rent.per_used_hour.amount == 0:
            return float("inf")
        return self.own.per_hour / self.rent.per_used_hour

    @property
    def saved_a_year(self) -> Usd | None:
        """Rent less the cost of owning, for hours with work; below 0 when renting is cheaper."""
        if self.own.per_hour is None or self.rent.per_used_hour is None:
            return None
        used = YEAR * self.own.utilisation
        return self.rent.per_used_hour.over(used) - self.own.per_hour.over(YEAR)

    @property
    def payback_years(self) -> float | None:
        """Years until saved rent, less running costs, has returned the investment; no interest.

        Infinite when running the server costs more than renting.
        """
        running = [c for name, c in self.own.parts.items() if name != "capital" and c is not None]
        if self.saved_a_year is None or self.own.invested is None:
            return None
        assert self.rent.per_used_hour is not None
        rent = self.rent.per_used_hour.over(YEAR * self.own.utilisation)
        left = rent - sum(running, UsdPerHour(0)).over(YEAR)
        return self.own.invested / left if left > Usd(0) else float("inf")


__all__ = ["OwnOrRent", "Ownership", "Rental", "UsdPerKwMonth", "ownership", "rental"]
