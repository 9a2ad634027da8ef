"""Values, rules and timing of the Tensor engine against plain NumPy and the published traces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.cases import build, psum, sbuf, unwritten, values
from tests.isa.cases_tensor_dma import BF16, F32, FP8

from tenzing import facts
from tenzing.isa import enums, numerics
from tenzing.isa.instruction import Cost, Engine
from tenzing.isa.operand import Layout

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))
DOUBLE_ROW = enums.matmul_perf_mode.double_row


def matmul(left: Layout, right: Layout, dst: Layout | None = None, **rest: Any) -> Any:
    columns = rest.pop("columns", left.free)
    dst = dst or psum(F32, columns, right.free)
    return build("nc_matmul", dst=dst, stationary=left, moving=right, **rest)


def cycles(time_ps: int, chip: facts.Chip) -> float:
    return round(time_ps / 1000 * chip.number("tensor.clock_ghz"), 2)


# --- values -------------------------------------------------------------------------------------


@given(st.integers(1, 128), st.integers(1, 128), st.integers(1, 64), st.integers(0, 2**31))
def test_product_is_near_the_float64_one(k: int, m: int, n: int, seed: int) -> None:
    left, right = sbuf(BF16, k, m), sbuf(BF16, k, n)
    a, b = values(left, seed), values(right, seed + 1)
    got = matmul(left, right).compute(None, a, b)
    exact = a.astype(np.float64).T @ b.astype(np.float64)
    bound = np.abs(a.astype(np.float64)).T @ np.abs(b.astype(np.float64))
    assert np.all(np.abs(got - exact) <= k * 2.0**-24 * bound + 1e-30)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2"])
def test_small_integers_multiply_exactly(name: str) -> None:
    dtype = numerics.dtype(name)
    generator = np.random.default_rng(0)
    a = generator.integers(-3, 4, (128, 128)).astype(np.float32)
    b = generator.integers(-3, 4, (128, 512)).astype(np.float32)
    template = matmul(sbuf(dtype, 128, 128), sbuf(dtype, 128, 512))
    assert template.broken_rules(TRN2) == []
    got = template.compute(None, a.astype(dtype), b.astype(dtype))
    assert got.dtype == np.float32
    assert np.array_equal(got, a.T @ b)


def test_accumulation_adds_to_what_psum_holds() -> None:
    left, right = sbuf(BF16, 64, 8), sbuf(BF16, 64, 2, 5)
    a, b, held = values(left, 1), values(right, 2), np.full((8, 2, 5), 100, np.float32)
    fresh = matmul(left, right).compute(held, a, b)
    added = matmul(left, right, accumulate=True).compute(held, a, b)
    assert np.allclose(added, fresh + 100, atol=1e-4)
    assert np.array_equal(held, np.full((8, 2, 5), 100, np.float32)), "dst itself is not touched"


def test_double_row_contracts_over_partitions_and_the_first_free_dim() -> None:
    left, right = sbuf(FP8, 128, 2, 32), sbuf(FP8, 128, 2, 100)
    template = matmul(left, right, psum(F32, 32, 100), perf_mode=DOUBLE_ROW)
    assert template.broken_rules(TRN2) == []
    a, b = values(left, 1), values(right, 2)
    exact = np.einsum("krm,krn->mn", a.astype(np.float64), b.astype(np.float64))
    assert np.allclose(template.compute(None, a, b), exact, atol=1e-3)
    assert template.flops() == 2 * 256 * 32 * 100


@pytest.mark.parametrize("dtype", [BF16, F32])
def test_transpose_mode_passes_every_bit(dtype: np.dtype) -> None:
    data = sbuf(dtype, 128, 96)
    bits = np.random.default_rng(0).integers(0, 256, data.nbytes, np.uint8)
    array = bits.view(dtype).reshape(data.shape)
    identity = np.eye(128, dtype=np.float32).astype(dtype)
    template = matmul(data, sbuf(dtype, 128, 128), psum(dtype, 96, 128), is_transpose=True)
    assert template.broken_rules(TRN2) == []
    assert template.compute(None, array, identity).tobytes() == array.T.tobytes()
    assert template.flops() == 0


def test_transpose_mode_follows_a_permutation() -> None:
    data, array = sbuf(F32, 6, 4), np.arange(24, dtype=np.float32).reshape(6, 4)
    order = [3, 0, 5, 1, 2, 4]
    moving = np.eye(6, dtype=np.float32)[:, order]
    template = matmul(data, sbuf(F32, 6, 6), is_transpose=True)
    assert np.array_equal(template.compute(None, array, moving), array[order].T)


def test_transpose_hint_without_a_permutation_is_a_product() -> None:
    data = sbuf(F32, 4, 3)
    moving = np.full((4, 2), 0.5, np.float32)
    template = matmul(data, sbuf(F32, 4, 2), is_transpose=True)
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(template.compute(None, array, moving), array.T @ moving)


@pytest.mark.parametrize("name", sorted(numerics.DTYPES))
def test_nc_transpose_keeps_every_bit(name: str) -> None:
    dtype = numerics.dtype(name)
    data = sbuf(dtype, 128, 4, 8)
    bits = np.random.default_rng(0).integers(0, 256, data.nbytes, np.uint8)
    array = bits.view(dtype).reshape(data.shape)
    template = build("nc_transpose", dst=psum(dtype, 32, 128), data=data)
    assert template.broken_rules(TRN2) == []
    assert template.compute(array).tobytes() == array.reshape(128, 32).T.tobytes()


# --- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chip", "columns", "elements"), [(TRN1, 128, 512), (TRN2, 128, 512), (TRN3, 128, 4096)]
)
def test_tile_limits_accept_the_edge_and_name_one_past_it(
    chip: facts.Chip, columns: int, elements: int
) -> None:
    right = sbuf(BF16, 128, elements)
    assert matmul(sbuf(BF16, 128, columns), right).broken_rules(chip) == []
    (text,) = matmul(sbuf(BF16, 128, columns), sbuf(BF16, 128, elements + 1)).broken_rules(chip)
    assert text == (f"moving has {elements + 1} free elements; {chip.name} allows {elements} for "
                    "a float32 dst (tensor.moving_free_max)")  # fmt: skip
    wide = matmul(sbuf(BF16, 128, columns + 1), right, psum(F32, 128, elements))
    assert (f"stationary has {columns + 1} free elements; {chip.name} allows {columns} "
            "(tensor.stationary_free_max)") in wide.broken_rules(chip)  # fmt: skip


def test_bfloat16_psum_is_for_v4_and_holds_twice_as_much() -> None:
    left = sbuf(BF16, 128, 128)
    wide = matmul(left, sbuf(BF16, 128, 8192), psum(BF16, 128, 8192))
    assert wide.broken_rules(TRN3) == []
    narrow = matmul(left, sbuf(BF16, 128, 512), psum(BF16, 128, 512))
    assert narrow.broken_rules(TRN2) == ["dst has dtype bfloat16; allowed: float32"]


def test_contraction_and_result_sizes_must_agree() -> None:
    bad = matmul(sbuf(BF16, 64, 32), sbuf(BF16, 65, 100), psum(F32, 31, 99))
    assert bad.broken_rules(TRN2) == [
        "stationary has 64 partitions, moving has 65",
        "dst has 31 partitions, stationary 32 free elements",
        "dst has 99 free elements, moving has 100",
    ]


def test_float32_pairs_only_with_float32() -> None:
    (text,) = matmul(sbuf(F32, 8, 8), sbuf(BF16, 8, 8)).broken_rules(TRN2)
    assert "stationary is float32 and moving is bfloat16" in text
    assert matmul(sbuf(FP8, 8, 8), sbuf(BF16, 8, 8)).broken_rules(TRN2) == []


def test_integers_and_the_ocp_format_of_v4_are_refused() -> None:
    integer, ocp = numerics.dtype("int32"), numerics.dtype("float8_e4m3fn")
    texts = matmul(sbuf(integer, 8, 8), sbuf(BF16, 8, 8)).broken_rules(TRN2)
    assert texts[0].startswith("stationary has dtype int32; trn2 multiplies float8_e4m3")
    assert matmul(sbuf(ocp, 8, 8), sbuf(BF16, 8, 8)).broken_rules(TRN2) != []
    assert matmul(sbuf(ocp, 8, 8), sbuf(BF16, 8, 8)).broken_rules(TRN3) == []
    (text,) = matmul(sbuf(ocp, 8, 8), sbuf(FP8, 8, 8)).broken_rules(TRN3)
    assert text == "float8_e4m3 and float8_e4m3fn cannot meet in one product"


def test_double_row_needs_v3_fp8_and_a_pair_dim() -> None:
    left, right = sbuf(FP8, 128, 2, 32), sbuf(FP8, 128, 2, 64)
    good = {"left": left, "right": right, "dst": psum(F32, 32, 64), "perf_mode": DOUBLE_ROW}
    assert matmul(**good).broken_rules(TRN1) == [
        "trn1 has no double_row mode (tensor.double_row_fp8)"
    ]
    flat = matmul(**good | {"left": sbuf(FP8, 128, 64)}).broken_rules(TRN2)
    assert flat == ["stationary has shape (128, 64); double_row takes (partitions, 2, elements)"]
    wide = matmul(**good | {"left": sbuf(BF16, 128, 2, 32)}).broken_rules(TRN2)
    assert wide[0].startswith("stationary has dtype bfloat16; double_row takes ")
    tiled = matmul(**good, tile_position=(0, 0), tile_size=(128, 64)).broken_rules(TRN2)
    assert tiled == ["double_row cannot be combined with column tiling"]


@pytest.mark.parametrize(
    ("position", "size", "texts"),
    [
        ((64, 0), (64, 128), []),
        ((0, 96), (128, 32), []),
        ((64, 0), (), ["tile_position and tile_size must be given together"]),
        ((0, 0, 0), (64, 128), ["tile_position (0, 0, 0) and tile_size (64, 128) must be pairs "
                                "(row, column)"]),
        ((32, 0), (64, 128), ["tile_position starts at row 32; it must be a multiple of 64 "
                              "below 128"]),
        ((0, 0), (48, 128), ["tile_size has row size 48; trn2 allows 128, 64, 32 "
                             "(tensor.row_tile_min)"]),
        ((32, 0), (32, 128), ["stationary needs 64 rows; tile_size has 32"]),
    ],
)  # fmt: skip
def test_array_tiles(position: tuple[int, ...], size: tuple[int, ...], texts: list[str]) -> None:
    template = matmul(sbuf(BF16, 64, 32), sbuf(BF16, 64, 128), tile_position=position,
                      tile_size=size)  # fmt: skip
    assert template.broken_rules(TRN2) == texts


def test_a_row_tile_of_32_needs_v3() -> None:
    template = matmul(sbuf(BF16, 32, 32), sbuf(BF16, 32, 128), tile_position=(32, 0),
                      tile_size=(32, 128))  # fmt: skip
    assert template.broken_rules(TRN2) == []
    assert template.broken_rules(TRN1) == [
        "tile_size has row size 32; trn1 allows 128, 64 (tensor.row_tile_min)"
    ]


def test_nc_transpose_picks_its_engine_and_names_its_limits() -> None:
    tile = sbuf(F32, 32, 32)
    assert build("nc_transpose", dst=psum(F32, 32, 32), data=tile).engine_on(TRN2) is Engine.tensor
    assert build("nc_transpose", dst=tile, data=tile).engine_on(TRN2) is Engine.vector
    (text,) = build("nc_transpose", dst=sbuf(F32, 33, 32), data=sbuf(F32, 32, 33)).broken_rules(
        TRN2
    )
    assert text == ("data has 33 free elements; the vector engine of trn2 transposes 32 "
                    "(vector.transpose_block)")  # fmt: skip
    wrong = build("nc_transpose", dst=sbuf(F32, 8, 9), data=tile, engine=Engine.tensor)
    assert wrong.broken_rules(TRN2) == [
        "dst is 8 x 9; the transpose of data is 32 x 32",
        "the Tensor engine transposes from SBUF to PSUM only",
    ]
    mixed = build("nc_transpose", dst=psum(F32, 32, 32), data=sbuf(BF16, 32, 32))
    assert mixed.broken_rules(TRN2) == ["dst has dtype float32, data has bfloat16"]


# --- time: the published and decoded figures of a Trn2 -----------------------------------------


def float_cost(dtype: np.dtype, elements: int, **rest: Any) -> Cost:
    return matmul(sbuf(dtype, 128, 128), sbuf(dtype, 128, elements), **rest).cost(TRN2)


def test_bfloat16_takes_a_cycle_per_column_and_six() -> None:
    cost = float_cost(BF16, 444)
    assert cost.issue_ps == pytest.approx(187_500, rel=1e-3)
    assert cost.latency_ps == pytest.approx(350_800, rel=3e-3)
    assert cycles(cost.load_ps, TRN2) == 32


def test_float32_takes_two_passes_of_two_cycles() -> None:
    cost = float_cost(F32, 512)
    assert cycles(cost.issue_ps, TRN2) == 2060
    assert cycles(cost.latency_ps, TRN2) == 1030 + 1024 + 397
    assert cycles(cost.load_ps, TRN2) == 256
    assert cycles(float_cost(F32, 512, is_moving_onezero=True).issue_ps, TRN2) == 1030


def test_small_products_pay_the_minimum_interval() -> None:
    assert float_cost(BF16, 1).issue_ps == float_cost(BF16, 64).issue_ps
    assert cycles(float_cost(BF16, 1).issue_ps, TRN2) == 70


def test_double_row_does_twice_the_work_in_the_same_time() -> None:
    left, right = sbuf(FP8, 128, 2, 128), sbuf(FP8, 128, 2, 512)
    fast = matmul(left, right, psum(F32, 128, 512), perf_mode=DOUBLE_ROW)
    plain = matmul(sbuf(FP8, 128, 128), sbuf(FP8, 128, 512))
    assert fast.cost(TRN2) == plain.cost(TRN2)
    assert fast.flops() == 2 * plain.flops()


def test_float32_transpose_takes_two_cycles_per_row_on_v3_and_four_on_v2() -> None:
    template = build("nc_transpose", dst=psum(F32, 128, 128), data=sbuf(F32, 128, 128))
    cost = template.cost(TRN2)
    assert cost.issue_ps == pytest.approx(109_200, rel=1e-3)
    assert cycles(cost.load_ps, TRN2) == 128
    identity = matmul(sbuf(F32, 128, 128), sbuf(F32, 128, 128), is_transpose=True)
    assert identity.cost(TRN2) == cost
    overhead = TRN1.number("tensor.interval_overhead_cycles")
    streamed = 4 * 128 * TRN1.number("tensor.streaming_factor")
    assert cycles(template.cost(TRN1).issue_ps, TRN1) == pytest.approx(
        streamed + overhead, rel=1e-4
    )


def test_load_is_in_proportion_to_the_columns() -> None:
    half = matmul(sbuf(BF16, 128, 64), sbuf(BF16, 128, 128)).cost(TRN2)
    assert cycles(half.load_ps, TRN2) == 16


def test_unwritten_psum_spreads_only_when_accumulating() -> None:
    left, right = sbuf(BF16, 8, 4), sbuf(BF16, 8, 4)
    held = unwritten(psum(F32, 4, 4))
    a, b = values(left), values(right)
    assert not np.isnan(matmul(left, right).compute(held, a, b)).any()
    assert np.isnan(matmul(left, right, accumulate=True).compute(held, a, b)).all()
