"""Choices between equals: followed when they are near ties, and nothing else is excused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tenzing.compiler.choices import following
from tenzing.compiler.comparison import Comparison, difference
from tenzing.compiler.graph import Array, Graph, GraphBuilder, with_origins
from tenzing.compiler.ops import ArgMax, Compare, Sort, TopK

INT = np.dtype(np.int64)
ROW = np.array([[1.0, 3.0, 3.0, 2.0]], np.float32)


def graph_of(op: Any) -> Graph:
    builder = GraphBuilder("choice")
    x = builder.input("x", ROW.shape, ROW.dtype)
    return with_origins(builder.build([*builder.emit(op, x)]))


def followed(op: Any, row: Array, theirs: Array) -> Any:
    graph = graph_of(op)
    known = {graph.nodes[0].outputs[-1].name: theirs}
    return following(graph, {graph.inputs[0]: row}, known)


@pytest.mark.parametrize(("op", "theirs"), [
    (TopK(2, INT), [[2, 1]]), (Sort(1, True, INT), [[2, 1, 3, 0]]), (ArgMax(1, INT), [2]),
])  # fmt: skip
def test_a_tie_is_taken_as_the_framework_took_it(op: Any, theirs: Any) -> None:
    (choice,), outputs = followed(op, ROW, np.array(theirs))
    assert outputs[-1].tolist() == theirs
    assert choice.apart == 0.0
    assert "equal" in str(choice)


@pytest.mark.parametrize(("op", "theirs"), [
    (TopK(2, INT), [[1, 3]]), (Sort(1, True, INT), [[1, 2, 0, 3]]), (ArgMax(1, INT), [0]),
])  # fmt: skip
def test_a_worse_pick_is_not_followed(op: Any, theirs: Any) -> None:
    choices, outputs = followed(op, ROW, np.array(theirs))
    assert not choices
    assert outputs[-1].tolist() != theirs


@pytest.mark.parametrize(("gap", "count"), [(1e-6, 1), (1e-2, 0)])
def test_nearly_equal_candidates_count_within_rounding(gap: float, count: int) -> None:
    row = ROW - np.array([[0, 0, gap * 3, 0]], np.float32)
    choices, outputs = followed(TopK(1, INT), row, np.array([[2]]))
    assert len(choices) == count
    assert outputs[0][0, 0] == row[0, 2 if count else 1]  # the value goes with the index


@pytest.mark.parametrize(("right", "count"), [(3.0, 1), (2.9, 0)])
def test_comparisons_of_near_equals(right: float, count: int) -> None:
    builder = GraphBuilder("choice")
    x, y = (builder.input(name, (1,), ROW.dtype) for name in "xy")
    (answer,) = builder.emit(Compare("gt"), x, y)
    graph = with_origins(builder.build([answer]))
    bound = dict(zip(graph.inputs, np.array([[3.0], [right]], np.float32), strict=True))
    ours = bound[graph.inputs[0]] > bound[graph.inputs[1]]
    choices, _ = following(graph, bound, {answer.name: ~ours})
    assert len(choices) == count


def test_a_comparison_says_what_its_choices_explain() -> None:
    far, near = (difference("y", ROW + d, ROW, 1e-4) for d in (0.5, 0.0))
    choices, _ = followed(TopK(2, INT), ROW, np.array([[2, 1]]))
    found = Comparison((far,), choices=tuple(choices), followed=(near,))
    assert not found.agrees
    assert found.explained
    assert "top_k of - : 2 of 2 picked otherwise" in str(found).replace("-:", "- :")
    assert "with the framework's picks every output agrees" in str(found)
    unexplained = Comparison((far,), choices=tuple(choices), followed=(far,))
    assert not unexplained.explained
    assert "even with the framework's picks" in str(unexplained)


def test_a_router_with_equal_scores_is_explained() -> None:
    torch = pytest.importorskip("torch")
    import tenzing

    class Router(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.gate = torch.nn.Linear(8, 4, bias=False)
            torch.nn.init.zeros_(self.gate.weight)
            self.experts = torch.nn.Parameter(torch.randn(4, 8))

        def forward(self, x: Any) -> Any:
            _, picked = torch.topk(torch.sigmoid(self.gate(x)), 2)
            return x * self.experts[picked].sum(1)

    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    found = tenzing.compile(Router().eval(), (x,), numerics="graph").compare(x)
    assert found.agrees or found.explained  # which equals PyTorch picks is its own affair
    if not found.agrees:
        assert "top_k" in str(found)
