"""ONNX operations that act on each element."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.elementwise import floored_remainder, truth
from tenzing.compiler.frontends.onnx_ops.translator import Item, Rule, Translator, onnx
from tenzing.compiler.graph import BOOL, Op, TensorType, Value, is_float

SQUARE, HALF = 2.0, 0.5


def _unary(op: Op) -> Rule:
    def rule(t: Translator, x: Value, **_: Any) -> Item:
        return t.emit(op, x)

    return rule


def _binary(op: Op) -> Rule:
    def rule(t: Translator, x: Value, y: Value) -> Item:
        return t.apply(op, x, y)

    return rule


def _old_binary(op: Op) -> Rule:
    """Before version 7 the second operand stretched only when asked, from ``axis`` on."""

    def rule(t: Translator, x: Value, y: Value, *, axis: int | None = None, broadcast: int = 0,
             consumed_inputs: object = None) -> Item:  # fmt: skip
        if broadcast and axis is not None:
            tail = len(x.shape) - t.axis(axis, len(x.shape)) - len(y.shape)
            y = t.reshape(y, (*y.shape, *(1 for _ in range(tail))))
        return t.apply(op, x, y)

    return rule


_UNARY: dict[str, Op] = {
    "Neg": ops.Negate(), "Abs": ops.Abs(), "Sign": ops.Sign(), "Exp": ops.Exponential(),
    "Log": ops.Log(), "Sqrt": ops.Sqrt(), "Tanh": ops.Tanh(), "Sigmoid": ops.Logistic(),
    "Sin": ops.Sine(), "Cos": ops.Cosine(), "Erf": ops.Erf(), "Not": ops.Not(),
    "BitwiseNot": ops.Not(), "Relu": ops.Relu(),
}  # fmt: skip
_BINARY: dict[str, Op] = {
    "Add": ops.Add(), "Sub": ops.Subtract(), "Mul": ops.Multiply(), "Div": ops.Divide(),
    "And": ops.And(), "Or": ops.Or(), "Xor": ops.Xor(), "BitwiseAnd": ops.And(),
    "BitwiseOr": ops.Or(), "BitwiseXor": ops.Xor(), "Equal": ops.Compare("eq"),
    "Less": ops.Compare("lt"), "Greater": ops.Compare("gt"), "LessOrEqual": ops.Compare("le"),
    "GreaterOrEqual": ops.Compare("ge"),
}  # fmt: skip
_TRIGONOMETRY = ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")
for _name, _op in _UNARY.items():
    onnx(_name)(_unary(_op))
for _name, _op in _BINARY.items():
    onnx(_name)(_old_binary(_op))
    onnx(_name, since=7)(_binary(_op))


def _from_aten(overload: str) -> Rule:
    def rule(t: Translator, x: Value) -> Item:
        return t.aten(overload, x.type, x)

    return rule


for _name in _TRIGONOMETRY:
    onnx(_name)(_from_aten(f"{_name.lower()}.default"))


@onnx("Floor", "Ceil", "Round")
def _rounded(t: Translator, x: Value, **_: Any) -> Item:
    op = t.kind
    chosen: dict[str, Op] = {"Floor": ops.Floor(), "Ceil": ops.Ceil()}
    return t.emit(chosen.get(op, ops.RoundNearestEven()), x)


@onnx("Reciprocal")
def _reciprocal(t: Translator, x: Value, **_: Any) -> Item:
    return t.apply(ops.Divide(), 1.0, x)


@onnx("Max", "Min", "Sum", "Mean")
def _of_many(t: Translator, *values: Value, **_: Any) -> Item:
    name = t.kind
    op: Op = {"Max": ops.Maximum(), "Min": ops.Minimum()}.get(name, ops.Add())
    total, *rest = t.together(*values)
    for value in rest:
        total = t.emit(op, total, value)
    return t.apply(ops.Multiply(), total, 1.0 / len(values)) if name == "Mean" else total


@onnx("Pow")
def _pow(t: Translator, x: Value, y: Value, **_: Any) -> Item:
    power = t.known(y)
    exponent = float(power.reshape(-1)[0]) if power is not None and power.size == 1 else None
    stretches = len(y.shape) > len(x.shape)
    if exponent == SQUARE and not stretches:
        return t.emit(ops.Multiply(), x, x)
    if abs(exponent or 0) == HALF and is_float(x.dtype) and not stretches:
        return t.emit(ops.Sqrt() if exponent == HALF else ops.Rsqrt(), x)
    if is_float(y.dtype) and not is_float(x.dtype):
        wide = t.apply(ops.Power(), t.convert(x, y.dtype), y)
        return t.convert(wide, x.dtype)
    return t.apply(ops.Power(), x, t.convert(y, x.dtype))


@onnx("Mod")
def _mod(t: Translator, x: Value, y: Value, *, fmod: int = 0) -> Item:
    one, other = t.together(x, y)
    if fmod or one.dtype.kind == "u":
        return t.emit(ops.Remainder(), one, other)
    t.result = one.type
    return floored_remainder(t, one, other)


@onnx("BitShift")
def _bit_shift(t: Translator, x: Value, y: Value, *, direction: str) -> Item:
    right: Op = ops.ShiftRightArithmetic() if x.dtype.kind == "i" else ops.ShiftRightLogical()
    op = ops.ShiftLeft() if direction == "LEFT" else right
    return t.apply(op, x, y)


@onnx("IsNaN")
def _is_nan(t: Translator, x: Value) -> Item:
    return t.emit(ops.Compare("ne"), x, x)


@onnx("IsInf")
def _is_inf(t: Translator, x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Item:
    if detect_negative and detect_positive:
        return t.apply(ops.Compare("eq"), t.emit(ops.Abs(), x), math.inf)
    if not detect_negative and not detect_positive:
        return t.splat(False, TensorType(x.shape, BOOL))
    return t.apply(ops.Compare("eq"), x, math.inf if detect_positive else -math.inf)


@onnx("Where")
def _where(t: Translator, condition: Value, x: Value, y: Value) -> Item:
    return t.emit(ops.Select(), *t.together(condition, x, y))


@onnx("Clip", since=6)
def _clip_numbers(
    t: Translator, x: Value, *, min: float | None = None, max: float | None = None
) -> Item:
    bounds = (None if b is None else t.splat(b, x.type.with_shape(())) for b in (min, max))
    return _clip(t, x, *bounds)


@onnx("Clip", since=11)
def _clip(t: Translator, x: Value, low: Value | None = None, high: Value | None = None) -> Item:
    if low is not None:
        x = t.emit(ops.Maximum(), x, t.broadcast(t.reshape(low, ()), x.shape))
    if high is not None:
        x = t.emit(ops.Minimum(), x, t.broadcast(t.reshape(high, ()), x.shape))
    return x


@onnx("Cast", since=6)
def _cast(t: Translator, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Item:
    return converted(t, x, t.dtype(to), bool(saturate))


@onnx("CastLike")
def _cast_like(
    t: Translator, x: Value, like: Value, *, saturate: int = 1, round_mode: str = "up"
) -> Item:
    return converted(t, x, like.dtype, bool(saturate))


def converted(t: Translator, x: Value, dtype: np.dtype[Any], saturate: bool = True) -> Value:
    """The same numbers in another dtype; 8-bit floats hold at their largest number."""
    if dtype == BOOL:
        return truth(t, x, x.shape)
    tiny = is_float(dtype) and dtype.itemsize == 1
    if tiny and saturate and x.dtype != dtype and is_float(x.dtype):
        edge = float(ml_dtypes.finfo(dtype).max)
        x = t.apply(ops.Clamp(), -edge, x, edge)
    return t.convert(x, dtype)


@onnx("Identity", "Dropout")
def _identity(
    t: Translator, x: Item, ratio: Value | None = None, training: Value | None = None, **_: Any
) -> Item:
    mode = t.known(training)
    if training is not None and (mode is None or mode.any()):
        raise t.unsupported("dropout is active", next_step="export the model for inference")
    if t.outputs == 1 or not isinstance(x, Value):
        return (x,) if isinstance(x, tuple) else x
    return x, t.splat(True, x.type.with_dtype(BOOL))


@onnx("BitCast")
def _bit_cast(t: Translator, x: Value, *, to: int) -> Item:
    dtype = t.dtype(to)
    if x.dtype.itemsize == np.dtype(np.int64).itemsize:
        raise t.unsupported("the bits of 64-bit numbers, of which the chip holds 32", got=x.type)
    return t.emit(ops.BitcastConvert(dtype), x)
