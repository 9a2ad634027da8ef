"""Elementwise operations of fused groups as instructions on tiles.

Engines compute in float32.  32-bit integers are added, multiplied and compared on GpSimd, which
keeps every bit; their quotients, remainders and conversions are exact up to 2**24 only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import BOOL, Node, is_float, is_narrow_integer
from tenzing.compiler.lowering.registry import device_dtype, unsupported
from tenzing.compiler.lowering.tiles import Body, Tile, spread, tiles, width_of
from tenzing.compiler.ops.elementwise import narrow, widen
from tenzing.kernels.angles import angle_tile, sine_tile
from tenzing.kernels.functions import exponential_less_one_tile, log_one_plus_tile
from tenzing.kernels.rounding import ceil_tile, floor_tile, round_tile, truncate_tile
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

ACTIVATIONS: Final[Mapping[str, Any]] = {
    "exponential": nl.exp, "log": nl.log, "tanh": nl.tanh, "logistic": nl.sigmoid,
    "sqrt": nl.sqrt, "rsqrt": nl.rsqrt, "erf": nl.erf, "relu": nl.relu, "silu": nl.silu,
    "softplus": nl.softplus, "sign": nl.sign,
}  # fmt: skip
STEPS: Final[Mapping[str, Any]] = {
    "floor": floor_tile, "ceil": ceil_tile, "round_nearest_even": round_tile, "sine": sine_tile,
    "cosine": lambda x, dst: sine_tile(x, dst, cosine=True), "log_plus_one": log_one_plus_tile,
    "exponential_minus_one": exponential_less_one_tile,
}  # fmt: skip
BINARY: Final[Mapping[str, Any]] = {
    "add": nl.add, "subtract": nl.subtract, "multiply": nl.multiply, "divide": nl.divide,
    "maximum": nl.maximum, "minimum": nl.minimum, "power": nl.power, "remainder": nl.fmod,
}  # fmt: skip
LOGICAL: Final[Mapping[str, Any]] = {
    "and": nl.logical_and, "or": nl.logical_or, "xor": nl.logical_xor,
}  # fmt: skip
BITWISE: Final[Mapping[str, Any]] = {
    "and": nl.bitwise_and, "or": nl.bitwise_or, "xor": nl.bitwise_xor,
}  # fmt: skip
COMPARE: Final[Mapping[str, Any]] = {
    "eq": nl.equal, "ne": nl.not_equal, "lt": nl.less, "le": nl.less_equal,
    "gt": nl.greater, "ge": nl.greater_equal,
}  # fmt: skip
GELU: Final[Mapping[str, Any]] = {"none": nl.gelu, "tanh": nl.gelu_apprx_tanh}
EVERY_BIT: Final = ("add", "subtract", "multiply", "maximum", "minimum", "compare")
WORD_BYTES: Final = 4
BYTE_BITS: Final = 8


def combined(body: Body, node: Node, a: Tile, b: Tile, op: Any, dtype: Any = None) -> NkiTensor:
    """``a op b`` in float32, with numbers and single columns repeated."""
    if not isinstance(a, NkiTensor) and not isinstance(b, NkiTensor):
        a = body.filled(a)
    width = width_of((a, b))
    dst = body.fresh(node, width, dtype)
    full_a = a if isinstance(a, NkiTensor) and a.shape[1] == width else None
    full_b = b if isinstance(b, NkiTensor) and b.shape[1] == width else None
    if full_a is not None and full_b is not None:
        nisa.tensor_tensor(dst=dst, data1=full_a, data2=full_b, op=op)
    elif full_a is not None:
        nisa.tensor_scalar(dst=dst, data=full_a, op0=op, operand0=_per_row(b))
    elif full_b is not None:
        nisa.tensor_scalar(dst=dst, data=full_b, op0=op, operand0=_per_row(a), reverse0=True)
    return dst


def _per_row(x: Tile) -> Tile:
    """An operand of tensor_scalar: a number, or a float32 column."""
    if not isinstance(x, NkiTensor) or x.dtype == nl.float32:
        return x
    column = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=column, src=x)
    return column


def whole_numbers(body: Body, node: Node, a: Tile, b: Tile, op: Any) -> NkiTensor:
    """``a op b`` on integer tiles of full width, bit for bit, in the operands' dtype."""
    dtype = device_dtype(node.inputs[0].dtype)
    width = width_of((a, b))
    dst = nl.ndarray((body.rows, width), dtype=dtype, buffer=nl.sbuf)
    left, right = (body.widened(x, width, dtype) for x in (a, b))
    nisa.tensor_tensor(dst=dst, data1=left, data2=right, op=op)
    return dst


