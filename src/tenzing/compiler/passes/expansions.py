"""Finds error functions that XLA wrote out as polynomials, by trying them on numbers.

One instruction of the scalar engine evaluates each; what is made of it, such as gelu, is found
afterwards.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler.graph import F32, Array, Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import (
    Abs,
    BroadcastInDim,
    Clamp,
    Constant,
    Convert,
    Elementwise,
    Erf,
    Reshape,
    Subtract,
)
from tenzing.compiler.passes.pipeline import Pass

# Dense where the functions bend, and both tails.
SAMPLES: Final[Array] = np.concatenate(
    [np.linspace(-3, 3, 97), np.linspace(-12, 12, 33), [-1e-3, 1e-3]]
).astype(np.float32)
TOLERANCE: Final = 2e-6  # a few units in the last place of what the expansions yield
LONGEST: Final = 256  # nodes followed from one value


@dataclass(frozen=True)
class RecogniseErf(Pass):
    """Elementwise nodes that lead from a value to its erf, or to 1 - erf, become that."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        table = _Search(graph).found()
        if not table:
            return graph

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            match = table.get(node.outputs[0])
            if match is None:
                return None
            bent = builder.add(Erf(), match.root)
            if not match.complement:
                return (bent,)
            one = builder.add(Constant.splat(1, bent.shape, bent.dtype))
            return builder.emit(Subtract(), one, bent)

        return rewrite(graph, rule)


@dataclass(frozen=True)
class _Match:
    """A value is erf of ``root``, or 1 - erf."""

    root: Value
    complement: bool


class _Search:
    """Follows the elementwise nodes that depend on one value, with samples in its place."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.place = {id(node): k for k, node in enumerate(graph.nodes)}
        self.users = graph.users()
        self.numbers: dict[Value, Array] = {}
        for node in graph.nodes:
            self._note_number(node)
        self.erf = Erf().reference(SAMPLES)[0]

    def _note_number(self, node: Node) -> None:
        """Constants of one number, whatever their shape, as that number."""
        op = node.op
        if isinstance(op, Constant) and op.is_splat:
            self.numbers[node.output] = np.full(SAMPLES.shape, op.number).astype(op.dtype)
        elif isinstance(op, BroadcastInDim | Reshape | Convert) and node.inputs[0] in self.numbers:
            number = self.numbers[node.inputs[0]]
            self.numbers[node.output] = number.astype(node.output.dtype)

    def found(self) -> dict[Value, _Match]:
        """What each recognised value is; expansions begin with a clamp or the size of a value."""
        table: dict[Value, _Match] = {}
        for node in self.graph.nodes:
            root = node.inputs[isinstance(node.op, Clamp)] if node.inputs else None
            if not isinstance(node.op, Abs | Clamp) or root is None or root.dtype != F32:
                continue
            match = self._longest(root)
            if match is not None:
                table.setdefault(match[0], match[1])
        return table

    def _longest(self, root: Value) -> tuple[Value, _Match] | None:
        arrays: dict[Value, Array] = {root: SAMPLES}
        waiting: list[tuple[int, Node]] = []
        self._follow(root, waiting)
        best: tuple[Value, _Match] | None = None
        seen: set[int] = set()
        while waiting and len(seen) < LONGEST:
            place, node = heapq.heappop(waiting)
            if place in seen:
                continue
            seen.add(place)
            inputs = [arrays.get(v, self.numbers.get(v)) for v in node.inputs]
            if any(array is None for array in inputs):
                continue
            (arrays[node.output],) = node.op.reference(*inputs)  # type: ignore[arg-type]
            for complement, wanted in ((False, self.erf), (True, 1 - self.erf)):
                got = arrays[node.output]
                if got.dtype == F32 and np.allclose(got, wanted, rtol=0, atol=TOLERANCE):
                    best = node.output, _Match(root, complement)
            self._follow(node.output, waiting)
        return best

    def _follow(self, value: Value, waiting: list[tuple[int, Node]]) -> None:
        for node in self.users.get(value, ()):
            if isinstance(node.op, Elementwise):
                heapq.heappush(waiting, (self.place[id(node)], node))


__all__ = ["RecogniseErf"]
