"""The body of a fused group on SBUF tiles: one instruction, or a few, per operation.

A body value is a tile ``[rows, columns]`` or ``[rows, 1]`` (one column stands for all), or a
Python number that is the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Graph, Node, Value, is_float
from tenzing.compiler.lowering.registry import device_dtype, unsupported
from tenzing.kernels.rows import normalise_rows, softmax_rows
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

Tile = NkiTensor | float

UNARY: Final[Mapping[str, Any]] = {
    "exponential": nl.exp, "log": nl.log, "tanh": nl.tanh, "logistic": nl.sigmoid,
    "sine": nl.sin, "sqrt": nl.sqrt, "rsqrt": nl.rsqrt, "erf": nl.erf, "relu": nl.relu,
    "silu": nl.silu, "softplus": nl.softplus, "sign": nl.sign, "abs": nl.abs,
}  # fmt: skip
BINARY: Final[Mapping[str, Any]] = {
    "add": nl.add, "subtract": nl.subtract, "multiply": nl.multiply, "divide": nl.divide,
    "maximum": nl.maximum, "minimum": nl.minimum, "power": nl.power,
}  # fmt: skip
LOGICAL: Final[Mapping[str, Any]] = {
    "and": nl.logical_and, "or": nl.logical_or, "xor": nl.logical_xor,
}  # fmt: skip
COMPARE: Final[Mapping[str, Any]] = {
    "eq": nl.equal, "ne": nl.not_equal, "lt": nl.less, "le": nl.less_equal,
    "gt": nl.greater, "ge": nl.greater_equal,
}  # fmt: skip
REDUCE: Final[Mapping[str, Any]] = {
    "add": nl.add, "maximum": nl.maximum, "minimum": nl.minimum,
}  # fmt: skip
SAME_TILE: Final = ("reshape", "broadcast_in_dim")
GELU: Final[Mapping[str, Any]] = {"none": nl.gelu, "tanh": nl.gelu_apprx_tanh}


class Body:
    """Evaluates a fused body on one block of rows."""

    def __init__(self, body: Graph, rows: int, columns: int) -> None:
        self.body, self.rows, self.columns = body, rows, columns
        self.values: dict[Value, Tile] = {}
        users = body.users()
        returned = set(body.outputs)
        # a value that is only converted is written in the final dtype at once
        self.written_as = {
            value: users[value][0].outputs[0].dtype
            for node in body.nodes
            for value in node.outputs
            if value not in returned
            and len(users.get(value, ())) == 1
            and users[value][0].op.name == "convert"
            and is_float(value.dtype)
            and is_float(users[value][0].outputs[0].dtype)
        }

    def run(self, inputs: Mapping[Value, Tile]) -> list[Tile]:
        """Tiles of the outputs for tiles of the inputs."""
        self.values.update(inputs)
        for node in self.body.nodes:
            results = self._node(node, [self.values[v] for v in node.inputs])
            self.values.update(zip(node.outputs, results, strict=True))
        return [self.values[v] for v in self.body.outputs]

    def _node(self, node: Node, inputs: list[Tile]) -> list[Tile]:
        name = node.op.name
        if name == "constant":
            return [_splat(node)]
        if name in SAME_TILE:
            return [inputs[0]]
        rule = RULES.get(name)
        if name in UNARY:
            return [self._unary(node, inputs[0], UNARY[name])]
        if name in BINARY or name in LOGICAL:
            return [self.binary(node, inputs[0], inputs[1], {**BINARY, **LOGICAL}[name])]
        if rule is None:
            raise unsupported(node, "inside a fused group")
        return [rule(self, node, inputs)]

    def fresh(self, node: Node, width: int) -> NkiTensor:
        """A new tile for the node's result."""
        dtype = self.written_as.get(node.outputs[0], node.outputs[0].dtype)
        return nl.ndarray((self.rows, width), dtype=device_dtype(dtype), buffer=nl.sbuf)

    def _unary(self, node: Node, x: Tile, op: Any) -> Tile:
        if not isinstance(x, NkiTensor):
            x = self.filled(x)
        dst = self.fresh(node, x.shape[1])
        nisa.activation(dst=dst, op=op, data=x)
        return dst

    def binary(self, node: Node, a: Tile, b: Tile, op: Any) -> NkiTensor:
        """``a op b`` with numbers and single columns repeated."""
        if not isinstance(a, NkiTensor) and not isinstance(b, NkiTensor):
            a = self.filled(a)
        width = max(x.shape[1] for x in (a, b) if isinstance(x, NkiTensor))
        dst = self.fresh(node, width)
        full_a = a if isinstance(a, NkiTensor) and a.shape[1] == width else None
        full_b = b if isinstance(b, NkiTensor) and b.shape[1] == width else None
        if full_a is not None and full_b is not None:
            nisa.tensor_tensor(dst=dst, data1=full_a, data2=full_b, op=op)
        elif full_a is not None:
            nisa.tensor_scalar(dst=dst, data=full_a, op0=op, operand0=_per_row(b))
        elif full_b is not None:
            nisa.tensor_scalar(dst=dst, data=full_b, op0=op, operand0=_per_row(a), reverse0=True)
        return dst

    def filled(self, number: float, width: int = 1, dtype: Any = nl.float32) -> NkiTensor:
        """A tile of one number."""
        tile = nl.ndarray((self.rows, width), dtype=dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=number)
        return tile

    def full_width(self, tile: Tile, value: Value) -> NkiTensor:
        """The tile of an output with every column present, in the output's dtype."""
        dtype = device_dtype(value.dtype)
        width = math.prod(value.shape) // self.body_rows(value)
        if not isinstance(tile, NkiTensor):
            return self.filled(tile, width, dtype)
        if tile.shape[1] == width and tile.dtype == dtype:
            return tile
        dst = nl.ndarray((self.rows, width), dtype=dtype, buffer=nl.sbuf)
        source = tile if tile.shape[1] == width else tile.broadcast(1, width)
        nisa.tensor_copy(dst=dst, src=source)
        return dst

    def body_rows(self, value: Value) -> int:
        """Rows of a whole body value (all blocks together)."""
        return value.shape[0] if value.shape else 1


