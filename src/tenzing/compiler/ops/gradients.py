"""Backward forms that are worth one kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from tenzing.compiler.graph import F32, Array, GraphError, Op, TensorType, Work, is_float
from tenzing.compiler.ops.elementwise import expect_count, narrow

T = TypeVar("T")
_VECTOR_PASSES = 11  # normalise 2, weigh 1, two sums 3, gradient of x 3, sums over rows 2


class NormParts(NamedTuple, Generic[T]):
    """The inputs of a norm's backward form by what they are."""

    grad: T
    x: T
    mean: T | None
    rstd: T
    weight: T | None
    residual: T | None


@dataclass(frozen=True)
class NormBackward(Op, name="norm_backward"):
    """Gradients of a layer norm (``centred``) or an RMS norm from the statistics it kept.

    Inputs are (gradient [..., C], x [..., C], mean [...] when centred, one over the deviation or
    root [...], weight [C] when ``weighted``, a gradient [..., C] to add to that of x with
    ``residual``); the statistics are float32. Outputs are the gradients of x, of the weight when
    ``weighted`` and of the bias when ``biased``, both [C] and summed over all rows in float32.
    """

    centred: bool
    weighted: bool = False
    biased: bool = False
    residual: bool = False

    def parts(self, inputs: Sequence[T]) -> NormParts[T]:
        """The inputs by what they are."""
        take = iter(inputs)
        present = (True, True, self.centred, True, self.weighted, self.residual)
        return NormParts(*(next(take) if held else None for held in present))  # type: ignore[arg-type]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's type, then that of the weight and bias."""
        expect_count(self.name, inputs, 3 + self.centred + self.weighted + self.residual)
        found = self.parts(inputs)
        x, row = found.x, TensorType(found.x.shape[:-1], F32)
        wide = [v for v in (found.grad, found.residual) if v is not None]
        if x.rank < 1 or not is_float(x.dtype) or any(v != x for v in wide):
            raise GraphError(f"{self.name} needs gradients of x's type", got=wide, allowed=x)
        numbers = [v for v in (found.mean, found.rstd) if v is not None]
        if any(v != row for v in numbers):
            raise GraphError(f"{self.name} statistics", got=numbers, allowed=row)
        vector = x.with_shape(x.shape[-1:])
        if found.weight is not None and found.weight != vector:
            raise GraphError(f"{self.name} weight", got=found.weight, allowed=vector)
        return (x, *[vector] * (self.weighted + self.biased))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """In float64, rounded once."""
        grad, x, mean, rstd, weight, residual = self.parts([a.astype(np.float64) for a in inputs])
        normal = (x if mean is None else x - mean[..., None]) * rstd[..., None]
        weighed = grad if weight is None else grad * weight
        onto = weighed - normal * (weighed * normal).mean(axis=-1, keepdims=True)
        if self.centred:
            onto -= weighed.mean(axis=-1, keepdims=True)
        onto *= rstd[..., None]
        lead = tuple(range(x.ndim - 1))
        found = [onto if residual is None else onto + residual]
        found += [(grad * normal).sum(axis=lead)] * self.weighted
        found += [grad.sum(axis=lead)] * self.biased
        return tuple(narrow(a, inputs[1].dtype) for a in found)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """A fixed number of operations per element."""
        return Work(vector_ops=_VECTOR_PASSES * math.prod(inputs[1].shape))
