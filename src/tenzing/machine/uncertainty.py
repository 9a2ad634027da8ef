"""How far a simulated time may be from the chip's, from the residuals of published kernels.

``facts/residuals.toml`` holds, by class of kernel, how far simulated times of published kernels
lie from the published ones, and how much the times of a class follow each fact that is assumed
somewhere. Written by ``python -m calibration.residuals``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenzing.facts import residuals

CLASSES: Final = {
    "Tensor": "tensor", "Vector": "vector", "Scalar": "vector", "GpSimd": "vector",
    "Sync": "dma", "DMA": "dma",
}  # fmt: skip
LATENCY: Final = "latency"
DOMINATES: Final = 0.5  # share of the time the busiest engine needs to be what limits


@dataclass(frozen=True)
class Interval:
    """An 80 % interval of a time in picoseconds, the class it comes from and how it was widened.

    ``half_width`` and ``assumed`` (the part of it that assumed facts add) are natural logarithms.
    """

    low_ps: int
    high_ps: int
    limit: str
    half_width: float
    assumed: float


def limit(busy: Mapping[str, float]) -> str:
    """The class of a kernel whose engines are busy these shares of its time."""
    busiest = max(busy, key=lambda name: busy[name], default="")
    if not busiest or busy[busiest] < DOMINATES:
        return LATENCY
    return CLASSES[busiest]


def interval(time_ps: int, busy: Mapping[str, float], assumed: Iterable[str]) -> Interval:
    """The interval of a time whose program keeps engines so busy and leans on assumed facts."""
    kind = limit(busy)
    assumption = widening(kind, assumed)
    half = math.hypot(float(_residuals()["class"][kind]["half_width"]), assumption)
    low, high = round(time_ps * math.exp(-half)), round(time_ps * math.exp(half))
    return Interval(low, high, kind, half, assumption)


def widening(kind: str, assumed: Iterable[str]) -> float:
    """What assumed facts add, in ln: sensitivity times what such a fact is usually off by."""
    table = _residuals()
    follows = table["sensitivity"].get(kind, {})
    off = float(table["assumed_half_width"])
    return math.sqrt(sum((follows.get(path, 0.0) * off) ** 2 for path in assumed))


@functools.cache
def _residuals() -> Mapping[str, Any]:
    return residuals()
