# Derived by tools/stubs.py; `make docs` rewrites it.
"""``nki.language``: the current surface."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final

from tenzing.isa.operand import DType
from tenzing.nki.creation import (
    MemoryRegion,
    empty_like,
    full,
    hbm,
    is_hbm,
    is_on_chip,
    is_psum,
    is_sbuf,
    ndarray,
    ones,
    private_hbm,
    psum,
    rand,
    random_seed,
    sbuf,
    shared_constant,
    shared_hbm,
    shared_identity_matrix,
    tile_size,
    zeros,
    zeros_like,
)
from tenzing.nki.indexing import DynamicSlice
from tenzing.nki.movement import (
    broadcast_to,
    expand_dims,
    gather_flattened,
    load,
    load_transpose2d,
    matmul,
    store,
    transpose,
)
from tenzing.nki.reductions import Axis
from tenzing.nki.tensor import NkiTensor

float32: Final[DType]
tfloat32: Final[DType]
bfloat16: Final[DType]
float16: Final[DType]
float8_e4m3: Final[DType]
float8_e4m3fn: Final[DType]
float8_e5m2: Final[DType]
float8_e8m0fnu: Final[DType]
int8: Final[DType]
int16: Final[DType]
int32: Final[DType]
uint8: Final[DType]
uint16: Final[DType]
uint32: Final[DType]
bool_: Final[DType]
float8_e5m2_x4: Final[DType]
float8_e4m3fn_x4: Final[DType]
float4_e2m1fn_x4: Final[DType]

ds = DynamicSlice
average: Opcode
prelu: Opcode
bypass: Opcode

class Opcode:
    """An operator that is only a name for instructions, with no function of its own."""

    nki_op: str
    def __init__(self, name: str) -> None: ...
    def __repr__(self) -> str: ...

def affine_range(start: int, stop: int | None = None, step: int = 1) -> Iterable[int]:
    """Iterations the compiler may reorder; here they run in order."""

def sequential_range(start: int, stop: int | None = None, step: int = 1) -> Iterable[int]:
    """Iterations that depend on the one before."""

def static_range(start: int, stop: int | None = None, step: int = 1) -> Iterable[int]:
    """Iterations unrolled while the kernel is built."""

def dynamic_range(start: Any, stop: Any = None, step: int = 1) -> Iterable[int]:
    """Iterations counted on the chip; bounds may be registers."""

def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any], None], step: int = 1) -> None:
    """Call ``body_fun(i)`` with a register for each ``i`` from ``lower`` below ``upper``."""

def while_loop(init: Any, body_fun: Callable[[Any], Any]) -> None:
    """``r = body_fun(r)`` for as long as the register ``r`` is not zero."""

def no_reorder() -> AbstractContextManager[None]:
    """A region in program order; every kernel here runs in program order."""

def program_id(axis: int = 0) -> int:
    """Index of the running program along one axis of the launch grid."""

def num_programs(axes: Any = 0) -> int:
    """Programs along an axis of the launch grid; along all of them for None."""

def program_ndim() -> int:
    """Axes of the launch grid; 0 without one."""

def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Write the values of a tensor to standard output; nothing when only time is asked for."""

