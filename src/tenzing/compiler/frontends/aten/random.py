"""ATen operations that draw random numbers, and dropout.

They have PyTorch's distributions, not its numbers: the state is explicit (``ops.RandomBits``), the
words are those of the chip's generator, and a uniform number has the 24 bits PyTorch's has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.translator import Number, Result, Translator, aten
from tenzing.compiler.graph import BOOL, F32, TensorType, Value

UNIFORM_BITS: Final = 24  # float32 holds so many without rounding
WORD_BITS: Final = 32
DRAWING: Final = frozenset({
    "rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "uniform",
    "normal_functional", "bernoulli", "exponential", "native_dropout", "dropout",
})  # fmt: skip


def draws(target: Any) -> bool:
    """Whether a call of an FX graph may draw random numbers."""
    return str(target).startswith("aten.") and str(target).split(".")[1] in DRAWING


def uniform(t: Translator, shape: Sequence[int]) -> Value:
    """float32 numbers of [0, 1), all multiples of 2**-24 alike."""
    words = t.random_bits(tuple(shape))
    high = t.splat(WORD_BITS - UNIFORM_BITS, words.type)
    number = t.convert(t.emit(ops.ShiftRightLogical(), words, high), F32)
    return t.emit(ops.Multiply(), number, t.splat(2.0**-UNIFORM_BITS, number.type))


def normal(t: Translator, shape: Sequence[int]) -> Value:
    """float32 numbers of the standard normal distribution, by Box and Muller."""
    size = _log_of_rest(t, uniform(t, shape))
    size = t.emit(ops.Sqrt(), t.emit(ops.Multiply(), size, t.splat(-2.0, size.type)))
    turn = uniform(t, shape)
    angle = t.emit(ops.Multiply(), turn, t.splat(2 * math.pi, turn.type))
    return t.emit(ops.Multiply(), size, t.emit(ops.Cosine(), angle))


def _log_of_rest(t: Translator, u: Value) -> Value:
    """log(1 - u), which is finite."""
    return t.emit(ops.Log(), t.emit(ops.Subtract(), t.splat(1.0, u.type), u))


def _result(t: Translator, number: Value, scale: float = 1.0, shift: float = 0.0) -> Value:
    """``number * scale + shift`` in the dtype PyTorch predicts."""
    if scale != 1:
        number = t.emit(ops.Multiply(), number, t.splat(scale, number.type))
    if shift:
        number = t.emit(ops.Add(), number, t.splat(shift, number.type))
    return t.convert(number, t.result.dtype)


@aten("rand.default", "rand_like.default")
def _rand(t: Translator, *_: object, **__: object) -> Result:
    return _result(t, uniform(t, t.result.shape))


@aten("randn.default", "randn_like.default")
def _randn(t: Translator, *_: object, **__: object) -> Result:
    return _result(t, normal(t, t.result.shape))


@aten("uniform.default")
def _uniform(
    t: Translator, x: Value, low: float = 0.0, high: float = 1.0, **_: object
) -> Result:  # fmt: skip
    return _result(t, uniform(t, x.shape), high - low, low)


@aten("normal_functional.default")
def _normal(
    t: Translator, x: Value, mean: float = 0.0, deviation: float = 1.0, **_: object
) -> Result:  # fmt: skip
    return _result(t, normal(t, x.shape), deviation, mean)


@aten("exponential.default")
def _exponential(t: Translator, x: Value, rate: float = 1.0, **_: object) -> Result:
    return _result(t, _log_of_rest(t, uniform(t, x.shape)), -1.0 / rate)


@aten("bernoulli.p", "bernoulli.default")
def _bernoulli(t: Translator, x: Value, probability: float | None = None, **_: object) -> Result:
    u = uniform(t, t.result.shape)
    limit = t.tensor(x if probability is None else probability, u.shape, F32)
    return t.convert(t.emit(ops.Compare("lt"), u, limit), t.result.dtype)


@aten("randint.default", "randint.low", "randint_like.default", "randint_like.low_dtype")
def _randint(t: Translator, *bounds: Any, **_: object) -> Result:
    numbers: list[Number] = [b for b in bounds if isinstance(b, int)]
    low, high = (0, *numbers)[-2:]
    if not 0 < high - low <= 1 << UNIFORM_BITS:
        raise t.unsupported("random integers of more than 24 bits", got=high - low)
    u = uniform(t, t.result.shape)
    whole = t.emit(ops.Floor(), t.emit(ops.Multiply(), u, t.splat(high - low, u.type)))
    number = t.convert(whole, t.result.dtype)
    return t.emit(ops.Add(), number, t.splat(low, number.type)) if low else number


@aten("dropout.default", "native_dropout.default")
def _dropout(t: Translator, x: Value, probability: float, training: bool | None) -> Result:
    native = t.overload.startswith("native")
    if not training or not probability:
        kept = t.splat(1, TensorType(x.shape, BOOL)) if native and 1 in t.used else None
        return (x, kept) if native else x
    u = uniform(t, x.shape)
    kept = t.emit(ops.Compare("lt"), u, t.splat(1 - probability, u.type))
    scale = 1 / (1 - probability) if probability < 1 else 0.0
    larger = t.emit(ops.Multiply(), x, t.splat(scale, x.type))
    result = t.emit(ops.Multiply(), larger, t.convert(kept, x.dtype))
    return (result, kept) if native else result
