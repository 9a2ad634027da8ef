"""What an execution costs: price per hour, cores of an instance, latency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tenzing import facts
from tenzing.fleet.economics.tokens import usd_per_million
from tenzing.units import PS_PER_S, UsdPerHour


@dataclass(frozen=True, slots=True)
class Bill:
    """Throughput and money of running one program on every core of an instance, back to back.

    ``items`` is what one execution yields (sentences, images, calls). Money is in US dollars;
    ``None`` where no price is public. ``term`` and ``price_source`` say which price was taken.
    """

    instance: str
    cores: int
    items_per_s: float
    usd_per_hour: float | None
    usd_per_million: float | None
    term: str
    price_date: str
    price_source: str


def bill_for(
    chip: str,
    latency_ps: int,
    items: int = 1,
    *,
    hbm_bytes_moved: int = 0,
) -> Bill | None:
    """The cheapest priced instance of ``chip`` for this program; None when none is priced.

    Cores run independent copies. Where cores share HBM, the rate of all of them together is
    capped by the chip's bandwidth.
    """
    bills = [_bill(name, latency_ps, items, hbm_bytes_moved) for name in facts.instances_of(chip)]
    priced = [b for b in bills if b.usd_per_million is not None]
    if priced:
        return min(priced, key=lambda b: b.usd_per_million or 0.0)
    return min(bills, key=lambda b: b.cores) if bills else None


def _bill(name: str, latency_ps: int, items: int, hbm_bytes_moved: int) -> Bill:
    instance = facts.instance(name)
    chip = facts.chip(instance.chip)
    per_core = PS_PER_S / max(latency_ps, 1)
    cores = instance.cores
    if hbm_bytes_moved:
        together = chip.number("hbm.chip_gb_s") * 10**9 / hbm_bytes_moved
        per_core = min(per_core, together / chip.integer("core.per_chip"))
    rate = per_core * cores * items
    price = facts.best_price(name)
    if price is None:
        return Bill(name, cores, rate, None, None, "unknown", "", "")
    per_million = usd_per_million(UsdPerHour(price.usd_per_hour), rate)
    return Bill(name, cores, rate, price.usd_per_hour, per_million.amount if per_million else None,
                price.term, str(price.date), price.source)  # fmt: skip


def unpriced(bills: Iterable[Bill | None]) -> list[str]:
    """Instances among ``bills`` for which no price is public."""
    return [b.instance for b in bills if b is not None and b.usd_per_million is None]
