"""Narrower numbers where a model allows them, as the Neuron compiler's --auto-cast options do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import ml_dtypes
import numpy as np

from tenzing.compiler.graph import (
    BF16,
    F32,
    TF32,
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
    Abs,
    Attention,
    AttentionBackward,
    BroadcastInDim,
    Clamp,
    Constant,
    Convert,
    Convolution,
    Divide,
    DotGeneral,
    ExpertLinear,
    Linear,
    Maximum,
    Multiply,
    Reduce,
    splat_like,
)
from tenzing.compiler.ops.control import Case, KernelCall, While
from tenzing.compiler.passes.legalise import restore_outputs
from tenzing.compiler.passes.pipeline import Pass
from tenzing.isa import numerics

AUTOCAST: Final = ("none", "matmult", "all")
FP8: Final = np.dtype(ml_dtypes.float8_e4m3)
FP8_MAX: Final = numerics.finfo(FP8).max
SMALLEST_SCALE: Final = float(np.finfo(np.float32).tiny)  # of a column that is all zeros
AUTOCAST_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "bf16": BF16, "fp16": np.dtype(np.float16), "tf32": TF32, "fp8_e4m3": FP8,
}  # fmt: skip
MULTIPLYING: Final = (
    DotGeneral, Linear, ExpertLinear, Attention, AttentionBackward, Convolution,
)  # fmt: skip
OPERANDS: Final = {Attention: 3, AttentionBackward: 4}  # that are multiplied; others have two


@dataclass(frozen=True)
class Autocast(Pass):
    """Compute in a narrower dtype.

    ``mode`` "none" changes nothing; "matmult" casts the float32 inputs of matrix products,
    convolutions and attention, with float32 sums and results; "all" casts every float32 value.
    ``dtype``:

    - "bf16" and "fp16": plain casts.
    - "tf32": four bytes rounded to 10 bits of mantissa. Only products gain from it, so both modes
      cast those alone.
    - "fp8_e4m3": linears whose weights are known beforehand, with one scale per output column
      found when weights are loaded; their inputs are held within the range of fp8. All other
      casts are to bf16.
    """

    mode: str = "none"
    dtype: str = "bf16"

    def apply(self, graph: Graph) -> Graph:
        """See the class; GraphError for a mode or dtype that does not exist."""
        if self.mode not in AUTOCAST:
            raise GraphError("autocast mode", got=self.mode, allowed=", ".join(AUTOCAST))
        if self.dtype not in AUTOCAST_DTYPES:
            raise GraphError("autocast dtype", got=self.dtype, allowed=", ".join(AUTOCAST_DTYPES))
        if self.mode == "none":
            return graph
        dtype = AUTOCAST_DTYPES[self.dtype]
        if dtype == FP8:
            graph, dtype = _ScaledLinears(graph).run(), BF16
        if self.mode == "matmult" or dtype == TF32:
            return rewrite(graph, _Cast(dtype).products)
        return restore_outputs(graph, _Cast(dtype).everything(graph))


class _Cast:
    """Casts of float32 values to a dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def products(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        """A rule: the multiplied inputs are cast, sums stay float32."""
        op = node.op
        if not isinstance(op, MULTIPLYING) or inputs[0].dtype != F32:
            return None
        operands = OPERANDS.get(type(op), 2)
        cast = [self._cast(builder, value) for value in inputs[:operands]]
        return builder.emit(replace(op, out_dtype=F32), *cast, *inputs[operands:])

    def _cast(self, builder: GraphBuilder, value: Value) -> Value:
        hint = f"{value.name}_{dtype_name(self.dtype)}"
        return builder.add(Convert(self.dtype), value, hint=hint)

    def everything(self, graph: Graph) -> Graph:
        """Every float32 value cast, but those that operations with graphs inside declare."""
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


def _as(builder: GraphBuilder, value: Value, dtype: np.dtype[Any]) -> Value:
    return value if value.dtype == dtype else builder.add(Convert(dtype), value)


class _ScaledLinears:
    """Linears whose weights are known beforehand, in fp8 with a scale per output column."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        written = {alias.target for alias in graph.aliases}  # by an optimizer: not known beforehand
        self.fixed = {p for p in graph.parameters if p.name not in written}
        for node in graph.nodes:
            if self.fixed.issuperset(node.inputs):
                self.fixed.update(node.outputs)

    def run(self) -> Graph:
        return rewrite(self.graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        op = node.op
        if not isinstance(op, Linear) or op.scaled or inputs[0].dtype != F32:
            return None
        if node.inputs[1] not in self.fixed:
            return None
        x, weight, *rest = inputs
        scale, small = self._scaled(builder, weight, depth=1 if op.weight == "nk" else 0)
        low, high = (splat_like(builder, x, edge) for edge in (-FP8_MAX, FP8_MAX))
        held = builder.add(Clamp(), low, x, high)
        narrow = builder.add(Convert(FP8), held, hint=f"{x.name}_f8")
        return builder.emit(replace(op, scaled=True, out_dtype=F32), narrow, small, scale, *rest)

    def _scaled(self, builder: GraphBuilder, weight: Value, depth: int) -> tuple[Value, Value]:
        """Scale per output column, and the weight over it in fp8."""
        largest = builder.add(Reduce("maximum", (depth,)), builder.add(Abs(), weight))
        scale = builder.add(Multiply(), largest, splat_like(builder, largest, 1 / FP8_MAX))
        smallest = splat_like(builder, scale, SMALLEST_SCALE)
        scale = builder.add(Maximum(), scale, smallest, hint=f"{weight.name}_scale")
        spread = builder.add(BroadcastInDim(weight.shape, (1 - depth,)), scale)
        small = builder.add(Divide(), weight, spread)
        return scale, builder.add(Convert(FP8), small, hint=f"{weight.name}_f8")


__all__ = ["AUTOCAST", "AUTOCAST_DTYPES", "Autocast"]
