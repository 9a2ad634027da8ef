"""ATen operations that act on each element."""

from __future__ import annotations

import math

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.translator import (
    Number,
    Result,
    Rule,
    Translator,
    aten,
    common_dtype,
)
from tenzing.compiler.graph import BOOL, Op, Value, is_float

Operand = Value | Number


def _unary(op: Op) -> Rule:
    def rule(t: Translator, x: Value) -> Result:
        return t.emit(op, t.convert(x, t.result.dtype))

    return rule


def _binary(op: Op) -> Rule:
    def rule(t: Translator, x: Operand, y: Operand) -> Result:
        return combine(t, op, x, y)

    return rule


def combine(t: Translator, op: Op, x: Operand, y: Operand) -> Value:
    """``op`` of two operands brought to the result's type."""
    pair = (t.tensor(operand, t.result.shape, t.result.dtype) for operand in (x, y))
    return t.emit(op, *pair)


def _comparison(direction: str) -> Rule:
    def rule(t: Translator, x: Operand, y: Operand) -> Result:
        dtype = common_dtype(x, y)
        pair = (t.tensor(operand, t.result.shape, dtype) for operand in (x, y))
        return t.emit(ops.Compare(direction), *pair)

    return rule


_UNARY: dict[str, Op] = {
    "neg": ops.Negate(),
    "abs": ops.Abs(),
    "sign": ops.Sign(),
    "floor": ops.Floor(),
    "ceil": ops.Ceil(),
    "round": ops.RoundNearestEven(),
    "exp": ops.Exponential(),
    "expm1": ops.ExponentialMinusOne(),
    "log": ops.Log(),
    "log1p": ops.LogPlusOne(),
    "tanh": ops.Tanh(),
    "sigmoid": ops.Logistic(),
    "sin": ops.Sine(),
    "cos": ops.Cosine(),
    "sqrt": ops.Sqrt(),
    "rsqrt": ops.Rsqrt(),
    "erf": ops.Erf(),
    "relu": ops.Relu(),
    "silu": ops.Silu(),
    "bitwise_not": ops.Not(),
}
_BINARY: dict[str, Op] = {
    "mul": ops.Multiply(),
    "bitwise_and": ops.And(),
    "bitwise_or": ops.Or(),
    "bitwise_xor": ops.Xor(),
    "fmod": ops.Remainder(),
}
for _name, _op in _UNARY.items():
    aten(f"{_name}.default")(_unary(_op))
for _name, _op in _BINARY.items():
    aten(f"{_name}.Tensor", f"{_name}.Scalar")(_binary(_op))
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    aten(f"{_name}.Scalar_Tensor")(_binary(_BINARY[_name]))
for _direction in ("eq", "ne", "lt", "le", "gt", "ge"):
    aten(f"{_direction}.Tensor", f"{_direction}.Scalar")(_comparison(_direction))
aten("_neg_view.default")(_unary(ops.Negate()))
aten("maximum.default")(_binary(ops.Maximum()))
aten("minimum.default")(_binary(ops.Minimum()))
aten("pow.Tensor_Tensor", "pow.Scalar")(_binary(ops.Power()))


@aten("add.Tensor", "add.Scalar")
def _add(t: Translator, x: Operand, y: Operand, alpha: Number = 1) -> Result:
    return combine(t, ops.Add(), x, _scaled(t, y, alpha))


@aten("sub.Tensor", "sub.Scalar")
def _sub(t: Translator, x: Operand, y: Operand, alpha: Number = 1) -> Result:
    return combine(t, ops.Subtract(), x, _scaled(t, y, alpha))


@aten("rsub.Scalar", "rsub.Tensor")
def _rsub(t: Translator, x: Operand, y: Operand, alpha: Number = 1) -> Result:
    return combine(t, ops.Subtract(), y, _scaled(t, x, alpha))


def _scaled(t: Translator, x: Operand, alpha: Number) -> Operand:
    if alpha == 1:
        return x
    if not isinstance(x, Value):
        return x * alpha
    wide = t.convert(x, t.result.dtype)
    return t.emit(ops.Multiply(), wide, t.splat(alpha, wide.type))


