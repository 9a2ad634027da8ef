"""Matrix multiplication in its general form and as the linear layer of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

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
    is_float,
)
from tenzing.compiler.ops.activation import Activation, Gelu, Relu, Silu
from tenzing.compiler.ops.elementwise import Add, Convert, Logistic, Tanh, expect_count, narrow
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
BIAS: Final = 2  # position of the optional bias among the inputs of a linear


def accumulate(array: Array) -> Array:
    """The array in the dtype products are summed in: float32, or its own if wider or integer."""
    narrow_float = is_float(array.dtype) and array.dtype.itemsize < F32.itemsize
    return array.astype(F32) if narrow_float else array


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


@dataclass(frozen=True)
class Linear(Op, name="linear"):
    """activation(x @ W + bias): inputs are (x [..., K], W, optional bias [N]).

    ``weight`` says how W lies in memory: "nk" as PyTorch stores it or "kn".
    """

    weight: str = "nk"
    activation: str = ""
    out_dtype: np.dtype[Any] | None = None

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's leading dims, then N."""
        expect_count(self.name, inputs, 2, 3)
        x, weight = inputs[:2]
        if self.activation and self.activation not in EPILOGUES:
            raise GraphError("linear activation", got=self.activation, allowed=list(EPILOGUES))
        if weight.rank != MATRIX_RANK or x.rank < 1 or weight.dtype != x.dtype:
            raise GraphError(
                "linear needs x [..., K] and a matrix of one dtype", got=f"{x} and {weight}"
            )
        depth, width = weight.shape[::-1] if self.weight == "nk" else weight.shape
        if x.shape[-1] != depth:
            raise GraphError(
                "linear: the last dim of x is not the weight's K",
                got=x,
                allowed=f"[..., {depth}] for a weight {weight} ({self.weight})",
            )
        out = TensorType((*x.shape[:-1], width), self.out_dtype or x.dtype)
        if len(inputs) > BIAS and inputs[BIAS].shape != (width,):
            raise GraphError("linear bias", got=inputs[BIAS], allowed=f"[{width}]")
        return (out,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Matmul, bias and activation in float32, rounded once."""
        x, weight = inputs[:2]
        dtype = self.out_dtype or x.dtype
        matrix = accumulate(weight.T if self.weight == "nk" else weight)
        total = np.matmul(accumulate(x), matrix)
        if len(inputs) > BIAS:
            total = total + accumulate(inputs[BIAS])
        if self.activation:
            (total,) = EPILOGUES[self.activation].reference(total)
        return (narrow(total, dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two operations per product, one per biased element, the activation's own."""
        count = outputs[0].elements
        work = Work(
            matmul_flops=2 * inputs[0].shape[-1] * count,
            vector_ops=count if len(inputs) > BIAS else 0,
        )
        if self.activation:
            work += EPILOGUES[self.activation].arithmetic(outputs, outputs)
        return work

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """dot_general in float32, add of the broadcast bias, activation, convert."""
        x, weight = inputs[:2]
        dtype = self.out_dtype or x.dtype
        wide = F32 if dtype.itemsize < F32.itemsize else dtype
        contract = ((len(x.shape) - 1,), (1 if self.weight == "nk" else 0,))
        total = builder.add(DotGeneral(((), ()), contract, wide), x, weight)
        if len(inputs) > BIAS:
            bias = inputs[BIAS]
            if bias.dtype != wide:
                bias = builder.add(Convert(wide), bias)
            last = len(total.shape) - 1
            stretched = builder.add(BroadcastInDim(total.shape, (last,)), bias)
            total = builder.add(Add(), total, stretched)
        if self.activation:
            total = builder.add(EPILOGUES[self.activation], total)
        return (total if dtype == wide else builder.add(Convert(dtype), total),)

    def ending(self, activation: str) -> Linear:
        """The same layer with an activation."""
        return replace(self, activation=activation)
