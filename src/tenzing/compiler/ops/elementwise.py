"""Elementwise operations: StableHLO's names, equal shapes, no implicit broadcasting."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from tenzing.compiler.graph import (
    BOOL,
    F32,
    TF32,
    Array,
    GraphError,
    Op,
    TensorType,
    Work,
    dtype_name,
    is_float,
    is_narrow,
)
from tenzing.isa import numerics

SQRT_HALF: Final = float(np.sqrt(0.5))


def widen(array: Array) -> Array:
    """The array in the precision engines compute in: float32 for narrow floats."""
    return array.astype(F32) if is_narrow(array.dtype) else array


def narrow(array: Array, dtype: np.dtype[Any]) -> Array:
    """Round to ``dtype``, to nearest even, without warnings for overflow."""
    array = np.asarray(array)
    if dtype == TF32 != array.dtype:
        rounded = np.empty(array.shape, TF32)
        numerics.store(rounded, array)
        return rounded
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype, copy=False)


def same_types(op: str, inputs: Sequence[TensorType]) -> TensorType:
    """The common type of all inputs, or a GraphError."""
    if any(t != inputs[0] for t in inputs):
        raise GraphError(
            f"{op} needs inputs of one type", got=", ".join(map(str, inputs)), allowed=inputs[0]
        )
    return inputs[0]


def expect_count(op: str, inputs: Sequence[TensorType], *allowed: int) -> None:
    """Raise GraphError unless the number of inputs is allowed."""
    if len(inputs) not in allowed:
        numbers = " or ".join(map(str, allowed))
        raise GraphError(f"{op} has a wrong number of inputs", got=len(inputs), allowed=numbers)


class Elementwise(Op):
    """Base of operations that act on each element alone."""

    elementwise = True
    arity: ClassVar[int]
    domain: ClassVar[str] = "any"  # "any", "float", "integer" or "number"
    transcendental: ClassVar[bool] = False

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The common input type."""
        expect_count(self.name, inputs, self.arity)
        common = same_types(self.name, inputs)
        if not _in_domain(common.dtype, self.domain):
            raise GraphError(
                f"{self.name} does not take this dtype",
                got=dtype_name(common.dtype),
                allowed=self.domain,
            )
        return (common,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Computed in float32 (transcendentals in float64), rounded once."""
        dtype = inputs[0].dtype
        wide = [widen(array) for array in inputs]
        if self.transcendental:
            wide = [array.astype(np.float64) for array in wide]
        with np.errstate(all="ignore"):
            return (narrow(self.compute(*wide), dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One operation per element."""
        count = outputs[0].elements
        return Work(transcendentals=count) if self.transcendental else Work(vector_ops=count)

    @abstractmethod
    def compute(self, *inputs: Array) -> Array:
        """The operation on arrays of working precision."""


def _in_domain(dtype: np.dtype[Any], domain: str) -> bool:
    if domain == "float":
        return is_float(dtype)
    if domain == "integer":
        return dtype.kind in "iub"
    return domain == "any" or dtype != BOOL


class Unary(Elementwise):
    """Base of operations on one tensor."""

    arity = 1


class Binary(Elementwise):
    """Base of operations on two tensors of one type."""

    arity = 2


@dataclass(frozen=True)
class Negate(Unary, name="negate"):
    """-x."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.negative(inputs[0])


@dataclass(frozen=True)
class Abs(Unary, name="abs"):
    """|x|."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.abs(inputs[0])


@dataclass(frozen=True)
class Sign(Unary, name="sign"):
    """-1, 0 or 1; NaN stays NaN."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.sign(inputs[0])


@dataclass(frozen=True)
class Floor(Unary, name="floor"):
    """Round towards minus infinity."""

    domain = "float"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.floor(inputs[0])


@dataclass(frozen=True)
class Ceil(Unary, name="ceil"):
    """Round towards plus infinity."""

    domain = "float"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.ceil(inputs[0])


@dataclass(frozen=True)
class RoundNearestEven(Unary, name="round_nearest_even"):
    """Round to the nearest integer, ties to even."""

    domain = "float"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.rint(inputs[0])


@dataclass(frozen=True)
class Not(Unary, name="not"):
    """Logical not of booleans, bitwise not of integers."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.invert(inputs[0])


@dataclass(frozen=True)
class Exponential(Unary, name="exponential"):
    """e to the power x."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.exp(inputs[0])


@dataclass(frozen=True)
class ExponentialMinusOne(Unary, name="exponential_minus_one"):
    """e to the power x, less one, accurate near zero."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.expm1(inputs[0])


@dataclass(frozen=True)
class Log(Unary, name="log"):
    """Natural logarithm."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.log(inputs[0])


@dataclass(frozen=True)
class LogPlusOne(Unary, name="log_plus_one"):
    """Natural logarithm of 1 + x, accurate near zero."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.log1p(inputs[0])


@dataclass(frozen=True)
class Tanh(Unary, name="tanh"):
    """Hyperbolic tangent."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.tanh(inputs[0])


@dataclass(frozen=True)
class Logistic(Unary, name="logistic"):
    """1 / (1 + e to the power -x)."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return 1.0 / (1.0 + np.exp(-inputs[0]))


@dataclass(frozen=True)
class Sine(Unary, name="sine"):
    """Sine of radians."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.sin(inputs[0])


@dataclass(frozen=True)
class Cosine(Unary, name="cosine"):
    """Cosine of radians."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.cos(inputs[0])


@dataclass(frozen=True)
class Sqrt(Unary, name="sqrt"):
    """Square root."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.sqrt(inputs[0])


@dataclass(frozen=True)
class Rsqrt(Unary, name="rsqrt"):
    """One over the square root."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return 1.0 / np.sqrt(inputs[0])


@dataclass(frozen=True)
class Add(Binary, name="add"):
    """x + y; logical or for booleans, as in StableHLO."""

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.add(inputs[0], inputs[1])


@dataclass(frozen=True)
class Subtract(Binary, name="subtract"):
    """x - y."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.subtract(inputs[0], inputs[1])


@dataclass(frozen=True)
class Multiply(Binary, name="multiply"):
    """x * y; logical and for booleans, as in StableHLO."""

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.multiply(inputs[0], inputs[1])


@dataclass(frozen=True)
class Divide(Binary, name="divide"):
    """x / y; for integers rounded towards zero, and -1 for division by zero."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        left, right = inputs
        if is_float(left.dtype):
            return np.divide(left, right)
        safe = np.where(right == 0, np.ones_like(right), right)
        quotient = (left - np.fmod(left, safe)) // safe
        minus_one = np.array(-1).astype(left.dtype)
        return np.where(right == 0, minus_one, quotient)


@dataclass(frozen=True)
class Remainder(Binary, name="remainder"):
    """x less y times x / y rounded towards zero: the sign of x; integer x for y = 0."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        left, right = inputs
        if is_float(left.dtype):
            return np.fmod(left, right)
        safe = np.where(right == 0, np.ones_like(right), right)
        return np.where(right == 0, left, np.fmod(left, safe))


@dataclass(frozen=True)
class Maximum(Binary, name="maximum"):
    """The larger of x and y; NaN when either is NaN; logical or for booleans."""

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.maximum(inputs[0], inputs[1])


@dataclass(frozen=True)
class Minimum(Binary, name="minimum"):
    """The smaller of x and y; NaN when either is NaN; logical and for booleans."""

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.minimum(inputs[0], inputs[1])


@dataclass(frozen=True)
class Power(Binary, name="power"):
    """x to the power y."""

    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        left, right = inputs
        if is_float(left.dtype):
            return np.power(left.astype(np.float64), right.astype(np.float64))
        negative = right < 0
        power = np.power(left, np.where(negative, np.zeros_like(right), right))
        unit = np.abs(left) == 1
        odd_sign = np.where(right % 2 == 0, np.abs(left), left)
        return np.where(negative, np.where(unit, odd_sign, 0), power)


@dataclass(frozen=True)
class Atan2(Binary, name="atan2"):
    """The angle of the point (y, x), between minus and plus half a turn; inputs are (y, x)."""

    domain = "float"
    transcendental = True

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.arctan2(inputs[0], inputs[1])


@dataclass(frozen=True)
class And(Binary, name="and"):
    """Logical and of booleans, bitwise and of integers."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.bitwise_and(inputs[0], inputs[1])


@dataclass(frozen=True)
class Or(Binary, name="or"):
    """Logical or of booleans, bitwise or of integers."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.bitwise_or(inputs[0], inputs[1])


@dataclass(frozen=True)
class Xor(Binary, name="xor"):
    """Logical exclusive or of booleans, bitwise of integers."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.bitwise_xor(inputs[0], inputs[1])


_COMPARE: Final[Mapping[str, Callable[[Array, Array], Array]]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


@dataclass(frozen=True)
class Compare(Binary, name="compare"):
    """x <direction> y as a boolean; direction is eq, ne, lt, le, gt or ge."""

    direction: str

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Booleans of the common shape."""
        if self.direction not in _COMPARE:
            raise GraphError("compare direction", got=self.direction, allowed=", ".join(_COMPARE))
        (common,) = super().infer(*inputs)
        return (common.with_dtype(BOOL),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (self.compute(*(widen(array) for array in inputs)),)

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return _COMPARE[self.direction](inputs[0], inputs[1])


@dataclass(frozen=True)
class Select(Elementwise, name="select"):
    """``on_true`` where the boolean predicate holds, else ``on_false``."""

    arity = 3

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The common type of the two branches."""
        expect_count(self.name, inputs, self.arity)
        predicate, on_true, on_false = inputs
        common = same_types(self.name, (on_true, on_false))
        if predicate != common.with_dtype(BOOL):
            raise GraphError("select predicate", got=predicate, allowed=common.with_dtype(BOOL))
        return (common,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (self.compute(*inputs),)

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return np.where(inputs[0], inputs[1], inputs[2])


@dataclass(frozen=True)
class Clamp(Elementwise, name="clamp"):
    """x held between ``low`` and ``high``: inputs are (low, x, high)."""

    arity = 3
    domain = "number"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        low, operand, high = inputs
        return np.minimum(np.maximum(operand, low), high)


@dataclass(frozen=True)
class Convert(Unary, name="convert"):
    """The same numbers in another dtype: round to nearest even, floats to integers truncate."""

    dtype: np.dtype[Any]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's shape with the new dtype."""
        expect_count(self.name, inputs, 1)
        return (inputs[0].with_dtype(self.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Rounded once."""
        return (narrow(inputs[0], self.dtype),)

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return narrow(inputs[0], self.dtype)
