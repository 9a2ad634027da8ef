"""The activation functions of the Scalar engine: one object per function.

The engine evaluates piecewise polynomials from tables that are not public. Here each function is
computed in float64 and rounded once to float32, so results are the same on every machine and at
least as accurate as the engine's; they are marked ``modelled``. Outside its documented range the
engine's result is invalid. Only ``sin`` is described there: a cubic continues it, which we
identify from the one published value (sin(9.0) is about 27.65) as the third-order expansion at
the nearer end of [-pi, pi].
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError
from tenzing.isa.numerics.alu import name_of_operation
from tenzing.isa.numerics.erf import TWO_OVER_ROOT_PI, Float64, erf, erfc
from tenzing.isa.numerics.rounding import f32
from tenzing.isa.numerics.wide import Compute, Float32, in_float64

Array: TypeAlias = NDArray[Any]

ANY: Final = (-math.inf, math.inf)

GELU_TANH_CUBIC: Final = 0.044715  # Hendrycks and Gimpel, "Gaussian error linear units"
GELU_SIGMOID_SLOPE: Final = 1.702  # the same paper
INVERSE_ROOT_TWO: Final = 1.0 / math.sqrt(2.0)
INVERSE_ROOT_TWO_PI: Final = 1.0 / math.sqrt(2.0 * math.pi)


class ActivationFunction:
    """One function; equal only to itself.

    ``table`` names the activation table that the engine must hold, ``None`` when the function
    needs none. The grouping of functions into tables is not public: one table per function is
    assumed. ``valid_range``: documented input range.
    """

    __slots__ = ("_compute", "_wide", "exactness", "formula", "name", "table", "valid_range")

    def __init__(
        self,
        name: str,
        formula: str,
        compute: Compute,
        *,
        table: bool = True,
        wide: bool = True,
        valid_range: tuple[float, float] = ANY,
    ) -> None:
        self.name, self.formula, self._compute, self._wide = name, formula, compute, wide
        self.table = name if table else None
        self.exactness = "modelled" if table else "exact"
        self.valid_range = valid_range

    @np.errstate(all="ignore")
    def __call__(self, x: object, parameter: object = None) -> Float32:
        """Apply to a typed array of any shape: float32. ``parameter`` is the slope of ``prelu``."""
        values = f32(x)
        if self.name == "prelu":
            slope = np.float32(0) if parameter is None else f32(parameter)
            return np.asarray(np.where(values > 0, values, values * slope))
        if self._wide:
            return in_float64(self._compute, values)
        return np.asarray(self._compute(values))

    def __reduce__(self) -> tuple[object, ...]:
        return activation, (self.name,)  # a copy or a pickle is the same object again

    def __repr__(self) -> str:
        return f"ActivationFunction({self.name})"


# --- float64 formulas -------------------------------------------------------------------------


def _sigmoid(x: Float64) -> Float64:
    """One exponential of a number that is never positive, so nothing overflows."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _softplus(x: Float64) -> Float64:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _times(x: Float64, factor: Float64) -> Float64:
    """``x * factor`` where a factor of zero wins over an infinite ``x``."""
    return np.where(factor == 0, 0.0, x * factor)


def _normal_cdf(x: Float64) -> Float64:
    return 0.5 * erfc(-INVERSE_ROOT_TWO * x)


def _normal_pdf(x: Float64) -> Float64:
    return INVERSE_ROOT_TWO_PI * np.exp(-0.5 * x * x)


def _gelu(x: Float64) -> Float64:
    return _times(x, _normal_cdf(x))


def _gelu_dx(x: Float64) -> Float64:
    return _normal_cdf(x) + _times(x, _normal_pdf(x))


def _gelu_tanh(x: Float64) -> Float64:
    inner = math.sqrt(2.0 / math.pi) * (x + GELU_TANH_CUBIC * x * x * x)
    return _times(x, _sigmoid(2.0 * inner))  # (1 + tanh u) / 2 = sigmoid(2 u)


def _gelu_sigmoid(x: Float64) -> Float64:
    return _times(x, _sigmoid(GELU_SIGMOID_SLOPE * x))


def _gelu_sigmoid_dx(x: Float64) -> Float64:
    return _swish_dx(x, GELU_SIGMOID_SLOPE)


def _silu(x: Float64) -> Float64:
    return _times(x, _sigmoid(x))


def _silu_dx(x: Float64) -> Float64:
    return _swish_dx(x, 1.0)


