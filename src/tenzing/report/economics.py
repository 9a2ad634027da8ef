"""Own or rent, tokens, fleets and sensitivity, as text and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from tenzing.fleet.economics import (
    Bar,
    Economics,
    Generation,
    Month,
    OwnOrRent,
    yearly_gain,
)
from tenzing.report.table import UNKNOWN, table
from tenzing.units import Quantity, Usd

MONTHS_PER_YEAR: Final = 12
HALF_A_MONTH: Final = 1 / 24  # of a year: launches are whole months as fractions
TERA_IN_PETA: Final = 1000


def economics_text(found: Economics) -> str:
    """Tables of the two ways, and what follows from the inputs that were given."""
    parts = [_both_text(found.both, found.instance)]
    if found.per_s is not None:
        parts.append(_work_text(found))
    if found.months:
        parts.append(_fleet_text(found.months))
    parts += [_bars_text(title, bars) for title, bars in (
        ("rent, per million units: one input at a time", found.rent_bars),
        ("own, an hour with work: one input at a time", found.own_bars),
    ) if bars]  # fmt: skip
    if found.assumed:
        parts.append("assumed, each can be given: " + ", ".join(found.assumed))
    return "\n\n".join(parts)


def _both_text(both: OwnOrRent, instance: str) -> str:
    own, rent = both.own, both.rent
    rows = [
        ("an hour", _money(own.per_hour), _money(rent.rate)),
        (f"an hour with work ({own.utilisation:.0%} of them)", _money(own.per_used_hour),
         _money(rent.per_used_hour)),
        *((f"  of an hour: {name}", _money(cost), "-") for name, cost in own.parts.items()),
    ]  # fmt: skip
    priced = ", ".join(x for x in (rent.term, rent.region, rent.date, rent.source) if x)
    lines = [
        table((instance, "own", "rent"), rows), "",
        f"rent: {priced}",
        *_verdict(both),
    ]  # fmt: skip
    return "\n".join(lines)


def _verdict(both: OwnOrRent) -> list[str]:
    """When owning is cheaper and what it saves, or what is missing to say so."""
    inputs = (
        (both.own.price, "a price of such a server", "--own usd=DOLLARS"),
        (both.own.peak, "its power", "--own peak_w=WATTS"),
        (both.rent.rate, "a price to rent it at", "--usd-per-hour DOLLARS"),
    )
    missing = [(what, option) for value, what, option in inputs if value is None]
    if missing:
        what, options = (", ".join(words) for words in zip(*missing, strict=True))
        return [f"whether owning is cheaper is unknown, for lack of: {what}",
                f"  next: give {options}"]  # fmt: skip
    return [
        f"owning is cheaper from {_share(both.break_even_utilisation)} of the hours with work",
        f"saved a year by owning: {_money(both.saved_a_year)}; "
        f"investment back after {_years(both.payback_years)}",
    ]


def _work_text(found: Economics) -> str:
    joules = UNKNOWN if found.energy is None else f"{found.energy.amount:.3g} J"
    lines = [
        f"at {found.per_s:g} a second when busy: {_money(found.rent_per_million)} a million rented,"
        f" {_money(found.own_per_million)} owned, {joules} each",
    ]  # fmt: skip
    if found.break_even is not None:
        verdict = "" if found.break_even.reachable else ", more than it can carry: buy them instead"
        lines.append(f"renting pays from {found.break_even.per_s:,.0f} a second, "
                     f"{_share(found.break_even.share)} of an instance{verdict}")  # fmt: skip
    return "\n".join(lines)


def _fleet_text(months: Sequence[Month]) -> str:
    rows = [(m.month + 1, m.mean_per_s, m.peak_per_s, m.needed, m.spares,
             f"{m.utilisation:.0%}", _money(m.cost)) for m in months]  # fmt: skip
    headers = ("month", "mean/s", "peak/s", "instances", "spares", "used", "rent a month")
    return table(headers, rows, "fleet for the demand")


def _bars_text(title: str, bars: Sequence[Bar]) -> str:
    rows = [(bar.name, _input(bar.low_input), _input(bar.high_input), _money(bar.at_low),
             _money(bar.at_high)) for bar in bars]  # fmt: skip
    return table(("input", "low", "high", "at low", "at high"), rows, title)


def economics_json(found: Economics) -> dict[str, Any]:
    """The same as plain numbers in the units their names say; unknown is null."""
    own, rent = found.both.own, found.both.rent
    return {
        "instance": found.instance,
        "own": {
            "usd_per_hour": _number(own.per_hour),
            "usd_per_used_hour": _number(own.per_used_hour),
            "usd_per_hour_asked": _number(own.asked),
            "usd_per_hour_parts": {name: _number(cost) for name, cost in own.parts.items()},
        },
        "rent": {
            "usd_per_hour": _number(rent.rate), "usd_per_used_hour": _number(rent.per_used_hour),
            "term": rent.term, "region": rent.region, "date": rent.date, "source": rent.source,
        },
        "break_even_utilisation": _finite(found.both.break_even_utilisation),
        "usd_saved_a_year": _number(found.both.saved_a_year),
        "payback_years": _finite(found.both.payback_years),
        "per_s": found.per_s,
        "usd_per_million": {"rent": _number(found.rent_per_million),
                            "own": _number(found.own_per_million)},
        "joules_per_unit": _number(found.energy),
        "break_even": None if found.break_even is None else asdict(found.break_even),
        "months": [{"month": m.month + 1, "mean_per_s": m.mean_per_s, "peak_per_s": m.peak_per_s,
                    "needed": m.needed, "spares": m.spares, "utilisation": m.utilisation,
                    "usd": _number(m.cost)} for m in found.months],
        "sensitivity": {"usd_per_million_rent": list(map(_bar_json, found.rent_bars)),
                        "usd_per_used_hour_own": list(map(_bar_json, found.own_bars))},
        "assumed": list(found.assumed),
    }  # fmt: skip


def generations_text(found: Sequence[Generation], *, measured: bool = False) -> str:
    """What a dollar buys, oldest launch first, and the yearly gain of each family and of all."""
    unit = "units" if measured else "PFLOP"
    scale = 1 if measured else TERA_IN_PETA
    rows = [(g.instance, g.family, _month(g), _number(g.rate), g.speed,
             None if g.work_per_usd is None else g.work_per_usd / scale)
            for g in found]  # fmt: skip
    speed = "units/s" if measured else "bf16 TFLOP/s"
    headers = ("instance", "family", "launched", "$/h", speed, f"{unit} for a dollar")
    gains = [f"{name}: {gain:+.0%} a year" for name, gain in _gains(found).items()]
    note = "" if measured else "; peaks, not what software reaches: give --per-s for throughputs"
    return "\n".join([
        table(headers, rows), "", f"what a dollar buys grows by: {', '.join(gains) or UNKNOWN}",
        f"launch months are assumed (remembered announcements){note}",
    ])  # fmt: skip


def _month(found: Generation) -> str:
    year = int(found.launched + HALF_A_MONTH)
    return f"{year}-{round((found.launched - year) * MONTHS_PER_YEAR) + 1:02d}"


def _gains(found: Sequence[Generation]) -> dict[str, float]:
    families = {g.family: [x for x in found if x.family == g.family] for g in found}
    gains = {name: yearly_gain(points) for name, points in [*families.items(), ("all", found)]}
    return {name: gain for name, gain in gains.items() if gain is not None}


def generations_json(found: Sequence[Generation]) -> dict[str, Any]:
    """The same as plain numbers; unknown is null."""
    return {
        "generations": [{"instance": g.instance, "family": g.family, "launched": _month(g),
                         "usd_per_hour": _number(g.rate), "per_s": g.speed,
                         "per_usd": g.work_per_usd} for g in found],
        "yearly_gain": _gains(found),
    }  # fmt: skip


def _bar_json(bar: Bar) -> dict[str, Any]:
    return {"input": bar.name, "low": _plain(bar.low_input), "high": _plain(bar.high_input),
            "at_low": _number(bar.at_low), "at_high": _number(bar.at_high)}  # fmt: skip


def _plain(value: Any) -> Any:
    return value.amount if isinstance(value, Quantity) else value


def _number(value: Quantity | None) -> float | None:
    return None if value is None else value.amount


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: never is null too, and the amounts beside it say why."""
    return value if value is not None and math.isfinite(value) else None


def _money(value: Quantity | None) -> str:
    return UNKNOWN if value is None else str(Usd(value.amount))


def _input(value: Any) -> str:
    return f"{_plain(value):,.4g}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0%}"


def _years(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.1f} years" if math.isfinite(value) else "never"


__all__ = ["economics_json", "economics_text", "generations_json", "generations_text"]
