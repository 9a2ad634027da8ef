"""How close a compiled module comes to its framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tenzing.compiler.frontends.torch_interface import flat_tensors, run_eager
from tenzing.compiler.frontends.torch_values import to_numpy
from tenzing.compiler.graph import Array


def agreement(
    module: Any, inputs: Sequence[Any], outputs: Any, keywords: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """How close outputs are to the framework's own: largest difference and cosine."""
    expected = [to_numpy(t) for t in flat_tensors(run_eager(module, inputs, keywords or {}))]
    got = [to_numpy(t) for t in flat_tensors(outputs)]
    worst, lowest = 0.0, 1.0
    for a, b in zip(expected, got, strict=True):
        worst = max(worst, float(np.abs(_wide(a) - _wide(b)).max(initial=0.0)))
        lowest = min(lowest, cosine(a, b))
    return {"max_abs_difference": worst, "cosine": lowest}


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays taken as vectors; 1 when one of them is zero."""
    x, y = _wide(a), _wide(b)
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm else 1.0


def _wide(array: Array) -> Array:
    return array.astype(np.float64).reshape(-1)


__all__ = ["agreement", "cosine"]
