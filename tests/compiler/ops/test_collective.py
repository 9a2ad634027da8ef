"""Collectives over ranks mean what NumPy says of the ranks' stacked tensors."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.compiler.graph import BF16, F32, GraphBuilder, GraphError, TensorType
from tenzing.compiler.ops import (
    AllGather,
    AllReduce,
    AllToAll,
    AxisIndex,
    CollectivePermute,
    ReduceScatter,
)
from tenzing.compiler.passes import FoldConstants

AXES = ("tp",)
ON_RANKS = [np.arange(24, dtype=np.float32).reshape(4, 6) * (r + 1) - 20 for r in range(3)]


@pytest.mark.parametrize("combine", ["add", "max", "min"])
def test_a_sum_is_a_scatter_and_a_gather(combine: str) -> None:
    whole = AllReduce(AXES, 3, combine).over_ranks(ON_RANKS)
    function = {"add": np.sum, "max": np.max, "min": np.min}[combine]
    np.testing.assert_array_equal(whole[1], function(np.stack(ON_RANKS), 0))
    parts = ReduceScatter(AXES, 3, 1, combine).over_ranks(ON_RANKS)
    again = AllGather(AXES, 3, 1).over_ranks(parts)
    for got in again:
        np.testing.assert_array_equal(got, whole[0])


def test_narrow_sums_round_once() -> None:
    parts = [np.array([256.0], BF16), np.array([0.75], BF16), np.array([0.75], BF16)]
    assert AllReduce(AXES, 3).over_ranks(parts)[0].astype(float) == 258  # 256 if rounded each time


def test_all_to_all_is_a_transpose_of_blocks_and_its_own_inverse() -> None:
    there = AllToAll(AXES, 3, 1, 0)
    sent = there.over_ranks(ON_RANKS)
    assert sent[2].shape == (12, 2)
    np.testing.assert_array_equal(sent[2][4:8], ON_RANKS[1][:, 4:6])
    back = AllToAll(AXES, 3, 0, 1).over_ranks(sent)
    for got, expected in zip(back, ON_RANKS, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_permutation_moves_whole_tensors_and_leaves_zeros() -> None:
    found = CollectivePermute(AXES, 3, ((0, 2), (2, 1))).over_ranks(ON_RANKS)
    assert not found[0].any()
    np.testing.assert_array_equal(found[1], ON_RANKS[2])
    np.testing.assert_array_equal(found[2], ON_RANKS[0])


def test_each_rank_knows_its_place() -> None:
    assert [int(a) for a in AxisIndex(AXES, 3).over_ranks([])] == [0, 1, 2]


@pytest.mark.parametrize(("op", "message"), [
    (AllToAll(AXES, 4, 1, 0), "multiple of 4"), (ReduceScatter(AXES, 5, 0), "multiple of 5"),
    (AllGather(AXES, 2, 2), "dim"), (AllToAll(AXES, 2, 0, 3), "dim"),
    (AllReduce(AXES, 2, "mean"), "add, max, min"), (AllReduce(AXES, 0), "1 or more"),
    (CollectivePermute(AXES, 2, ((0, 2),)), r"0\.\.1"),
    (CollectivePermute(AXES, 3, ((0, 1), (2, 1))), "at most once"),
])  # fmt: skip
def test_wrong_collectives_are_refused(op: AllReduce, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        op.infer(TensorType((4, 6), F32))


def test_only_what_moves_is_counted() -> None:
    kind = TensorType((4, 6), F32)
    moved = {op: op.moved_bytes([kind], op.infer(kind)) for op in (
        AllReduce(AXES, 3), AllGather(AXES, 3, 0), ReduceScatter(AXES, 2, 0),
        AllToAll(AXES, 2, 0, 1), CollectivePermute(AXES, 2, ((0, 1),)),
        CollectivePermute(AXES, 2, ((0, 0), (1, 1))))}  # fmt: skip
    assert list(moved.values()) == [96, 288, 96, 96, 96, 0]


def test_constants_of_several_ranks_are_not_folded() -> None:
    builder = GraphBuilder("g")
    place = builder.add(AxisIndex(AXES, 2))
    graph = builder.build([place])
    assert FoldConstants().apply(graph) == graph
