"""Reductions, scans and statistics of Vector: values against NumPy, registers, rules."""

import time
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.cases import BF16, F32, U32, build, psum, sbuf, values

from tenzing import facts
from tenzing.isa import numerics
from tenzing.isa.enums import reduce_cmd
from tenzing.isa.instruction import Instruction

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))
TILE, COLUMN = sbuf(F32, 128, 100), sbuf(F32, 128, 1)
EPS = 2.0**-24


def sums(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact row sums and the bound on a float32 sum in any order."""
    wide = values.astype(np.float64)
    return wide.sum(axis=-1), wide.shape[-1] * EPS * np.abs(wide).sum(axis=-1)


# -- tensor_reduce ------------------------------------------------------------------------------


def test_tensor_reduce_sums_the_last_dims() -> None:
    data = values(sbuf(BF16, 128, 3, 4, 5), 1)
    for axis, left in (((3,), 12), ((2, 3), 3), ([1, 2, 3], 1), (-1, 12)):
        template = build("tensor_reduce", dst=sbuf(F32, 128, left), op="add",
                         data=sbuf(BF16, 128, 3, 4, 5), axis=axis)  # fmt: skip
        assert template.broken_rules(TRN2) == []
        exact, bound = sums(data.reshape(128, left, -1))
        assert np.all(np.abs(template.compute(data=data) - exact) <= bound)


@pytest.mark.parametrize(("op", "expected"), [
    ("maximum", np.max), ("minimum", np.min),
    ("logical_and", lambda x, axis: np.all(x != 0, axis)),
    ("logical_or", lambda x, axis: np.any(x != 0, axis)),
    ("subtract", lambda x, axis: reduce(np.subtract, x.T)),
    ("multiply", lambda x, axis: numerics.row_reduce("multiply", x)),
])  # fmt: skip
def test_tensor_reduce_operators(op: str, expected: Any) -> None:
    data = values(sbuf(F32, 128, 9), 1)
    template = build("tensor_reduce", dst=COLUMN, op=op, data=sbuf(F32, 128, 9), axis=1)
    assert template.broken_rules(TRN2) == []
    got = template.compute(data=data).reshape(-1)
    np.testing.assert_array_equal(got, expected(data, 1).astype(np.float32))


def test_tensor_reduce_negates_and_reduces_bits() -> None:
    data = values(TILE, 1)
    negated = build("tensor_reduce", dst=COLUMN, op="max", data=TILE, axis=1, negate=True)
    np.testing.assert_array_equal(negated.compute(data=data)[:, 0], -data.max(axis=1))
    bits = values(sbuf(U32, 128, 5), 1, high=2**32)
    fold = build("tensor_reduce", dst=sbuf(U32, 128, 1), op="bitwise_xor",
                 data=sbuf(U32, 128, 5), axis=1)  # fmt: skip
    got = fold.compute(data=bits)
    np.testing.assert_array_equal(got[:, 0], np.bitwise_xor.reduce(bits, axis=1))


@pytest.mark.parametrize(("fields", "text"), [
    ({"axis": 0}, "axis is (0,); the last consecutive dims of 2 are needed"),
    ({"axis": (0, 1)}, "axis 0 is the partition dim; Vector cannot reduce it"),
    ({"axis": ()}, "axis is (); the last consecutive dims of 2 are needed"),
    ({"axis": 2}, "axis is (2,); the last consecutive dims of 2 are needed"),
    ({"dst": TILE}, "dst has 100 free elements; axis (1,) leaves 1"),
    ({"op": "less"}, "op is less, which is not a reduction"),
    ({"op": "bitwise_or"}, "bitwise_or needs integer tiles; dst is float32"),
])  # fmt: skip
def test_tensor_reduce_rules(fields: dict[str, Any], text: str) -> None:
    template = build("tensor_reduce",
                     **{"dst": COLUMN, "op": "add", "data": TILE, "axis": 1} | fields)  # fmt: skip
    assert template.broken_rules(TRN2)[0] == text


def test_published_trace_of_tensor_reduce() -> None:
    """Trn2, fp16 max of 444 elements: 603 ns; of 222: 373 ns."""
    for count, latency_ps in ((444, 603_000), (222, 373_000)):
        data = sbuf(numerics.dtype("float16"), 128, count)
        template = build("tensor_reduce", dst=sbuf(F32, 128, 1), op="max", data=data, axis=1)
        assert template.cost(TRN2).latency_ps == pytest.approx(latency_ps, rel=0.005)


# -- the accumulation registers -----------------------------------------------------------------


def test_tensor_scalar_reduce_is_elementwise_and_a_sum() -> None:
    data = values(TILE, 1)
    template = build("tensor_scalar_reduce", dst=TILE, data=TILE, op0="multiply", operand0=2.0,
                     reduce_op="add", reduce_res=COLUMN, reduce_res_negate=True)  # fmt: skip
    got = template.compute({}, data=data, operand0=2.0, reduce_init=None)
    np.testing.assert_array_equal(got["dst"], data * 2)
    exact, bound = sums(data * 2)
    assert np.all(np.abs(-got["reduce_res"] - exact) <= bound)


@pytest.mark.parametrize(("op", "identity"), [
    ("add", 0.0), ("multiply", 1.0), ("maximum", -np.inf), ("minimum", np.inf),
])  # fmt: skip
def test_registers_reset_load_and_carry_on(op: str, identity: float) -> None:
    data, start = values(TILE, 1), values(COLUMN, 2)
    state: dict[str, Any] = {"vector.reduce_regs": np.full(128, 1e30, np.float32)}
    alu = numerics.alu_op(op)
    row = numerics.row_reduce(op, data)

    def run(command: reduce_cmd, init: Any = None) -> np.ndarray:
        template = build("tensor_scalar_reduce", dst=TILE, data=TILE, op0="add", operand0=0.0,
                         reduce_op=op, reduce_res=COLUMN, reduce_cmd=command,
                         reduce_init=None if init is None else COLUMN)  # fmt: skip
        assert template.broken_rules(TRN2) == []
        return template.compute(state, data=data, operand0=0.0, reduce_init=init)["reduce_res"]

    np.testing.assert_array_equal(run(reduce_cmd.reset_reduce), alu(np.float32(identity), row))
    once = state["vector.reduce_regs"].copy()
    np.testing.assert_array_equal(run(reduce_cmd.reduce), alu(once, row))
    loaded = run(reduce_cmd.load_reduce, start)
    np.testing.assert_array_equal(loaded, alu(start[:, 0], row))


def test_fewer_lanes_leave_the_other_registers_alone() -> None:
    small = sbuf(F32, 32, 4)
    held = np.arange(128, dtype=np.float32)
    state = {"vector.reduce_regs": held.copy()}
    template = build("tensor_scalar_reduce", dst=small, data=small, op0="add", operand0=0.0,
                     reduce_op="max")  # fmt: skip
    template.compute(state, data=values(small), operand0=0.0, reduce_init=None)
    np.testing.assert_array_equal(state["vector.reduce_regs"][32:], held[32:])
    np.testing.assert_array_equal(state["vector.reduce_regs"][:32], values(small).max(axis=1))


@pytest.mark.parametrize(("fields", "text"), [
    ({"reduce_op": "subtract"},
     "reduce_op is subtract; allowed: add, multiply, maximum, minimum"),
    ({"reduce_cmd": reduce_cmd.idle},
     "reduce_cmd is idle; allowed: reset_reduce, reduce, load_reduce"),
    ({"reverse0": True}, "reverse0=True is documented as not supported yet"),
    ({"reduce_cmd": reduce_cmd.load_reduce},
     "reduce_init goes with reduce_cmd.load_reduce, and only with it"),
    ({"op0": "bitwise_or"}, "op0 is bitwise_or; an arithmetic operator of Vector is needed"),
    ({"reduce_res": TILE}, "reduce_res has 100 free elements; one per partition is needed"),
])  # fmt: skip
def test_tensor_scalar_reduce_rules(fields: dict[str, Any], text: str) -> None:
    given = {"dst": TILE, "data": TILE, "op0": "add", "operand0": 1.0, "reduce_op": "add"}
    assert build("tensor_scalar_reduce", **given | fields).broken_rules(TRN2) == [text]


# -- scans --------------------------------------------------------------------------------------


def by_hand(data0: np.ndarray, data1: np.ndarray, initial: float, op0: Any, op1: Any) -> np.ndarray:
    result, state = np.empty_like(data0), np.full(len(data0), initial, np.float32)
    for i in range(data0.shape[1]):
        state = op1(op0(data0[:, i], state), data1[:, i])
        result[:, i] = state
    return result


@pytest.mark.parametrize(("op0", "op1"), [
    ("multiply", "add"), ("add", "maximum"), ("subtract", "multiply"), ("maximum", "subtract"),
])  # fmt: skip
def test_tensor_tensor_scan_is_the_recurrence(op0: str, op1: str) -> None:
    a, b = values(TILE, 1), values(TILE, 2)
    template = build("tensor_tensor_scan", dst=TILE, data0=TILE, data1=TILE, initial=0.5,
                     op0=op0, op1=op1)  # fmt: skip
    got = template.compute(data0=a, data1=b, initial=0.5)
    expected = by_hand(a, b, 0.5, getattr(np, op0), getattr(np, op1))
    np.testing.assert_array_equal(got, expected)


def test_scan_starts_from_a_column_and_reverses() -> None:
    a, b, start = values(TILE, 1), values(TILE, 2), values(COLUMN, 3)
    template = build("tensor_tensor_scan", dst=TILE, data0=TILE, data1=TILE, initial=COLUMN,
                     op0="subtract", op1="subtract", reverse0=True, reverse1=True)  # fmt: skip
    got = template.compute(data0=a, data1=b, initial=start)
    np.testing.assert_array_equal(got[:, 0], b[:, 0] - (start[:, 0] - a[:, 0]))
    np.testing.assert_array_equal(got[:, 1], b[:, 1] - (got[:, 0] - a[:, 1]))


def test_scan_keeps_float32_between_steps_whatever_the_destination() -> None:
    tile = sbuf(BF16, 1, 300)
    ones = np.ones((1, 300), BF16)
    template = build("tensor_tensor_scan", dst=tile, data0=tile, data1=tile, initial=0.0,
                     op0="multiply", op1="add")  # fmt: skip
    assert template.compute(data0=ones, data1=ones, initial=0.0)[0, -1] == 300


def test_scan_rules() -> None:
    bank = psum(F32, 128, 100)
    scan = {"dst": TILE, "data0": bank, "data1": bank, "initial": 0.0, "op0": "power",
            "op1": "abs"}  # fmt: skip
    assert build("tensor_tensor_scan", **scan).broken_rules(TRN2) == [
        "data0 and data1 cannot both be in PSUM",
        "op0 is power, which Vector does not have",
        "op1 is abs; a binary arithmetic operator is needed",
    ]


def test_a_large_scan_is_fast_enough() -> None:
    tile = sbuf(F32, 128, 512)
    a, b = values(tile, 1), values(tile, 2)
    template = build("tensor_tensor_scan", dst=tile, data0=tile, data1=tile, initial=0.0,
                     op0="multiply", op1="add")  # fmt: skip
    best = min(_seconds(template, a, b) for _ in range(5))
    assert best < 0.05  # about 1 ms; the margin is for a busy machine


def _seconds(template: Instruction, a: np.ndarray, b: np.ndarray) -> float:
    start = time.perf_counter()
    template.compute(data0=a, data1=b, initial=0.0)
    return time.perf_counter() - start


@pytest.mark.parametrize("op1", ["add", "multiply", "maximum", "minimum"])
def test_cumulative_is_a_running_reduction(op1: str) -> None:
    data = values(TILE, 1)
    template = build("tensor_scalar_cumulative", dst=TILE, src=TILE, op0="multiply", op1=op1,
                     imm0=0.5)  # fmt: skip
    got = template.compute({}, src=data, imm0=0.5, imm1=None)
    expected = getattr(np, op1).accumulate(data * np.float32(0.5), axis=1)
    np.testing.assert_array_equal(got, expected)


def test_cumulative_goes_on_from_the_registers_or_a_given_value() -> None:
    data = values(TILE, 1)
    state: dict[str, Any] = {}

    def run(command: reduce_cmd, imm1: Any) -> np.ndarray:
        template = build("tensor_scalar_cumulative", dst=TILE, src=TILE, op0="add", op1="add",
                         imm0=0.0, imm1=imm1, reduce_cmd=command)  # fmt: skip
        assert template.broken_rules(TRN2) == []
        return template.compute(state, src=data, imm0=0.0, imm1=imm1)

    loaded = run(reduce_cmd.load_reduce, 4.0)
    np.testing.assert_array_equal(loaded[:, 0], data[:, 0] + np.float32(4))
    np.testing.assert_array_equal(state["vector.reduce_regs"], loaded[:, -1])
    carried = run(reduce_cmd.reduce, None)
    np.testing.assert_array_equal(carried[:, 0], data[:, 0] + loaded[:, -1])


def test_cumulative_subtract_takes_the_register_from_the_value() -> None:
    data = np.array([[5, 3, 2]], np.float32)
    tile = sbuf(F32, 1, 3)
    template = build("tensor_scalar_cumulative", dst=tile, src=tile, op0="add", op1="subtract",
                     imm0=0.0)  # fmt: skip
    got = template.compute({}, src=data, imm0=0.0, imm1=None)
    np.testing.assert_array_equal(got, [[5, -2, 4]])


def test_cumulative_has_no_32_bit_integers() -> None:
    tile = sbuf(U32, 128, 4)
    texts = build("tensor_scalar_cumulative", dst=tile, src=TILE, op0="add", op1="add",
                  imm0=0.0).broken_rules(TRN2)  # fmt: skip
    assert texts[0].startswith("dst has dtype uint32; allowed: bfloat16")


# -- statistics ---------------------------------------------------------------------------------


@given(st.integers(1, 512))
def test_bn_stats_describes_even_and_odd_elements(count: int) -> None:
    tile = sbuf(F32, 4, count)
    data = values(tile, count)
    got = build("bn_stats", dst=sbuf(F32, 4, 6), data=tile).compute(data=data)
    for start in (0, 1):
        half = data[:, start::2].astype(np.float64)
        stats = got[:, 3 * start : 3 * start + 3]
        assert np.all(stats[:, 0] == half.shape[1])
        if half.shape[1]:
            np.testing.assert_allclose(stats[:, 1], half.mean(axis=1), atol=1e-5)
            np.testing.assert_allclose(stats[:, 2], half.var(axis=1) * half.shape[1], rtol=1e-4,
                                       atol=1e-5)  # fmt: skip


@given(st.lists(st.integers(1, 512), min_size=1, max_size=4))
def test_bn_aggr_of_bn_stats_is_mean_and_variance(counts: list[int]) -> None:
    parts = [values(sbuf(F32, 8, n), n) * 3 + 1 for n in counts]
    stats = np.concatenate([
        build("bn_stats", dst=sbuf(F32, 8, 6), data=sbuf(F32, 8, n)).compute(data=part)
        for n, part in zip(counts, parts, strict=True)
    ], axis=1)  # fmt: skip
    template = build("bn_aggr", dst=sbuf(F32, 8, 2), data=sbuf(F32, 8, stats.shape[1]))
    assert template.broken_rules(TRN2) == []
    got = template.compute(data=stats)
    everything = np.concatenate(parts, axis=1).astype(np.float64)
    np.testing.assert_allclose(got[:, 0], everything.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(got[:, 1], everything.var(axis=1), rtol=1e-4, atol=1e-5)


def test_statistics_rules() -> None:
    assert build("bn_stats", dst=sbuf(F32, 128, 5), data=TILE).broken_rules(TRN2) == [
        "dst has 5 free elements; bn_stats writes 6"
    ]
    assert build("bn_aggr", dst=sbuf(F32, 128, 2), data=TILE).broken_rules(TRN2) == [
        "data has 100 free elements; a multiple of 3 is needed"
    ]
    (text,) = build("bn_stats", dst=sbuf(F32, 128, 6), data=sbuf(F32, 128, 513)).broken_rules(TRN1)
    assert text == "data has 513 free elements; trn1 allows 512 (vector.bn_stats_free_max)"


# -- exponential --------------------------------------------------------------------------------


def test_exponential_subtracts_and_sums() -> None:
    data, top = values(TILE, 1), values(COLUMN, 2)
    state: dict[str, Any] = {}
    for command, factor in ((reduce_cmd.reset_reduce, 1), (reduce_cmd.reduce, 2)):
        template = build("exponential", dst=TILE, src=TILE, max_value=COLUMN, reduce_res=COLUMN,
                         reduce_cmd=command)  # fmt: skip
        got = template.compute(state, src=data, max_value=top, reduce_init=0.0)
        expected = np.exp((data - top).astype(np.float64))
        np.testing.assert_allclose(got["dst"], expected, rtol=1e-7)
        np.testing.assert_allclose(got["reduce_res"], factor * expected.sum(axis=1), rtol=1e-5)


def test_exponential_runs_at_four_times_the_rate_of_scalar() -> None:
    big = sbuf(F32, 128, 4096)
    vector = build("exponential", dst=big, src=big).cost(TRN3).issue_ps
    scalar = build("activation", dst=big, op="exp", data=big).cost(TRN3).issue_ps
    assert 3.5 < scalar / vector < 4.5
    texts = build("exponential", dst=big, src=big, reduce_init=1.0).broken_rules(TRN3)
    assert texts == ["reduce_init goes with reduce_cmd.load_reduce, and only with it"]


def test_bfloat16_add_reduces_two_per_cycle_on_v2_only() -> None:
    big = sbuf(BF16, 128, 1024)
    for chip, factor in ((TRN1, 2), (TRN2, 1)):
        times = [
            build("tensor_reduce", dst=sbuf(dtype, 128, 1), op=op, data=big, axis=1).cost(chip)
            for dtype, op in ((BF16, "add"), (F32, "add"), (BF16, "minimum"))
        ]
        overhead = chip.number("vector.interval_overhead_cycles")
        clock = chip.number("vector.clock_ghz")
        rates = [t.issue_ps * clock / 1000 - overhead for t in times]
        assert rates == pytest.approx([1024 / factor, 1024, 1024], abs=1)
