"""Passes that bring a graph to the dtypes a chip computes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import ml_dtypes
import numpy as np

from tenzing.compiler.graph import (
    BF16,
    F32,
    Graph,
    GraphBuilder,
    GraphError,
    Node,
    Op,
    Value,
    dtype_name,
    rewrite,
)
from tenzing.compiler.ops import (
    EPILOGUES,
    Abs,
    Add,
    Attention,
    BroadcastInDim,
    Clamp,
    Constant,
    Convert,
    Convolution,
    Divide,
    DotGeneral,
    ExpertLinear,
    Linear,
    Multiply,
    Reduce,
)
from tenzing.compiler.ops.control import Case, KernelCall, While
from tenzing.compiler.passes.pipeline import Pass
from tenzing.errors import UsageError

NARROWER: Final[Mapping[np.dtype[Any], np.dtype[Any]]] = {
    np.dtype(np.int64): np.dtype(np.int32),
    np.dtype(np.uint64): np.dtype(np.uint32),
    np.dtype(np.float64): F32,
}
AUTOCAST: Final = ("none", "matmult", "all")
AUTOCAST_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "bf16": BF16, "fp16": np.dtype(np.float16), "fp8_e4m3": np.dtype(ml_dtypes.float8_e4m3),
}  # fmt: skip
FP8: Final = AUTOCAST_DTYPES["fp8_e4m3"]
FP8_LARGEST: Final = 240.0  # of the finite numbers of float8_e4m3


@dataclass(frozen=True)
class NarrowNumbers(Pass):
    """Compute 64-bit numbers in 32 bits; inputs, parameters and outputs keep their dtype.

    As on Neuron devices, which have no 64-bit arithmetic: an integer beyond 32 bits wraps, except
    that constants saturate.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        narrowed: dict[Value, Value] = {}

        def narrow_input(builder: GraphBuilder, value: Value) -> Value:
            if value.dtype not in NARROWER:
                return value
            if value not in narrowed:
                narrowed[value] = builder.add(Convert(NARROWER[value.dtype]), value)
            return narrowed[value]

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            return builder.emit(_narrow_op(node.op), *(narrow_input(builder, v) for v in inputs))

        return restore_outputs(graph, rewrite(graph, rule))


def _narrow_op(op: Op) -> Op:
    if isinstance(op, Constant) and op.dtype in NARROWER:
        dtype = NARROWER[op.dtype]
        array = op.array if not op.is_splat else op.array.reshape(-1)[:1]
        if dtype.kind in "iu":
            array = np.clip(array, np.iinfo(dtype).min, np.iinfo(dtype).max)
        return Constant(op.shape, dtype, array.astype(dtype).tobytes())
    changed = {
        f.name: NARROWER[getattr(op, f.name)]
        for f in fields(op)  # type: ignore[arg-type]
        if isinstance(getattr(op, f.name), np.dtype) and getattr(op, f.name) in NARROWER
    }
    return replace(op, **changed) if changed else op  # type: ignore[type-var]


def restore_outputs(original: Graph, graph: Graph) -> Graph:
    """Convert outputs back to the dtypes that the original graph promises."""
    builder = GraphBuilder(graph.name, [value.name for value in graph.values()])
    outputs = [
        new if new.dtype == old.dtype else builder.add(Convert(old.dtype), new)
        for old, new in zip(original.outputs, graph.outputs, strict=True)
    ]
    return replace(graph, nodes=(*graph.nodes, *builder.nodes), outputs=tuple(outputs))


MULTIPLYING: Final = (DotGeneral, Linear, ExpertLinear, Attention, Convolution)


def _as(builder: GraphBuilder, value: Value, dtype: np.dtype[Any]) -> Value:
    return value if value.dtype == dtype else builder.add(Convert(dtype), value)


