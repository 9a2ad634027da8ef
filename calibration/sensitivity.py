"""How much each simulated time follows each fact: perturb it, cost and schedule again.

The record stays; only costs change, so this is a matter of milliseconds for a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tenzing.machine import Analysis, schedule
from tenzing.units import ns_to_ps

STEP = 0.1  # ln
TIMING_UNITS = ("cycles", "ns", "GB/s", "GHz", "ratio")
KINDS = ("assumed", "derived")
LARGEST = 12_000  # instructions: longer programs repeat what shorter ones of their kind show
LEAST = 1e-3


def sensitivities(result: Analysis) -> dict[str, float]:
    """d ln(time) / d ln(fact) of the assumed and derived facts this program's time uses."""
    before = math.log(result.latency_ps)
    found = {}
    for path in sorted(result.chip.used):
        fact = result.chip.facts[path]
        number = isinstance(fact.value, int | float) and not isinstance(fact.value, bool)
        if not number or not fact.value or fact.unit not in TIMING_UNITS:
            continue
        if fact.kind in KINDS:
            slope = (math.log(_latency_ps(result, path)) - before) / STEP
            if abs(slope) >= LEAST:
                found[path] = round(slope, 4)
    return found


def retimed_ps(result: Analysis, values: Mapping[str, float]) -> tuple[int, int]:
    """Program and launch of the same record with some facts of another value."""
    chip = result.chip
    changed = {path: replace(chip.facts[path], value=value) for path, value in values.items()}
    other = replace(chip, facts={**chip.facts, **changed}, used=set())
    templates = [replace(t, cost=t.instruction.cost(other)) for t in result.program.templates]
    program = replace(result.program, chip=other, templates=templates)
    times = schedule(program, result.dependencies)
    return times.total_ps, ns_to_ps(other.number("launch.overhead_ns"))


def _latency_ps(result: Analysis, path: str) -> int:
    """The time with one fact larger by ``STEP``."""
    value = result.chip.facts[path].value * math.exp(STEP)
    return sum(retimed_ps(result, {path: value}))