def _per_row(x: Tile) -> Tile:
    """An operand of tensor_scalar: a number, or a float32 column."""
    if not isinstance(x, NkiTensor) or x.dtype == nl.float32:
        return x
    column = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=column, src=x)
    return column


def _splat(node: Node) -> float:
    values = np.asarray(node.attrs["value"], np.float64).reshape(-1)
    if values.size > 1 and not (values == values[0]).all():
        raise unsupported(node, "inside a fused group")
    return float(values[0])


def _convert(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    x = inputs[0]
    target, source = node.outputs[0].dtype, node.inputs[0].dtype
    if not isinstance(x, NkiTensor) or x.dtype == device_dtype(target):
        return x
    if is_float(source) and not is_float(target) and target != np.dtype(bool):
        raise unsupported(node, "that truncates (the chip rounds to nearest even)")
    dst = body.fresh(node, x.shape[1])
    if target == np.dtype(bool):
        nisa.tensor_scalar(dst=dst, data=x, op0=nl.not_equal, operand0=0.0)
    else:
        nisa.tensor_copy(dst=dst, src=x)
    return dst


def _compare(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return body.binary(node, inputs[0], inputs[1], COMPARE[node.attrs["direction"]])


def _negate(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return body.binary(node, inputs[0], -1.0, nl.multiply)


def _not(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return body.binary(node, inputs[0], 0.0, nl.equal)


def _cosine(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    shifted = body.binary(node, inputs[0], math.pi / 2, nl.add)
    dst = body.fresh(node, shifted.shape[1])
    nisa.activation(dst=dst, op=nl.sin, data=shifted)
    return dst


def _select(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    chosen, yes, no = inputs
    width = max((t.shape[1] for t in inputs if isinstance(t, NkiTensor)), default=1)
    dst = body.fresh(node, width)
    _spread(dst, no)
    mask = _widened(body, chosen, width)
    if isinstance(yes, NkiTensor):
        yes = _widened(body, yes, width)
    nisa.tensor_copy_predicated(dst=dst, src=yes, predicate=mask)
    return dst


def _spread(dst: NkiTensor, value: Tile) -> None:
    if not isinstance(value, NkiTensor):
        nisa.memset(dst=dst, value=value)
    elif value.shape[1] == dst.shape[1]:
        nisa.tensor_copy(dst=dst, src=value)
    else:
        nisa.tensor_copy(dst=dst, src=value.broadcast(1, dst.shape[1]))


def _widened(body: Body, value: Tile, width: int) -> NkiTensor:
    if not isinstance(value, NkiTensor):
        return body.filled(value, width)
    if value.shape[1] == width:
        return value
    wide = nl.ndarray((body.rows, width), dtype=value.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=wide, src=value.broadcast(1, width))
    return wide


def _clamp(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    low, x, high = inputs
    held = body.binary(node, x, low, nl.maximum)
    return body.binary(node, held, high, nl.minimum)


def _reduce(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    x = inputs[0]
    kind, dims = node.attrs["kind"], tuple(node.attrs["dims"])
    rank = len(node.inputs[0].shape)
    if kind not in REDUCE or dims != (rank - 1,):
        raise unsupported(node, "for these dims")
    wide = _widened(body, x, node.inputs[0].shape[-1])
    dst = body.fresh(node, 1)
    nisa.tensor_reduce(dst=dst, op=REDUCE[kind], data=wide, axis=1)
    return dst


def _gelu(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return body._unary(node, inputs[0], GELU[node.attrs.get("approximate", "none")])


def _layer_norm(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    x, *vectors = [_widened(body, t, node.inputs[0].shape[-1]) for t in inputs]
    vectors += [None] * (2 - len(vectors))  # type: ignore[list-item]
    dtype = body.written_as.get(node.outputs[0], node.outputs[0].dtype)
    return normalise_rows(x, vectors[0], vectors[1], node.attrs["epsilon"], device_dtype(dtype))


def _softmax(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    dtype = body.written_as.get(node.outputs[0], node.outputs[0].dtype)
    x = _widened(body, inputs[0], node.inputs[0].shape[-1])
    return softmax_rows(x, device_dtype(dtype))


RULES: Final[Mapping[str, Callable[[Body, Node, list[Tile]], Tile]]] = {
    "convert": _convert, "compare": _compare, "negate": _negate, "not": _not, "cosine": _cosine,
    "select": _select, "clamp": _clamp, "reduce": _reduce, "gelu": _gelu,
    "layer_norm": _layer_norm, "softmax": _softmax,
}  # fmt: skip

__all__ = ["Body", "Tile"]
