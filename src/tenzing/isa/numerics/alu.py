"""The ALU operators that instructions take as ``op``: one object per operator.

Arithmetic, comparison and logical operators compute in float32; a true comparison is 1.0.
Bitvec operators work on integer bits. Names and the split into kinds follow the operator table of
the NKI reference; what an operator does with NaN is not in it, so NumPy's meaning is taken (a NaN
operand gives NaN, every comparison but not_equal with it is false).
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError
from tenzing.isa.numerics.rounding import f32
from tenzing.isa.numerics.wide import Float32, in_float64

Array: TypeAlias = NDArray[Any]
Operation: TypeAlias = Callable[..., Any]

ALL_BITS: Final = 0xFFFFFFFFFFFFFFFF
UNARY: Final = 1
BINARY: Final = 2


class AluOp:
    """One operator; equal only to itself.

    ``kind`` is ``arithmetic``, ``compare``, ``logical`` or ``bitvec``. ``exactness`` is ``exact``
    where IEEE float32 or integer bits fix the result, ``bounded`` where the correctly rounded
    float32 is given and the engine is documented to be near it. ``reduces``: legal for reductions.
    """

    __slots__ = ("_compute", "arity", "commutative", "exactness", "formula", "kind", "name",
                 "reduces")  # fmt: skip

    def __init__(
        self,
        name: str,
        formula: str,
        compute: Operation,
        *,
        arity: int = BINARY,
        kind: str = "arithmetic",
        commutative: bool = False,
        reduces: bool = False,
        exactness: str = "exact",
    ) -> None:
        self.name, self.formula, self._compute = name, formula, compute
        self.arity, self.kind, self.commutative = arity, kind, commutative
        self.reduces, self.exactness = reduces, exactness

    @np.errstate(all="ignore")
    def __call__(self, a: object, b: object = None) -> Array:
        """Apply to typed arrays or Python numbers, broadcasting as NumPy does.

        Returns float32, or the integer dtype of the array operands for a bitvec operator. A unary
        operator ignores ``b``. Raises UsageError for a missing operand or a float one of a bitvec
        operator.
        """
        if self.arity == BINARY and b is None:
            raise UsageError(f"{self.name} needs two operands; one was given")
        if self.kind == "bitvec":
            return self._bits(a, b)
        if self.arity == UNARY:
            return np.asarray(self._compute(f32(a)), np.float32)
        result = self._compute(f32(a), f32(b))
        if self.kind == "arithmetic":
            return np.asarray(result)
        return np.asarray(result).astype(np.float32)

    def integer(self, a: Array, b: Array | int) -> Array:
        """The operator in the 32-bit integer arithmetic of GpSimd, for ``a`` int32 or uint32.

        Sums, differences and products wrap around (assumed); comparisons give 1 and 0.
        """
        compute = _INTEGER.get(self.name)
        if compute is None:
            raise UsageError(
                f"{self.name} has no integer form", allowed=", ".join(sorted(_INTEGER))
            )
        other = _integer_operand(b, a.dtype)
        with np.errstate(all="ignore"):
            return np.asarray(compute(a, other)).astype(a.dtype)

    def _bits(self, a: object, b: object) -> Array:
        kinds = [x.dtype for x in (a, b) if isinstance(x, np.ndarray)]
        if any(kind.kind not in "iub" for kind in kinds):
            raise UsageError(
                f"{self.name} treats its operands as bits and needs integers",
                got=", ".join(str(kind) for kind in kinds),
            )
        kind = kinds[0] if kinds else np.dtype(np.int32)
        first = _integer_operand(a, kind)
        if self.arity == UNARY:
            return np.asarray(self._compute(first))
        return np.asarray(self._compute(first, _integer_operand(b, kind)))

    def __reduce__(self) -> tuple[object, ...]:
        return alu_op, (self.name,)  # a copy or a pickle is the same object again

    def __repr__(self) -> str:
        return f"AluOp({self.name})"


def _integer_operand(value: object, kind: np.dtype[Any]) -> Array:
    """``value`` with the bits it has in ``kind``: numbers and wider arrays keep the low bits."""
    if isinstance(value, np.ndarray):
        return value if value.dtype == kind else value.astype(kind)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, Integral):
        raise UsageError("a bitwise operand must be a whole number", got=value)
    return np.asarray(int(value) & ALL_BITS, np.uint64).astype(kind)


# --- meanings NumPy has no single function for ------------------------------------------------


def _abs_max(x: Float32, y: Float32) -> Array:
    """The operand of larger magnitude with its sign; ``y`` on a tie."""
    picked = np.where(np.abs(x) > np.abs(y), x, y)
    return np.where(np.isnan(x), x, picked)


def _abs_min(x: Float32, y: Float32) -> Array:
    picked = np.where(np.abs(x) < np.abs(y), x, y)
    return np.where(np.isnan(x), x, picked)


def _through_float64(ufunc: np.ufunc) -> Operation:
    def compute(*operands: Float32) -> Float32:
        result = np.empty(np.broadcast_shapes(*(x.shape for x in operands)), np.float32)
        ufunc(*operands, dtype=np.float64, out=result, casting="unsafe")
        return result

    return compute


def _rsqrt(x: Float32) -> Float32:
    return in_float64(lambda wide: 1.0 / np.sqrt(wide), x)


def _relu(x: Float32) -> Float32:
    return np.maximum(x, np.float32(0))


def _bypass(x: Float32) -> Float32:
    return x


def _unsigned(a: Array) -> Array:
    return a.view(f"u{a.itemsize}") if a.dtype.kind == "i" else a


def _left_shift(a: Array, b: Array) -> Array:
    return np.left_shift(_unsigned(a), _unsigned(b)).view(a.dtype)


def _right_shift(a: Array, b: Array) -> Array:
    """Logical: zeros enter from the left whatever the sign."""
    return np.right_shift(_unsigned(a), _unsigned(b)).view(a.dtype)


def _operators() -> list[AluOp]:
    def arithmetic(name: str, formula: str, compute: Operation, **options: Any) -> AluOp:
        return AluOp(name, formula, compute, **options)

    def both(name: str, formula: str, compute: Operation, **options: Any) -> AluOp:
        return AluOp(name, formula, compute, commutative=True, **options)

    def unary(name: str, formula: str, compute: Operation, **options: Any) -> AluOp:
        return AluOp(name, formula, compute, arity=UNARY, **options)

    return [
        both("add", "a + b", np.add, reduces=True),
        arithmetic("subtract", "a - b", np.subtract, reduces=True),
        both("multiply", "a * b", np.multiply, reduces=True),
        arithmetic("divide", "a / b", np.divide, exactness="bounded"),
        both("maximum", "max(a, b)", np.maximum, reduces=True),
        both("minimum", "min(a, b)", np.minimum, reduces=True),
        arithmetic("abs_max", "a if |a| > |b| else b", _abs_max),
        arithmetic("abs_min", "a if |a| < |b| else b", _abs_min),
        arithmetic("power", "a ** b", _through_float64(np.power), exactness="bounded"),
        arithmetic("mod", "a - b floor(a / b)", _through_float64(np.mod), exactness="bounded"),
        arithmetic("fmod", "a - b trunc(a / b)", _through_float64(np.fmod), exactness="bounded"),
        both("average", "(a + b) / 2", _average, reduces=True, exactness="bounded"),
        both("equal", "a == b", np.equal, kind="compare"),
        both("not_equal", "a != b", np.not_equal, kind="compare"),
        arithmetic("greater_equal", "a >= b", np.greater_equal, kind="compare"),
        arithmetic("greater", "a > b", np.greater, kind="compare"),
        arithmetic("less_equal", "a <= b", np.less_equal, kind="compare"),
        arithmetic("less", "a < b", np.less, kind="compare"),
        both("logical_and", "a and b", np.logical_and, kind="logical", reduces=True),
        both("logical_or", "a or b", np.logical_or, kind="logical", reduces=True),
        both("logical_xor", "a xor b", np.logical_xor, kind="logical", reduces=True),
        unary("logical_not", "not a", np.logical_not, kind="logical"),
        both("bitwise_and", "a & b", np.bitwise_and, kind="bitvec", reduces=True),
        both("bitwise_or", "a | b", np.bitwise_or, kind="bitvec", reduces=True),
        both("bitwise_xor", "a ^ b", np.bitwise_xor, kind="bitvec", reduces=True),
        unary("invert", "~a", np.invert, kind="bitvec"),
        arithmetic("left_shift", "a << b", _left_shift, kind="bitvec"),
        arithmetic("right_shift", "a >> b, zeros enter", _right_shift, kind="bitvec"),
        unary("abs", "|a|", np.abs),
        unary("square", "a * a", np.square),
        unary("relu", "max(a, 0)", _relu),
        unary("rsqrt", "1 / sqrt(a)", _rsqrt, exactness="bounded"),
        unary("reciprocal", "1 / a", np.reciprocal, exactness="bounded"),
        unary("bypass", "a", _bypass),
    ]  # fmt: skip


def _average(a: Float32, b: Float32) -> Float32:
    return (a + b) * np.float32(0.5)


ALU: Final[dict[str, AluOp]] = {op.name: op for op in _operators()}

_INTEGER: Final[dict[str, Operation]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum,
    "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal,
    "greater_equal": np.greater_equal, "greater": np.greater, "less_equal": np.less_equal,
    "less": np.less, "logical_and": np.logical_and, "logical_or": np.logical_or,
    "logical_xor": np.logical_xor, "abs_max": _abs_max, "abs_min": _abs_min,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "left_shift": _left_shift, "right_shift": _right_shift,
}  # fmt: skip

_ALIASES: Final = {
    "max": "maximum", "min": "minimum", "amax": "maximum", "amin": "minimum",
    "is_equal": "equal", "absolute": "abs", "fabs": "abs", "true_divide": "divide",
    "mult": "multiply", "sub": "subtract", "mul": "multiply", "truediv": "divide",
    "sum": "add", "prod": "multiply", "mean": "average", "pow": "power", "remainder": "mod",
    "bitwise_not": "invert", "bitwise_invert": "invert", "logical_shift_left": "left_shift",
    "logical_shift_right": "right_shift", "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift", "copy": "bypass", "eq": "equal", "ne": "not_equal",
    "ge": "greater_equal", "gt": "greater", "le": "less_equal", "lt": "less",
}  # fmt: skip

KNOWN_MODULES: Final = ("numpy", "builtins", "operator", "_operator", "math")


def name_of_operation(given: object) -> str:
    """The operator name that a string, a NumPy function, a builtin or an NKI function stands for.

    Empty when ``given`` names none.
    """
    if isinstance(given, str):
        return given.rpartition(".")[2]
    marked = getattr(given, "nki_op", None)
    if isinstance(marked, str):
        return marked
    if isinstance(given, np.ufunc):
        return given.__name__
    module = str(getattr(given, "__module__", None) or "").partition(".")[0]
    if callable(given) and module in KNOWN_MODULES:
        return str(getattr(given, "__name__", ""))
    return ""


def alu_op(given: object) -> AluOp:
    """The operator that ``given`` stands for.

    Accepts an AluOp, a name, a NumPy ufunc or function, ``max``/``min``/``abs``, or an object
    whose ``nki_op`` names the operator. Raises UsageError, listing the operators.
    """
    if isinstance(given, AluOp):
        return given
    label = name_of_operation(given)
    found = ALU.get(_ALIASES.get(label, label))
    if found is None:
        raise UsageError(
            "not an ALU operator",
            got=label or repr(given),
            allowed=", ".join(ALU),
            next_step="name an operator of nki.language, such as nl.add",
        )
    return found
