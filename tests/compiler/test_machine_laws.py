"""Every operation on the simulated machine equals its reference, alone and legal."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import F32, Alias, Array, Graph, GraphBuilder, Op, is_float
from tenzing.compiler.ops import OPS, Scatter, Sort, Tanh
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import prepare, run
from tenzing.errors import UnsupportedOp
from tenzing.isa import Space
from tenzing.machine import analyse

from .ops.samples import Sample, all_samples, floats, one_node

RELATIVE = 2e-6  # of the largest element: float32 sums and products in another order
HALF = 2**-8  # bfloat16 results: one unit in the last place
LOWERED = [sample for sample in all_samples() if sample[0].name != "fused"]


def _name(sample: Sample) -> str:
    op, arrays = sample
    shapes = "_".join("x".join(map(str, a.shape)) for a in arrays)
    return f"{op.name}-{shapes}-{getattr(op, 'kind', '')}"


def assert_agree(got: Array, expected: Array) -> None:
    """Equal integers; floats within a stated part of the largest one."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if not is_float(expected.dtype):
        np.testing.assert_array_equal(got, expected)
        return
    wide = expected.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)]).max(initial=1e-30)
    near = HALF if expected.dtype.itemsize < np.dtype(np.float32).itemsize else RELATIVE
    np.testing.assert_allclose(got.astype(np.float64), wide, rtol=0, atol=near * finite)


def on_machine(op: Op, arrays: tuple[Array, ...]) -> tuple[list[Array], tuple[Array, ...]]:
    """Outputs on the machine and by the reference, through the whole pipeline."""
    graph = default_pipeline().run(one_node(op, arrays))
    outputs, program = run_graph(graph, arrays, prepare(graph, {}), "trn2")
    assert [f.message for f in analyse(program).findings] == []
    return outputs, run(one_node(op, arrays), arrays, {})


@pytest.mark.parametrize("sample", LOWERED, ids=[_name(s) for s in LOWERED])
def test_machine_equals_reference(sample: Sample) -> None:
    for got, expected in zip(*on_machine(*sample), strict=True):
        assert_agree(got, expected)


def test_every_operation_has_a_sample_here() -> None:
    covered = {op.name for op, _ in LOWERED} | {"fused"}
    assert set(OPS) - covered == set()


def test_scatter_skips_indices_outside_and_keeps_the_last() -> None:
    table, index, updates = floats(6, 4), np.array([5, -1, 6, 5]), floats(4, 4, seed=3)
    (got,), (expected,) = on_machine(Scatter(False), (table, index, updates))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got[5], updates[3])


def test_scatter_adds_repeats_within_and_across_tiles() -> None:
    index = np.random.default_rng(1).integers(0, 10, 300)
    outputs = on_machine(Scatter(True), (floats(10, 600), index, floats(300, 600, seed=2)))
    for got, expected in zip(*outputs, strict=True):
        assert_agree(got, expected)


def _update_graph(kind: str) -> Graph:
    """A scatter whose table is computed, an input that stays, or one that it replaces."""
    builder = GraphBuilder("update")
    table = builder.input("table", (300, 40), F32)
    index, rows = builder.input("index", (2,), np.int32), builder.input("rows", (2, 40), F32)
    start = builder.add(Tanh(), table) if kind == "computed" else table
    out = builder.add(Scatter(False), start, index, rows)
    if kind == "read_again":
        return builder.build([out, builder.add(Tanh(), start)])
    return builder.build([out], [Alias(0, "table")] if kind == "replaced" else [])


@pytest.mark.parametrize("kind", ["computed", "kept", "replaced", "read_again"])
def test_a_scatter_copies_its_table_only_when_others_read_it(kind: str) -> None:
    graph = default_pipeline().run(_update_graph(kind))
    arrays = [floats(300, 40), np.array([7, 299], np.int32), floats(2, 40, seed=1)]
    before = arrays[0].copy()
    outputs, program = run_graph(graph, arrays, {}, "trn2")
    assert [f.message for f in analyse(program).findings] == []
    for got, expected in zip(outputs, run(graph, arrays, {}), strict=True):
        assert_agree(got, expected)
    np.testing.assert_array_equal(arrays[0], before)
    copies = [s for s in program.storages if s.space is Space.HBM and s.shape == (300, 40)]
    assert len(copies) == {"computed": 2, "kept": 2, "replaced": 1, "read_again": 3}[kind]


def test_sorting_more_than_a_search_takes_is_refused() -> None:
    with pytest.raises(UnsupportedOp, match=r"sort.*16384"):
        on_machine(Sort(0, True, np.dtype(np.int64)), (floats(20000),))
