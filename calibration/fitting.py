"""A robust fit of cost multipliers and condition factors to published times, with NumPy alone.

``ln time = ln sum(exp(a_k) part_k) + sum(b_j feature_j) + u_cluster``: multipliers ``a`` and
factors ``b`` have normal priors, a cluster of models shares a random offset ``u`` that
predictions do not use, and outliers weigh less (Student-t weights); Gauss-Newton on all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenzing.fleet.estimate import (
    OTHER,
    PART_PRIOR,
    PRIOR,
    Estimate,
    Quantity,
    kind_of_feature,
)

CLUSTER_SD = 0.25
INTERCEPT = "intercept"
INTERCEPT_SD = 1.0
DEGREES = 4.0
ROUNDS = 40


@dataclass(frozen=True)
class Observation:
    """One published value as seconds, its estimate, and how it counts."""

    estimate: Estimate
    seconds: float
    cluster: str
    group: str
    weight: float


def fit_quantity(
    data: Sequence[Observation], looseness: float = 1.0, cluster_sd: float = CLUSTER_SD,
    degrees: float = DEGREES,
) -> Quantity:  # fmt: skip
    """Fitted constants of one quantity.

    ``looseness`` scales the priors of conditions, ``cluster_sd`` is how far (ln) clusters differ,
    ``degrees`` how soon an outlier weighs less (of freedom of Student's t; fewer, sooner).
    """
    parts = sorted({k for d in data for k in d.estimate.parts})
    features = sorted({k for d in data for k in d.estimate.features})
    clusters = sorted({d.cluster for d in data})
    size = len(parts) + len(features) + 1
    sd = np.array(
        [PART_PRIOR] * len(parts)
        + [PRIOR[kind_of_feature(f)] * looseness for f in features]
        + [INTERCEPT_SD] + [cluster_sd] * len(clusters)
    )  # fmt: skip
    work = np.array([[d.estimate.parts.get(k, 0.0) for k in parts] for d in data])
    fixed = np.zeros((len(data), len(sd) - len(parts)))
    for row, d in enumerate(data):
        for column, name in enumerate(features):
            fixed[row, column] = d.estimate.features.get(name, 0.0)
        fixed[row, len(features)] = 1.0
        fixed[row, len(features) + 1 + clusters.index(d.cluster)] = 1.0
    target = np.log([d.seconds for d in data])
    weights = np.array([d.weight for d in data])
    theta = _solve(work, fixed, target, weights, sd, len(clusters), degrees)
    shared = theta[len(parts) : size]
    rest = target - np.log((work * np.exp(theta[: len(parts)])).sum(axis=1))
    rest -= fixed[:, : len(shared)] @ shared
    # centred without the clusters' offsets: what a new cluster should expect
    intercept = float(theta[size - 1]) + weighted_quantile(list(rest), list(weights), 0.5)
    return Quantity(
        {OTHER: intercept} | {k: float(theta[i]) + intercept for i, k in enumerate(parts)},
        {k: float(theta[len(parts) + i]) for i, k in enumerate(features)},
        {},
    )


def _solve(
    work: np.ndarray, fixed: np.ndarray, target: np.ndarray, weights: np.ndarray, sd: np.ndarray,
    clusters: int, degrees: float,
) -> np.ndarray:  # fmt: skip
    count = work.shape[1]
    theta = np.zeros(len(sd))
    spread = 0.5
    for _ in range(ROUNDS):
        cost = work * np.exp(np.clip(theta[:count], -8, 8))
        total = np.maximum(cost.sum(axis=1), 1e-15)
        residual = target - np.log(total) - fixed @ theta[count:]
        robust = weights * (degrees + 1) / (degrees + (residual / spread) ** 2)
        jacobian = np.hstack([cost / total[:, None], fixed])
        held = _precision(theta, sd, clusters, degrees)
        normal = jacobian.T @ (jacobian * robust[:, None]) / spread**2 + np.diag(held)
        gradient = jacobian.T @ (robust * residual) / spread**2 - theta * held
        move = np.linalg.solve(normal, gradient)
        longest = np.abs(move).max()
        theta += move * min(1.0, 1.0 / max(longest, 1e-9))
        spread = max(_spread(residual, weights), 0.03)
        if longest < 1e-5:
            break
    return theta


def _precision(theta: np.ndarray, sd: np.ndarray, clusters: int, degrees: float) -> np.ndarray:
    """Of the priors: an odd cluster keeps its own offset and does not move the rest."""
    held = 1 / sd**2
    held[-clusters:] *= (degrees + 1) / (degrees + (theta[-clusters:] / sd[-clusters:]) ** 2)
    return held


def _spread(residual: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(np.abs(residual))
    share = np.cumsum(weights[order]) / weights.sum()
    return 1.4826 * float(np.abs(residual)[order][np.searchsorted(share, 0.5)])


def weighted_quantile(values: Sequence[float], weights: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the weight lies; nan without values."""
    if not values:
        return math.nan
    order = np.argsort(values)
    sorted_values = np.asarray(values)[order]
    mass = np.cumsum(np.asarray(weights)[order])
    return float(sorted_values[min(int(np.searchsorted(mass, share * mass[-1])), len(order) - 1)])


Fitted = Mapping[str, Quantity]
