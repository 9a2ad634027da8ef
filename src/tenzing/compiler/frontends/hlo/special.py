"""CHLO's special functions, by formulas of operations that the chip has."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Reader, hlo
from tenzing.compiler.graph import Op, Value


def polynomial(reader: Reader, x: Value, coefficients: tuple[float, ...]) -> Value:
    """Horner's scheme; the highest power's coefficient comes first."""
    total = reader.splat(coefficients[0], x)
    for number in coefficients[1:]:
        product = reader.add(ops.Multiply(), total, x)
        total = reader.add(ops.Add(), product, reader.splat(number, x))
    return total


# Giles, "Approximating the erfinv function", GPU Computing Gems, 2011: single precision
CENTRAL: Final = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
TAIL: Final = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip
CENTRAL_SHIFT, TAIL_SHIFT, TAIL_BEGINS = 2.5, 3.0, 5.0


@hlo("chlo.erf_inv")
def _erf_inverse(reader: Reader, operation: Operation, x: Value) -> Value:
    dtype = x.dtype
    if dtype.itemsize != np.dtype(np.float32).itemsize:
        x = reader.convert(x, np.dtype(np.float32))
    square = reader.add(ops.Negate(), reader.add(ops.Multiply(), x, x))
    w = reader.add(ops.Negate(), reader.add(ops.LogPlusOne(), square))
    near = polynomial(
        reader, reader.add(ops.Subtract(), w, reader.splat(CENTRAL_SHIFT, w)), CENTRAL
    )
    root = reader.add(ops.Sqrt(), w)
    far = polynomial(reader, reader.add(ops.Subtract(), root, reader.splat(TAIL_SHIFT, w)), TAIL)
    central = reader.add(ops.Compare("lt"), w, reader.splat(TAIL_BEGINS, w))
    scaled = reader.add(ops.Multiply(), reader.add(ops.Select(), central, near, far), x)
    edge = reader.add(ops.Compare("eq"), reader.add(ops.Abs(), x), reader.splat(1.0, x))
    infinite = reader.add(ops.Multiply(), x, reader.splat(math.inf, x))
    return reader.convert(reader.add(ops.Select(), edge, infinite, scaled), dtype)


def _half_of(reader: Reader, sign: Op, x: Value) -> Value:
    """(e^x sign e^-x) / 2."""
    up = reader.add(ops.Exponential(), x)
    down = reader.add(ops.Exponential(), reader.add(ops.Negate(), x))
    return reader.add(ops.Multiply(), reader.add(sign, up, down), reader.splat(0.5, x))


@hlo("chlo.cosh")
def _cosh(reader: Reader, operation: Operation, x: Value) -> Value:
    return _half_of(reader, ops.Add(), x)


@hlo("chlo.sinh")
def _sinh(reader: Reader, operation: Operation, x: Value) -> Value:
    """(m + m / (m + 1)) / 2 with m = e^x - 1, which is accurate near zero."""
    less = reader.add(ops.ExponentialMinusOne(), reader.add(ops.Abs(), x))
    one_more = reader.add(ops.Add(), less, reader.splat(1.0, x))
    total = reader.add(ops.Add(), less, reader.add(ops.Divide(), less, one_more))
    half = reader.add(ops.Multiply(), total, reader.splat(0.5, x))
    return reader.add(ops.Multiply(), reader.add(ops.Sign(), x), half)


def _one_less_square(reader: Reader, x: Value) -> Value:
    one = reader.splat(1.0, x)
    return reader.add(
        ops.Multiply(), reader.add(ops.Subtract(), one, x), reader.add(ops.Add(), one, x)
    )  # fmt: skip


@hlo("chlo.asin", "chlo.acos", "chlo.atan")
def _arc(reader: Reader, operation: Operation, x: Value) -> Value:
    if operation.name == "chlo.atan":
        return reader.add(ops.Atan2(), x, reader.splat(1.0, x))
    other = reader.add(ops.Sqrt(), _one_less_square(reader, x))
    sides = (x, other) if operation.name == "chlo.asin" else (other, x)
    return reader.add(ops.Atan2(), *sides)


@hlo("chlo.asinh")
def _asinh(reader: Reader, operation: Operation, x: Value) -> Value:
    """sign(x) log1p(a + a^2 / (1 + sqrt(a^2 + 1))) with a = |x|."""
    size, one = reader.add(ops.Abs(), x), reader.splat(1.0, x)
    square = reader.add(ops.Multiply(), size, size)
    root = reader.add(ops.Sqrt(), reader.add(ops.Add(), square, one))
    part = reader.add(ops.Divide(), square, reader.add(ops.Add(), one, root))
    size = reader.add(ops.LogPlusOne(), reader.add(ops.Add(), size, part))
    return reader.add(ops.Multiply(), reader.add(ops.Sign(), x), size)


@hlo("chlo.acosh")
def _acosh(reader: Reader, operation: Operation, x: Value) -> Value:
    """log(x + sqrt(x - 1) sqrt(x + 1))."""
    one = reader.splat(1.0, x)
    low = reader.add(ops.Sqrt(), reader.add(ops.Subtract(), x, one))
    high = reader.add(ops.Sqrt(), reader.add(ops.Add(), x, one))
    return reader.add(ops.Log(), reader.add(ops.Add(), x, reader.add(ops.Multiply(), low, high)))


@hlo("chlo.atanh")
def _atanh(reader: Reader, operation: Operation, x: Value) -> Value:
    """(log1p(x) - log1p(-x)) / 2."""
    up = reader.add(ops.LogPlusOne(), x)
    down = reader.add(ops.LogPlusOne(), reader.add(ops.Negate(), x))
    return reader.add(ops.Multiply(), reader.add(ops.Subtract(), up, down), reader.splat(0.5, x))


# Lanczos' approximation with g = 7 and n = 9, coefficients of P. Godfrey, 2001
LANCZOS_G: Final = 7.0
LANCZOS: Final = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7,
)  # fmt: skip


@hlo("chlo.lgamma")
def _lgamma(reader: Reader, operation: Operation, x: Value) -> Value:
    """Lanczos for x >= 0.5, reflection below."""
    half, one = reader.splat(0.5, x), reader.splat(1.0, x)
    low = reader.add(ops.Compare("lt"), x, half)
    opposite, less = reader.add(ops.Negate(), x), reader.add(ops.Subtract(), x, one)
    z = reader.add(ops.Select(), low, opposite, less)
    gamma = _log_gamma(reader, z)
    size = reader.add(ops.Abs(), x)
    part = reader.add(ops.Subtract(), size, reader.add(ops.Floor(), size))
    angle = reader.add(ops.Multiply(), part, reader.splat(math.pi, x))
    sine = reader.add(ops.Log(), reader.add(ops.Abs(), reader.add(ops.Sine(), angle)))
    both = reader.add(ops.Add(), sine, gamma)
    mirrored = reader.add(ops.Subtract(), reader.splat(math.log(math.pi), x), both)
    return reader.add(ops.Select(), low, mirrored, gamma)


def _log_gamma(reader: Reader, z: Value) -> Value:
    """The logarithm of the gamma function at z + 1.

    log(z + g + 1/2) is taken apart so that float32 keeps its digits.
    """
    series = reader.splat(LANCZOS[0], z)
    for number, coefficient in enumerate(LANCZOS[1:], start=1):
        below = reader.add(ops.Add(), z, reader.splat(float(number), z))
        term = reader.add(ops.Divide(), reader.splat(coefficient, z), below)
        series = reader.add(ops.Add(), series, term)
    reach = LANCZOS_G + 0.5
    scaled = reader.add(ops.LogPlusOne(), reader.add(ops.Divide(), z, reader.splat(reach, z)))
    log_t = reader.add(ops.Add(), scaled, reader.splat(math.log(reach), z))
    top = reader.add(ops.Add(), z, reader.splat(reach, z))
    ratio = reader.add(ops.Divide(), top, log_t)
    raised = reader.add(ops.Add(), z, reader.splat(0.5, z))
    gamma = reader.add(ops.Multiply(), reader.add(ops.Subtract(), raised, ratio), log_t)
    gamma = reader.add(ops.Add(), gamma, reader.splat(0.5 * math.log(2 * math.pi), z))
    return reader.add(ops.Add(), gamma, reader.add(ops.Log(), series))


@hlo("chlo.is_inf")
def _is_infinite(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.add(ops.Compare("eq"), reader.add(ops.Abs(), x), reader.splat(math.inf, x))
