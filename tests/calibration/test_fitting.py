"""The fit: it finds constants it was given, and one odd cluster does not move them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from calibration.fitting import Observation, fit_quantity, weighted_quantile

from tenzing.errors import FactsError
from tenzing.fleet.estimate import Calibration, Estimate, read_calibration

COSTS = {"compute": 3.0, "memory": 1.5}


def observations(odd: float = 0.0) -> list[Observation]:
    """Eight clusters of twelve times that follow COSTS; the last is ``odd`` off (ln)."""
    random = np.random.default_rng(0)
    found = []
    for cluster in range(8):
        for number in range(12):
            parts = {name: float(random.uniform(0.1, 2)) for name in COSTS}
            seconds = sum(COSTS[name] * part for name, part in parts.items())
            offset = odd if cluster == 7 else 0.0
            noise = random.normal(0, 0.02)
            found.append(Observation(Estimate("m", "q", parts, {"framework=a": 1.0}),
                                     seconds * math.exp(offset + noise), str(cluster),
                                     f"{cluster}-{number}", 1.0))  # fmt: skip
    return found


@pytest.mark.parametrize("odd", [0.0, 2.0])
def test_known_multipliers_are_found(odd: float) -> None:
    calibration = Calibration({"q": fit_quantity(observations(odd))})
    for parts in ({"compute": 1.0, "memory": 0.1}, {"compute": 0.1, "memory": 1.0}):
        exact = sum(COSTS[name] * part for name, part in parts.items())
        made = calibration.time(Estimate("m", "q", parts, {"framework=a": 1.0}))
        assert made == pytest.approx(exact, rel=0.12)


def test_an_op_class_without_rows_costs_what_the_others_share() -> None:
    fitted = fit_quantity(observations())
    unseen = fitted.cost("scan")
    assert 1.1 < unseen < 3.0  # between the peak and the dearest class it was fitted with
    assert Calibration({"q": fitted}).time(Estimate("m", "q", {"scan": 2.0})) == 2.0 * unseen


def test_without_evidence_an_estimate_stays_at_peak() -> None:
    estimate = Estimate("m", "never fitted", {"compute": 2.0})
    assert Calibration({}).time(estimate) == 2.0
    prediction = Calibration({}).predict(estimate)
    assert prediction is not None
    assert prediction.basis == "analytic"


def test_weighted_quantiles_by_hand() -> None:
    assert weighted_quantile([3, 1, 2], [1, 1, 1], 0.5) == 2
    assert weighted_quantile([3, 1, 2], [10, 1, 1], 0.5) == 3


def test_a_broken_calibration_names_its_quantity() -> None:
    with pytest.raises(FactsError, match="decode_step is broken"):
        read_calibration("[quantity.decode_step]\nrows = 3\n", "x.toml")
