"""What a comparison of silicon comes down to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tenzing.fleet import Choice, Comparison
from tenzing.report.choices_table import MILLION, TRAINED, layout, named, short, unit_of
from tenzing.units import Usd

WITHIN: Final = "ok"
LIMITS: Final = ("ttft_ms", "tpot_ms", "latency_ms")
NEAR_ONE: Final = 1.05  # times as much: said with a digit more
TEN: Final = 10  # times as much: said without a fraction
THOUSAND: Final = 1000
BILLION: Final = 1e9


def dollars(amount: float) -> str:
    """An amount with cents; three digits where cents say too little, none from a thousand on."""
    if amount >= BILLION:
        return f"${amount / BILLION:,.3g} billion"
    if amount >= MILLION:
        return f"${amount / MILLION:,.3g} million"
    if amount >= THOUSAND:
        return f"${amount:,.0f}"
    return str(Usd(amount)) if round(amount, 2) == amount or amount >= 1 else f"${amount:.3g}"


def answer(found: Comparison) -> str:
    """What to remember: the smallest bill for a demand, and the cheapest unit."""
    best, bill = _cheapest(found), _smallest_bill(found)
    if best is None:
        return _without(found)
    if bill is None or found.demand is None:
        return _unit_sentence(found, best, _least(found))
    monthly, bought = bill.usd_per_month or 0.0, bill.usd_per_month_elsewhere
    sentences = [f"{bill.fleet_instances} {bill.instance} serve {found.demand.mean_per_s:,.10g} "
                 f"requests/s for {dollars(monthly)} a month{_least(found)}."]  # fmt: skip
    if bought is not None and bought < monthly:
        sentences.append(f"Buying one by one costs less: {dollars(bought)}.")
    return " ".join([*sentences, _unit_sentence(found, best, "")])


def _unit_sentence(found: Comparison, best: Choice, least: str) -> str:
    """The cheapest target by what a unit, or a whole run, costs on it."""
    if best.run_usd is not None:
        total = getattr(found.task, "total_tokens", 0) / BILLION
        return (f"{named(best)} trains on {total:,.4g} billion tokens for {_run_cost(best)}"
                f"{least}: {short(best.run_days or 0.0)} days.")  # fmt: skip
    said = f"{named(best)} makes a million {best.unit} for {_cost(best)}{least}"
    if best.status != WITHIN:
        return f"{said}, but no target keeps the limits."
    limited = any(getattr(found.task, name, 0.0) for name in LIMITS)
    return f"{said}{' within the limits' if limited else ''} ({_waits(best)})."


def _least(found: Comparison) -> str:
    """Of how many targets something is the least; those left out are counted."""
    count = len(found.best) + len(found.absent)
    able = sum(c.usd_per_million is not None for c in usable(found))
    if count == 1:
        return ""
    if able == count:
        return f", the least of {count} targets"
    return f", the least of those that can at a known price ({able} of {count} targets)"


def verdict(found: Comparison) -> list[tuple[str, str]]:
    """What else to know, as pairs of a label and a sentence."""
    return [*_others(found), *_missing(found), *_of_all(found), *_demand(found), *_against(found)]


def usable(found: Comparison) -> list[Choice]:
    """The best of every target that keeps the limits; where none does, of those that run."""
    running = [c for c in found.best if c.usable]
    return [c for c in running if c.status == WITHIN] or running


def _cheapest(found: Comparison) -> Choice | None:
    priced = [c for c in usable(found) if c.usd_per_million is not None]
    return min(priced, key=lambda c: c.usd_per_million or 0.0, default=None)


def _smallest_bill(found: Comparison) -> Choice | None:
    billed = [c for c in usable(found) if c.usd_per_month is not None]
    return min(billed, key=lambda c: c.usd_per_month or 0.0, default=None)


def _without(found: Comparison) -> str:
    running = usable(found)
    if not running:
        return f"{found.model} runs on none of the targets asked."
    fast = max(running, key=lambda c: c.rate)
    return (f"No price is known; {named(fast)} makes the most, {short(fast.rate)} {fast.unit} "
            "a second.")  # fmt: skip


def _cost(c: Choice) -> str:
    low, high = c.usd_per_million_low, c.usd_per_million_high
    said = dollars(c.usd_per_million or 0.0)
    if low is None or high is None or low == high:
        return said
    return f"{said} (80 % range {dollars(low)} to {dollars(high)})"


def _waits(c: Choice) -> str:
    times = {"first token after": c.ttft_ms, "then one every": c.tpot_ms}
    said = [f"{name} {short(ms)} ms" for name, ms in times.items() if ms]
    return ", ".join(said) or f"{short(c.latency_ms)} ms a batch"


def _others(found: Comparison) -> Iterator[tuple[str, str]]:
    """Which other targets may be as cheap, and how much more the rest costs."""
    best = _cheapest(found)
    if best is None or best.usd_per_million is None:
        return
    others = [c for c in usable(found) if c is not best and c.usd_per_million is not None]
    most = best.usd_per_million_high or best.usd_per_million
    near = [c for c in others if (c.usd_per_million or 0.0) <= most]
    if near:
        said = ", ".join(f"{named(c)} ({dollars(c.usd_per_million or 0.0)})" for c in near)
        yield "may be as cheap", f"{said}: within its range, so measure before you decide"
    far = [f"{named(c)} {_times(c, best.usd_per_million)}" for c in others if c not in near]
    if far:
        yield "expected to cost more", ", ".join(far) + " times as much"


def _missing(found: Comparison) -> Iterator[tuple[str, str]]:
    """Targets that do not keep the limits, or do not fit, or have no price."""
    slow = [f"{named(c)}: {c.why}" for c in found.best if c.status != WITHIN and c.why]
    absent = [f"{target}: {reason}" for target, reason in found.absent]
    if slow or absent:
        yield "left out, and why", "; ".join([*slow, *absent])
    unpriced = [named(c) for c in usable(found) if c.usd_per_million is None]
    if unpriced:
        yield "price unknown", ", ".join(unpriced)


def _times(c: Choice, least: float) -> str:
    ratio = (c.usd_per_million or 0.0) / least
    return f"{ratio:.2f}" if ratio < NEAR_ONE else f"{ratio:.1f}" if ratio < TEN else f"{ratio:.0f}"


def _of_all(found: Comparison) -> Iterator[tuple[str, str]]:
    running = usable(found)
    if not running:
        return
    fast = max(running, key=lambda c: c.rate / c.instances)
    yield "most work", (f"{fast.instance}: {short(fast.rate / fast.instances)} {fast.unit} a "
                        f"second of one instance, {layout(fast)}")  # fmt: skip
    spending = [c for c in running if c.joules_per_unit is not None]
    if spending:
        least = min(spending, key=lambda c: c.joules_per_unit or 0.0)
        unit = least.unit.removesuffix("s")
        yield "least energy", f"{named(least)}: {short(least.joules_per_unit or 0.0)} J per {unit}"
    if unit_of(found) == TRAINED and fast.run_days is not None:
        total = getattr(found.task, "total_tokens", 0) / BILLION
        yield f"{total:,.4g} billion tokens", "; ".join(map(_run, running))


def _run(c: Choice) -> str:
    cost = "price unknown" if c.run_usd is None else _run_cost(c)
    return f"{named(c)}: {short(c.run_days or 0.0)} days, {cost}"


def _run_cost(c: Choice) -> str:
    ends = (dollars(c.run_usd_low or 0.0), dollars(c.run_usd_high or 0.0))
    return f"{dollars(c.run_usd or 0.0)} (80 % range {ends[0]} to {ends[1]})"


def _demand(found: Comparison) -> Iterator[tuple[str, str]]:
    """The smallest bill for the demand, which is not always that of the cheapest token."""
    least = _smallest_bill(found)
    if found.demand is None or least is None:
        return
    count = f"{least.fleet_instances} ({least.fleet_instances_low} to {least.fleet_instances_high})"
    said = f"{count} {least.instance} for {dollars(least.usd_per_month or 0.0)} a month"
    if least.fleet_spares:
        said += f", {least.fleet_spares} of them spare"
    if least.usd_per_month_elsewhere is not None:
        less = least.usd_per_month_elsewhere < (least.usd_per_month or 0.0)
        said += (f"; buying one by one costs {'less' if less else 'more'}: "
                 f"{dollars(least.usd_per_month_elsewhere)}")  # fmt: skip
    yield f"{found.demand.mean_per_s:,.10g} requests/s", said


def _against(found: Comparison) -> Iterator[tuple[str, str]]:
    """From which load renting costs less than buying, and where it never does."""
    if found.elsewhere is None:
        return
    shares = [(c, c.break_even_share) for c in usable(found) if c.break_even_share is not None]
    pays = [f"{named(c)} from {_load(c)} ({share:.0%} of what it can)"
            for c, share in shares if share <= 1]  # fmt: skip
    never = [named(c) for c, share in shares if share > 1]
    price = dollars(found.elsewhere.per_million.amount)
    if pays:
        yield f"cheaper than {price} elsewhere", ", ".join(pays)
    if never:
        yield "never cheaper than that" if pays else f"never cheaper than {price}", ", ".join(never)


def _load(c: Choice) -> str:
    if c.break_even_requests_s is not None:
        return f"{short(c.break_even_requests_s)} requests/s"
    return f"{short(c.break_even_rate or 0.0)} {c.unit}/s"


def plain_words(found: Comparison) -> Sequence[str]:
    """What the answers rest on, for somebody who did not make them."""
    kinds = {c.term.replace("_", " ") for c in found.best if c.term}
    said = [
        "Speed is calibrated, not measured on these machines: the work of a configuration at the "
        "peaks of its chip, times what published software reaches. Its range holds 80 % of "
        "published results.",
        f"Prices are public list prices ({', '.join(sorted(kinds)) or 'none known'}); the table "
        "names day and term of each. Yours may be lower, and offers of different terms are not "
        "the same thing.",
        "Machines are busy all the hours that are paid for. An idle hour costs the same: at half "
        "the load a unit costs twice as much.",
    ]  # fmt: skip
    if any(c.watts is not None for c in found.best):
        said.append("Energy counts chips, host and fans between idle and full load; the power of "
                    "AWS chips is assumed, nobody publishes it.")  # fmt: skip
    if found.shape.assumed:
        said.append("The model's shape is not published: it is taken to be like Llama of its size.")
    return said


__all__ = ["answer", "dollars", "plain_words", "usable", "verdict"]
