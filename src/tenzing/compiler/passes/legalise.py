"""Passes that bring a graph to the dtypes a chip computes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import (
    F32,
    Graph,
    GraphBuilder,
    Node,
    Op,
    Value,
    rewrite,
)
from tenzing.compiler.ops import Constant, Convert
from tenzing.compiler.passes.pipeline import Pass

NARROWER: Final[Mapping[np.dtype[Any], np.dtype[Any]]] = {
    np.dtype(np.int64): np.dtype(np.int32),
    np.dtype(np.uint64): np.dtype(np.uint32),
    np.dtype(np.float64): F32,
}


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
