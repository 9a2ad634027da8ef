"""The columns of a comparison of silicon: what a configuration's figures look like in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tenzing.fleet import Choice, Comparison
from tenzing.report.table import Cell, Table

Column = tuple[str, Callable[[Choice], Cell]]
OUTPUT: Final = "output tokens"
TRAINED: Final = "trained tokens"
MILLION: Final = 1e6


def table_of(found: Comparison, choices: Sequence[Choice]) -> Table:
    """One row a configuration, columns as the task has figures."""
    columns = list(_columns(found))
    rows = [[cell(choice) for _, cell in columns] for choice in choices]
    return Table.of([name for name, _ in columns], rows)


def unit_of(found: Comparison) -> str:
    """What the configurations make, in the plural."""
    return found.choices[0].unit if found.choices else "units"


def named(choice: Choice) -> str:
    """The instance of a choice and how many of them."""
    return choice.instance + (f" x{choice.instances}" if choice.instances > 1 else "")


def _columns(found: Comparison) -> Iterator[Column]:
    unit = unit_of(found)
    single = unit.removesuffix("s").removeprefix("output ").removeprefix("trained ")
    yield "instance", named
    yield "layout", layout
    yield f"{unit}/s", _ranged("rate")
    yield from _times(found, unit)
    yield f"$/M {unit}", _ranged("usd_per_million")
    if unit == OUTPUT:
        yield "$/M in", lambda c: c.usd_per_million_input
        yield "$/M out", lambda c: c.usd_per_million_output
    yield f"J/{single}", lambda c: c.joules_per_unit if c.usable else None
    yield "MFU", lambda c: f"{c.mfu:.0%}" if c.usable and c.mfu else None
    if unit == OUTPUT:
        yield "MBU", lambda c: f"{c.mbu:.0%}" if c.usable and c.mbu else None
    yield from _against(found, unit)
    yield from _whole(found)
    yield "$/h", lambda c: c.usd_per_hour
    yield "", lambda c: c.status


def _times(found: Comparison, unit: str) -> Iterator[Column]:
    if unit != OUTPUT:
        yield "step ms" if unit == TRAINED else "latency ms", _ranged("latency_ms")
        return
    yield "TTFT ms", _ranged("ttft_ms")
    yield "TPOT ms", _ranged("tpot_ms")
    if any(c.simulated_ms is not None for c in found.choices):
        yield "simulated step ms", lambda c: c.simulated_ms


def _against(found: Comparison, unit: str) -> Iterator[Column]:
    """Against prices elsewhere: the load to break even, and its share of what the instance can."""
    if found.elsewhere is None:
        return
    if unit == TRAINED:
        yield "break-even tokens/s", lambda c: c.break_even_rate
    else:
        yield "break-even requests/s", lambda c: c.break_even_requests_s
    yield "of capacity", lambda c: ranged(c, "break_even_share", "{:.0%}".format)


def _whole(found: Comparison) -> Iterator[Column]:
    """A demand to serve or a run to finish."""
    if found.demand is not None:
        yield f"for {found.demand.mean_per_s:,.10g}/s", _fleet
        yield "$/month", lambda c: c.usd_per_month
    if unit_of(found) == TRAINED:
        yield "days", _ranged("run_days")
        yield "million $", lambda c: None if c.run_usd is None else c.run_usd / MILLION
        yield "MWh", lambda c: c.run_mwh


def _fleet(c: Choice) -> Cell:
    if c.fleet_instances is None:
        return None
    return f"{c.fleet_instances} ({c.fleet_instances_low}-{c.fleet_instances_high})"


def layout(c: Choice) -> str:
    """Copies, ranks, stages, batch and formats of a choice in a few words."""
    parts = [f"{c.replicas} x tp{c.tp}" + (f" pp{c.pp}" if c.pp > 1 else ""), f"batch {c.batch}"]
    if c.weights != "bf16" or c.kv != "bf16":
        parts.append(c.weights if c.kv == "bf16" else f"{c.weights}/{c.kv} cache")
    return ", ".join([*parts, *(["recompute"] if c.recompute else [])])


def short(value: float) -> str:
    """Three digits, or a whole number from a hundred on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - digits shown


def ranged(c: Choice, name: str, say: Callable[[float], str] = short) -> str | None:
    """A figure with its interval; only the figure where its source states none; None if unknown."""
    value, low, high = (getattr(c, f"{name}{end}") for end in ("", "_low", "_high"))
    if not c.usable or value is None or low is None or high is None:
        return None
    return say(value) if low == high else f"{say(value)} ({say(low)}-{say(high)})"


def _ranged(name: str) -> Callable[[Choice], Cell]:
    return lambda c: ranged(c, name)


__all__ = ["MILLION", "OUTPUT", "TRAINED", "layout", "named", "ranged", "short", "table_of",
           "unit_of"]  # fmt: skip
