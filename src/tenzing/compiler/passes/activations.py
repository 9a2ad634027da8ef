"""Puts activation functions back together where a framework spells them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tenzing.compiler.graph import F32, Graph, GraphBuilder, Node, Op, Value, is_float, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Constant,
    Divide,
    Erf,
    Exponential,
    Gelu,
    Logistic,
    Maximum,
    Multiply,
    Negate,
    Power,
    Relu,
    Reshape,
    Silu,
    Subtract,
    Tanh,
)
from tenzing.compiler.ops.activation import GELU_CUBIC, SQRT_TWO_OVER_PI
from tenzing.compiler.ops.elementwise import SQRT_HALF
from tenzing.compiler.passes.pipeline import Pass

CLOSE: Final = 1e-5  # of a constant in float32
CLOSE_NARROW: Final = 1e-2  # of one that was rounded to a narrow dtype
CUBE: Final = 3


@dataclass(frozen=True)
class RecogniseActivations(Pass):
    """Spelled-out logistic, silu, gelu (by erf or tanh) and relu, which one instruction evaluates.

    What others read of the inside, such as a backward pass, is not computed twice for it.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        shared = {v for v, nodes in graph.users().items() if len(nodes) > 1}.union(graph.outputs)

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not is_float(node.outputs[0].dtype) or len(inputs) != 2:  # noqa: PLR2004 - a pair
                return None
            table: dict[type[Op], Callable[..., tuple[Op, Value] | None]] = {
                Divide: _logistic, Maximum: _relu, Multiply: _product_with_itself,
            }  # fmt: skip
            match = table.get(type(node.op), _nothing)(_Reading(builder, shared), *inputs)
            return None if match is None else builder.emit(match[0], match[1])

        return rewrite(graph, rule)


@dataclass(frozen=True)
class _Reading:
    """What values are made of."""

    builder: GraphBuilder
    shared: set[Value]

    def maker(self, value: Value, kind: type[Op]) -> tuple[Value, ...] | None:
        """The inputs of the node behind a value when it is of this kind."""
        node = self.builder.maker(value)
        return node.inputs if node is not None and isinstance(node.op, kind) else None

    def number(self, value: Value) -> float | None:
        """The number of a splat constant."""
        node = self.builder.maker(value)
        while node is not None and isinstance(node.op, BroadcastInDim | Reshape):
            node = self.builder.maker(node.inputs[0])
        if node is None or not isinstance(node.op, Constant) or not node.op.is_splat:
            return None
        return node.op.number

    def factors(self, value: Value, depth: int = 5) -> tuple[list[Value], float]:
        """A product as factors and one number."""
        number = self.number(value)
        if number is not None:
            return [], number
        node = self.builder.maker(value)
        if node is None or not depth:
            return [value], 1.0
        if isinstance(node.op, Negate):
            found, scale = self.factors(node.inputs[0], depth - 1)
            return found, -scale
        if isinstance(node.op, Multiply):
            left, right = (self.factors(v, depth - 1) for v in node.inputs)
            return left[0] + right[0], left[1] * right[1]
        divisor = self.number(node.inputs[1]) if isinstance(node.op, Divide) else None
        if divisor:
            found, scale = self.factors(node.inputs[0], depth - 1)
            return found, scale / divisor
        power = self.number(node.inputs[1]) if isinstance(node.op, Power) else None
        if power is not None and power.is_integer() and 1 <= power <= CUBE:
            return [node.inputs[0]] * int(power), 1.0
        return [value], 1.0


def _close(value: Value, number: float, wanted: float) -> bool:
    limit = CLOSE if value.dtype.itemsize >= F32.itemsize else CLOSE_NARROW
    return math.isclose(number, wanted, rel_tol=limit)


def _nothing(reading: _Reading, *inputs: Value) -> None:
    return None


def _one_and(reading: _Reading, value: Value) -> Value | None:
    """``y`` when the value is 1 + y."""
    pair = reading.maker(value, Add)
    for one, other in (pair, pair[::-1]) if pair else ():
        if reading.number(one) == 1.0:
            return other
    return None


def _logistic(reading: _Reading, top: Value, bottom: Value) -> tuple[Op, Value] | None:
    """1 / (1 + e to the power -x)."""
    power = _one_and(reading, bottom) if reading.number(top) == 1.0 else None
    inside = reading.maker(power, Exponential) if power is not None else None
    opposite = reading.maker(inside[0], Negate) if inside else None
    return (Logistic(), opposite[0]) if opposite else None


def _relu(reading: _Reading, left: Value, right: Value) -> tuple[Op, Value] | None:
    for value, zero in ((left, right), (right, left)):
        if reading.number(zero) == 0.0:
            return Relu(), value
    return None


def _product_with_itself(reading: _Reading, left: Value, right: Value) -> tuple[Op, Value] | None:
    """x logistic(x), or gelu: x times half of 1 + erf or tanh of what it takes of x."""
    for value, curve in ((left, right), (right, left)):
        inside = reading.maker(curve, Logistic)
        if inside == (value,) and curve not in reading.shared:
            return Silu(), value
    pair = reading.factors(left), reading.factors(right)
    found, scale = pair[0][0] + pair[1][0], pair[0][1] * pair[1][1]
    if len(found) != 2 or not _close(left, scale, 0.5):  # noqa: PLR2004 - x and its bell
        return None
    for x, bell in ((found[0], found[1]), (found[1], found[0])):
        kind = _bell(reading, bell, x)
        if kind:
            return Gelu(kind), x
    return None


def _bell(reading: _Reading, value: Value, x: Value) -> str:
    """How gelu is written when the value is 1 + erf or tanh of what gelu takes of x."""
    curve, sign = _one_and(reading, value), 1.0
    if curve is None:
        pair = reading.maker(value, Subtract)
        if pair is None or reading.number(pair[0]) != 1.0:
            return ""
        curve, sign = pair[1], -1.0
    if curve in reading.shared:
        return ""
    inside = reading.maker(curve, Erf)
    if inside:
        found, scale = reading.factors(inside[0])
        return "none" if found == [x] and _close(x, sign * scale, SQRT_HALF) else ""
    inside = reading.maker(curve, Tanh)
    return "tanh" if inside and sign > 0 and _is_cubic(reading, inside[0], x) else ""


def _is_cubic(reading: _Reading, value: Value, x: Value) -> bool:
    """sqrt(2 / pi) (x + 0.044715 x x x), or sqrt(2 / pi) x (1 + 0.044715 x x)."""
    found, scale = reading.factors(value)
    if not _close(x, scale, SQRT_TWO_OVER_PI):
        return False
    if len(found) == 2 and x in found:  # noqa: PLR2004 - x and what multiplies it
        rest = _one_and(reading, found[1 - found.index(x)])
        return rest is not None and _is_power(reading, rest, x, CUBE - 1)
    pair = reading.maker(found[0], Add) if len(found) == 1 else None
    return pair is not None and any(
        line == x and _is_power(reading, cube, x, CUBE) for line, cube in (pair, pair[::-1])
    )


def _is_power(reading: _Reading, value: Value, x: Value, power: int) -> bool:
    """0.044715 times a power of x."""
    powers, factor = reading.factors(value)
    return powers == [x] * power and _close(x, factor, GELU_CUBIC)
