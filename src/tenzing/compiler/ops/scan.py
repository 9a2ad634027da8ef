"""Recurrences along a dim: the state-space scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, TensorType, Work, is_float
from tenzing.compiler.ops.elementwise import expect_count, narrow, widen


@dataclass(frozen=True)
class LinearScan(Op, name="linear_scan"):
    """``h[t] = a[t] * h[t - 1] + b[t]`` along the last dim; inputs are (a, b, h before the first).

    ``a`` and ``b`` are [..., T], the start [...], the result [..., T].
    """

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The type of ``a``."""
        expect_count(self.name, inputs, 3)
        a, b, start = inputs
        if a != b or not a.rank or start != a.with_shape(a.shape[:-1]) or not is_float(a.dtype):
            raise GraphError(
                "linear_scan inputs", got=", ".join(map(str, inputs)),
                allowed="float a and b [..., T] of one type, start [...]",
            )  # fmt: skip
        return (a,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sequential in float32; results are rounded, the running value is not."""
        a, b, state = (widen(array) for array in inputs)
        result = np.empty(a.shape, a.dtype)
        with np.errstate(all="ignore"):
            for t in range(a.shape[-1]):
                state = a[..., t] * state + b[..., t]
                result[..., t] = state
        return (narrow(result, inputs[0].dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """A product and a sum per element."""
        return Work(vector_ops=2 * outputs[0].elements)
