"""Price and performance over the years: what a dollar buys, by instance and month of launch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenzing import facts
from tenzing.units import SECONDS_PER_HOUR, UsdPerHour

MONTHS_PER_YEAR = 12


@dataclass(frozen=True)
class Generation:
    """An instance with its launch (years, with fraction), price and speed.

    ``speed`` is the dense bf16 peak in TFLOP/s, or a throughput somebody gives. None where no price
    is known.
    """

    instance: str
    family: str
    launched: float
    rate: UsdPerHour | None
    speed: float

    @property
    def work_per_usd(self) -> float | None:
        """Units of speed times seconds for a dollar: TFLOP, or tokens."""
        if self.rate is None or self.rate.amount == 0:
            return None
        return self.speed * SECONDS_PER_HOUR / self.rate.amount


def generations(
    speeds: Mapping[str, float] | None = None, region: str | None = None
) -> list[Generation]:
    """Instances whose launch is known, oldest first; ``speeds`` replaces peaks by throughputs.

    Where ``speeds`` is given, instances it does not name are left out.
    """
    found = []
    for name, launch in facts.launches().items():
        if name not in facts.instances() or (speeds is not None and name not in speeds):
            continue
        instance = facts.instance(name)
        device = facts.accelerator(instance.accelerator)
        peak = device.bf16_tflops * instance.chips
        price = facts.best_price(name, region)
        year, month = map(int, str(launch.value).split("-"))
        found.append(Generation(
            name, device.family, year + (month - 1) / MONTHS_PER_YEAR,
            UsdPerHour(price.usd_per_hour) if price else None,
            speeds[name] if speeds is not None else peak,
        ))  # fmt: skip
    return found


def yearly_gain(points: Sequence[Generation]) -> float | None:
    """How much more a dollar buys from one year to the next: 0.3 is 30 percent.

    The slope of a straight line through the logarithms; None with fewer than two launches priced.
    """
    pairs = [(p.launched, math.log(p.work_per_usd)) for p in points if p.work_per_usd]
    years = {year for year, _ in pairs}
    if len(years) < len(("first", "last")):
        return None
    middle = math.fsum(x for x, _ in pairs) / len(pairs)
    level = math.fsum(y for _, y in pairs) / len(pairs)
    spread = math.fsum((x - middle) ** 2 for x, _ in pairs)
    return math.expm1(math.fsum((x - middle) * (y - level) for x, y in pairs) / spread)


__all__ = ["Generation", "generations", "yearly_gain"]