@dataclass(frozen=True)
class Autocast(Pass):
    """Compute in a narrower dtype, like the Neuron compiler's --auto-cast option.

    ``mode`` "none" changes nothing; "matmult" casts the float32 inputs of matrix multiplications
    and attention, with float32 sums and results; "all" casts every float32 value. In fp8 only the
    linears with weights are cast, one scale per weight; other products are in bf16.
    """

    mode: str = "none"
    dtype: np.dtype[Any] = BF16

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        if self.mode == "none":
            return graph
        if self.mode == "all" and self.dtype == FP8:
            raise UsageError("autocast all in fp8", allowed="matmult",
                             next_step='use autocast="matmult"')  # fmt: skip
        if self.mode == "matmult":
            return rewrite(graph, self._matmult)
        if self.mode == "all":
            return restore_outputs(graph, self._all(graph))
        raise GraphError("autocast mode", got=self.mode, allowed="none, matmult, all")

    def _matmult(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        op = node.op
        if not isinstance(op, MULTIPLYING):
            return None
        if inputs[0].dtype != F32:
            return None
        if self.dtype == FP8:
            if isinstance(op, Linear) and inputs[1] in builder.parameters:
                return (_scaled_linear(builder, op, inputs),)
            return replace(self, dtype=BF16)._matmult(builder, node, inputs)
        operands = 3 if isinstance(op, Attention) else 2
        cast = [self._cast(builder, value) for value in inputs[:operands]]
        return builder.emit(replace(op, out_dtype=F32), *cast, *inputs[operands:])

    def _cast(self, builder: GraphBuilder, value: Value) -> Value:
        hint = f"{value.name}_{dtype_name(self.dtype)}"
        return builder.add(Convert(self.dtype), value, hint=hint)

    def _all(self, graph: Graph) -> Graph:
        cast: dict[Value, Value] = {}

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            for value in inputs:
                if value.dtype == F32 and value not in cast:
                    cast[value] = self._cast(builder, value)
            if isinstance(node.op, Case | While | KernelCall):  # these state their types
                pairs = zip(node.inputs, inputs, strict=True)
                return builder.emit(node.op, *(_as(builder, v, old.dtype) for old, v in pairs))
            narrow = [cast.get(value, value) for value in inputs]
            return builder.emit(self._narrow_op(node.op), *narrow)

        return rewrite(graph, rule)

    def _narrow_op(self, op: Op) -> Op:
        if isinstance(op, Constant) and op.dtype == F32:
            array = op.array if not op.is_splat else op.array.reshape(-1)[:1]
            return Constant(op.shape, self.dtype, array.astype(self.dtype).tobytes())
        changed = {
            f.name: self.dtype
            for f in fields(op)  # type: ignore[arg-type]
            if getattr(op, f.name) == F32 and isinstance(getattr(op, f.name), np.dtype)
        }
        return replace(op, **changed) if changed else op  # type: ignore[type-var]


def _scaled_linear(builder: GraphBuilder, op: Linear, inputs: tuple[Value, ...]) -> Value:
    """A linear in fp8: the weight fills the range by one scale, which the result gets back.

    The scaled weight is made when weights are loaded; activations are clamped to the range.
    """
    x, weight, *bias = inputs
    add = builder.add
    top = FP8_LARGEST
    every = tuple(range(len(weight.shape)))
    largest = add(Reduce("maximum", every), add(Abs(), weight))
    scale = add(Divide(), largest, add(Constant.splat(top, (), F32)))
    filled = add(Divide(), weight, add(BroadcastInDim(weight.shape, ()), scale))
    limits = [add(Constant.splat(edge, x.shape, F32)) for edge in (-top, top)]
    held = add(Clamp(), limits[0], x, limits[1])
    cast = [add(Convert(FP8), value) for value in (held, filled)]
    total = add(Linear(op.weight, "", F32), *cast)
    total = add(Multiply(), total, add(BroadcastInDim(total.shape, ()), scale))
    for row in bias:
        total = add(Add(), total, add(BroadcastInDim(total.shape, (len(total.shape) - 1,)), row))
    return add(EPILOGUES[op.activation], total) if op.activation else total
