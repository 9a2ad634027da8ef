"""Matrix products equal NumPy however they are cut, fit every chip, and keep TensorE busy."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tenzing import facts, kernels
from tenzing.isa import numerics
from tenzing.kernels.matmul import batched_matmul, gated_linear
from tenzing.kernels.operands import chunks
from tenzing.kernels.plan import Plan, Shape, candidates, default_plan
from tenzing.machine import Analysis, Options, analyse
from tenzing.nki import Spec, session
from tenzing.nki import language as nl

from .running import normal, run

BF16 = np.dtype(ml_dtypes.bfloat16)
F32, F16 = np.dtype(np.float32), np.dtype(np.float16)
FP8 = np.dtype(ml_dtypes.float8_e4m3)


def timed(rows: int, depth: int, columns: int, dtype=BF16, target: str = "trn2") -> Analysis:
    """Analysis of a linear without values."""
    with session(target, Options(values=False)):
        launch = kernels.linear.launch(Spec((rows, depth), dtype), Spec((depth, columns), dtype))
    result = analyse(launch.programs[0])
    assert [f.message for f in result.findings] == []
    return result


def exact(x, w) -> np.ndarray:
    return x.astype(np.float64) @ w.astype(np.float64)


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(128, 128, 512), (200, 384, 600), (1, 64, 7), (1, 300, 1100), (16, 129, 513), (257, 1, 3)],
)
@pytest.mark.parametrize("dtype", [F32, BF16, F16, FP8], ids=str)
def test_linear_of_every_dtype(rows: int, depth: int, columns: int, dtype) -> None:
    x = normal(rows, depth).astype(dtype)
    w = (normal(depth, columns, seed=1) / math.sqrt(depth)).astype(dtype)
    bias = normal(columns, seed=2)
    result = run(kernels.linear, x, w, bias, out_dtype=F32)
    np.testing.assert_allclose(result, exact(x, w) + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["trn1", "inf2", "trn2", "trn3"])
def test_each_dtype_multiplies_at_the_rate_of_its_chip(target: str) -> None:
    chip = facts.chip(target)
    busy = {
        name: timed(512, 2048, 2048, numerics.dtype(name), target).busy_ps["Tensor"]
        for name in ("bfloat16", "float16", "tfloat32", "float32", "float8_e4m3")
    }
    assert busy["float16"] == busy["bfloat16"] == pytest.approx(busy["tfloat32"], rel=0.1)
    slower = chip.integer("tensor.fp32_passes") * chip.number("tensor.fp32_cycles_per_row")
    assert busy["float32"] / busy["bfloat16"] == pytest.approx(slower, rel=0.1)
    rows = 2 if chip.flag("tensor.double_row_fp8") else 1
    assert busy["bfloat16"] / busy["float8_e4m3"] == pytest.approx(rows, rel=0.25)


def test_every_cut_gives_the_same_product() -> None:
    x, w = normal(300, 300), normal(300, 1100, seed=1) / 16
    expected = exact(x, w)
    with session("trn2"):
        cuts = list(candidates(Shape(300, 300, 1100, 4)))
    small = [Plan(r, c, kept, 2, 2) for r, c, kept in ((1, 1, "left"), (2, 1, "right"),
                                                       (1, 2, "none"))]  # fmt: skip
    assert len(cuts) > 4
    for plan in [*cuts, *small]:
        result = run(kernels.linear, x, w, plan=plan)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4, err_msg=str(plan))


@pytest.mark.parametrize("x_dtype", [F32, BF16, FP8], ids=str)
def test_linear_casts_to_the_weights_dtype(x_dtype) -> None:
    x, w = normal(64, 256).astype(x_dtype), (normal(256, 128, seed=1) / 16).astype(BF16)
    result = run(kernels.linear, x, w, out_dtype=F32)
    np.testing.assert_allclose(result, exact(x.astype(BF16), w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("op", [None, "silu", "gelu"])
def test_linear_epilogues(biased: bool, residual: bool, op: str | None) -> None:
    x, w = normal(130, 128), normal(128, 600, seed=1) / 8
    bias = normal(600, seed=3) if biased else None
    extra = normal(130, 600, seed=2) if residual else None
    result = run(kernels.linear, x, w, bias, getattr(nl, op) if op else None, extra)
    y = exact(x, w) + (bias if biased else 0)
    if op == "silu":
        y = y / (1 + np.exp(-y))
    elif op == "gelu":
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    np.testing.assert_allclose(result, y + (extra if residual else 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 150])
@pytest.mark.parametrize("biased", [False, True])
def test_gated_linear(rows: int, biased: bool) -> None:
    x = normal(rows, 200)
    gate, up = normal(200, 700, seed=1) / 14, normal(200, 700, seed=2) / 14
    biases = (normal(700, seed=3), normal(700, seed=4)) if biased else (None, None)
    result = run(gated_linear, x, gate, up, nl.silu, biases)
    a, b = exact(x, gate), exact(x, up)
    if biased:
        a, b = a + biases[0], b + biases[1]
    np.testing.assert_allclose(result, a / (1 + np.exp(-a)) * b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2048])
def test_gate_and_product_share_the_loads_of_x(rows: int) -> None:
    with session("trn2", Options(values=False)):
        specs = [Spec(s, BF16) for s in ((rows, 4096), (4096, 4096), (4096, 4096))]
        launch = gated_linear.launch(*specs, nl.silu)
    result = analyse(launch.programs[0])
    assert result.findings == []
    least = 2 * (rows * 4096 + 2 * 4096 * 4096)  # of bf16, everything once
    assert result.hbm_read_bytes == least if rows == 1 else result.mfu > 0.95


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize(("m", "k", "n"), [(40, 160, 72), (1, 5, 3), (200, 130, 520)])
def test_batched_matmul(
    transpose_a: bool, transpose_b: bool, dtype, m: int, k: int, n: int
) -> None:
    a, b = normal(3, m, k).astype(dtype), normal(3, k, n, seed=1).astype(dtype)
    given = [np.ascontiguousarray(x.swapaxes(1, 2)) if turned else x
             for x, turned in ((a, transpose_a), (b, transpose_b))]  # fmt: skip
    result = run(batched_matmul, *given, transpose_b, F32, transpose_a)
    expected = np.stack([exact(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 127, 128, 129, 2048, 5000])
def test_chunks_cover_the_contraction_once(depth: int) -> None:
    with session("trn2"):
        parts = chunks(depth, 4)
    rows = [r for p in parts for r in range(p.start, p.stop)]
    assert rows == list(range(depth))
    assert max(p.blocks for p in parts) <= 4


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3", "inf2"])
def test_a_large_product_is_near_the_peak(target: str) -> None:
    result = timed(2048, 2048, 2048, target=target)
    sustained = 1 / result.chip.number("tensor.streaming_factor")  # of the documented peak
    assert result.mfu >= {"trn1": 0.85, "inf2": 0.85}.get(target, 0.94) * sustained
    assert len(result.program) < 1250  # 1024 products: little else costs time to record


@pytest.mark.parametrize("rows", [1, 16])
def test_decoding_moves_weights_as_fast_as_the_dma_engines_can(rows: int) -> None:
    result = timed(rows, 4096, 14336)
    chip = result.chip
    engines = chip.number("dma.engine_gb_s") * chip.integer("dma.engines")  # GB/s, below HBM's
    moved = result.hbm_read_bytes + result.hbm_write_bytes
    assert moved / (result.total_ps / 1e3) >= 0.9 * engines


@pytest.mark.parametrize(
    ("rows", "depth", "columns", "dtype"),
    [(2048, 14336, 4096, BF16), (300, 28672, 1000, F32), (1, 28672, 8192, F32),
     (4096, 512, 50257, BF16)],
)  # fmt: skip
def test_large_products_fit(rows: int, depth: int, columns: int, dtype) -> None:
    with session("trn1"):
        plan = default_plan(Shape(rows, depth, columns, dtype.itemsize))
        room = nl.tile_size.total_available_sbuf_size
        assert plan.bytes_per_partition(Shape(rows, depth, columns, dtype.itemsize)) < room
    timed(rows, min(depth, 8192), min(columns, 4096), dtype, "trn1")
