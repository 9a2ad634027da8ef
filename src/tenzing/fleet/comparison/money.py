"""Money and size of a choice: against tokens bought elsewhere, a fleet, a whole run, swings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing.errors import UsageError
from tenzing.fleet.comparison.choice import MILLION, Choice
from tenzing.fleet.comparison.task import Encoding, Serving, Task, Training
from tenzing.fleet.economics import Bar, Demand, Month, blended, break_even, size_fleet, work_bars
from tenzing.fleet.economics import demand as forecast_of
from tenzing.fleet.economics.sizing import MONTH
from tenzing.units import SECONDS_PER_HOUR, Joules, Usd

HOURS_PER_DAY: Final = 24
KWH_PER_MWH: Final = 1000
PRICES: Final = {
    Serving: "two prices: of input and of output tokens", Encoding: "one price: of tokens read",
    Training: "one price: of trained tokens",
}  # fmt: skip
OF_UNITS: Final = "one price: of a million images"


@dataclass(frozen=True)
class Elsewhere:
    """The same work bought one by one: the prices given (dollars per million), and of a unit.

    ``per_million`` is for a million units of the comparison: output tokens with the prompts that
    led to them, texts with their tokens, images, trained tokens.
    """

    prices: tuple[float, ...]
    per_million: Usd


def elsewhere_of(task: Task, prices: Sequence[float]) -> Elsewhere | None:
    """What a million units cost at prices per million tokens; None where none are given.

    Serving takes (input, output); other tasks take one. Raises UsageError for another number of
    prices and for prices that are none.
    """
    if not prices:
        return None
    if len(prices) != (2 if isinstance(task, Serving) else 1):
        raise UsageError("prices per million tokens", got=", ".join(f"{p:g}" for p in prices),
                         allowed=PRICES.get(type(task), OF_UNITS))  # fmt: skip
    if not all(0 <= p < float("inf") for p in prices) or not any(prices):
        raise UsageError("a price per million tokens", got=", ".join(f"{p:g}" for p in prices),
                         allowed="dollars from 0 on, not all of them 0")  # fmt: skip
    first = Usd(prices[0])
    if isinstance(task, Serving):
        whole = blended(first, Usd(prices[1]), task.prompt_tokens, task.output_tokens)
    else:
        whole = first * (task.prompt_tokens if isinstance(task, Encoding) else 1)
    return Elsewhere(tuple(prices), whole)


def demand_of(task: Task, forecast: Mapping[str, float]) -> Demand | None:
    """The demand of a task that names one: its requests a second on average, this month.

    ``forecast`` overrides any field of :class:`tenzing.fleet.economics.Demand`. Raises UsageError
    for a forecast of no demand.
    """
    asked = getattr(task, "requests_s", 0.0)
    if not asked:
        if forecast:
            raise UsageError("a forecast needs a demand", got=", ".join(forecast),
                             next_step="give requests a second to size for")  # fmt: skip
        return None
    return forecast_of(asked, **{"months": 1, **forecast})


def completed(
    choice: Choice, task: Task, elsewhere: Elsewhere | None, asked: Demand | None
) -> Choice:
    """The choice with its break-even load, its fleet for a demand and the whole of a run."""
    if not choice.usable or not choice.rate:
        return choice
    found: dict[str, Any] = {}
    if elsewhere is not None:
        found |= _against(choice, elsewhere)
    if asked is not None and choice.requests_s:
        found |= _fleet(choice, asked, elsewhere)
    if isinstance(task, Training):
        found |= _run(choice, task.total_tokens)
    return replace(choice, **found) if found else choice


def _against(choice: Choice, elsewhere: Elsewhere) -> dict[str, Any]:
    """The load from which the instances cost less than buying, and its share of what they can."""
    price = elsewhere.per_million
    middle, most, least = (
        break_even(choice.hourly, price, speed)
        for speed in (choice.rate, choice.rate_high, choice.rate_low)
    )
    found: dict[str, Any] = {"usd_per_million_elsewhere": price.amount}
    if middle is None or most is None or least is None:
        return found
    return found | {
        "break_even_rate": middle.per_s,
        "break_even_requests_s": middle.per_s * choice.requests_s / choice.rate or None,
        "break_even_share": middle.share, "break_even_share_low": most.share,
        "break_even_share_high": least.share,
    }  # fmt: skip


def _fleet(choice: Choice, asked: Demand, elsewhere: Elsewhere | None) -> dict[str, Any]:
    fast, slow = (
        fleet_for(replace(choice, requests_s=choice.requests_s * speed / choice.rate), asked)
        for speed in (choice.rate_high, choice.rate_low)
    )
    middle = fleet_for(choice, asked)
    bought = None
    if elsewhere is not None:
        units_s = middle.mean_per_s * choice.rate / choice.requests_s
        bought = elsewhere.per_million * (units_s * MONTH.amount * SECONDS_PER_HOUR / MILLION)
    return {
        "fleet_instances": middle.instances, "fleet_spares": middle.spares,
        "fleet_instances_low": fast.instances, "fleet_instances_high": slow.instances,
        "fleet_utilisation": middle.utilisation,
        "usd_per_month": None if middle.cost is None else middle.cost.amount,
        "usd_per_month_elsewhere": None if bought is None else bought.amount,
    }  # fmt: skip


def fleet_for(choice: Choice, asked: Demand) -> Month:
    """Instances of a choice for a demand in requests a second, in the month that needs most.

    A copy of the model that spans several instances comes and fails as a whole.
    """
    group = max(-(-choice.instances // choice.replicas), 1)
    together = replace(asked, instance_availability=asked.instance_availability**group)
    share = group / choice.instances
    hour = None if choice.hourly is None else choice.hourly * share
    months = size_fleet(together, choice.requests_s * share, hour)
    most = max(months, key=lambda month: month.instances)
    return replace(most, needed=most.needed * group, spares=most.spares * group)


def _run(choice: Choice, tokens: int) -> dict[str, Any]:
    """Days, dollars and megawatt-hours of training on that many tokens."""
    day = SECONDS_PER_HOUR * HOURS_PER_DAY
    found: dict[str, Any] = {
        "run_days": tokens / choice.rate / day, "run_days_low": tokens / choice.rate_high / day,
        "run_days_high": tokens / choice.rate_low / day,
    }  # fmt: skip
    for end in ("", "_low", "_high"):
        cost = getattr(choice, f"usd_per_million{end}")
        found[f"run_usd{end}"] = None if cost is None else cost * tokens / MILLION
    if choice.joules_per_unit is not None:
        found["run_mwh"] = Joules(choice.joules_per_unit * tokens).kwh / KWH_PER_MWH
    return found


def sensitivity(choice: Choice) -> tuple[Bar, ...]:
    """Swings of the dollars per million, widest first: price, speed in its interval, load."""
    if not choice.usable:
        return ()
    return work_bars(choice.hourly, choice.rate, (choice.rate_low, choice.rate_high))


__all__ = [
    "Elsewhere", "completed", "demand_of", "elsewhere_of", "fleet_for", "sensitivity",
]  # fmt: skip
