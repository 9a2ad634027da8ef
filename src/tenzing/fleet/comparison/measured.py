"""A user's own measurements as choices beside the calibrated ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenzing.fleet.comparison.choice import OK, SLOW, Choice
from tenzing.fleet.comparison.serving import UNIT
from tenzing.fleet.comparison.task import Encoding, Serving, Task, Training
from tenzing.fleet.measured import KIND, Measurement

MS_PER_S = 1e3


def measured_choices(found: Sequence[Measurement], model: str, task: Task) -> list[Choice]:
    """What was measured of this model for this task, a choice a batch; none where nothing fits.

    Serving takes the decode steps, and the prefill of one request whose length is nearest to the
    prompt: a token waits for the prefills of the others as it does in the calibrated answers.
    """
    mine = [m for m in found if m.model.lower() == model.lower()]
    if isinstance(task, Serving):
        return [_serving(m, mine, task) for m in mine if m.task == "decode"]
    if isinstance(task, Encoding):
        return [_whole(m, "texts", m.batch, task.latency_ms) for m in mine if m.task == "encoder"]
    if isinstance(task, Training):
        return [_whole(m, "trained tokens", m.tokens_per_run or 0, 0.0)
                for m in mine if m.task == "training"]  # fmt: skip
    return []


def _serving(step: Measurement, mine: Sequence[Measurement], task: Serving) -> Choice:
    fills = [m for m in mine if m.task == "prefill" and m.batch == 1
             and m.accelerator == step.accelerator]  # fmt: skip
    fill = min(fills, key=lambda m: abs(m.length - task.prompt_tokens), default=None)
    scale = 1 - task.prefix_hit
    longer = task.prompt_tokens * scale / fill.length if fill else 0.0
    first = [t * longer for t in (fill.median_s, *fill.spread_s)] if fill else [0.0, 0.0, 0.0]
    waits = [(step.batch - 1) * t / task.output_tokens for t in first]
    median, low, high = (t / task.accepted + w for t, w in zip(
        (step.median_s, *step.spread_s), waits, strict=True))  # fmt: skip
    slow = (task.tpot_ms and median * MS_PER_S > task.tpot_ms) or (
        task.ttft_ms and first[0] * MS_PER_S > task.ttft_ms
    )
    times = {"ttft_ms": first[0] * MS_PER_S, "ttft_ms_low": first[1] * MS_PER_S,
             "ttft_ms_high": first[2] * MS_PER_S, "tpot_ms": median * MS_PER_S,
             "tpot_ms_low": low * MS_PER_S, "tpot_ms_high": high * MS_PER_S}  # fmt: skip
    why = "" if fill else "no prefill of one request was measured"
    return _choice(step, UNIT, status=SLOW if slow else OK, why=why, rate=step.batch / median,
                   rate_low=step.batch / high, rate_high=step.batch / low,
                   requests_s=step.batch / median / task.output_tokens, **times)  # fmt: skip


def _whole(m: Measurement, unit: str, made: int, limit_ms: float) -> Choice:
    """A run that makes so many units, one after another."""
    low, high = m.spread_s
    slow = bool(limit_ms) and m.median_s * MS_PER_S > limit_ms
    return _choice(
        m, unit, status=SLOW if slow else OK, rate=made / m.median_s, rate_low=made / high,
        rate_high=made / low, requests_s=made / m.median_s, latency_ms=m.median_s * MS_PER_S,
        latency_ms_low=low * MS_PER_S, latency_ms_high=high * MS_PER_S,
    )  # fmt: skip


def _choice(m: Measurement, unit: str, **figures: Any) -> Choice:
    how = "compiled" if m.compiled else "eager"
    return Choice(f"measured: {m.accelerator}", f"{m.accelerator}, PyTorch {how}", m.accelerator,
                  1, 1, batch=m.batch, weights=m.dtype, unit=unit, basis=KIND,
                  joules_per_unit=m.j_per_token, **figures)  # fmt: skip


__all__ = ["measured_choices"]
