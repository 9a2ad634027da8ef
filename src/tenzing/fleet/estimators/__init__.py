"""From a row's configuration to estimates of every metric, one file per kind of row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tenzing.errors import TenzingError
from tenzing.fleet.estimate import Estimate, Solve
from tenzing.fleet.estimators import collectives, kernels, llm, training, vision
from tenzing.fleet.rows import Row

Estimator = Callable[[Row, Solve], list[Estimate]]
BY_KIND: Final[Mapping[str, Estimator]] = {
    "inference_llm": llm.estimates,
    "inference_encoder_vision": vision.estimates,
    "training": training.estimates,
    "kernels": kernels.estimates,
    "collectives": collectives.estimates,
}


def estimates_of(row: Row, solve: Solve) -> tuple[list[Estimate], str]:
    """Every metric that can be estimated, and the reason where something cannot."""
    try:
        return BY_KIND[row.kind](row, solve), ""
    except TenzingError as error:
        return [], str(error).splitlines()[0]
    except ArithmeticError as error:  # sizes that are allowed one by one and absurd together
        return [], f"the sizes of this row do not make a workload: {error}"


__all__ = ["BY_KIND", "estimates_of"]
