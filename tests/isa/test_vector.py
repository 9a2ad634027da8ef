"""Elementwise Vector instructions: values against NumPy, engines, rules and rates."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.cases import BF16, F16, F32, I32, U8, U32, build, psum, sbuf, values

from tenzing import facts
from tenzing.isa import numerics
from tenzing.isa.instruction import Engine, Instruction
from tenzing.isa.operand import Layout, Space

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))
TILE = sbuf(F32, 128, 64)
COLUMN = sbuf(F32, 128, 1)
ARITHMETIC = [n for n, op in numerics.ALU.items() if op.arity == 2 and op.kind != "bitvec"]
BITWISE = [n for n, op in numerics.ALU.items() if op.arity == 2 and op.kind == "bitvec"]


def tt(op: str = "add", first: Layout = TILE, second: Layout = TILE, **more: Any) -> Instruction:
    return build(
        "tensor_tensor", **{"dst": first, "data1": first, "data2": second, "op": op} | more
    )


def ts(op: str = "add", operand: Any = 1.0, data: Layout = TILE, **more: Any) -> Instruction:
    fields = {"dst": data, "data": data, "op0": op, "operand0": operand} | more
    return build("tensor_scalar", **fields)


def cycles(template: Instruction, chip: facts.Chip, engine: str = "vector") -> float:
    """Streaming cycles: the issue interval without its overhead."""
    clock, overhead = (chip.number(f"{engine}.{k}") for k in
                       ("clock_ghz", "interval_overhead_cycles"))  # fmt: skip
    return template.cost(chip).issue_ps * clock / 1000 - overhead


# -- tensor_tensor ------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ARITHMETIC)
def test_tensor_tensor_is_the_operator_in_float32(op: str) -> None:
    a, b = values(TILE, 1), values(sbuf(F16, 128, 64), 2)
    got = tt(op, second=sbuf(F16, 128, 64)).compute(data1=a, data2=b)
    expected = numerics.ALU[op](a, b.astype(np.float32))
    np.testing.assert_array_equal(got, expected)


def test_tensor_tensor_add_and_multiply_are_numpy() -> None:
    a, b = values(TILE, 1), values(TILE, 2)
    np.testing.assert_array_equal(tt("add").compute(data1=a, data2=b), a + b)
    np.testing.assert_array_equal(tt("multiply").compute(data1=a, data2=b), a * b)
    np.testing.assert_array_equal(tt("maximum").compute(data1=a, data2=b), np.maximum(a, b))
    np.testing.assert_array_equal(tt("less").compute(data1=a, data2=b), (a < b).astype(np.float32))


@pytest.mark.parametrize("op", BITWISE)
def test_bitwise_operators_keep_the_integer_dtype(op: str) -> None:
    tile = sbuf(U32, 128, 8)
    a, b = values(tile, 1, high=2**32), values(tile, 2, high=31)
    got = tt(op, tile, tile).compute(data1=a, data2=b)
    ufuncs = {"left_shift": np.left_shift, "right_shift": np.right_shift}
    np.testing.assert_array_equal(got, ufuncs.get(op, getattr(np, op))(a, b))
    assert got.dtype == np.uint32


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_int32_keeps_every_bit_on_gpsimd_and_not_on_vector(x: int, y: int) -> None:
    tile = sbuf(I32, 1, 1)
    a, b = np.full((1, 1), x, np.int32), np.full((1, 1), y, np.int32)
    exact = tt("add", tile, tile)
    assert exact.engine_on(TRN2) is Engine.gpsimd
    assert int(exact.compute(data1=a, data2=b)[0, 0]) == (x + y + 2**31) % 2**32 - 2**31
    rounded = tt("add", tile, tile, engine=Engine.vector)
    assert rounded.compute(data1=a, data2=b)[0, 0] == np.float32(x) + np.float32(y)


def test_int32_goes_to_vector_when_a_tile_is_in_psum() -> None:
    tile, bank = sbuf(I32, 128, 64), psum(I32, 128, 64)
    assert tt("add", tile, bank, dst=tile).engine_on(TRN2) is Engine.vector
    assert tt("bitwise_or", tile, tile).engine_on(TRN2) is Engine.vector


def test_power_runs_on_gpsimd_and_is_refused_on_vector() -> None:
    assert tt("power").engine_on(TRN2) is Engine.gpsimd
    (text,) = tt("power", engine=Engine.vector).broken_rules(TRN2)
    assert text == "Vector has no power; it runs on GpSimd"


def test_tensor_tensor_rules() -> None:
    bank = psum(F32, 128, 64)
    assert tt(first=bank, second=bank).broken_rules(TRN2) == [
        "data1 and data2 cannot both be in PSUM"
    ]
    (text,) = tt("abs").broken_rules(TRN2)
    assert text == "abs takes one operand; use tensor_scalar or activation"
    texts = tt("bitwise_and").broken_rules(TRN2)
    assert texts[0] == "bitwise_and needs integer tiles; dst is float32"
    (text,) = tt("bitwise_and", sbuf(U8, 128, 4), sbuf(U8, 128, 4),
                 engine=Engine.gpsimd).broken_rules(TRN2)  # fmt: skip
    assert text == "bitwise_and works on bits and needs Vector, not gpsimd"


def test_two_sbuf_operands_cost_double_on_v2_only() -> None:
    big, bank = sbuf(F32, 128, 1000), psum(F32, 128, 1000)
    assert cycles(tt(first=big, second=big), TRN1) == pytest.approx(2000, abs=1)
    assert cycles(tt(first=big, second=bank), TRN1) == pytest.approx(1000, abs=1)
    assert cycles(tt(first=big, second=big), TRN2) == pytest.approx(1000, abs=1)


def test_bfloat16_pairs_are_fast() -> None:
    big = sbuf(BF16, 128, 1000)
    assert cycles(tt("multiply", big, big), TRN1) == pytest.approx(1000, abs=1)
    assert cycles(tt("maximum", big, big), TRN1) == pytest.approx(2000, abs=1)
    assert cycles(tt("maximum", big, big), TRN2) == pytest.approx(500, abs=1)


def test_a_broadcast_operand_runs_at_one_element_per_cycle() -> None:
    big = sbuf(F16, 128, 444)
    repeated = Layout.of(Space.SBUF, F16, (128, 444), (2, 0), 2)
    assert cycles(tt("multiply", big, repeated), TRN2) == pytest.approx(444, abs=1)


def test_published_trace_of_trn2() -> None:
    """fp32 tensor_tensor of [128, 1000]: 1201 ns; copy of [128, 128]: 291.7 ns."""
    big = sbuf(F32, 128, 1000)
    assert tt(first=big, second=big).cost(TRN2).latency_ps == pytest.approx(1_201_000, rel=0.002)
    small = sbuf(F32, 128, 128)
    copy = build("tensor_copy", dst=small, src=small)
    assert copy.cost(TRN2).latency_ps == pytest.approx(291_700, rel=0.002)


# -- tensor_scalar, scalar_tensor_tensor --------------------------------------------------------


def test_tensor_scalar_applies_both_operators_in_order() -> None:
    data, column = values(TILE, 1), values(COLUMN, 2)
    both = ts("subtract", COLUMN, op1="multiply", operand1=3.0)
    got = both.compute(data=data, operand0=column, operand1=3.0)
    np.testing.assert_array_equal(got, (data - column) * np.float32(3))
    reverse = ts("subtract", COLUMN, reverse0=True, op1="divide", operand1=3.0, reverse1=True)
    got = reverse.compute(data=data, operand0=column, operand1=3.0)
    np.testing.assert_array_equal(got, np.float32(3) / (column - data))


def test_tensor_scalar_without_operator_passes_through() -> None:
    data = values(TILE, 1)
    idle = ts(None, None)
    assert idle.broken_rules(TRN2) == []
    np.testing.assert_array_equal(idle.compute(data=data, operand0=None, operand1=None), data)


def test_tensor_scalar_unary_operator_needs_no_operand() -> None:
    data = values(TILE, 1)
    for operand in (None, 0):
        template = ts("abs", operand)
        assert template.broken_rules(TRN2) == []
        got = template.compute(data=data, operand0=operand, operand1=None)
        np.testing.assert_array_equal(got, np.abs(data))
    (text,) = ts("add", None).broken_rules(TRN2)
    assert text == "operand0 is missing; add takes two operands"


def test_tensor_scalar_bits_with_a_number() -> None:
    tile = sbuf(U8, 128, 16)
    data = values(tile, 1, high=256)
    template = ts("bitwise_and", 0x0F, tile, op1="left_shift", operand1=2)
    got = template.compute(data=data, operand0=0x0F, operand1=2)
    np.testing.assert_array_equal(got, (data & 0x0F) << 2)
    (text,) = ts("bitwise_and", 1, tile, op1="add", operand1=1.0).broken_rules(TRN2)
    assert text == "bitwise_and and add mix bitwise and arithmetic operators"


def test_tensor_scalar_operands_are_float32_columns() -> None:
    (text,) = ts("add", sbuf(BF16, 128, 1)).broken_rules(TRN2)
    assert text == "operand0 has dtype bfloat16; allowed: float32"
    (text,) = ts("add", sbuf(F32, 128, 4)).broken_rules(TRN2)
    assert text == "operand0 has 4 free elements; one per partition is needed"
    (text,) = ts("add", sbuf(F32, 64, 1)).broken_rules(TRN2)
    assert text == "operand0 has 64 partitions, data has 128"


def test_tensor_scalar_engines() -> None:
    assert ts("rsqrt", 0).engine_on(TRN2) is Engine.gpsimd
    assert ts("add", 1.0, op1="rsqrt", operand1=0).broken_rules(TRN2) == []
    (text,) = ts("rsqrt", 0, engine=Engine.vector).broken_rules(TRN2)
    assert text == "Vector does not run rsqrt; rsqrt and power run on GpSimd"
    (text,) = ts("subtract", 1.0, engine=Engine.gpsimd).broken_rules(TRN2)
    assert text == "GpSimd runs rsqrt, power, add and multiply here, not subtract"
    (text,) = ts("subtract", 1.0, engine=Engine.scalar).broken_rules(TRN2)
    assert text == "Scalar runs multiply, add or multiply then add, not subtract"
    (text,) = ts("add", 1.0, engine=Engine.scalar).broken_rules(TRN1)
    assert text == "Scalar on trn1 has no tensor_scalar (scalar.tensor_scalar)"


def test_scalar_tensor_tensor_is_two_instructions_without_rounding_between() -> None:
    tile = sbuf(BF16, 128, 64)
    data, other, column = values(tile, 1), values(tile, 2), values(COLUMN, 3)
    template = build("scalar_tensor_tensor", dst=tile, data=tile, op0="multiply", operand0=COLUMN,
                     op1="subtract", operand1=tile, reverse1=True)  # fmt: skip
    got = template.compute(data=data, operand0=column, operand1=other)
    wide = data.astype(np.float32) * column
    np.testing.assert_array_equal(got, other.astype(np.float32) - wide)


def test_scalar_tensor_tensor_rules_and_fused_rate() -> None:
    big = sbuf(BF16, 128, 1000)

    def sub_mul(**more: Any) -> Instruction:
        fields = {"dst": big, "data": big, "op0": "subtract", "operand0": 1.0, "op1": "multiply",
                  "operand1": big} | more  # fmt: skip
        return build("scalar_tensor_tensor", **fields)

    assert cycles(sub_mul(), TRN1) == pytest.approx(1000, abs=1)
    assert cycles(sub_mul(op0="add"), TRN1) == pytest.approx(2000, abs=1)
    assert cycles(sub_mul(op0="add"), TRN2) == pytest.approx(1000, abs=1)
    assert sub_mul(op0="bitwise_or").broken_rules(TRN2) == [
        "op0 is bitwise_or; arithmetic operators are needed"
    ]
    assert sub_mul(op1="abs").broken_rules(TRN2) == [
        "op1 is abs; an operator with two operands is needed"
    ]


# -- copies, fills, reciprocal ------------------------------------------------------------------


def test_copy_of_equal_dtypes_keeps_every_bit() -> None:
    tile = sbuf(I32, 128, 4)
    data = values(tile, 1, low=-(2**31), high=2**31)
    got = build("tensor_copy", dst=tile, src=tile).compute(src=data)
    np.testing.assert_array_equal(got, data)


def test_copy_between_dtypes_goes_through_float32() -> None:
    src, dst = sbuf(I32, 1, 1), sbuf(F32, 1, 1)
    got = build("tensor_copy", dst=dst, src=src).compute(src=np.array([[2**24 + 1]], np.int32))
    assert got[0, 0] == 2**24


@pytest.mark.parametrize(("dtype", "space", "expected"), [
    (BF16, Space.SBUF, 250), (F16, Space.SBUF, 250), (BF16, Space.PSUM, 500),
    (F32, Space.SBUF, 1000),
])  # fmt: skip
def test_copy_rates_of_vector(dtype: np.dtype, space: Space, expected: float) -> None:
    src, dst = Layout.dense(space, dtype, (128, 1000)), sbuf(dtype, 128, 1000)
    copy = build("tensor_copy", dst=dst, src=src)
    assert cycles(copy, TRN2) == pytest.approx(expected, abs=1)
    assert cycles(copy, TRN1) == pytest.approx(1000, abs=1)


def test_strided_copy_rates() -> None:
    dst = sbuf(BF16, 128, 1000)
    every_other = Layout.of(Space.SBUF, BF16, (128, 1000), (4096, 4), 4096)
    far = Layout.of(Space.SBUF, BF16, (128, 1000), (65536, 16), 65536)
    assert cycles(build("tensor_copy", dst=dst, src=every_other), TRN2) == pytest.approx(500, abs=1)
    assert cycles(build("tensor_copy", dst=dst, src=far), TRN1) == pytest.approx(2000, abs=1)


def test_fp8_and_scalar_perf_modes_of_trn3() -> None:
    fp8 = sbuf(numerics.dtype("float8_e4m3"), 128, 1000)
    assert cycles(build("tensor_copy", dst=fp8, src=fp8), TRN2) == pytest.approx(1000, abs=1)
    assert cycles(build("tensor_copy", dst=fp8, src=fp8), TRN3) == pytest.approx(250, abs=1)
    big = sbuf(BF16, 128, 1000)
    copy = build("tensor_copy", dst=big, src=big, engine=Engine.scalar)
    assert cycles(copy, TRN3, "scalar") == pytest.approx(500, abs=1)


def test_predicated_copy_changes_only_chosen_elements() -> None:
    tile, mask = sbuf(BF16, 128, 8), sbuf(U8, 128, 8)
    dst, src, chosen = values(tile, 1), values(tile, 2), values(mask, 3, high=2)
    template = build("tensor_copy_predicated", dst=tile, src=tile, predicate=mask)
    got = template.compute(dst=dst, src=src, predicate=chosen)
    assert got.tobytes() == np.where(chosen != 0, src, dst).tobytes()
    reverse = build("tensor_copy_predicated", dst=tile, src=1.5, predicate=mask, reverse_pred=True)
    got = reverse.compute(dst=dst, src=1.5, predicate=chosen)
    assert got.tobytes() == np.where(chosen != 0, dst, dst.dtype.type(1.5)).tobytes()


def test_predicated_copy_rules() -> None:
    bank, mask = psum(F32, 128, 64), psum(U8, 128, 64)
    texts = build("tensor_copy_predicated", dst=TILE, src=bank, predicate=mask).broken_rules(TRN2)
    assert texts == ["src and predicate cannot both be in PSUM"]
    texts = build("tensor_copy_predicated", dst=TILE, src=sbuf(BF16, 128, 64),
                  predicate=sbuf(U8, 128, 64)).broken_rules(TRN2)  # fmt: skip
    assert texts == ["src has dtype bfloat16, dst has float32"]


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e5m2", "int8", "uint32"])
@pytest.mark.parametrize("value", [0, 1, 3.5, -2])
def test_memset_rounds_as_a_store_does(name: str, value: float) -> None:
    tile = sbuf(numerics.dtype(name), 4, 8)
    expected = np.empty((4, 8), tile.dtype)
    numerics.store(expected, value)
    assert build("memset", dst=tile, value=value).compute().tobytes() == expected.tobytes()


def test_memset_rules_and_rate_of_zeros() -> None:
    packed = sbuf(numerics.dtype("float8_e4m3fn_x4"), 128, 8)
    assert build("memset", dst=packed, value=0).broken_rules(TRN3) == []
    assert build("memset", dst=packed, value=1).broken_rules(TRN3) == [
        "value is 1; float8_e4m3fn_x4 takes only 0"
    ]
    assert build("memset", dst=TILE, value="x").broken_rules(TRN2) == [
        "value is 'x'; a number is needed"
    ]
    big = sbuf(BF16, 128, 1000)
    assert cycles(build("memset", dst=big, value=0), TRN2) == pytest.approx(500, abs=1)
    assert cycles(build("memset", dst=big, value=1), TRN2) == pytest.approx(1000, abs=1)


def test_reciprocal_is_division() -> None:
    data = values(TILE, 1)
    got = build("reciprocal", dst=TILE, data=TILE).compute(data=data)
    np.testing.assert_array_equal(got, np.float32(1) / data)
    big = sbuf(F32, 128, 100)
    assert cycles(build("reciprocal", dst=big, data=big), TRN2) == pytest.approx(800, abs=1)


def test_reciprocal_and_rsqrt_rates_and_the_stride_penalty() -> None:
    far = Layout.of(Space.SBUF, F32, (128, 100), (16384, 16), 16384)
    slow = build("reciprocal", dst=sbuf(F32, 128, 100), data=far)
    assert cycles(slow, TRN2) == pytest.approx(1600, abs=1)
    big = sbuf(F32, 128, 1000)
    assert cycles(ts("rsqrt", 0, big), TRN2, "gpsimd") == pytest.approx(4000, abs=1)
    assert cycles(ts("add", 1.0, big, engine=Engine.gpsimd), TRN2, "gpsimd") == pytest.approx(
        1000, abs=1
    )


def test_booleans_and_tfloat32_go_by_their_nki_names() -> None:
    mask, tf32 = sbuf(numerics.dtype("bool_"), 128, 64), sbuf(numerics.dtype("tfloat32"), 128, 64)
    copy = build("tensor_copy_predicated", dst=TILE, src=TILE, predicate=mask)
    assert copy.broken_rules(TRN2) == []
    assert tt("bitwise_or", mask, mask).broken_rules(TRN2) == []
    (text,) = ts("add", sbuf(numerics.dtype("tfloat32"), 128, 1)).broken_rules(TRN2)
    assert text == "operand0 has dtype tfloat32; allowed: float32"
    copy = build("tensor_copy_predicated", dst=TILE, src=tf32, predicate=mask)
    assert copy.broken_rules(TRN2) == ["src has dtype tfloat32, dst has float32"]