@aten("div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode", "true_divide.Tensor")
def _div(t: Translator, x: Operand, y: Operand, rounding_mode: str | None = None) -> Result:
    if rounding_mode is None:
        return combine(t, ops.Divide(), x, y)
    floats = t.result.dtype.kind not in "iu"
    if rounding_mode == "floor":
        if floats:
            return t.emit(ops.Floor(), combine(t, ops.Divide(), x, y))
        return _floor_div(t, x, y)
    quotient = combine(t, ops.Divide(), x, y)
    if not floats:
        return quotient
    return truncated(t, quotient)


def truncated(t: Translator, x: Value) -> Value:
    """x without its fraction."""
    rest = t.emit(ops.Remainder(), x, t.splat(1, x.type))
    return t.emit(ops.Subtract(), x, rest)


@aten("trunc.default", "fix.default")
def _trunc(t: Translator, x: Value) -> Result:
    return truncated(t, x) if is_float(x.dtype) else x


@aten("frac.default")
def _frac(t: Translator, x: Value) -> Result:
    return t.emit(ops.Remainder(), x, t.splat(1, x.type))


@aten("bitwise_left_shift.Tensor", "bitwise_left_shift.Tensor_Scalar", "__lshift__.Scalar")
def _shift_left(t: Translator, x: Operand, y: Operand) -> Result:
    return combine(t, ops.ShiftLeft(), x, y)


@aten("bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar", "__rshift__.Scalar")
def _shift_right(t: Translator, x: Operand, y: Operand) -> Result:
    return combine(t, ops.ShiftRightArithmetic(), x, y)


@aten("prims.fma.default")
def _multiply_add(t: Translator, x: Value, y: Value, z: Value) -> Result:
    return t.emit(ops.Add(), t.emit(ops.Multiply(), x, y), z)


@aten("floor_divide.default", "floor_divide.Scalar")
def _floor_divide(t: Translator, x: Operand, y: Operand) -> Result:
    return _div(t, x, y, "floor")


def _floor_div(t: Translator, x: Operand, y: Operand) -> Value:
    """Integers: the truncated quotient, less one where the remainder moves."""
    _, _, moved = _remainder(t, x, y)
    whole = combine(t, ops.Divide(), x, t.tensor(y, t.result.shape, t.result.dtype))
    return t.emit(ops.Subtract(), whole, t.convert(moved, whole.dtype))


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def floored_remainder(t: Translator, x: Operand, y: Operand) -> Value:
    """Python's %: the truncated remainder, moved by y where the signs differ."""
    rest, right, moved = _remainder(t, x, y)
    return t.emit(ops.Select(), moved, t.emit(ops.Add(), rest, right), rest)


def _remainder(t: Translator, x: Operand, y: Operand) -> tuple[Value, Value, Value]:
    """The truncated remainder, y, and where their signs differ."""
    right = t.tensor(y, t.result.shape, t.result.dtype)
    rest = combine(t, ops.Remainder(), x, right)
    zero = t.splat(0, t.result)
    nonzero = t.emit(ops.Compare("ne"), rest, zero)
    signs = (t.emit(ops.Compare("lt"), value, zero) for value in (rest, right))
    return rest, right, t.emit(ops.And(), t.emit(ops.Xor(), *signs), nonzero)


@aten("pow.Tensor_Scalar")
def _pow(t: Translator, x: Value, exponent: Number) -> Result:
    base = t.convert(x, t.result.dtype)
    if exponent == 2:  # noqa: PLR2004
        return t.emit(ops.Multiply(), base, base)
    if exponent == 0.5:  # noqa: PLR2004
        return t.emit(ops.Sqrt(), base)
    if exponent == -0.5:  # noqa: PLR2004
        return t.emit(ops.Rsqrt(), base)
    return combine(t, ops.Power(), x, exponent)


@aten("square.default")
def _square(t: Translator, x: Value) -> Result:
    return t.emit(ops.Multiply(), x, x)


@aten("reciprocal.default")
def _reciprocal(t: Translator, x: Value) -> Result:
    return combine(t, ops.Divide(), 1.0, x)


