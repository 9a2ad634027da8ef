"""Float64 arithmetic rounded once to float32: the same bits wherever float64 is within a bit or so.

A float64 result one unit off changes the rounded float32 about once in 2**28 cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32: TypeAlias = NDArray[np.float32]
Compute: TypeAlias = Callable[[Any], Any]

CHUNK: Final = 8192  # float64 temporaries of this many elements stay in the CPU's cache


def in_float64(compute: Compute, values: Float32) -> Float32:
    """``compute`` applied to ``values`` in float64 and rounded: float32 of the same shape.

    ``compute`` is a ufunc or works on 1-D float64 arrays of any length.
    """
    if isinstance(compute, np.ufunc):
        same_shape = np.empty(values.shape, np.float32)
        # NumPy converts through a small buffer of its own
        compute(values, dtype=np.float64, out=same_shape, casting="unsafe")
        return same_shape
    source = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(source.size, np.float32)
    for start in range(0, source.size, CHUNK):
        part = source[start : start + CHUNK].astype(np.float64)
        result[start : start + CHUNK] = compute(part)
    return result.reshape(values.shape)
