"""Money and energy of a unit of work, from a throughput; the load from which capacity pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenzing.errors import UsageError
from tenzing.units import SECONDS_PER_HOUR, Hours, Joules, Usd, UsdPerHour, Watts

MILLION: Final = 1_000_000
SECOND: Final = Hours(1 / SECONDS_PER_HOUR)


def usd_per_million(rate: UsdPerHour | None, per_s: float) -> Usd | None:
    """Dollars per million units (tokens, images) of a machine that makes ``per_s`` a second.

    None for an unknown price, and for a machine that makes nothing.
    """
    if rate is None or per_s <= 0:
        return None
    return rate.over(SECOND) * (MILLION / per_s)


def joules_per_unit(power: Watts | None, per_s: float) -> Joules | None:
    """Energy of one unit; None for an unknown power, and for a machine that makes nothing."""
    if power is None or per_s <= 0:
        return None
    return power.over(SECOND) / per_s


def blended(input_price: Usd, output_price: Usd, prompt_tokens: float, output_tokens: float) -> Usd:
    """What a million output tokens earn or cost, the prompts that led to them included.

    Prices are per million tokens. Raises UsageError without output tokens.
    """
    if output_tokens <= 0:
        raise UsageError("output tokens of a request", got=output_tokens, allowed="above 0")
    return output_price + input_price * (prompt_tokens / output_tokens)


@dataclass(frozen=True)
class BreakEven:
    """The load at which a machine costs what buying the same units one by one would.

    ``share`` is of the machine's capacity: above 1 it is never reached.
    """

    per_s: float
    share: float

    @property
    def reachable(self) -> bool:
        """Whether the machine can carry that load."""
        return self.share <= 1


def break_even(rate: UsdPerHour | None, price: Usd | None, capacity_per_s: float
               ) -> BreakEven | None:  # fmt: skip
    """Against a price per million units; None when either price is unknown, or there is none."""
    if rate is None or price is None or price.amount <= 0 or capacity_per_s <= 0:
        return None
    per_s = rate.over(SECOND) / price * MILLION
    return BreakEven(per_s, per_s / capacity_per_s)


__all__ = ["BreakEven", "blended", "break_even", "joules_per_unit", "usd_per_million"]
