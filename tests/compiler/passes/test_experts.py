"""Mixtures of experts as frameworks write them become blocks of one expert each."""

from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Graph, GraphBuilder
from tenzing.compiler.passes import DeadCode, Pipeline, RecogniseExperts, Simplify, SortByExpert
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run

INT = np.dtype(np.int32)
PASSES = Pipeline(
    (RecogniseExperts(), DeadCode(), Simplify(), DeadCode(), SortByExpert(), DeadCode())
)


def mixture(tokens: int, experts: int, turned: bool = False) -> Graph:
    """Two products with gathered weights around silu, two experts for every token."""
    builder = GraphBuilder("mixture")
    x = builder.input("x", (tokens, 8), F32)
    index = builder.input("index", (tokens * 2,), INT)
    shapes = ((experts, 8, 6), (experts, 6, 8)) if turned else ((experts, 6, 8), (experts, 8, 6))
    weights = [builder.parameter(f"w{k}", shape, F32) for k, shape in enumerate(shapes)]
    rows = builder.add(ops.BroadcastInDim((tokens, 2, 8), (0, 2)), x)
    rows = builder.add(ops.Reshape((tokens * 2, 8)), rows)
    for weight in weights:
        gathered = builder.add(ops.Gather(), weight, index)
        if turned:
            rows = builder.add(ops.Reshape((rows.shape[0], 1, rows.shape[1])), rows)
            op = ops.DotGeneral(((0,), (0,)), ((2,), (1,)))
            product = builder.add(op, rows, gathered)
        else:
            rows = builder.add(ops.Reshape((*rows.shape, 1)), rows)
            op = ops.DotGeneral(((0,), (0,)), ((2,), (1,)))
            product = builder.add(op, gathered, rows)
        rows = builder.add(ops.Reshape((tokens * 2, weight.shape[2 if turned else 1])), product)
        rows = builder.add(ops.Silu(), rows)
    return builder.build([rows])


def test_sorted(golden: Any) -> None:
    golden(to_text(PASSES.run(mixture(64, 4))))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("tokens", "experts"), [(64, 4), (3, 8)])
def test_means_the_same(tokens: int, experts: int, turned: bool) -> None:
    graph = mixture(tokens, experts, turned)
    final = PASSES.run(graph)
    kinds = final.count()
    assert "dot_general" not in kinds
    assert kinds.get("expert_blocks" if tokens > experts else "expert_linear") == 2
    assert kinds.get("expert_order", 0) == (tokens > experts)
    random = np.random.default_rng(0)
    x = random.standard_normal((tokens, 8)).astype(np.float32)
    index = random.integers(0, experts, tokens * 2).astype(np.int32)
    weights = {p.name: random.standard_normal(p.shape).astype(np.float32) for p in graph.parameters}
    expected, got = run(graph, [x, index], weights)[0], run(final, [x, index], weights)[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)
