"""No pass changes what a graph computes: drawn graphs, each pass alone and all in order."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing.compiler import ops
from tenzing.compiler.graph import BOOL, F32, Array, Graph, GraphBuilder, Value
from tenzing.compiler.passes import (
    AddResiduals,
    Autocast,
    CommonSubexpressions,
    DeadCode,
    FoldConstants,
    FuseRows,
    GateProducts,
    HoistPreparation,
    MatmulEpilogue,
    NarrowNumbers,
    Pipeline,
    RecogniseLinear,
    RecogniseNorms,
    ReshapeBeforeLinear,
    Simplify,
    SplitLinear,
    SumsAsMatmul,
    WeightsForMatmul,
    default_pipeline,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.reference import run
from tenzing.compiler.verify import verify

T = TypeVar("T")
SIZES = (1, 2, 3, 4)


class Author:
    """Writes a graph from drawn choices; every step reads values that exist."""

    def __init__(self, choices: list[int]) -> None:
        self.choices = list(choices)
        self.builder = GraphBuilder("drawn")
        shape = tuple(self.pick(SIZES) for _ in range(self.pick((1, 2, 3))))
        self.values = [self.builder.input("x", shape, F32)]
        self.values.append(self.builder.parameter("p", shape[-1:], F32))
        self.values.append(self.builder.parameter("w", (self.pick(SIZES), shape[-1]), F32))

    def pick(self, options: Sequence[T]) -> T:
        return options[(self.choices.pop() if self.choices else 0) % len(options)]

    def write(self) -> Graph:
        steps = (
            self.unary, self.binary, self.reduce, self.stretch, self.reshape, self.transpose,
            self.cut, self.row, self.constant, self.linear, self.choose, self.weighted_sum,
        )  # fmt: skip
        while self.choices:
            self.pick(steps)()
        read = {value for node in self.builder.nodes for value in node.inputs}
        return verify(self.builder.build([v for v in self.values if v not in read]))

    def pick_value(self) -> Value:
        """A value, more often a late one: graphs grow deep."""
        return self.pick(self.values[-self.pick((1, 2, 4, 100)) :])

    def keep(self, value: Value) -> None:
        self.values.append(value)

    def unary(self) -> None:
        op = self.pick((ops.Tanh(), ops.Negate(), ops.Gelu(), ops.Relu(), ops.Abs()))
        self.keep(self.builder.add(op, self.pick_value()))

    def binary(self) -> None:
        x = self.pick_value()
        same = [v for v in self.values if v.shape == x.shape]
        op = self.pick((ops.Add(), ops.Multiply(), ops.Subtract(), ops.Maximum()))
        self.keep(self.builder.add(op, x, self.pick(same)))

    def reduce(self) -> None:
        x = self.pick_value()
        if x.shape:
            dims = (self.pick(range(len(x.shape))),)
            self.keep(self.builder.add(ops.Reduce(self.pick(("add", "maximum")), dims), x))

    def stretch(self) -> None:
        """A value of fewer dims or sizes 1 to the shape of another."""
        x, like = self.pick_value(), self.pick_value()
        rank, skipped = len(like.shape), self.pick((0, 1))
        dims = tuple(range(rank - len(x.shape), rank)) if skipped else tuple(range(len(x.shape)))
        fits = len(x.shape) <= rank and all(
            n in (1, like.shape[d]) for n, d in zip(x.shape, dims, strict=True)
        )
        if fits:
            self.keep(self.builder.add(ops.BroadcastInDim(like.shape, dims), x))

    def reshape(self) -> None:
        x = self.pick_value()
        shapes = [(*x.shape, 1), (1, *x.shape), (x.type.elements,)]
        shapes += [v.shape for v in self.values if v.type.elements == x.type.elements]
        self.keep(self.builder.add(ops.Reshape(self.pick(shapes)), x))

    def transpose(self) -> None:
        x = self.pick_value()
        self.keep(self.builder.add(ops.Transpose(tuple(range(len(x.shape)))[::-1]), x))

    def cut(self) -> None:
        x = self.pick_value()
        if x.shape and min(x.shape) > 0:
            start = tuple(min(self.pick((0, 1)), n - 1) for n in x.shape)
            self.keep(self.builder.add(ops.Slice(start, x.shape, (1,) * len(x.shape)), x))

    def row(self) -> None:
        x = self.pick_value()
        weights = [v for v in self.values if v.shape == x.shape[-1:]]
        if x.shape:
            op = self.pick((ops.Softmax(), ops.LayerNorm(0.5), ops.RmsNorm(0.5)))
            extra = [self.pick(weights)] if weights and not isinstance(op, ops.Softmax) else []
            self.keep(self.builder.add(op, x, *extra))

    def constant(self) -> None:
        like = self.pick_value()
        splat = ops.Constant.splat(self.pick((0.0, 1.0, 0.5)), like.shape, like.dtype)
        self.keep(self.builder.add(splat))

    def linear(self) -> None:
        x = self.pick_value()
        weight = self.builder.parameters[1]
        if x.shape and x.shape[-1] == weight.shape[1]:
            contract = ((len(x.shape) - 1,), (1,))
            self.keep(self.builder.add(ops.DotGeneral(((), ()), contract), x, weight))

    def choose(self) -> None:
        x = self.pick_value()
        positive = self.builder.add(ops.Compare("gt"), x, x)
        assert positive.dtype == BOOL
        self.keep(self.builder.add(ops.Select(), positive, x, x))

    def weighted_sum(self) -> None:
        x = self.pick_value()
        rank = len(x.shape)
        if rank > 1:
            row = self.builder.add(ops.Reduce("maximum", (rank - 1,)), x)
            wide = self.builder.add(ops.BroadcastInDim(x.shape, tuple(range(rank - 1))), row)
            product = self.builder.add(ops.Multiply(), x, wide)
            self.keep(self.builder.add(ops.Reduce("add", (rank - 2,)), product))


def arrays(graph: Graph) -> tuple[list[Array], dict[str, Array]]:
    random = np.random.default_rng(1)
    draw = {
        v.name: random.uniform(-1, 1, v.shape).astype(v.dtype)
        for v in (*graph.inputs, *graph.parameters)
    }
    return [draw[v.name] for v in graph.inputs], draw


def same(before: Graph, after: Graph, tolerance: float) -> None:
    inputs, weights = arrays(before)
    expected, got = run(before, inputs, weights), run(after, inputs, weights)
    for one, other in zip(expected, got, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        scale = max(1.0, float(np.max(np.abs(one), initial=0.0)))
        np.testing.assert_allclose(other, one, atol=tolerance * scale, rtol=tolerance)


drawn = st.lists(st.integers(0, 1000), min_size=20, max_size=90)
EXACT: list[Pass] = [
    DeadCode(), CommonSubexpressions(), FoldConstants(), Simplify(), NarrowNumbers(), FuseRows(),
    HoistPreparation(), Autocast("none"),
]  # fmt: skip
CLOSE: list[Pass] = [
    RecogniseLinear(), SumsAsMatmul(), WeightsForMatmul(), MatmulEpilogue(), RecogniseNorms(),
    ReshapeBeforeLinear(), SplitLinear(), GateProducts(), AddResiduals(),
]  # fmt: skip


@pytest.mark.parametrize("each", EXACT, ids=lambda p: p.name)
@given(choices=drawn)
def test_exact_passes_keep_every_bit(each: Pass, choices: list[int]) -> None:
    graph = DeadCode().apply(Author(choices).write())
    same(graph, Pipeline((each,)).run(graph), 0.0)


@pytest.mark.parametrize("each", CLOSE, ids=lambda p: p.name)
@given(choices=drawn)
def test_other_passes_round_differently_at_most(each: Pass, choices: list[int]) -> None:
    graph = DeadCode().apply(Author(choices).write())
    same(graph, Pipeline((each,)).run(graph), 1e-5)


@settings(max_examples=150)
@given(choices=drawn)
def test_the_default_pipeline_keeps_the_meaning(choices: list[int]) -> None:
    graph = Author(choices).write()
    final = default_pipeline().run(graph)
    same(graph, final, 1e-5)
    again = default_pipeline().run(graph)
    assert again == final, "two runs give the same graph"


@given(choices=drawn)
def test_autocast_keeps_types_and_rounds(choices: list[int]) -> None:
    graph = Author(choices).write()
    inputs, weights = arrays(graph)
    for mode in ("matmult", "all"):
        outputs = run(default_pipeline(mode).run(graph), inputs, weights)
        assert [o.dtype for o in outputs] == [v.dtype for v in graph.outputs]
        assert [o.shape for o in outputs] == [v.shape for v in graph.outputs]