@aten("log2.default")
def _log2(t: Translator, x: Value) -> Result:
    natural = t.emit(ops.Log(), t.convert(x, t.result.dtype))
    return combine(t, ops.Multiply(), natural, 1.0 / math.log(2.0))


@aten("exp2.default")
def _exp2(t: Translator, x: Value) -> Result:
    return t.emit(ops.Exponential(), combine(t, ops.Multiply(), x, math.log(2.0)))


@aten("gelu.default")
def _gelu(t: Translator, x: Value, approximate: str = "none") -> Result:
    return t.emit(ops.Gelu(approximate), x)


@aten("leaky_relu.default")
def _leaky_relu(t: Translator, x: Value, negative_slope: Number = 0.01) -> Result:
    positive = t.emit(ops.Compare("gt"), x, t.splat(0, x.type))
    return t.emit(ops.Select(), positive, x, combine(t, ops.Multiply(), x, negative_slope))


@aten("elu.default")
def _elu(
    t: Translator, x: Value, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Result:
    grown = t.emit(ops.ExponentialMinusOne(), combine(t, ops.Multiply(), x, input_scale))
    low = combine(t, ops.Multiply(), grown, alpha * scale)
    positive = t.emit(ops.Compare("gt"), x, t.splat(0, x.type))
    return t.emit(ops.Select(), positive, combine(t, ops.Multiply(), x, scale), low)


@aten("hardsigmoid.default")
def _hardsigmoid(t: Translator, x: Value) -> Result:
    shifted = combine(t, ops.Divide(), combine(t, ops.Add(), x, 3.0), 6.0)
    return t.emit(ops.Clamp(), t.splat(0, x.type), shifted, t.splat(1, x.type))


@aten("hardswish.default")
def _hardswish(t: Translator, x: Value) -> Result:
    gate = _hardsigmoid(t, x)
    return t.emit(ops.Multiply(), x, gate) if isinstance(gate, Value) else None


@aten("softplus.default")
def _softplus(t: Translator, x: Value, beta: Number = 1, threshold: Number = 20) -> Result:
    scaled = x if beta == 1 else combine(t, ops.Multiply(), x, beta)
    soft = t.emit(ops.Softplus(), scaled)
    if beta != 1:
        soft = combine(t, ops.Divide(), soft, beta)
    linear = t.emit(ops.Compare("gt"), scaled, t.splat(threshold, scaled.type))
    return t.emit(ops.Select(), linear, x, soft)


@aten("clamp.default", "hardtanh.default", "clamp.Tensor", "clip.default")
def _clamp(
    t: Translator, x: Value, min: Operand | None = None, max: Operand | None = None
) -> Result:
    value = t.tensor(x, t.result.shape, t.result.dtype)
    if min is not None:
        value = combine(t, ops.Maximum(), value, min)
    if max is not None:
        value = combine(t, ops.Minimum(), value, max)
    return value


@aten("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(t: Translator, x: Value, low: Operand) -> Result:
    return _clamp(t, x, low)


@aten("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(t: Translator, x: Value, high: Operand) -> Result:
    return _clamp(t, x, None, high)


def truth(t: Translator, x: Operand, shape: tuple[int, ...]) -> Value:
    """True where x is not zero."""
    if not isinstance(x, Value) or x.dtype == BOOL:
        return t.tensor(x, shape, BOOL)
    return t.broadcast(t.emit(ops.Compare("ne"), x, t.splat(0, x.type)), shape)


@aten("logical_and.default")
def _logical_and(t: Translator, x: Value, y: Value) -> Result:
    return t.emit(ops.And(), truth(t, x, t.result.shape), truth(t, y, t.result.shape))


@aten("logical_or.default")
def _logical_or(t: Translator, x: Value, y: Value) -> Result:
    return t.emit(ops.Or(), truth(t, x, t.result.shape), truth(t, y, t.result.shape))


@aten("logical_xor.default")
def _logical_xor(t: Translator, x: Value, y: Value) -> Result:
    return t.emit(ops.Xor(), truth(t, x, t.result.shape), truth(t, y, t.result.shape))


@aten("logical_not.default")
def _logical_not(t: Translator, x: Value) -> Result:
    return t.emit(ops.Not(), truth(t, x, t.result.shape))


@aten("fmax.default")
def _fmax(t: Translator, x: Value, y: Value) -> Result:
    return _but_not_nan(t, ops.Maximum(), x, y)


@aten("fmin.default")
def _fmin(t: Translator, x: Value, y: Value) -> Result:
    return _but_not_nan(t, ops.Minimum(), x, y)


def _but_not_nan(t: Translator, op: Op, x: Value, y: Value) -> Value:
    """``op`` of both, or the one that is a number."""
    one, other = (t.tensor(v, t.result.shape, t.result.dtype) for v in (x, y))
    best = t.emit(op, one, other)
    best = t.emit(ops.Select(), t.emit(ops.Compare("ne"), one, one), other, best)
    return t.emit(ops.Select(), t.emit(ops.Compare("ne"), other, other), one, best)


@aten("copysign.Tensor", "copysign.Scalar")
def _copysign(t: Translator, x: Value, y: Operand) -> Result:
    size, sign = t.emit(ops.Abs(), t.convert(x, t.result.dtype)), t.result
    size = t.broadcast(size, sign.shape)
    given = t.tensor(y, sign.shape, sign.dtype)
    below = t.emit(ops.Compare("lt"), given, t.splat(0, sign))
    return t.emit(ops.Select(), below, t.emit(ops.Negate(), size), size)


@aten("signbit.default")
def _signbit(t: Translator, x: Value) -> Result:
    return t.emit(ops.Compare("lt"), x, t.splat(0, x.type))


@aten("hypot.default")
def _hypot(t: Translator, x: Value, y: Value) -> Result:
    squares = (combine(t, ops.Multiply(), v, v) for v in (x, y))
    return t.emit(ops.Sqrt(), t.emit(ops.Add(), *squares))


@aten("erfc.default", "special_erfc.default")
def _erfc(t: Translator, x: Value) -> Result:
    return combine(t, ops.Subtract(), 1.0, t.emit(ops.Erf(), t.convert(x, t.result.dtype)))


@aten("round.decimals")
def _round_decimals(t: Translator, x: Value, decimals: int = 0) -> Result:
    scaled = combine(t, ops.Multiply(), x, 10.0**decimals)
    return combine(t, ops.Multiply(), t.emit(ops.RoundNearestEven(), scaled), 10.0**-decimals)


@aten("isnan.default")
def _isnan(t: Translator, x: Value) -> Result:
    return t.emit(ops.Compare("ne"), x, x)


@aten("isinf.default")
def _isinf(t: Translator, x: Value) -> Result:
    size = t.emit(ops.Abs(), x)
    return t.emit(ops.Compare("eq"), size, t.splat(math.inf, x.type))


@aten("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(t: Translator, condition: Value, x: Operand, y: Operand) -> Result:
    branches = (t.tensor(operand, t.result.shape, t.result.dtype) for operand in (x, y))
    return t.emit(ops.Select(), truth(t, condition, t.result.shape), *branches)


@aten("_to_copy.default", "to.dtype", "type_as.default", "prims.convert_element_type.default")
def _to_copy(t: Translator, x: Value, *_: object, **__: object) -> Result:
    if t.result.dtype == BOOL:
        return truth(t, x, t.result.shape)
    return t.convert(x, t.result.dtype)


@aten(
    "clone.default",
    "contiguous.default",
    "alias.default",
    "detach.default",
    "detach_copy.default",
    "lift_fresh.default",
    "lift_fresh_copy.default",
    "prims.device_put.default",
    "prims.view_of.default",
)
def _same(_: Translator, x: Value, *__: object, **___: object) -> Result:
    return x


def positive_index(t: Translator, index: Value, size: int) -> Value:
    """Indices with negative ones counted from the end."""
    if index.dtype.kind == "u":
        return index
    negative = t.emit(ops.Compare("lt"), index, t.splat(0, index.type))
    moved = t.emit(ops.Add(), index, t.splat(size, index.type))
    return t.emit(ops.Select(), negative, moved, index)


INDEX = np.dtype(np.int64)
