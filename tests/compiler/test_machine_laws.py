"""Every operation on the simulated machine equals its reference, alone and legal."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.compiler.artifact import run_graph
from tenzing.compiler.graph import Array, Op, is_float
from tenzing.compiler.ops import OPS
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import prepare, run
from tenzing.machine import analyse

from .ops.samples import Sample, all_samples, one_node

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
