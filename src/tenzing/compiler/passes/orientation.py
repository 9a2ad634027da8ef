"""Transposes around matrix products: a product reads and writes either orientation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import DotGeneral, Transpose
from tenzing.compiler.passes.pipeline import Pass


@dataclass(frozen=True)
class TransposesIntoProducts(Pass):
    """A product takes its inputs as they lie, and swaps its sides for a transposed result.

    Gradients are full of both: of ``y = x @ w.T`` the weight's is ``(x.T @ dy).T``. What has to be
    turned is turned on its way to the chip instead of once more in HBM.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if isinstance(node.op, DotGeneral):
                return _as_they_lie(builder, node.op, inputs)
            if isinstance(node.op, Transpose) and node.inputs[0] in private:
                return _swapped(builder, node.op, inputs[0])
            return None

        return rewrite(graph, rule)


def _as_they_lie(
    builder: GraphBuilder, op: DotGeneral, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    sides, given = list(zip(op.batch, op.contract, strict=True)), list(inputs)
    for side, value in enumerate(inputs):
        maker = builder.maker(value)
        if maker is None or not isinstance(maker.op, Transpose):
            continue
        order = maker.op.permutation
        free = [order[d] for d in op.free(side, len(value.shape))]
        if free == sorted(free):  # the result keeps its order of dims
            batch, contract = sides[side]
            sides[side] = tuple(order[d] for d in batch), tuple(order[d] for d in contract)
            given[side] = maker.inputs[0]
    if tuple(given) == inputs:
        return None
    (b0, c0), (b1, c1) = sides
    return builder.emit(replace(op, batch=(b0, b1), contract=(c0, c1)), *given)


def _swapped(builder: GraphBuilder, op: Transpose, value: Value) -> tuple[Value, ...] | None:
    """The transpose of a product by the other order of its sides."""
    product = builder.maker(value)
    if product is None or not isinstance(product.op, DotGeneral):
        return None
    dot, (left, right) = product.op, product.inputs
    batch, rows = len(dot.batch[0]), len(dot.free(0, len(left.shape)))
    dims = range(len(value.shape))
    if op.permutation != (*dims[:batch], *dims[batch + rows :], *dims[batch : batch + rows]):
        return None
    turned = replace(dot, batch=dot.batch[::-1], contract=dot.contract[::-1])
    return builder.emit(turned, right, left)


__all__ = ["TransposesIntoProducts"]
