"""One configuration and what it gives: a flat record, ready for a table or a data frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenzing.fleet.estimate import Prediction
from tenzing.units import UsdPerHour

OK: Final = "ok"
SLOW: Final = "misses the limits"
FULL: Final = "does not fit"
UNKNOWN: Final = "unknown"
MILLION: Final = 1e6


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout of a model on a number of instances, with 80 % intervals (``_low``, ``_high``).

    ``rate`` counts ``unit`` a second over all ``instances`` (output tokens, texts, images, trained
    tokens). Latencies are 0 where the task has none. Money is per million ``unit``, prompts
    included; ``_input`` and ``_output`` share the bill as prefill and decoding share the time.
    Energy is per unit. None where no price or power is known. ``status`` is ok, misses the limits,
    does not fit or unknown, and ``why`` says what is missing. ``replicas`` are copies of the model,
    ``tp`` and ``pp`` ranks and stages of each; ``batch`` is per copy.

    Where prices per token were given, ``break_even_`` says from which load (units or requests a
    second, share of what the instances can do) renting costs less than buying at
    ``usd_per_million_elsewhere``; a share above 1 is never reached. ``fleet_`` counts instances,
    spares among them, for the task's requests a second; ``run_`` is a whole training run.
    """

    target: str
    instance: str
    accelerator: str
    instances: int
    chips: int
    tp: int = 1
    pp: int = 1
    replicas: int = 1
    batch: int = 1
    weights: str = "bf16"
    kv: str = "bf16"
    recompute: bool = False
    status: str = OK
    why: str = ""
    unit: str = ""
    rate: float = 0.0
    rate_low: float = 0.0
    rate_high: float = 0.0
    requests_s: float = 0.0
    ttft_ms: float = 0.0
    ttft_ms_low: float = 0.0
    ttft_ms_high: float = 0.0
    tpot_ms: float = 0.0
    tpot_ms_low: float = 0.0
    tpot_ms_high: float = 0.0
    latency_ms: float = 0.0
    latency_ms_low: float = 0.0
    latency_ms_high: float = 0.0
    simulated_ms: float | None = None
    mfu: float = 0.0
    mbu: float = 0.0
    memory_share: float = 0.0
    usd_per_hour: float | None = None
    term: str = ""
    price_date: str = ""
    usd_per_million: float | None = None
    usd_per_million_low: float | None = None
    usd_per_million_high: float | None = None
    usd_per_million_input: float | None = None
    usd_per_million_output: float | None = None
    watts: float | None = None
    joules_per_unit: float | None = None
    joules_per_unit_low: float | None = None
    joules_per_unit_high: float | None = None
    usd_per_million_elsewhere: float | None = None
    break_even_rate: float | None = None
    break_even_requests_s: float | None = None
    break_even_share: float | None = None
    break_even_share_low: float | None = None
    break_even_share_high: float | None = None
    fleet_instances: int | None = None
    fleet_instances_low: int | None = None
    fleet_instances_high: int | None = None
    fleet_spares: int | None = None
    fleet_utilisation: float | None = None
    usd_per_month: float | None = None
    usd_per_month_elsewhere: float | None = None
    run_days: float | None = None
    run_days_low: float | None = None
    run_days_high: float | None = None
    run_usd: float | None = None
    run_usd_low: float | None = None
    run_usd_high: float | None = None
    run_mwh: float | None = None
    basis: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def hourly(self) -> UsdPerHour | None:
        """What an hour of all instances costs."""
        return None if self.usd_per_hour is None else UsdPerHour(self.usd_per_hour * self.instances)

    @property
    def usable(self) -> bool:
        """Whether it fits and has figures, within the limits or not."""
        return self.status in (OK, SLOW)

    @property
    def met(self) -> bool:
        """Whether it runs within the limits."""
        return self.status == OK

    @property
    def wait_ms(self) -> float:
        """What a user waits for: the next token, or the whole batch or step."""
        return self.tpot_ms or self.latency_ms

    @property
    def merit(self) -> tuple[int, bool, float]:
        """Smaller is better: within the limits, then with a price, then money, or speed."""
        rank = (OK, SLOW, FULL, UNKNOWN).index(self.status)
        if self.status == SLOW:
            return rank, False, self.tpot_ms + self.latency_ms + self.ttft_ms
        if self.usd_per_million is not None:
            return rank, False, self.usd_per_million
        return rank, True, -self.rate


def bounds(name: str, found: Prediction | None, scale: float = 1.0) -> dict[str, float]:
    """A prediction as the three fields of a figure; zeros for an absent one."""
    if found is None:
        return {name: 0.0, f"{name}_low": 0.0, f"{name}_high": 0.0}
    return {name: found.value * scale, f"{name}_low": found.low * scale,
            f"{name}_high": found.high * scale}  # fmt: skip


__all__ = ["FULL", "MILLION", "OK", "SLOW", "UNKNOWN", "Choice", "bounds"]
