"""Gradients of norms as polynomials: any spelling becomes one kernel, nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import (
    DeadCode,
    KeepStatistics,
    Pipeline,
    RecogniseNormGradients,
    RecogniseNorms,
)
from tenzing.compiler.passes.terms import Forms, Polynomial
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run

ROWS, COLUMNS = 6, 8
SHAPE = (ROWS, COLUMNS)


class Author:
    """Writes rows, numbers per row and their products."""

    def __init__(self, dtype: Any = F32) -> None:
        self.b = GraphBuilder("g")
        self.x, self.grad = (self.b.input(name, SHAPE, dtype) for name in ("x", "grad"))
        self.other = self.b.input("other", SHAPE, dtype)
        self.weight = self.b.input("weight", (COLUMNS,), dtype)

    def splat(self, number: float, like: Value) -> Value:
        return self.b.add(ops.Constant.splat(number, like.shape, like.dtype))

    def mul(self, one: Value, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else self.splat(other, one)
        return self.b.add(ops.Multiply(), one, other)

    def add(self, one: Value, other: Value) -> Value:
        return self.b.add(ops.Add(), one, other)

    def sub(self, one: Value, other: Value) -> Value:
        return self.b.add(ops.Subtract(), one, other)

    def wide(self, value: Value) -> Value:
        """A number per row, or per column, over all elements."""
        dims = (1,) if value.shape == (COLUMNS,) else (0, 1)[: len(value.shape)]
        return self.b.add(ops.BroadcastInDim(SHAPE, dims), value)

    def row_sum(self, value: Value) -> Value:
        total = self.b.add(ops.Reduce("add", (1,)), value)
        return self.b.add(ops.Reshape((ROWS, 1)), total)

    def mean(self, value: Value) -> Value:
        return self.mul(self.row_sum(value), 1.0 / COLUMNS)

    def root(self, rows: Value) -> Value:
        mean = self.mean(self.mul(rows, rows))
        return self.b.add(ops.Rsqrt(), self.add(mean, self.splat(1e-6, mean)))

    def gradient(self, rows: Value, root: Value, share: float, power: int = 3) -> list[Value]:
        """The two parts of an RMS norm's gradient."""
        weighed = self.mul(self.grad, self.wide(self.weight))
        dots = self.row_sum(self.mul(weighed, rows))
        cube = root
        for _ in range(power - 1):
            cube = self.mul(cube, root)
        back = self.mul(self.mul(cube, dots), -share)
        return [self.mul(weighed, self.wide(root)), self.mul(rows, self.wide(back))]


def rms(share: float = 1.0 / COLUMNS, power: int = 3) -> Graph:
    """Forward, gradient of x beside another one, and of the weight before it."""
    a = Author()
    root = a.root(a.x)
    normal = a.mul(a.x, a.wide(root))
    out = a.mul(normal, a.wide(a.weight))
    for_weight = a.b.add(ops.Reduce("add", (0,)), a.mul(a.grad, normal))
    first, second = a.gradient(a.x, root, share, power)
    return a.b.build([out, for_weight, a.add(a.add(a.other, first), second)])


def layer(keep_mean: bool = True) -> Graph:
    """A layer norm's gradient, its mean taken off last."""
    a = Author()
    rows = a.sub(a.x, a.wide(a.mean(a.x)))
    root = a.root(rows)
    normal = a.mul(rows, a.wide(root))
    out = a.mul(normal, a.wide(a.weight))
    for_weight = a.b.add(ops.Reduce("add", (0,)), a.mul(a.grad, normal))
    for_bias = a.b.add(ops.Reduce("add", (0,)), a.grad)
    inner = a.add(*a.gradient(rows, root, 1.0 / COLUMNS))
    onto = a.sub(inner, a.wide(a.mean(inner))) if keep_mean else inner
    return a.b.build([out, onto, for_weight, for_bias])


