"""Activation functions kept whole because the scalar engine evaluates them in one pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from tenzing.compiler.graph import Array, GraphBuilder, Value
from tenzing.compiler.ops.elementwise import (
    SQRT_HALF,
    Add,
    Exponential,
    Logistic,
    LogPlusOne,
    Maximum,
    Multiply,
    Tanh,
    Unary,
)
from tenzing.compiler.ops.shape import Constant
from tenzing.isa.numerics import erf

SQRT_TWO_OVER_PI: Final = math.sqrt(2.0 / math.pi)
GELU_CUBIC: Final = 0.044715  # Hendrycks and Gimpel, "Gaussian error linear units", 2016


def splat_like(builder: GraphBuilder, value: Value, number: float) -> Value:
    """A constant of ``value``'s type with every element equal to ``number``."""
    return builder.add(Constant.splat(number, value.shape, value.dtype))


@dataclass(frozen=True)
class Erf(Unary, name="erf"):
    """Error function (CHLO's name)."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return erf(inputs[0])


class Activation(Unary):
    """Base of unary composites that can also end a linear operation."""

    domain = "float"
    transcendental = True
    epilogue: ClassVar[bool] = True


@dataclass(frozen=True)
class Relu(Activation, name="relu"):
    """max(x, 0)."""

    transcendental = False

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.maximum(inputs[0], np.zeros_like(inputs[0]))

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Maximum with zero."""
        return (builder.add(Maximum(), inputs[0], splat_like(builder, inputs[0], 0.0)),)


@dataclass(frozen=True)
class Gelu(Activation, name="gelu"):
    """x times the normal distribution function of x; ``approximate`` is "none" or "tanh"."""

    approximate: str = "none"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        x = inputs[0]
        if self.approximate == "none":
            return 0.5 * x * (1.0 + erf(x * SQRT_HALF))
        return 0.5 * x * (1.0 + np.tanh(SQRT_TWO_OVER_PI * (x + GELU_CUBIC * x * x * x)))

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """0.5 x (1 + erf(x / sqrt 2)), or its tanh approximation."""
        (x,) = inputs
        half = builder.add(Multiply(), x, splat_like(builder, x, 0.5))
        if self.approximate == "none":
            argument = builder.add(Multiply(), x, splat_like(builder, x, SQRT_HALF))
            bell = builder.add(Erf(), argument)
        else:
            square = builder.add(Multiply(), x, x)
            cube = builder.add(Multiply(), square, x)
            term = builder.add(Multiply(), cube, splat_like(builder, x, GELU_CUBIC))
            total = builder.add(Add(), x, term)
            scaled = builder.add(Multiply(), total, splat_like(builder, x, SQRT_TWO_OVER_PI))
            bell = builder.add(Tanh(), scaled)
        shifted = builder.add(Add(), bell, splat_like(builder, x, 1.0))
        return (builder.add(Multiply(), half, shifted),)


@dataclass(frozen=True)
class Silu(Activation, name="silu"):
    """x times logistic(x)."""

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return inputs[0] / (1.0 + np.exp(-inputs[0]))

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Multiply by the logistic."""
        return (builder.add(Multiply(), inputs[0], builder.add(Logistic(), inputs[0])),)


@dataclass(frozen=True)
class Softplus(Activation, name="softplus"):
    """log(1 + e to the power x)."""

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.logaddexp(inputs[0], 0.0)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Exponential, then log_plus_one; overflows where x is large."""
        return (builder.add(LogPlusOne(), builder.add(Exponential(), inputs[0])),)