def _is_word(node: Node) -> bool:
    """Whether the operands are 32-bit integers."""
    dtype = device_dtype(node.inputs[0].dtype)
    return dtype.kind in "iu" and dtype.itemsize == WORD_BYTES


@tiles(*ACTIVATIONS)
def _activation(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return _activated(body, node, inputs[0], ACTIVATIONS[node.op.name])


def _activated(body: Body, node: Node, x: Tile, op: Any) -> Tile:
    data = x if isinstance(x, NkiTensor) else body.filled(x)
    dst = body.fresh(node, data.shape[1])
    nisa.activation(dst=dst, op=op, data=data)
    return dst


@tiles("gelu")
def _gelu(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return _activated(body, node, inputs[0], GELU[node.attrs["approximate"]])


@tiles(*STEPS)
def _steps(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    x = inputs[0] if isinstance(inputs[0], NkiTensor) else body.filled(inputs[0])
    dst = body.fresh(node, x.shape[1])
    STEPS[node.op.name](x, dst)
    return dst


@tiles(*BINARY)
def _binary(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    name, (a, b) = node.op.name, inputs
    if name in EVERY_BIT and _is_word(node):
        return whole_numbers(body, node, a, b, BINARY[name])
    if name == "power" and is_narrow_integer(node.output.dtype):
        raise unsupported(node, "for integers of 8 or 16 bits, save small constant powers")
    if name == "divide" and not is_float(node.output.dtype):
        return _whole_quotient(body, node, a, b)
    if name == "remainder" and _is_word(node) and device_dtype(node.output.dtype).kind == "u":
        return _rest_of_word(body, node, a, b)
    return combined(body, node, a, b, BINARY[name])


def _rest_of_word(body: Body, node: Node, a: Tile, b: Tile) -> Tile:
    """Byte by byte, as by hand: exact for every word when the divisor is below 2**16."""
    rest: Tile = 0.0
    for shift in range((WORD_BYTES - 1) * BYTE_BITS, -1, -BYTE_BITS):
        moved = whole_numbers(body, node, a, shift, nl.right_shift) if shift else a
        digit = whole_numbers(body, node, moved, (1 << BYTE_BITS) - 1, nl.bitwise_and)
        raised = combined(body, node, rest, float(1 << BYTE_BITS), nl.multiply, nl.float32)
        sum_ = combined(body, node, raised, digit, nl.add, nl.float32)
        rest = combined(body, node, sum_, b, nl.fmod, None if shift == 0 else nl.float32)
    return rest


def _whole_quotient(body: Body, node: Node, a: Tile, b: Tile) -> Tile:
    """Towards zero: the remainder off first, so that the division leaves no fraction."""
    rest = combined(body, node, a, b, nl.fmod, nl.float32)
    whole = combined(body, node, a, rest, nl.subtract, nl.float32)
    return combined(body, node, whole, b, nl.divide)


@tiles("atan2")
def _atan2(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    width = width_of(inputs)
    y, x = (body.widened(tile, width, np.dtype(np.float32)) for tile in inputs)
    dst = body.fresh(node, width)
    angle_tile(y, x, dst)
    return dst


@tiles("shift_left", "shift_right_logical")
def _shift(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return _shifted(body, node, inputs)


def _shifted(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    x, amount = inputs
    op = nl.left_shift if node.op.name == "shift_left" else nl.right_shift
    moved = whole_numbers(body, node, x, amount, op)
    return _zero_beyond_width(body, node, moved, amount)


@tiles("shift_right_arithmetic")
def _shift_with_sign(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    """Negative numbers are inverted before zeros enter, and back."""
    x, amount = inputs
    if device_dtype(node.output.dtype).kind == "u":
        return _shifted(body, node, inputs)
    width = width_of(inputs)
    below = combined(body, node, x, 0.0, nl.less, nl.float32)
    sign = nl.ndarray(below.shape, dtype=device_dtype(node.output.dtype), buffer=nl.sbuf)
    nisa.tensor_scalar(dst=sign, data=below, op0=nl.multiply, operand0=-1.0)
    most = body.widened(amount, width, device_dtype(node.output.dtype))
    held = whole_numbers(body, node, most, _bits(node) - 1, nl.minimum)
    inverted = whole_numbers(body, node, x, sign, nl.bitwise_xor)
    moved = whole_numbers(body, node, inverted, held, nl.right_shift)
    return whole_numbers(body, node, moved, sign, nl.bitwise_xor)


def _bits(node: Node) -> int:
    return int(device_dtype(node.output.dtype).itemsize) * BYTE_BITS


def _zero_beyond_width(body: Body, node: Node, moved: NkiTensor, amount: Tile) -> NkiTensor:
    """Shifts of a word's width or more, which the chip leaves open, give zero."""
    if not isinstance(amount, NkiTensor) and 0 <= amount < _bits(node):
        return moved
    signed = np.dtype(f"i{device_dtype(node.output.dtype).itemsize}")
    kept = combined(body, node, amount, float(_bits(node)), nl.less, signed)
    kept = body.widened(kept, moved.shape[1], signed)
    mask = nl.ndarray(kept.shape, dtype=signed, buffer=nl.sbuf)  # unsigned would hold no -1
    nisa.tensor_scalar(dst=mask, data=kept, op0=nl.multiply, operand0=-1.0)
    return whole_numbers(body, node, moved, mask.view(moved.dtype), nl.bitwise_and)


@tiles("negate")
def _negate(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    if _is_word(node):
        return whole_numbers(body, node, 0, inputs[0], nl.subtract)
    return combined(body, node, inputs[0], -1.0, nl.multiply)


@tiles("abs")
def _abs(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    if not _is_word(node):
        return _activated(body, node, inputs[0], nl.abs)
    opposite = whole_numbers(body, node, 0, inputs[0], nl.subtract)
    return whole_numbers(body, node, inputs[0], opposite, nl.maximum)


@tiles(*LOGICAL)
def _logical(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    name, (a, b) = node.op.name, inputs
    if node.output.dtype == BOOL:
        return combined(body, node, a, b, LOGICAL[name])
    return whole_numbers(body, node, a, b, BITWISE[name])


@tiles("not")
def _not(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    if node.output.dtype == BOOL:
        return combined(body, node, inputs[0], 0.0, nl.equal)
    unsigned = device_dtype(node.output.dtype).kind == "u"
    ones = (1 << _bits(node)) - 1 if unsigned else -1
    return whole_numbers(body, node, inputs[0], ones, nl.bitwise_xor)


@tiles("compare")
def _compare(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    op, (a, b) = COMPARE[node.attrs["direction"]], inputs
    if not _is_word(node):
        return combined(body, node, a, b, op)
    found = whole_numbers(body, node, a, b, op)
    return body.widened(found, found.shape[1], BOOL)


@tiles("select")
def _select(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    chosen, yes, no = inputs
    width = width_of(inputs)
    dst = body.fresh(node, width)
    if isinstance(no, NkiTensor):
        nisa.tensor_copy(dst=dst, src=spread(no, width))
    else:
        nisa.memset(dst=dst, value=no)
    mask = body.widened(chosen, width, BOOL)
    source = body.widened(yes, width, dst.dtype) if isinstance(yes, NkiTensor) else yes
    nisa.tensor_copy_predicated(dst=dst, src=source, predicate=mask)
    return dst


@tiles("clamp")
def _clamp(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    low, x, high = inputs
    join = whole_numbers if _is_word(node) else combined
    return join(body, node, join(body, node, x, low, nl.maximum), high, nl.minimum)


@tiles("convert")
def _convert(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    x = inputs[0]
    target, source = device_dtype(node.output.dtype), device_dtype(node.inputs[0].dtype)
    if not isinstance(x, NkiTensor):
        return _converted_number(x, target)
    if x.dtype == target:
        return x
    if target == BOOL:
        return combined(body, node, x, 0.0, nl.not_equal)
    if is_float(source) and not is_float(target):
        dst = body.fresh(node, x.shape[1])
        truncate_tile(x, dst)
        return dst
    if source.kind in "iu" and target.kind in "iu" and target.itemsize == x.dtype.itemsize:
        return x.view(target)
    if source.kind in "iu" and target.kind in "iu" and target.itemsize < source.itemsize:
        x = _low_bits(body, node, x, target)
    return body.widened(x, x.shape[1], target)


def _converted_number(number: float, target: np.dtype[Any]) -> float:
    if target == BOOL:
        return int(number != 0)
    if is_float(target):
        return float(widen(narrow(np.array(number), target)))
    return math.trunc(number) if math.isfinite(number) else 0


def _low_bits(body: Body, node: Node, x: NkiTensor, target: np.dtype[Any]) -> NkiTensor:
    """The value that the low bits of an integer have in a narrower dtype."""
    bits = target.itemsize * BYTE_BITS
    low = whole_numbers(body, node, x, (1 << bits) - 1, nl.bitwise_and)
    if target.kind == "u":
        return low
    sign = 1 << (bits - 1)
    turned = whole_numbers(body, node, low, sign, nl.bitwise_xor)
    return whole_numbers(body, node, turned, sign, nl.subtract)