def recognised(graph: Graph) -> Graph:
    """After the passes, with the numbers of before."""
    passes = (RecogniseNormGradients(), RecogniseNorms(), KeepStatistics())
    final = Pipeline((DeadCode(), *(p for each in passes for p in (each, DeadCode())))).run(graph)
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(v.shape).astype(v.dtype) for v in graph.inputs]
    for found, wanted in zip(run(final, given, {}), run(graph, given, {}), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    return final


def test_rms_norm_as_text(golden: Callable[[str], None]) -> None:
    golden(to_text(recognised(rms())))


def test_layer_norm_as_text(golden: Callable[[str], None]) -> None:
    golden(to_text(recognised(layer())))


@pytest.mark.parametrize(
    "graph",
    [rms(share=1.0 / (COLUMNS + 1)), rms(power=2), rms(share=-1.0 / COLUMNS), layer(False)],
    ids=["share", "power", "sign", "mean"],
)
def test_a_near_miss_is_left_alone(graph: Graph) -> None:
    assert "norm_backward" not in recognised(graph).count()


def test_a_gradient_that_is_subtracted_is_left_alone() -> None:
    a = Author()
    first, second = a.gradient(a.x, a.root(a.x), 1.0 / COLUMNS)
    final = recognised(a.b.build([a.sub(a.sub(a.other, first), second)]))
    assert "norm_backward" not in final.count()


def test_rounding_to_the_dtype_of_the_rows_joins() -> None:
    """Rows in bf16 that a model widens, and whose gradient it rounds."""
    a = Author(BF16)
    a.x, a.grad, a.weight = (a.b.add(ops.Convert(F32), value) for value in (a.x, a.grad, a.weight))
    onto = a.add(*a.gradient(a.x, a.root(a.x), 1.0 / COLUMNS))
    graph = a.b.build([a.b.add(ops.Convert(BF16), onto)])
    final = Pipeline((DeadCode(), RecogniseNormGradients(), DeadCode())).run(graph)
    backward = next(n for n in final.nodes if n.op.name == "norm_backward")
    assert {v.dtype for v in backward.outputs} == {BF16}
    assert backward.inputs[1] == graph.inputs[0]


def test_a_state_that_reads_the_weight_gradient_early_waits_for_it() -> None:
    """The sum for the weight comes first, and so does what an optimizer makes of it."""
    a = Author()
    root = a.root(a.x)
    normal = a.mul(a.x, a.wide(root))
    step = a.mul(a.b.add(ops.Reduce("add", (0,)), a.mul(a.grad, normal)), 0.1)
    fresh = a.sub(a.weight, step)
    onto = a.add(*a.gradient(a.x, root, 1.0 / COLUMNS))
    final = recognised(a.b.build([fresh, onto]))
    assert final.count()["norm_backward"] == 1
    assert "reduce" not in {n.op.name for n in final.nodes if n.op.attrs.get("dims") == (0,)}


class Drawn:
    """A drawn expression of rows, numbers per row and columns."""

    def __init__(self, choices: list[int]) -> None:
        self.choices, self.a = choices, Author()
        self.rows = [self.a.x, self.a.grad, self.a.wide(self.a.weight)]
        self.numbers = [self.a.root(self.a.x)]

    def pick(self, count: int) -> int:
        return (self.choices.pop() if self.choices else 0) % count

    def value(self) -> Value:
        return self.rows[self.pick(len(self.rows))]

    def write(self) -> tuple[Graph, list[Value]]:
        while self.choices:
            kind, number = self.pick(5), self.numbers[self.pick(len(self.numbers))]
            if kind == 0:
                self.rows.append(self.a.add(self.value(), self.value()))
            elif kind == 1:
                self.rows.append(self.a.sub(self.value(), self.value()))
            elif kind == 2:
                self.rows.append(self.a.mul(self.value(), self.a.wide(number)))
            elif kind == 3:
                self.rows.append(self.a.mul(self.value(), self.value()))
            else:
                self.numbers.append(self.a.mean(self.value()))
        return self.a.b.build([*self.rows, *map(self.a.wide, self.numbers)]), self.rows


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=24))
def test_equal_polynomials_are_equal_numbers(choices: list[int]) -> None:
    """Values with one polynomial hold the same numbers, whatever way they were computed."""
    graph, rows = Drawn(choices).write()
    forms = Forms(graph, SHAPE)
    for node in graph.nodes:
        forms.learn(node)
    rng = np.random.default_rng(1)
    found = run(graph, [rng.standard_normal(v.shape).astype(v.dtype) for v in graph.inputs], {})
    arrays = dict(zip(graph.outputs, found, strict=True))
    for number, one in enumerate(rows):
        for other in rows[:number]:
            if forms.of(one).close(forms.of(other)):
                scale = np.abs(arrays[other]).max()
                np.testing.assert_allclose(
                    arrays[one], arrays[other], rtol=1e-3, atol=1e-4 * max(scale, 1.0)
                )


def test_polynomials_cancel_up_to_rounding() -> None:
    a = Author()
    graph = a.b.build([a.sub(a.x, a.wide(a.mean(a.x)))])
    forms = Forms(graph, SHAPE)
    for node in graph.nodes:
        forms.learn(node)
    centred = forms.of(graph.outputs[0])
    assert len(centred.terms) == 2
    assert centred.row_sum(COLUMNS) == Polynomial({})
    assert (centred * centred).row_sum(COLUMNS) == (forms.of(a.x) * centred).row_sum(COLUMNS)
