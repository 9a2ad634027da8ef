"""How far the cost of a configuration moves when one thing is not as assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenzing.fleet.comparison.choice import Choice

PRICE_SWING: Final = 0.2
IDLE_LOADS: Final = (0.25, 1.0)  # of the hours paid for, what is used


@dataclass(frozen=True, slots=True)
class Swing:
    """Dollars per million units when one input is at its low and at its high end."""

    name: str
    low: float
    high: float

    @property
    def width(self) -> float:
        """How much it matters."""
        return self.high - self.low


def sensitivity(choice: Choice) -> tuple[Swing, ...]:
    """Swings of $ per million, the largest first: price, speed within its interval, load."""
    cost = choice.usd_per_million
    low, high = choice.usd_per_million_low, choice.usd_per_million_high
    if cost is None or low is None or high is None:
        return ()
    least, most = IDLE_LOADS
    found = (
        Swing(f"price {-PRICE_SWING:+.0%} to {PRICE_SWING:+.0%}", cost * (1 - PRICE_SWING),
              cost * (1 + PRICE_SWING)),
        Swing("speed, within its 80 % interval", low, high),
        Swing(f"load {most:.0%} to {least:.0%} of the paid hours", cost / most, cost / least),
    )  # fmt: skip
    return tuple(sorted(found, key=lambda s: -s.width))


__all__ = ["Swing", "sensitivity"]