def _swish_dx(x: Float64, slope: float) -> Float64:
    """Derivative of ``x sigmoid(slope x)``."""
    scaled = slope * x
    small = np.exp(-np.abs(scaled))
    total = 1.0 + small
    rising = np.where(x >= 0, 1.0, small) / total
    return rising + _times(scaled, small / (total * total))


def _mish(x: Float64) -> Float64:
    return _times(x, np.tanh(_softplus(x)))


def _erf_dx(x: Float64) -> Float64:
    return TWO_OVER_ROOT_PI * np.exp(-x * x)


def _rsqrt(x: Float64) -> Float64:
    return 1.0 / np.sqrt(x)


def _sin(x: Float64) -> Float64:
    """No range reduction: beyond pi the cubic expansion at pi goes on."""
    beyond = x - np.copysign(math.pi, x)
    return np.where(np.abs(x) <= math.pi, np.sin(x), beyond * (beyond * beyond / 6.0 - 1.0))


# --- float32 functions that need no table -----------------------------------------------------


def _copy(x: Float32) -> Float32:
    return x


def _relu(x: Float32) -> Float32:
    return np.maximum(x, np.float32(0))


def _plain(name: str, formula: str, compute: Compute) -> ActivationFunction:
    return ActivationFunction(name, formula, compute, table=False, wide=False)


def _functions() -> list[ActivationFunction]:
    made = ActivationFunction
    return [
        _plain("copy", "x", _copy),
        _plain("square", "x * x", np.square),
        _plain("relu", "max(x, 0)", _relu),
        _plain("prelu", "x if x > 0 else slope * x", _relu),
        _plain("abs", "|x|", np.abs),
        _plain("sign", "-1, 0 or 1", np.sign),
        made("exp", "e**x", np.exp),
        made("log", "ln x", np.log, valid_range=(2.0**-64, 2.0**64)),
        made("sqrt", "x**(1/2)", np.sqrt, valid_range=(2.0**-116, 2.0**118)),
        made("rsqrt", "x**(-1/2)", _rsqrt, valid_range=(2.0**-87, 2.0**97)),
        made("reciprocal", "1 / x", np.reciprocal, valid_range=(-(2.0**42), 2.0**42)),
        made("sigmoid", "1 / (1 + e**-x)", _sigmoid),
        made("tanh", "tanh x", np.tanh),
        made("softplus", "ln(1 + e**x)", _softplus),
        made("mish", "x tanh(softplus(x))", _mish),
        made("silu", "x sigmoid(x)", _silu),
        made("silu_dx", "derivative of silu", _silu_dx),
        made("gelu", "x Phi(x)", _gelu),
        made("gelu_dx", "derivative of gelu", _gelu_dx),
        made("gelu_apprx_tanh", "x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))) / 2", _gelu_tanh),
        made("gelu_apprx_sigmoid", "x sigmoid(1.702 x)", _gelu_sigmoid),
        made("gelu_apprx_sigmoid_dx", "derivative of gelu_apprx_sigmoid", _gelu_sigmoid_dx),
        made("erf", "2/sqrt(pi) integral of exp(-t*t) from 0 to x", erf),
        made("erf_dx", "2/sqrt(pi) exp(-x*x)", _erf_dx),
        made("sin", "sin x; a cubic outside [-pi, pi]", _sin, valid_range=(-math.pi, math.pi)),
        made("arctan", "arctan x", np.arctan, valid_range=(-math.pi / 2, math.pi / 2)),
    ]  # fmt: skip


ACTIVATION: Final[dict[str, ActivationFunction]] = {f.name: f for f in _functions()}

_ALIASES: Final = {
    "identity": "copy", "bypass": "copy", "ln": "log", "absolute": "abs", "fabs": "abs",
    "atan": "arctan", "gelu_tanh": "gelu_apprx_tanh", "gelu_sigmoid": "gelu_apprx_sigmoid",
}  # fmt: skip


def activation(given: object) -> ActivationFunction:
    """The activation function that ``given`` stands for.

    Accepts an ActivationFunction, a name, a NumPy function, or an object whose ``nki_op`` names
    the function. Raises UsageError, listing the functions.
    """
    if isinstance(given, ActivationFunction):
        return given
    label = name_of_operation(given)
    found = ACTIVATION.get(_ALIASES.get(label, label))
    if found is None:
        raise UsageError(
            "not an activation function",
            got=label or repr(given),
            allowed=", ".join(ACTIVATION),
            next_step="name a function of nki.language, such as nl.exp",
        )
    return found
