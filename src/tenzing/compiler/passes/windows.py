"""Passes over convolutions: norms folded into weights, patches as products, weight layout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Value, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Convolution,
    Linear,
    Multiply,
    Reshape,
    Transpose,
)
from tenzing.compiler.ops.window import LEAD
from tenzing.compiler.passes.pipeline import Pass

CHANNEL: Final = (1,)


@dataclass(frozen=True)
class FoldConvolutionScale(Pass):
    """A factor and a summand per output channel after a convolution move into it.

    ``conv(x, w) * s + b`` becomes ``conv(x, w * s) + b``: a batch norm at inference costs nothing,
    because the new weights are computed when the model is loaded.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Multiply | Add):
                return None
            for side in (0, 1):
                old = node.inputs[side]
                before = builder.maker(inputs[side])
                vector = _per_channel(builder, inputs[1 - side])
                if before is None or vector is None or old not in private:
                    continue
                if isinstance(before.op, Convolution):
                    return _folded(builder, before, node.op, vector)
            return None

        return rewrite(graph, rule)


def _per_channel(builder: GraphBuilder, value: Value) -> Value | None:
    """The vector [O] behind a value that repeats it over [N, O, ...]."""
    node = builder.maker(value)
    if node is None or not isinstance(node.op, BroadcastInDim):
        return None
    source = node.inputs[0]
    wide = [d for d, n in zip(node.op.dims, source.shape, strict=True) if n > 1]
    if tuple(wide) != CHANNEL or source.type.elements != value.shape[1]:
        return None
    return builder.add(Reshape((value.shape[1],)), source)


def _folded(builder: GraphBuilder, before: Node, op: Op, vector: Value) -> tuple[Value, ...] | None:
    x, kernel, *bias = before.inputs
    if isinstance(op, Add):
        if bias:
            vector = builder.add(Add(), bias[0], vector)
        return builder.emit(before.op, x, kernel, vector)
    if vector.dtype != kernel.dtype:
        return None
    spread = builder.add(BroadcastInDim(kernel.shape, (0,)), vector)
    scaled = builder.add(Multiply(), kernel, spread)
    moved = [builder.add(Multiply(), b, vector) for b in bias]
    return builder.emit(before.op, x, scaled, *moved)


@dataclass(frozen=True)
class PatchesAsLinear(Pass):
    """A convolution whose windows tile the image is a linear layer over patches."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            op = node.op
            if not isinstance(op, Convolution) or not _tiles(op, inputs):
                return None
            x, kernel, *bias = inputs
            taps, depth, width = op.kernel(kernel.shape)
            rank = len(taps)
            positions = node.outputs[0].shape[LEAD:]
            cut = [n for pair in zip(positions, taps, strict=True) for n in pair]
            apart = builder.add(Reshape((x.shape[0], depth, *cut)), x)
            places = tuple(range(LEAD, LEAD + 2 * rank, 2))
            inside = tuple(range(LEAD + 1, LEAD + 2 * rank, 2))
            patches = builder.add(Transpose((0, *places, 1, *inside)), apart)
            size = depth * math.prod(taps)
            rows = builder.add(Reshape((x.shape[0], *positions, size)), patches)
            matrix = builder.add(Reshape((width, size)), kernel)
            product = builder.add(Linear("nk", "", op.out_dtype), rows, matrix, *bias)
            last = len(product.shape) - 1
            return builder.emit(Transpose((0, last, *range(1, last))), product)

        return rewrite(graph, rule)


def _tiles(op: Convolution, inputs: tuple[Value, ...]) -> bool:
    window = op.window
    taps, _, _ = op.kernel(inputs[1].shape)
    ones = (1,) * len(taps)
    plain = window.dilation == window.base_dilation == ones and op.groups == 1
    whole = all(n % k == 0 for n, k in zip(inputs[0].shape[LEAD:], taps, strict=True))
    unpadded = all(pair == (0, 0) for pair in window.padding)
    return plain and whole and unpadded and taps == window.strides and math.prod(taps) > 1


@dataclass(frozen=True)
class WeightsForConvolution(Pass):
    """Turn kernels that are weights to [*K, C, O], the layout the tensor engine reads."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        fixed = _weights(graph)

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            op = node.op
            if not isinstance(op, Convolution) or op.layout == "io" or node.inputs[1] not in fixed:
                return None
            rank = len(inputs[1].shape)
            turned = builder.add(Transpose((*range(LEAD, rank), 1, 0)), inputs[1],
                                 hint=f"{inputs[1].name}.T")  # fmt: skip
            return builder.emit(replace(op, layout="io"), inputs[0], turned, *inputs[2:])

        return rewrite(graph, rule)


def _weights(graph: Graph) -> set[Value]:
    """Values that parameters alone determine."""
    fixed = set(graph.parameters)
    for node in graph.nodes:
        if node.inputs and fixed.issuperset(node.inputs):
            fixed.update(node.outputs)
    return fixed
