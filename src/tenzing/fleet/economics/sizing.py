"""How many instances a forecast needs, month by month: peaks, growth, backlog, failures."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.units import HOURS_PER_YEAR, SECONDS_PER_HOUR, Hours, Usd, UsdPerHour

MONTH: Final = Hours(HOURS_PER_YEAR / 12)
SHARES: Final = ("headroom", "instance_availability", "availability")
MOST_SPARES: Final = 10**9
MANY: Final = 10_000  # from here on the sum leaves out what is far from the middle
TAIL: Final = 12  # standard deviations
DAY: Final = Hours(24)


@dataclass(frozen=True)
class Demand:
    """Work asked for: units (tokens, requests) a second on average in the first month.

    ``backlog`` units wait already and are to be done within ``clear_within`` beside the mean load.
    ``headroom`` of the capacity stays free at the peak; with ``availability`` enough instances
    work, each of which does so in ``instance_availability`` of the hours.
    """

    mean_per_s: float
    peak_to_mean: float
    growth_per_month: float
    headroom: float
    instance_availability: float
    availability: float
    months: int = 12
    backlog: float = 0.0
    clear_within: Hours = DAY
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Month:
    """One month: loads, instances that carry them, spares for failures, and the bill.

    ``utilisation`` is the mean load over the capacity of all instances. ``cost`` is None where no
    price is known.
    """

    month: int
    mean_per_s: float
    peak_per_s: float
    needed: int
    spares: int
    utilisation: float
    cost: Usd | None

    @property
    def instances(self) -> int:
        """All of them."""
        return self.needed + self.spares


def demand(mean_per_s: float, **given: Any) -> Demand:
    """A forecast by default facts unless overridden by any field of :class:`Demand`."""
    economy = facts.economy()
    names = [path.removeprefix("demand.") for path, _ in economy.items()
             if path.startswith("demand.")]  # fmt: skip
    fields = {*names, "months", "backlog", "clear_within"}
    if wrong := sorted(set(given) - fields):
        raise UsageError("no such input of demand", got=", ".join(wrong),
                         allowed=", ".join(sorted(fields)))  # fmt: skip
    values = {name: economy.number(f"demand.{name}") for name in names} | given
    months = given.get("months", Demand.months)
    if not 1 <= months < math.inf or months != int(months):
        raise UsageError("months", got=months, allowed="a whole number of 1 or more")
    values["months"] = int(months)
    found = Demand(mean_per_s, assumed=tuple(n for n in names if n not in given), **values)
    _check(found)
    return found


def _check(found: Demand) -> None:
    for name in SHARES:
        if not 0 <= getattr(found, name) < 1:
            raise UsageError(name, got=getattr(found, name), allowed="from 0 on, below 1")
    limits = {"mean_per_s": 0.0, "peak_to_mean": 1.0, "growth_per_month": -1.0, "backlog": 0.0}
    for name, least in limits.items():
        if not least <= getattr(found, name) < math.inf:
            raise UsageError(name, got=getattr(found, name), allowed=f"{least:g} or more")
    if found.instance_availability == 0 or found.clear_within <= Hours(0):
        raise UsageError("instance_availability and clear_within", allowed="above 0")


def size_fleet(demand: Demand, capacity_per_s: float, rate: UsdPerHour | None) -> list[Month]:
    """Instances of ``capacity_per_s`` each, month by month; ``rate`` is what an hour of one costs.

    Raises UsageError for a capacity of nothing.
    """
    if not 0 < capacity_per_s < math.inf:
        raise UsageError("capacity of an instance", got=capacity_per_s, allowed="above 0")
    return [_month(demand, capacity_per_s, rate, number) for number in range(demand.months)]


def _month(demand: Demand, capacity_per_s: float, rate: UsdPerHour | None, number: int) -> Month:
    mean = demand.mean_per_s * (1 + demand.growth_per_month) ** number
    peak = mean * demand.peak_to_mean
    needed = _ceiling(peak / (capacity_per_s * (1 - demand.headroom)))
    if number == 0 and demand.backlog:
        extra = demand.backlog / (demand.clear_within.amount * SECONDS_PER_HOUR)
        needed = max(needed, _ceiling((mean + extra) / capacity_per_s))
    spare = spares(needed, demand.instance_availability, demand.availability)
    count = needed + spare
    load = mean / (count * capacity_per_s) if count else 0.0
    cost = None if rate is None else (rate * count).over(MONTH)
    return Month(number, mean, peak, needed, spare, load, cost)


def _ceiling(ratio: float) -> int:
    """Up to a whole instance, but not for what rounding added to an exact fit."""
    whole = round(ratio)
    return whole if math.isclose(ratio, whole, rel_tol=1e-9) else math.ceil(ratio)


def spares(needed: int, instance_availability: float, availability: float) -> int:
    """Fewest extra instances with which ``needed`` work at once with ``availability``.

    Instances fail independently of each other.
    """
    if needed == 0:
        return 0

    def enough(extra: int) -> bool:
        return _enough(needed, needed + extra, instance_availability) >= availability

    most = 1
    while not enough(most):
        most *= 2
        if most > MOST_SPARES:
            raise UsageError("no number of spares reaches this availability", got=availability,
                             next_step="give a lower availability")  # fmt: skip
    return bisect.bisect_left(range(most), True, key=enough)


def _enough(needed: int, count: int, works: float) -> float:
    """Probability that at least ``needed`` of ``count`` work."""
    if works >= 1:
        return 1.0
    first, last = needed, count
    if count > MANY:  # the tails beyond add nothing
        middle, reach = count * works, TAIL * math.sqrt(count * works * (1 - works))
        first, last = max(first, math.floor(middle - reach)), math.ceil(middle + reach)
    up, down = math.log(works), math.log1p(-works)
    all_ways = math.lgamma(count + 1)
    return math.fsum(
        math.exp(all_ways - math.lgamma(k + 1) - math.lgamma(count - k + 1)
                 + k * up + (count - k) * down)
        for k in range(first, min(last, count) + 1)
    )  # fmt: skip


__all__ = ["Demand", "Month", "demand", "size_fleet", "spares"]
