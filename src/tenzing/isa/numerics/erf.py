"""The error function and its complement in float64, for whole arrays.

Both are smooth, so a table of centres 1/512 apart and five Taylor coefficients at each reach
float64 accuracy. With ``g(x) = 2/sqrt(pi) exp(-x*x)``, the derivative of erf, ``g' = -2 x g``
gives the coefficients of ``g`` by ``(n+1) g[n+1] = -2 c g[n] - 2 g[n-1]``, and erf has
``e[n+1] = g[n] / (n+1)``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]

STEPS_PER_UNIT: Final = 512
LAST: Final = 12.0  # erfc(12) is below the smallest float32
ORDER: Final = 5
TWO_OVER_ROOT_PI: Final = 2.0 / math.sqrt(math.pi)


@cache
def _coefficients() -> tuple[Float64, Float64, Float64]:
    """``erf`` and ``erfc`` at the centres, and the common higher coefficients [ORDER, centres]."""
    centres = np.arange(int(LAST * STEPS_PER_UNIT) + 1) / STEPS_PER_UNIT
    first = np.array([math.erf(c) for c in centres])
    complement = np.array([math.erfc(c) for c in centres])
    previous = np.zeros_like(centres)
    current = TWO_OVER_ROOT_PI * np.array([math.exp(-c * c) for c in centres])
    higher = [current]
    for n in range(ORDER - 1):
        following = (-2.0 * centres * current - 2.0 * previous) / (n + 1)
        higher.append(following / (n + 2))
        previous, current = current, following
    return first, complement, np.array(higher)


def _taylor(size: Float64) -> tuple[NDArray[np.intp], Float64]:
    """Index of the nearest centre, and ``erf(size) - erf(centre)``."""
    scaled = np.minimum(size, LAST)
    scaled *= STEPS_PER_UNIT
    centre = np.rint(scaled)
    offset = (scaled - centre) / STEPS_PER_UNIT
    index = centre.astype(np.intp)  # whatever a NaN becomes here is clipped, and its offset is NaN
    higher = _coefficients()[2]
    total = higher[-1].take(index, mode="clip")
    for row in higher[-2::-1]:
        total *= offset
        total += row.take(index, mode="clip")
    total *= offset
    return index, total


def erf(x: Float64) -> Float64:
    """``2/sqrt(pi)`` the integral of ``exp(-t*t)`` from 0 to ``x``, to 1e-15 of its value."""
    index, change = _taylor(np.abs(x))
    result = _coefficients()[0].take(index, mode="clip") + change
    return np.copysign(np.minimum(result, 1.0), x)


def erfc(x: Float64) -> Float64:
    """``1 - erf(x)`` without cancellation for large ``x``; zero beyond 12."""
    size = np.abs(x)
    index, change = _taylor(size)
    tail = np.maximum(_coefficients()[1].take(index, mode="clip") - change, 0.0)
    tail = np.where(size >= LAST, 0.0, tail)
    return np.where(x < 0, 2.0 - tail, tail)
