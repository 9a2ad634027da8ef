"""What is on offer: an instance, how many, its accelerator, its price and its power."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.errors import TenzingError, UsageError
from tenzing.facts import Accelerator, Price
from tenzing.fleet.comparison.choice import Choice
from tenzing.fleet.economics import joules_per_unit, usd_per_million
from tenzing.fleet.steptime import ranks_per_chip
from tenzing.units import UsdPerHour, Watts

OPPOSITE: Final = {"": "", "_low": "_high", "_high": "_low"}  # the most work costs the least
_TARGET: Final = re.compile(r"^(?P<name>.+?)(?:\s*[x*]\s*(?P<count>\d+))?$")


@dataclass(frozen=True)
class Offer:
    """``count`` instances of one kind under the name a user gave, and what an hour of one costs.

    ``watts`` (and its bounds) is what one instance draws when busy, None where nothing is known.
    """

    target: str
    instance: str
    accelerator: str
    chips: int
    count: int = 1
    usd_per_hour: float | None = None
    term: str = ""
    price_date: str = ""
    idle_watts: tuple[float, float] | None = None
    peak_watts: tuple[float, float] | None = None
    assumed: tuple[str, ...] = ()

    @property
    def device(self) -> Accelerator:
        """Its accelerator."""
        return facts.accelerator(self.accelerator)

    @property
    def ranks(self) -> int:
        """Ranks of one instance: logical cores of AWS silicon, else whole devices."""
        return self.chips * self.ranks_per_chip

    @property
    def ranks_per_chip(self) -> int:
        """Logical cores of an AWS chip; 1 for others."""
        return ranks_per_chip(self.accelerator)

    def choice(self, **layout: Any) -> Choice:
        """A choice of this offer with a layout, and no figures yet."""
        return Choice(
            self.target, self.instance, self.accelerator, self.count, self.chips * self.count,
            usd_per_hour=self.usd_per_hour, term=self.term, price_date=self.price_date, **layout,
        )  # fmt: skip

    @property
    def hourly(self) -> UsdPerHour | None:
        """What an hour of all instances costs."""
        return None if self.usd_per_hour is None else UsdPerHour(self.usd_per_hour * self.count)

    def money(self, rates: dict[str, float]) -> dict[str, Any]:
        """Cost fields of a choice that makes ``rates`` with all instances; none without a price."""
        costs = {f"usd_per_million{end}": usd_per_million(self.hourly, rates[f"rate{other}"])
                 for end, other in OPPOSITE.items()}  # fmt: skip
        return {name: cost.amount for name, cost in costs.items() if cost is not None}

    def energy(self, rates: dict[str, float], busy: float) -> dict[str, Any]:
        """Energy fields: between idle and peak power as busy as the busier of math and memory.

        The bounds hold those of the power as well.
        """
        if self.idle_watts is None or self.peak_watts is None:
            return {}
        share = min(max(busy, 0.0), 1.0)
        low, high = (Watts(i + (p - i) * share) * self.count
                     for i, p in zip(self.idle_watts, self.peak_watts, strict=True))  # fmt: skip
        watts = {"": (low + high) / 2, "_low": low, "_high": high}
        spent = {f"joules_per_unit{end}": joules_per_unit(watts[end], rates[f"rate{other}"])
                 for end, other in OPPOSITE.items()}  # fmt: skip
        return {"watts": watts[""].amount,
                **{name: joules.amount for name, joules in spent.items() if joules}}  # fmt: skip


def offers(
    targets: Sequence[str], *, term: str = "", region: str | None = None
) -> tuple[list[Offer], list[tuple[str, str]]]:
    """Offers for what a user names: instances (``p5.48xlarge``, ``trn2.48xlarge x4``) or chips.

    A chip stands for every instance that has it. The second list holds the names for which there is
    nothing to rent, each with the reason: no target is dropped without a word.
    """
    if not targets:
        raise UsageError("no targets to compare", next_step="name instances, such as p5.48xlarge")
    found: list[Offer] = []
    absent: list[tuple[str, str]] = []
    for target in targets:
        kind, count = _counted(target.strip())
        names, reason = _instances(kind)
        if not names:
            absent.append((target, reason))
        found += [_offer(target, name, count, term, region) for name in names]
    return found, absent


def _counted(target: str) -> tuple[str, int]:
    """What is named, and how many; some instances end in a number themselves."""
    if target.lower() in facts.instances():
        return target, 1
    match = _TARGET.match(target)
    if match is None:
        raise UsageError("a target is empty", next_step="give instances, such as p5.48xlarge")
    count = int(match["count"] or 1)
    if count < 1:
        raise UsageError(f"{target}: at least one instance", got=count)
    return match["name"], count


def _instances(name: str) -> tuple[list[str], str]:
    """Instances that a name stands for; none, and why, for a chip nobody rents out."""
    known = facts.instances()
    lower = name.strip().lower()
    if lower in known:
        return [lower], ""
    try:
        chip = facts.accelerator(name).name
    except TenzingError:
        near = [n for n in known if n.split(".")[0] == lower.split(".")[0]] or list(known)
        raise UsageError(
            f"{name} is neither an instance nor an accelerator", allowed=", ".join(near),
            next_step="tenzing facts lists all",
        ) from None  # fmt: skip
    having = list(facts.instances_of(chip))
    return having, "" if having else f"no instance with {chip} is known"


def _offer(target: str, name: str, count: int, term: str, region: str | None) -> Offer:
    instance = facts.instance(name)
    price = _price(name, term, region)
    drawn = facts.power(instance)
    return Offer(
        target, name, instance.accelerator, instance.chips, count,
        price.usd_per_hour if price else None, price.term if price else "",
        str(price.date) if price else "",
        (drawn.idle.low.amount, drawn.idle.high.amount) if drawn else None,
        (drawn.peak.low.amount, drawn.peak.high.amount) if drawn else None,
        tuple(f"{name}: {what}" for what in drawn.assumed) if drawn else (),
    )  # fmt: skip


def _price(name: str, term: str, region: str | None) -> Price | None:
    if term:
        return facts.price(name, term, region)
    return facts.best_price(name, region)


__all__ = ["Offer", "offers"]
