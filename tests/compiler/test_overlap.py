"""Collectives run beside what does not wait for them, and only beside that."""

from __future__ import annotations

import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Graph, GraphBuilder
from tenzing.compiler.models import prefill_graph
from tenzing.compiler.overlap import overlapped_ps
from tenzing.compiler.timing import time_graph

from .test_sharding import SHAPE


def graph(independent: bool) -> Graph:
    """negate, all_reduce, exponential of the input or of the sum, add."""
    builder = GraphBuilder("g")
    x = builder.input("x", (4,), F32)
    total = builder.add(ops.AllReduce(("tp",), 2), builder.add(ops.Negate(), x))
    other = builder.add(ops.Exponential(), x if independent else total)
    return builder.build([builder.add(ops.Add(), total, other)])


ENDS = [100, 100, 400, 450]  # the collective itself has no instructions


def test_what_depends_on_a_sum_waits_for_it() -> None:
    assert overlapped_ps(graph(independent=False), ENDS, {1: 1000}) == 450 + 1000


@pytest.mark.parametrize(("wait", "expected"), [(0, 450), (200, 450), (300, 450), (1000, 1150)])
def test_what_does_not_hides_it(wait: int, expected: int) -> None:
    assert overlapped_ps(graph(independent=True), ENDS, {1: wait}) == expected


def test_collectives_follow_one_another() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (4,), F32)
    one = builder.add(ops.AllReduce(("tp",), 2), x)
    two = builder.add(ops.AllReduce(("tp",), 2), x)
    both = builder.build([one, two])
    assert overlapped_ps(both, [0, 0], {0: 70, 1: 50}) == 120
    assert overlapped_ps(both, [0, 0], {0: 70}) == 70


def test_the_part_that_is_not_hidden_is_told() -> None:
    timed = time_graph(prefill_graph(SHAPE, 1, 8), mesh={"tp": 2}, sequence_parallel=False)
    assert 0 < timed.exposed_ps <= timed.collective_ps < timed.total_ps
