"""ATen's circular and hyperbolic functions from those the chip has."""

from __future__ import annotations

import math

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.elementwise import combine
from tenzing.compiler.frontends.aten.translator import Result, Translator, aten
from tenzing.compiler.graph import Value


def _wide(t: Translator, x: Value) -> Value:
    return t.convert(x, t.result.dtype)


def _root_of_rest(t: Translator, x: Value) -> Value:
    """sqrt((1 - x) (1 + x)): the other leg of a right triangle."""
    less, more = (combine(t, op, 1.0, x) for op in (ops.Subtract(), ops.Add()))
    return t.emit(ops.Sqrt(), t.emit(ops.Multiply(), less, more))


@aten("tan.default")
def _tan(t: Translator, x: Value) -> Result:
    wide = _wide(t, x)
    return t.emit(ops.Divide(), t.emit(ops.Sine(), wide), t.emit(ops.Cosine(), wide))


@aten("atan.default")
def _atan(t: Translator, x: Value) -> Result:
    return combine(t, ops.Atan2(), x, 1.0)


@aten("atan2.default")
def _atan2(t: Translator, y: Value, x: Value) -> Result:
    return combine(t, ops.Atan2(), y, x)


@aten("asin.default")
def _asin(t: Translator, x: Value) -> Result:
    wide = _wide(t, x)
    return t.emit(ops.Atan2(), wide, _root_of_rest(t, wide))


@aten("acos.default")
def _acos(t: Translator, x: Value) -> Result:
    wide = _wide(t, x)
    return t.emit(ops.Atan2(), _root_of_rest(t, wide), wide)


@aten("sinh.default")
def _sinh(t: Translator, x: Value) -> Result:
    """(e + e / (e + 1)) / 2 with e = expm1(x), which keeps small numbers."""
    grown = t.emit(ops.ExponentialMinusOne(), _wide(t, x))
    shrunk = t.emit(ops.Divide(), grown, combine(t, ops.Add(), grown, 1.0))
    return combine(t, ops.Multiply(), t.emit(ops.Add(), grown, shrunk), 0.5)


@aten("cosh.default")
def _cosh(t: Translator, x: Value) -> Result:
    wide = _wide(t, x)
    up, down = (t.emit(ops.Exponential(), v) for v in (wide, t.emit(ops.Negate(), wide)))
    return combine(t, ops.Multiply(), t.emit(ops.Add(), up, down), 0.5)


@aten("asinh.default")
def _asinh(t: Translator, x: Value) -> Result:
    """sign(x) log1p(a + a a / (1 + sqrt(1 + a a))) with a = |x|."""
    wide = _wide(t, x)
    size = t.emit(ops.Abs(), wide)
    square = t.emit(ops.Multiply(), size, size)
    root = t.emit(ops.Sqrt(), combine(t, ops.Add(), square, 1.0))
    rest = t.emit(ops.Divide(), square, combine(t, ops.Add(), root, 1.0))
    grown = t.emit(ops.LogPlusOne(), t.emit(ops.Add(), size, rest))
    return t.emit(ops.Multiply(), grown, t.emit(ops.Sign(), wide))


@aten("acosh.default")
def _acosh(t: Translator, x: Value) -> Result:
    wide = _wide(t, x)
    low, high = (combine(t, ops.Add(), wide, n) for n in (-1.0, 1.0))
    root = t.emit(ops.Sqrt(), t.emit(ops.Multiply(), low, high))
    return t.emit(ops.Log(), t.emit(ops.Add(), wide, root))


@aten("atanh.default")
def _atanh(t: Translator, x: Value) -> Result:
    """log1p(2 x / (1 - x)) / 2."""
    wide = _wide(t, x)
    double, rest = combine(t, ops.Multiply(), wide, 2.0), combine(t, ops.Subtract(), 1.0, wide)
    grown = t.emit(ops.LogPlusOne(), t.emit(ops.Divide(), double, rest))
    return combine(t, ops.Multiply(), grown, 0.5)


@aten("log10.default")
def _log10(t: Translator, x: Value) -> Result:
    return combine(t, ops.Multiply(), t.emit(ops.Log(), _wide(t, x)), 1.0 / math.log(10.0))
