"""Elementwise operations, comparisons, conversions and constants."""

from __future__ import annotations

from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Reader, hlo
from tenzing.compiler.graph import (
    BF16,
    BOOL,
    F32,
    Op,
    Value,
    is_float,
    is_narrow,
    is_narrow_integer,
)

UNARY: Final[dict[str, Op]] = {
    "abs": ops.Abs(), "ceil": ops.Ceil(), "cosine": ops.Cosine(),
    "exponential": ops.Exponential(), "exponential_minus_one": ops.ExponentialMinusOne(),
    "floor": ops.Floor(), "log": ops.Log(), "log_plus_one": ops.LogPlusOne(),
    "logistic": ops.Logistic(), "negate": ops.Negate(), "not": ops.Not(),
    "round_nearest_even": ops.RoundNearestEven(), "rsqrt": ops.Rsqrt(), "sign": ops.Sign(),
    "sine": ops.Sine(), "sqrt": ops.Sqrt(), "tanh": ops.Tanh(),
}  # fmt: skip
BINARY: Final[dict[str, Op]] = {
    "add": ops.Add(), "and": ops.And(), "atan2": ops.Atan2(), "divide": ops.Divide(),
    "maximum": ops.Maximum(), "minimum": ops.Minimum(), "multiply": ops.Multiply(),
    "or": ops.Or(), "power": ops.Power(), "remainder": ops.Remainder(),
    "shift_left": ops.ShiftLeft(), "shift_right_logical": ops.ShiftRightLogical(),
    "subtract": ops.Subtract(), "xor": ops.Xor(),
}  # fmt: skip
# What arithmetic means for truth values.
LOGICAL: Final[dict[str, Op]] = {
    "add": ops.Or(), "multiply": ops.And(), "maximum": ops.Or(), "minimum": ops.And(),
}  # fmt: skip
# Formats whose rounding a conversion there and back gives: exponent and mantissa bits.
FORMATS: Final = {(8, 7): BF16, (5, 10): np.dtype(np.float16)}
SINGLE: Final = (8, 23)
BYTES: Final = (8, 16)  # how far the sums of bytes are moved
SMEARS: Final = (1, 2, 4, 8, 16)
LARGEST: Final = 0x3F  # covers every count
POPULATION: Final = ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F))