def add(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x + y."""

def subtract(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x - y."""

def multiply(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x * y."""

def divide(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x / y."""

def maximum(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: the larger of x and y."""

def minimum(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: the smaller of x and y."""

def abs_max(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x where |x| > |y|, else y."""

def abs_min(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x where |x| < |y|, else y."""

def power(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x to the power of y."""

def equal(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x == y, else 0."""

def not_equal(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x != y, else 0."""

def less(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x < y, else 0."""

def less_equal(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x <= y, else 0."""

def greater(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x > y, else 0."""

def greater_equal(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x >= y, else 0."""

def bitwise_and(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: bits set in both x and y."""

def bitwise_or(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: bits set in x or y."""

def bitwise_xor(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: bits set in one of x and y."""

def left_shift(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x shifted left by y bits."""

def right_shift(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x shifted right by y bits, zeros moving in."""

def logical_and(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x and y are not zero, else 0."""

def logical_or(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where x or y is not zero, else 0."""

def logical_xor(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 where one of x and y is not zero, else 0."""

def fmod(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: remainder of x / y with the sign of x."""

def mod(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: remainder of x / y with the sign of y."""

def exp(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: e to the power of x, on the Scalar engine."""

def log(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: natural logarithm of x, on the Scalar engine."""

def sqrt(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: square root of x, on the Scalar engine."""

def rsqrt(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 / sqrt(x), on the Scalar engine."""

def tanh(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: hyperbolic tangent of x, on the Scalar engine."""

def sigmoid(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: 1 / (1 + exp(-x)), on the Scalar engine."""

def relu(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x where positive, else 0, on the Scalar engine."""

def gelu(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x times the normal distribution function of x, on the Scalar engine."""

def gelu_apprx_sigmoid(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x * sigmoid(1.702 x), on the Scalar engine."""

def gelu_apprx_tanh(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: gelu by its tanh approximation, on the Scalar engine."""

def gelu_dx(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: derivative of gelu, on the Scalar engine."""

def gelu_apprx_sigmoid_dx(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: derivative of gelu_apprx_sigmoid, on the Scalar engine."""

def silu(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x * sigmoid(x), on the Scalar engine."""

def silu_dx(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: derivative of silu, on the Scalar engine."""

def softplus(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: log(1 + exp(x)), on the Scalar engine."""

def mish(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x * tanh(softplus(x)), on the Scalar engine."""

def erf(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: error function of x, on the Scalar engine."""

def erf_dx(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: derivative of the error function, on the Scalar engine."""

def arctan(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: inverse tangent of x, on the Scalar engine."""

def sign(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: -1, 0 or 1 by the sign of x, on the Scalar engine."""

def abs(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: absolute value of x, on the Scalar engine."""

def square(x: Any, dtype: Any = None) -> NkiTensor:
    """Elementwise: x * x, on the Scalar engine."""

def copy(x: Any, dtype: Any = None) -> NkiTensor:
    """A copy of a tile, in SBUF."""

def reciprocal(x: Any, dtype: Any = None) -> NkiTensor:
    """``1 / x``, on the Vector engine."""

def negative(x: Any, dtype: Any = None) -> NkiTensor:
    """``-x``."""

def invert(x: Any, dtype: Any = None) -> NkiTensor:
    """Every bit of ``x`` flipped: exclusive or with all ones."""

def logical_not(x: Any, dtype: Any = None) -> NkiTensor:
    """1 where ``x`` is zero, else 0."""

def sin(x: Any, dtype: Any = None) -> NkiTensor:
    """Sine of ``x``, brought into [-pi, pi] first: the Scalar engine takes nothing else."""

def cos(x: Any, dtype: Any = None) -> NkiTensor:
    """Cosine of ``x``: the sine a quarter turn later."""

def tan(x: Any, dtype: Any = None) -> NkiTensor:
    """Tangent of ``x``: sine over cosine."""

def trunc(x: Any, dtype: Any = None) -> NkiTensor:
    """``x`` without its fraction: ``x - fmod(x, 1)``."""

def floor(x: Any, dtype: Any = None) -> NkiTensor:
    """The largest integer not above ``x``: ``x - mod(x, 1)``."""

def ceil(x: Any, dtype: Any = None) -> NkiTensor:
    """The smallest integer not below ``x``: ``x + mod(-x, 1)``."""

def where(condition: Any, x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """``x`` where ``condition`` is not zero, else ``y``: a copy and a predicated copy."""

def dropout(x: Any, rate: Any, dtype: Any = None) -> NkiTensor:
    """``x`` with elements set to zero at random, each with probability ``rate``; no rescaling."""

def sum(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Sum along free dims."""

def max(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Largest element along free dims."""

def min(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Smallest element along free dims."""

def prod(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Product along free dims."""

def all(x: Any, axis: Axis, dtype: Any = None) -> NkiTensor:
    """1 where every element along free dims is not zero, else 0."""

def mean(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Mean along free dims: a float32 sum, then a multiply."""

def var(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Variance (not corrected) along free dims; the reduced dims stay, with size one."""

def softmax(x: Any, axis: Axis = -1, dtype: Any = None) -> NkiTensor:
    """``exp(x - max) / sum(exp(x - max))`` along free dims."""

def rms_norm(
    x: Any,
    w: Any,
    axis: int,
    n: int,
    epsilon: float = 1e-06,
    dtype: Any = None,
    compute_dtype: Any = None,
) -> NkiTensor:
    """``x / sqrt(sum(x * x) / n + epsilon) * w`` along one free dim."""

__all__ = [
    "MemoryRegion",
    "NkiTensor",
    "abs",
    "abs_max",
    "abs_min",
    "add",
    "affine_range",
    "all",
    "arctan",
    "average",
    "bfloat16",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bool_",
    "broadcast_to",
    "bypass",
    "ceil",
    "copy",
    "cos",
    "device_print",
    "divide",
    "dropout",
    "ds",
    "dynamic_range",
    "empty_like",
    "equal",
    "erf",
    "erf_dx",
    "exp",
    "expand_dims",
    "float16",
    "float32",
    "float4_e2m1fn_x4",
    "float8_e4m3",
    "float8_e4m3fn",
    "float8_e4m3fn_x4",
    "float8_e5m2",
    "float8_e5m2_x4",
    "float8_e8m0fnu",
    "floor",
    "fmod",
    "fori_loop",
    "full",
    "gather_flattened",
    "gelu",
    "gelu_apprx_sigmoid",
    "gelu_apprx_sigmoid_dx",
    "gelu_apprx_tanh",
    "gelu_dx",
    "greater",
    "greater_equal",
    "hbm",
    "int16",
    "int32",
    "int8",
    "invert",
    "is_hbm",
    "is_on_chip",
    "is_psum",
    "is_sbuf",
    "left_shift",
    "less",
    "less_equal",
    "load",
    "load_transpose2d",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mish",
    "mod",
    "multiply",
    "ndarray",
    "negative",
    "no_reorder",
    "not_equal",
    "num_programs",
    "ones",
    "power",
    "prelu",
    "private_hbm",
    "prod",
    "program_id",
    "program_ndim",
    "psum",
    "rand",
    "random_seed",
    "reciprocal",
    "relu",
    "right_shift",
    "rms_norm",
    "rsqrt",
    "sbuf",
    "sequential_range",
    "shared_constant",
    "shared_hbm",
    "shared_identity_matrix",
    "sigmoid",
    "sign",
    "silu",
    "silu_dx",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "square",
    "static_range",
    "store",
    "subtract",
    "sum",
    "tan",
    "tanh",
    "tfloat32",
    "tile_size",
    "transpose",
    "trunc",
    "uint16",
    "uint32",
    "uint8",
    "var",
    "where",
    "while_loop",
    "zeros",
    "zeros_like",
]
