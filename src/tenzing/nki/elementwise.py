"""Elementwise functions of ``nki.language``: each call is one instruction unless it says more.

Two tiles of equal sizes run on ``tensor_tensor``; a number, or a float32 tile with one element per
partition, on ``tensor_scalar``; functions of one tile on ``activation``. Every function carries
``nki_op``, its name as an operator of an instruction: ``op=nl.add``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from tenzing.errors import KernelError
from tenzing.isa import numerics
from tenzing.isa.operand import DType
from tenzing.machine import active_core
from tenzing.nki.assign import broadcast_view, not_both_psum
from tenzing.nki.tensor import NkiTensor
from tenzing.nki.values import (
    FLOAT32,
    Number,
    as_number,
    emit,
    given_dtype,
    new_tile,
    on_chip,
    promoted,
    returned,
)  # fmt: skip

__tenzing_internal__ = True

Elementwise = Callable[..., Any]

COMPARISONS: Final = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
BINARY: Final[dict[str, str]] = {
    "add": "x + y",
    "subtract": "x - y",
    "multiply": "x * y",
    "divide": "x / y",
    "maximum": "the larger of x and y",
    "minimum": "the smaller of x and y",
    "abs_max": "x where |x| > |y|, else y",
    "abs_min": "x where |x| < |y|, else y",
    "power": "x to the power of y",
    "equal": "1 where x == y, else 0",
    "not_equal": "1 where x != y, else 0",
    "less": "1 where x < y, else 0",
    "less_equal": "1 where x <= y, else 0",
    "greater": "1 where x > y, else 0",
    "greater_equal": "1 where x >= y, else 0",
    "bitwise_and": "bits set in both x and y",
    "bitwise_or": "bits set in x or y",
    "bitwise_xor": "bits set in one of x and y",
    "left_shift": "x shifted left by y bits",
    "right_shift": "x shifted right by y bits, zeros moving in",
    "logical_and": "1 where x and y are not zero, else 0",
    "logical_or": "1 where x or y is not zero, else 0",
    "logical_xor": "1 where one of x and y is not zero, else 0",
    "fmod": "remainder of x / y with the sign of x",
    "mod": "remainder of x / y with the sign of y",
}
ACTIVATIONS: Final[dict[str, str]] = {
    "exp": "e to the power of x",
    "log": "natural logarithm of x",
    "sqrt": "square root of x",
    "rsqrt": "1 / sqrt(x)",
    "tanh": "hyperbolic tangent of x",
    "sigmoid": "1 / (1 + exp(-x))",
    "relu": "x where positive, else 0",
    "gelu": "x times the normal distribution function of x",
    "gelu_apprx_sigmoid": "x * sigmoid(1.702 x)",
    "gelu_apprx_tanh": "gelu by its tanh approximation",
    "gelu_dx": "derivative of gelu",
    "gelu_apprx_sigmoid_dx": "derivative of gelu_apprx_sigmoid",
    "silu": "x * sigmoid(x)",
    "silu_dx": "derivative of silu",
    "softplus": "log(1 + exp(x))",
    "mish": "x * tanh(softplus(x))",
    "erf": "error function of x",
    "erf_dx": "derivative of the error function",
    "arctan": "inverse tangent of x",
    "sign": "-1, 0 or 1 by the sign of x",
    "abs": "absolute value of x",
    "square": "x * x",
}


def binary(name: str, x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """``x <name> y``: which instruction is taken depends on what the operands are."""
    left, right = as_number(x), as_number(y)
    if left is not None and right is not None:
        raise KernelError(f"nl.{name}: both operands are numbers", where=active_core().here(),
                          next_step="compute it in Python")  # fmt: skip
    if right is not None:
        return _with_number(name, on_chip(x, f"nl.{name}"), right, reverse=False, dtype=dtype)
    if left is not None:
        return _with_number(name, on_chip(y, f"nl.{name}"), left, reverse=True, dtype=dtype)
    return _two_tiles(name, on_chip(x, f"nl.{name}"), on_chip(y, f"nl.{name}"), dtype)


def _with_number(
    name: str, tile: NkiTensor, number: Number, *, reverse: bool, dtype: Any
) -> NkiTensor:
    default = tile.dtype
    if isinstance(number, float) and not numerics.is_float(default) and name not in COMPARISONS:
        default = FLOAT32
    out = new_tile(tile.shape, given_dtype(dtype, default))
    return returned("tensor_scalar", out, data=tile, op0=name, operand0=number, reverse0=reverse)


def _two_tiles(name: str, x: NkiTensor, y: NkiTensor, dtype: Any) -> NkiTensor:
    default = x.dtype if name in COMPARISONS else promoted(x.dtype, y.dtype)
    wanted = given_dtype(dtype, default)
    if _per_partition(y) and not _per_partition(x):
        return returned("tensor_scalar", new_tile(x.shape, wanted), data=x, op0=name, operand0=y)
    if _per_partition(x) and not _per_partition(y):
        return returned("tensor_scalar", new_tile(y.shape, wanted), data=y, op0=name, operand0=x,
                        reverse0=True)  # fmt: skip
    shape = _common_shape(name, x, y)
    first = broadcast_view(x, shape)
    second = not_both_psum(first, broadcast_view(y, shape))
    return returned("tensor_tensor", new_tile(shape, wanted), data1=first, data2=second, op=name)


def _per_partition(tile: NkiTensor) -> bool:
    """Whether a tile can be the operand of ``tensor_scalar``: float32, one element per lane."""
    return tile.layout.free == 1 and tile.dtype == FLOAT32


def _common_shape(name: str, x: NkiTensor, y: NkiTensor) -> tuple[int, ...]:
    if x.shape == y.shape or (x.layout.partitions, x.layout.free) == (
        y.layout.partitions, y.layout.free
    ):  # fmt: skip
        return x.shape
    rank = max(x.ndim, y.ndim)
    shapes = [(*t.shape[:1], *(1,) * (rank - t.ndim), *t.shape[1:]) for t in (x, y)]
    if shapes[0][0] == shapes[1][0] and all(
        a == b or 1 in (a, b) for a, b in zip(*shapes, strict=True)
    ):
        return tuple(max(a, b) for a, b in zip(*shapes, strict=True))
    raise KernelError(
        f"nl.{name}: shapes {x.shape} and {y.shape} do not broadcast",
        allowed="equal partitions; free dims equal or 1", where=active_core().here(),
        next_step="repeat partitions with nl.broadcast_to(tile, shape)",
    )  # fmt: skip


def activation(name: str, x: Any, dtype: Any = None) -> NkiTensor:
    """``name(x)`` on the Scalar engine."""
    tile = on_chip(x, f"nl.{name}")
    out = new_tile(tile.shape, given_dtype(dtype, tile.dtype))
    return returned("activation", out, op=name, data=tile)


def copy(x: Any, dtype: Any = None) -> NkiTensor:
    """A copy of a tile, in SBUF."""
    tile = on_chip(x, "nl.copy")
    return returned("tensor_copy", new_tile(tile.shape, given_dtype(dtype, tile.dtype)), src=tile)


def reciprocal(x: Any, dtype: Any = None) -> NkiTensor:
    """``1 / x``, on the Vector engine."""
    tile = on_chip(x, "nl.reciprocal")
    return returned("reciprocal", new_tile(tile.shape, given_dtype(dtype, tile.dtype)), data=tile)


def negative(x: Any, dtype: Any = None) -> NkiTensor:
    """``-x``."""
    tile = on_chip(x, "nl.negative")
    return _with_number("multiply", tile, -1, reverse=False, dtype=dtype)


def invert(x: Any, dtype: Any = None) -> NkiTensor:
    """Every bit of ``x`` flipped: exclusive or with all ones."""
    tile = on_chip(x, "nl.invert")
    return _with_number("bitwise_xor", tile, -1, reverse=False, dtype=dtype)


def logical_not(x: Any, dtype: Any = None) -> NkiTensor:
    """1 where ``x`` is zero, else 0."""
    tile = on_chip(x, "nl.logical_not")
    return _with_number("equal", tile, 0, reverse=False, dtype=dtype)


def sin(x: Any, dtype: Any = None) -> NkiTensor:
    """Sine of ``x``, brought into [-pi, pi] first: the Scalar engine takes nothing else."""
    return _sine(on_chip(x, "nl.sin"), 0.0, dtype)


def cos(x: Any, dtype: Any = None) -> NkiTensor:
    """Cosine of ``x``: the sine a quarter turn later."""
    return _sine(on_chip(x, "nl.cos"), math.pi / 2, dtype)


def _sine(tile: NkiTensor, phase: float, dtype: Any) -> NkiTensor:
    turn = new_tile(tile.shape, FLOAT32)
    emit("tensor_scalar", dst=turn, data=tile, op0="add", operand0=phase + math.pi, op1="mod",
         operand1=2 * math.pi)  # fmt: skip
    emit("tensor_scalar", dst=turn, data=turn, op0="subtract", operand0=math.pi)
    out = new_tile(tile.shape, given_dtype(dtype, tile.dtype))
    return returned("activation", out, op="sin", data=turn)


def tan(x: Any, dtype: Any = None) -> NkiTensor:
    """Tangent of ``x``: sine over cosine."""
    tile = on_chip(x, "nl.tan")
    return binary("divide", sin(tile, FLOAT32), cos(tile, FLOAT32), given_dtype(dtype, tile.dtype))


def trunc(x: Any, dtype: Any = None) -> NkiTensor:
    """``x`` without its fraction: ``x - fmod(x, 1)``."""
    return _less_remainder("fmod", on_chip(x, "nl.trunc"), dtype)


def floor(x: Any, dtype: Any = None) -> NkiTensor:
    """The largest integer not above ``x``: ``x - mod(x, 1)``."""
    return _less_remainder("mod", on_chip(x, "nl.floor"), dtype)


def ceil(x: Any, dtype: Any = None) -> NkiTensor:
    """The smallest integer not below ``x``: ``x + mod(-x, 1)``."""
    tile = on_chip(x, "nl.ceil")
    rest = new_tile(tile.shape, FLOAT32)
    emit("tensor_scalar", dst=rest, data=tile, op0="multiply", operand0=-1.0, op1="mod",
         operand1=1.0)  # fmt: skip
    return binary("add", tile, rest, given_dtype(dtype, tile.dtype))


def _less_remainder(op: str, tile: NkiTensor, dtype: Any) -> NkiTensor:
    rest = new_tile(tile.shape, FLOAT32)
    emit("tensor_scalar", dst=rest, data=tile, op0=op, operand0=1.0)
    return binary("subtract", tile, rest, given_dtype(dtype, tile.dtype))


def where(condition: Any, x: Any, y: Any, dtype: Any = None) -> NkiTensor:
    """``x`` where ``condition`` is not zero, else ``y``: a copy and a predicated copy."""
    test = on_chip(condition, "nl.where")
    default = _select_dtype(x, y)
    out = new_tile(test.shape, given_dtype(dtype, default))
    number = as_number(y)
    if number is not None:
        emit("memset", dst=out, value=number)
    else:
        emit("tensor_copy", dst=out, src=broadcast_view(on_chip(y, "nl.where"), out.shape))
    source = as_number(x)
    chosen: Any = source
    if source is None:
        chosen = broadcast_view(on_chip(x, "nl.where"), out.shape)
        if chosen.dtype != out.dtype:
            chosen = copy(chosen, out.dtype)
    emit("tensor_copy_predicated", dst=out, src=chosen, predicate=_predicate(test))
    return out


def _select_dtype(x: Any, y: Any) -> DType:
    dtypes = [t.dtype for t in (x, y) if isinstance(t, NkiTensor)]
    if not dtypes:
        return FLOAT32
    return promoted(dtypes[0], dtypes[-1])


def _predicate(test: NkiTensor) -> NkiTensor:
    """The condition in a dtype a predicated copy takes."""
    if test.dtype.kind == "u":
        return test
    flags = new_tile(test.shape, numerics.dtype("uint8"))
    emit("tensor_scalar", dst=flags, data=test, op0="not_equal", operand0=0.0)
    return flags


def dropout(x: Any, rate: Any, dtype: Any = None) -> NkiTensor:
    """``x`` with elements set to zero at random, each with probability ``rate``; no rescaling."""
    tile = on_chip(x, "nl.dropout")
    wanted = given_dtype(dtype, tile.dtype)
    number = as_number(rate)
    prob = on_chip(rate, "nl.dropout") if number is None else number
    out = returned("dropout", new_tile(tile.shape, tile.dtype), data=tile, prob=prob)
    return out if wanted == tile.dtype else copy(out, wanted)


# -- the public functions, made from the tables ----------------------------------------------------


def _named(function: Elementwise, name: str, doc: str) -> Elementwise:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    function.nki_op = name  # type: ignore[attr-defined]
    return function


def _binary_function(name: str, meaning: str) -> Elementwise:
    def function(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
        return binary(name, x, y, dtype)

    return _named(function, name, f"Elementwise: {meaning}.")


def _activation_function(name: str, meaning: str) -> Elementwise:
    def function(x: Any, dtype: Any = None) -> NkiTensor:
        return activation(name, x, dtype)

    return _named(function, name, f"Elementwise: {meaning}, on the Scalar engine.")


_COMPOSED: Final[tuple[Elementwise, ...]] = (
    copy, reciprocal, negative, invert, logical_not, sin, cos, tan, trunc, floor, ceil,
)  # fmt: skip
for _function in _COMPOSED:
    _function.nki_op = _function.__name__  # type: ignore[attr-defined]

FUNCTIONS: Final[dict[str, Elementwise]] = {
    **{n: _binary_function(n, m) for n, m in BINARY.items()},
    **{n: _activation_function(n, m) for n, m in ACTIVATIONS.items()},
    **{f.__name__: f for f in _COMPOSED},
    "where": where,
    "dropout": dropout,
}