def _unary(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.add(UNARY[operation.name.partition(".")[2]], x)


def _binary(reader: Reader, operation: Operation, x: Value, y: Value) -> Value:
    name = operation.name.partition(".")[2]
    return reader.add((LOGICAL if x.dtype == BOOL else {}).get(name) or BINARY[name], x, y)


hlo(*(f"stablehlo.{name}" for name in UNARY))(_unary)
hlo(*(f"stablehlo.{name}" for name in BINARY))(_binary)


@hlo("stablehlo.shift_right_arithmetic")
def _shift_with_sign(reader: Reader, operation: Operation, x: Value, y: Value) -> Value:
    """The highest bit is a sign here, of unsigned numbers too."""
    signed = ops.BitcastConvert(np.dtype(f"i{x.dtype.itemsize}"))
    if x.dtype == signed.dtype:
        return reader.add(ops.ShiftRightArithmetic(), x, y)
    moved = reader.add(ops.ShiftRightArithmetic(), reader.add(signed, x), reader.add(signed, y))
    return reader.add(ops.BitcastConvert(x.dtype), moved)


@hlo("stablehlo.compare")
def _compare(reader: Reader, operation: Operation, x: Value, y: Value) -> Value:
    direction = operation.word("comparison_direction").lower()
    if x.dtype == BOOL:
        x, y = reader.convert(x, np.int32), reader.convert(y, np.int32)
    return reader.add(ops.Compare(direction), x, y)


@hlo("stablehlo.select")
def _select(reader: Reader, operation: Operation, p: Value, x: Value, y: Value) -> Value:
    if p.shape != x.shape:
        p = reader.broadcast(p, x.shape)
    return reader.add(ops.Select(), p, x, y)


@hlo("stablehlo.clamp")
def _clamp(reader: Reader, operation: Operation, low: Value, x: Value, high: Value) -> Value:
    low, high = (v if v.shape == x.shape else reader.broadcast(v, x.shape) for v in (low, high))
    return reader.add(ops.Clamp(), low, x, high)


@hlo("stablehlo.convert")
def _convert(reader: Reader, operation: Operation, x: Value) -> Value:
    dtype = operation.type.dtype
    if dtype == BOOL and x.dtype != BOOL:
        return reader.add(ops.Compare("ne"), x, reader.splat(0, x))
    if is_float(x.dtype) and is_narrow_integer(dtype):
        limits = np.iinfo(dtype)
        wide = reader.convert(x, F32) if is_narrow(x.dtype) else x
        low, high = (reader.splat(n, wide) for n in (limits.min, limits.max))
        x = reader.add(ops.Clamp(), low, wide, high)  # XLA saturates here
    return reader.convert(x, dtype)


@hlo("stablehlo.bitcast_convert")
def _bitcast(reader: Reader, operation: Operation, x: Value) -> Value:
    if x.dtype.itemsize != operation.type.dtype.itemsize:
        raise reader.unsupported(operation, "between dtypes of different sizes")
    return reader.add(ops.BitcastConvert(operation.type.dtype), x)


@hlo("stablehlo.reduce_precision")
def _reduce_precision(reader: Reader, operation: Operation, x: Value) -> Value:
    bits = operation.integer("exponent_bits"), operation.integer("mantissa_bits")
    if bits == SINGLE and x.dtype == np.float32:
        return x
    if bits not in FORMATS:
        raise reader.unsupported(operation, f"to {bits[0]} exponent and {bits[1]} mantissa bits")
    return reader.convert(reader.convert(x, FORMATS[bits]), x.dtype)


@hlo("stablehlo.optimization_barrier")
def _barrier(reader: Reader, operation: Operation, *operands: Value) -> tuple[Value, ...]:
    return operands


@hlo("mhlo.copy", "sdy.sharding_constraint", "sdy.reshard")
def _same(reader: Reader, operation: Operation, x: Value) -> Value:
    return x


@hlo("stablehlo.is_finite")
def _is_finite(reader: Reader, operation: Operation, x: Value) -> Value:
    size = reader.add(ops.Abs(), x)
    return reader.add(ops.Compare("lt"), size, reader.splat(np.inf, x))


@hlo("stablehlo.cbrt")
def _cbrt(reader: Reader, operation: Operation, x: Value) -> Value:
    root = reader.add(ops.Power(), reader.add(ops.Abs(), x), reader.splat(1 / 3, x))
    return reader.add(ops.Multiply(), reader.add(ops.Sign(), x), root)


@hlo("stablehlo.tan", "chlo.tan")
def _tan(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.add(ops.Divide(), reader.add(ops.Sine(), x), reader.add(ops.Cosine(), x))


@hlo("stablehlo.round_nearest_afz")
def _round_away(reader: Reader, operation: Operation, x: Value) -> Value:
    """Halves go away from zero; x - trunc(x) is exact, so no sum can round up."""
    size = reader.add(ops.Abs(), x)
    whole = reader.add(ops.Floor(), size)
    rest = reader.add(ops.Subtract(), size, whole)
    up = reader.add(ops.Compare("ge"), rest, reader.splat(0.5, x))
    raised = reader.add(ops.Add(), whole, reader.splat(1, x))
    return reader.add(ops.Multiply(), reader.add(ops.Sign(), x),
                      reader.add(ops.Select(), up, raised, whole))  # fmt: skip


@hlo("stablehlo.count_leading_zeros")
def _leading_zeros(reader: Reader, operation: Operation, x: Value) -> Value:
    """Every bit below the highest one is set; what is not set then leads."""
    for places in SMEARS:
        moved = reader.add(ops.ShiftRightLogical(), x, reader.splat(places, x))
        x = reader.add(ops.Or(), x, moved)
    return _set_bits(reader, operation, reader.add(ops.Not(), x))


@hlo("stablehlo.popcnt")
def _popcnt(reader: Reader, operation: Operation, x: Value) -> Value:
    return _set_bits(reader, operation, x)


def _set_bits(reader: Reader, operation: Operation, x: Value) -> Value:
    """Sums of neighbouring bits, pairs, nibbles; then of the bytes."""
    if x.dtype.itemsize != np.dtype(np.int32).itemsize:
        raise reader.unsupported(operation, f"of {x.dtype.name}")

    def shifted(value: Value, places: int) -> Value:
        return reader.add(ops.ShiftRightLogical(), value, reader.splat(places, x))

    for places, mask in POPULATION:
        kept = reader.add(ops.Constant.of(np.full(x.shape, mask, x.dtype)))
        low = reader.add(ops.And(), x, kept)
        high = reader.add(ops.And(), shifted(x, places), kept)
        x = reader.add(ops.Add(), low, high)
    for places in BYTES:
        x = reader.add(ops.Add(), x, shifted(x, places))
    return reader.add(ops.And(), x, reader.splat(LARGEST, x))


@hlo("chlo.erf")
def _erf(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.add(ops.Erf(), x)


@hlo("chlo.erfc")
def _erfc(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.add(ops.Subtract(), reader.splat(1, x), reader.add(ops.Erf(), x))


@hlo("chlo.square")
def _square(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.add(ops.Multiply(), x, x)
