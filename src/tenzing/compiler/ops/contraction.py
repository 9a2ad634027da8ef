"""Matrix multiplication in its general form and as the linear layer of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np

from tenzing.compiler.graph import (
    F32,
    Array,
    GraphBuilder,
    GraphError,
    Op,
    Shape,
    TensorType,
    Value,
    Work,
    is_narrow,
)
from tenzing.compiler.ops.activation import Activation, Gelu, Relu, Silu
from tenzing.compiler.ops.elementwise import (
    Add,
    Convert,
    Logistic,
    Multiply,
    Tanh,
    expect_count,
    narrow,
)
from tenzing.compiler.ops.shape import BroadcastInDim, check_dim

EPILOGUES: Final[Mapping[str, Activation | Tanh | Logistic]] = {
    "relu": Relu(),
    "gelu": Gelu(),
    "gelu_tanh": Gelu("tanh"),
    "silu": Silu(),
    "tanh": Tanh(),
    "logistic": Logistic(),
}

MATRIX_RANK: Final = 2
GATED_INPUTS: Final = 3  # of a gated linear without biases
T = TypeVar("T")


def accumulate(array: Array) -> Array:
    """The array in the dtype products are summed in: float32, or its own if wider or integer."""
    return array.astype(F32) if is_narrow(array.dtype) else array


@dataclass(frozen=True)
class DotGeneral(Op, name="dot_general"):
    """Sum of products over contracting dims; output dims are batch, left free, right free.

    ``out_dtype`` may be wider than the inputs: sums are kept in float32 and rounded once.
    """

    batch: tuple[Shape, Shape]
    contract: tuple[Shape, Shape]
    out_dtype: np.dtype[Any] | None = None

    def free(self, side: int, rank: int) -> Shape:
        """Dims of one side (0 left, 1 right) that are neither batch nor contracting."""
        used = {*self.batch[side], *self.contract[side]}
        return tuple(dim for dim in range(rank) if dim not in used)

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Batch dims, then the free dims of the left and of the right input."""
        expect_count(self.name, inputs, 2)
        left, right = inputs
        if left.dtype != right.dtype:
            raise GraphError("dot_general needs one dtype", got=f"{left} and {right}")
        for pair, kind in ((self.batch, "batch"), (self.contract, "contracting")):
            for one, other in zip(*pair, strict=True):
                check_dim(self.name, one, left.rank)
                check_dim(self.name, other, right.rank)
                if left.shape[one] != right.shape[other]:
                    raise GraphError(
                        f"dot_general {kind} dims differ in size",
                        got=f"{left.shape[one]} (dim {one} of {left}) and "
                        f"{right.shape[other]} (dim {other} of {right})",
                    )
        shape = [left.shape[d] for d in self.batch[0]]
        shape += [left.shape[d] for d in self.free(0, left.rank)]
        shape += [right.shape[d] for d in self.free(1, right.rank)]
        return (TensorType(tuple(shape), self.out_dtype or left.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32 by NumPy's matmul, rounded once."""
        left, right = inputs
        out = self.infer(*(TensorType(a.shape, a.dtype) for a in inputs))[0]
        batch = [left.shape[d] for d in self.batch[0]]
        depth = math.prod(left.shape[d] for d in self.contract[0])
        rows, columns = self.free(0, left.ndim), self.free(1, right.ndim)
        left_3d = left.transpose(*self.batch[0], *rows, *self.contract[0])
        right_3d = right.transpose(*self.batch[1], *self.contract[1], *columns)
        height = math.prod(left.shape[d] for d in rows)
        width = math.prod(right.shape[d] for d in columns)
        product = np.matmul(
            accumulate(left_3d.reshape(*batch, height, depth)),
            accumulate(right_3d.reshape(*batch, depth, width)),
        )
        return (narrow(product.reshape(out.shape), out.dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two operations per product."""
        depth = math.prod(inputs[0].shape[d] for d in self.contract[0])
        return Work(matmul_flops=2 * depth * outputs[0].elements)


class LinearParts(NamedTuple, Generic[T]):
    """Inputs of a linear; None for the absent."""

    x: T
    weight: T
    scale: T | None
    bias: T | None
    residual: T | None


@dataclass(frozen=True)
class Linear(Op, name="linear"):
    """activation(x @ W * scale + bias) + residual: inputs are (x [..., K], W, ...).

    ``weight`` says how W lies in memory: "nk" as PyTorch stores it or "kn". Then come, when
    present, a scale [N] (``scaled``), a bias [N], and a ``residual`` of the result's shape.
    """

    weight: str = "nk"
    activation: str = ""
    out_dtype: np.dtype[Any] | None = None
    residual: bool = False
    scaled: bool = False

    def parts(self, inputs: Sequence[T]) -> LinearParts[T]:
        """The inputs by name."""
        x, weight, *rest = inputs
        scale = rest.pop(0) if self.scaled and rest else None
        added = rest.pop() if self.residual and rest else None
        return LinearParts(x, weight, scale, rest[0] if rest else None, added)

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's leading dims, then N."""
        low = 2 + self.residual + self.scaled
        expect_count(self.name, inputs, low, low + 1)
        x, weight, scale, bias, residual = self.parts(inputs)
        out = _product_type(self.name, self.weight, self.activation, x, weight, bias, scale)
        out = out.with_dtype(self.out_dtype or x.dtype)
        if residual is not None and residual.shape != out.shape:
            raise GraphError("linear residual", got=residual, allowed=f"{list(out.shape)}")
        return (out,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Matmul, scale, bias, activation and residual in float32, rounded once."""
        x, weight, scale, bias, residual = self.parts(inputs)
        total = _product(self.weight, self.activation, x, weight, bias, scale)
        if residual is not None:
            total = total + accumulate(residual)
        return (narrow(total, self.out_dtype or x.dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two operations per product, one per element added, the activation's own."""
        added = sum(extra is not None for extra in self.parts(inputs)[2:])
        work = _product_work(self.activation, inputs[0], outputs)
        return work + Work(vector_ops=added * outputs[0].elements)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """dot_general in float32, scale, bias, activation, residual, convert."""
        x, weight, scale, bias, residual = self.parts(inputs)
        dtype = self.out_dtype or x.dtype
        wide = F32 if is_narrow(dtype) else dtype
        contract = ((len(x.shape) - 1,), (1 if self.weight == "nk" else 0,))
        total = builder.add(DotGeneral(((), ()), contract, wide), x, weight)
        for row, op in ((scale, Multiply()), (bias, Add())):
            if row is not None:
                total = builder.add(op, total, _along_rows(builder, row, total))
        if self.activation:
            total = builder.add(EPILOGUES[self.activation], total)
        if residual is not None:
            total = builder.add(Add(), total, _as_dtype(builder, residual, wide))
        return (_as_dtype(builder, total, dtype),)

    def ending(self, activation: str) -> Linear:
        """The same layer with an activation."""
        return replace(self, activation=activation)


@dataclass(frozen=True)
class GatedLinear(Op, name="gated_linear"):
    """activation(x @ G + g) * (x @ U + u): inputs are (x [..., K], G, U, optional biases g and u).

    The first half of a gated MLP (SwiGLU, GeGLU). ``weight`` as in ``linear``.
    """

    weight: str = "nk"
    activation: str = ""
    out_dtype: np.dtype[Any] | None = None

    def sides(self, inputs: Sequence[T]) -> tuple[tuple[T, T, T | None], tuple[T, T, T | None]]:
        """x, weight and bias of the gate and of what it gates."""
        x, gate, up, *biases = inputs
        first, second = biases or (None, None)
        return (x, gate, first), (x, up, second)

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's leading dims, then N."""
        expect_count(self.name, inputs, 3, 5)
        gate, up = self.sides(inputs)
        out = _product_type(self.name, self.weight, self.activation, *gate)
        other = _product_type(self.name, self.weight, "", *up)
        if out.shape != other.shape:
            raise GraphError("gated_linear: gate and product differ", got=f"{out} and {other}")
        return (out.with_dtype(self.out_dtype or inputs[0].dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Both products, the activation and their product in float32, rounded once."""
        gate, up = self.sides(inputs)
        left = _product(self.weight, self.activation, *gate)
        right = _product(self.weight, "", *up)
        return (narrow(left * right, self.out_dtype or inputs[0].dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """That of two linears and one multiplication per element."""
        biased = len(inputs) > GATED_INPUTS
        work = _product_work(self.activation, inputs[0], outputs)
        work += _product_work("", inputs[0], outputs)
        return work + Work(vector_ops=(1 + 2 * biased) * outputs[0].elements)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Two linears in float32, their product, convert."""
        gate, up = self.sides(inputs)
        dtype = self.out_dtype or inputs[0].dtype
        wide = F32 if is_narrow(dtype) else dtype
        one = Linear(self.weight, self.activation, wide)
        left = builder.add(one, *(v for v in gate if v is not None))
        right = builder.add(one.ending(""), *(v for v in up if v is not None))
        return (_as_dtype(builder, builder.add(Multiply(), left, right), dtype),)


def _product_type(
    name: str, layout: str, activation: str, x: TensorType, weight: TensorType,
    bias: TensorType | None, scale: TensorType | None = None,
) -> TensorType:  # fmt: skip
    """Type of ``x @ W``, checked; in x's dtype."""
    if activation and activation not in EPILOGUES:
        raise GraphError(f"{name} activation", got=activation, allowed=list(EPILOGUES))
    if weight.rank != MATRIX_RANK or x.rank < 1 or weight.dtype != x.dtype:
        raise GraphError(
            f"{name} needs x [..., K] and a matrix of one dtype", got=f"{x} and {weight}"
        )
    depth, width = weight.shape[::-1] if layout == "nk" else weight.shape
    if x.shape[-1] != depth:
        raise GraphError(
            f"{name}: the last dim of x is not the weight's K",
            got=x,
            allowed=f"[..., {depth}] for a weight {weight} ({layout})",
        )
    for row in (bias, scale):
        if row is not None and row.shape != (width,):
            raise GraphError(f"{name} bias or scale", got=row, allowed=f"[{width}]")
    return TensorType((*x.shape[:-1], width), x.dtype)


def _product(
    layout: str, activation: str, x: Array, weight: Array, bias: Array | None,
    scale: Array | None = None,
) -> Array:  # fmt: skip
    """activation(x @ W * scale + bias) in float32."""
    total: Array = np.matmul(accumulate(x), accumulate(weight.T if layout == "nk" else weight))
    if scale is not None:
        total = total * accumulate(scale)
    if bias is not None:
        total = total + accumulate(bias)
    if activation:
        (total,) = EPILOGUES[activation].reference(total)
    return total


def _product_work(activation: str, x: TensorType, outputs: Sequence[TensorType]) -> Work:
    work = Work(matmul_flops=2 * x.shape[-1] * outputs[0].elements)
    return work + EPILOGUES[activation].arithmetic(outputs, outputs) if activation else work


def _along_rows(builder: GraphBuilder, row: Value, like: Value) -> Value:
    """The row [N] for every row of ``like``, in its dtype."""
    op = BroadcastInDim(like.shape, (len(like.shape) - 1,))
    return builder.add(op, _as_dtype(builder, row, like.dtype))


def _as_dtype(builder: GraphBuilder, value: Value, dtype: np.dtype[Any]) -> Value:
    return value if value.dtype == dtype else builder.add(Convert(dtype), value)
