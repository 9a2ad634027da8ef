"""An estimate: work split by op class in seconds at peak, and the conditions that scale it.

A calibration turns it into a number: each op class has a cost multiplier (one over the share of
peak reached), each condition a factor. ``time = factors x sum(multiplier x part)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets

# How far a condition may move a time (ln) before evidence: also how much an unseen one widens.
PRIOR: Final[Mapping[str, float]] = {
    "accelerator": 0.15, "family": 0.3, "framework": 0.3, "statistic": 0.3, "category": 0.2,
    "model_kind": 0.25, "load": 0.3, "scope": 0.3, "op": 0.25, "kernel": 0.5, "dtype": 0.15,
    "variant": 0.35, "flag": 0.3, "slope": 0.12, "unit": 0.3,
}  # fmt: skip
PART_PRIOR: Final = 0.7
OTHER: Final = ""  # the part whose multiplier an op class takes that no row had
ONE_SIDED_80: Final = 1.2816  # 80 % of a normal distribution lie within this many deviations
UNCALIBRATED: Final = 1.0  # half width (ln) of an answer that no measurement stands behind
ASSUMED_WIDTH: Final = 0.15
EXACT: Final = "exact"  # a quantity that is counted, not timed: no calibration moves it
EXACT_WIDTH: Final = 0.05


@dataclass(frozen=True)
class Estimate:
    """One metric of one row before calibration.

    ``metric = scale x time`` or, when ``rate``, ``scale / time``. ``features`` hold conditions:
    ``"accelerator=trn2": 1`` or a slope ``"slope:ln_batch": 0.7``. ``width`` names the class
    whose residuals give the interval.
    """

    metric: str
    quantity: str
    parts: Mapping[str, float]
    features: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    rate: bool = False
    phase: str = ""
    width: str = ""
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """A metric's value and 80 % interval, with how it was reached."""

    metric: str
    value: float
    low: float
    high: float
    basis: str
    phase: str
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantity:
    """Fitted constants of one quantity: ln multipliers of parts, ln factors of conditions.

    ``widths`` are half widths (ln) of 80 % intervals by class, from cross-validated residuals;
    ``""`` is the class of everything else.
    """

    parts: Mapping[str, float]
    features: Mapping[str, float]
    widths: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def cost(self, part: str) -> float:
        """The multiplier of an op class; of one that no row had, what the others share."""
        return math.exp(self.parts.get(part, self.parts.get(OTHER, 0.0)))


class Calibration:
    """Fitted quantities by name; an absent one leaves an estimate at peak."""

    def __init__(self, quantities: Mapping[str, Quantity]) -> None:
        self.quantities = dict(quantities)

    def time(self, estimate: Estimate) -> float:
        """Calibrated seconds of an estimate."""
        fitted = self.quantities.get(estimate.quantity)
        if fitted is None:
            return sum(estimate.parts.values())
        total = sum(fitted.cost(name) * part for name, part in estimate.parts.items())
        factor = sum(
            value * fitted.features.get(name, 0.0) for name, value in estimate.features.items()
        )
        return total * math.exp(factor)

    def parts(self, estimate: Estimate) -> dict[str, float]:
        """Calibrated seconds by op class; they add up to :meth:`time`."""
        whole = self.time(estimate)
        fitted = self.quantities.get(estimate.quantity)
        cost = {
            name: part * (fitted.cost(name) if fitted else 1.0)
            for name, part in estimate.parts.items()
        }
        total = sum(cost.values())
        return {name: whole * value / total for name, value in cost.items()} if total else cost

    def half_width(self, estimate: Estimate) -> float:
        """Half width (ln) of the 80 % interval: residuals of its class, wider for the unseen."""
        fitted = self.quantities.get(estimate.quantity)
        if fitted is None:
            return EXACT_WIDTH if estimate.quantity == EXACT else UNCALIBRATED
        base = fitted.widths.get(estimate.width, fitted.widths.get("", UNCALIBRATED))
        unseen = [
            PRIOR[kind_of_feature(name)]
            for name in estimate.features
            if "=" in name and name not in fitted.features
        ]
        if estimate.assumed:
            unseen.append(ASSUMED_WIDTH / ONE_SIDED_80)
        return math.hypot(base, *(ONE_SIDED_80 * sd for sd in unseen))

    def predict(self, estimate: Estimate) -> Prediction | None:
        """The metric with its interval; None when the work is nothing."""
        seconds = self.time(estimate)
        if not (seconds > 0 and math.isfinite(seconds)):
            return None
        value = estimate.scale / seconds if estimate.rate else estimate.scale * seconds
        spread = math.exp(self.half_width(estimate))
        if not (value / spread > 0 and math.isfinite(value * spread)):
            return None
        basis = "calibrated" if estimate.quantity in self.quantities else "analytic"
        return Prediction(estimate.metric, value, value / spread, value * spread, basis,
                          estimate.phase, estimate.assumed)  # fmt: skip


Solve = Callable[[Estimate], float]


def kind_of_feature(name: str) -> str:
    """``accelerator`` of ``accelerator=trn2``, ``slope`` of ``slope:ln_batch``."""
    return name.split("=", 1)[0].split(":", 1)[0]


def conditions(**values: object) -> dict[str, float]:
    """Features from words: ``conditions(accelerator="trn2")`` is ``{"accelerator=trn2": 1}``."""
    return {f"{name}={value}": 1.0 for name, value in values.items() if value not in ("", None)}


def slope(name: str, value: float, origin: float = 1.0) -> dict[str, float]:
    """A feature that grows with the logarithm of a quantity, zero at ``origin``."""
    return {f"slope:{name}": math.log(max(value, 1e-12) / origin)}


@functools.cache
def calibration() -> Calibration:
    """The shipped calibration, fitted on the published calibration rows."""
    found: dict[str, Quantity] = {}
    for file, text in sheets.files_in("calibration"):
        found |= read_calibration(text, file)
    return Calibration(found)


def read_calibration(text: str, file: str) -> dict[str, Quantity]:
    """Quantities of one calibration file; FactsError for what is not one."""
    data = sheets.parse(text, file).data
    found: dict[str, Quantity] = {}
    for name, table in data.get("quantity", {}).items():
        try:
            found[name] = Quantity(
                {k: float(v) for k, v in table["parts"].items()},
                {k: float(v) for k, v in table["features"].items()},
                {k: float(v) for k, v in table["widths"].items()},
                {k: v for k, v in table.items() if k not in ("parts", "features", "widths")},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FactsError(f"{file}: quantity {name} is broken: {error}",
                             next_step="run python -m calibration.fit") from None  # fmt: skip
    return found


__all__ = [
    "EXACT", "Calibration", "Estimate", "Prediction", "Quantity", "Solve", "calibration",
    "conditions", "kind_of_feature", "read_calibration", "slope",
]  # fmt: skip
