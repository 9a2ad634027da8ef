"""Scalar instructions: values against NumPy, registers, tables, rules and rates."""

from typing import Any

import numpy as np
import pytest
from tests.isa.cases import BF16, F16, F32, build, psum, sbuf, values

from tenzing import facts
from tenzing.isa import numerics
from tenzing.isa.enums import reduce_cmd
from tenzing.isa.instruction import Instruction

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))
TILE, COLUMN = sbuf(F32, 128, 64), sbuf(F32, 128, 1)
PLAIN = {
    "exp": np.exp, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "square": np.square,
    "copy": lambda x: x, "abs": np.abs, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)), "softplus": lambda x: np.log1p(np.exp(x)),
    "sign": np.sign,
}  # fmt: skip


def activation(op: str = "copy", **more: Any) -> Instruction:
    return build("activation", **{"dst": TILE, "op": op, "data": TILE} | more)


def dst(template: Instruction, data: np.ndarray, bias: Any = None, scale: Any = 1.0) -> np.ndarray:
    result: dict[str, np.ndarray] = template.compute({}, data=data, bias=bias, scale=scale)
    return result["dst"]


@pytest.mark.parametrize("op", PLAIN)
def test_activation_is_the_function_rounded_once(op: str) -> None:
    data = values(TILE, 1)
    expected = PLAIN[op](data.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(dst(activation(op), data), expected, rtol=2e-7)


def test_scale_then_bias_then_function() -> None:
    data, bias, scale = values(TILE, 1), values(sbuf(F16, 128, 1), 2), values(COLUMN, 3)
    got = dst(activation("copy", bias=sbuf(F16, 128, 1), scale=COLUMN), data, bias, scale)
    np.testing.assert_array_equal(got, data * scale + bias.astype(np.float32))
    got = dst(activation("relu", bias=0.5, scale=-2.0), data, 0.5, -2.0)
    np.testing.assert_array_equal(got, np.maximum(data * np.float32(-2) + np.float32(0.5), 0))


def test_a_softmax_row_in_one_activation() -> None:
    data = values(TILE, 1)
    top = -data.max(axis=1, keepdims=True)
    template = activation("exp", bias=COLUMN, reduce_op="add", reduce_res=COLUMN,
                          reduce_cmd=reduce_cmd.reset_reduce)  # fmt: skip
    got = template.compute({}, data=data, bias=top, scale=1.0)
    softmax = got["dst"] / got["reduce_res"][:, None]
    wide = np.exp((data + top).astype(np.float64))
    np.testing.assert_allclose(softmax, wide / wide.sum(axis=1, keepdims=True), rtol=1e-6)


def test_registers_follow_the_command() -> None:
    data = values(TILE, 1)
    row = numerics.row_sum(data)
    state: dict[str, Any] = {}

    def run(command: reduce_cmd) -> np.ndarray:
        template = activation(reduce_op="add", reduce_res=COLUMN, reduce_cmd=command)
        assert template.broken_rules(TRN2) == []
        return template.compute(state, data=data, bias=None, scale=1.0)["reduce_res"]

    np.testing.assert_array_equal(run(reduce_cmd.idle), np.zeros(128))  # never written: zero
    np.testing.assert_array_equal(run(reduce_cmd.reset_reduce), row)
    np.testing.assert_array_equal(run(reduce_cmd.reduce), row + row)
    np.testing.assert_array_equal(run(reduce_cmd.idle), row + row)
    np.testing.assert_array_equal(run(reduce_cmd.reset), np.zeros(128))


def test_registers_hold_without_being_read() -> None:
    data = values(TILE, 1)
    state: dict[str, Any] = {}
    activation(reduce_op="add", reduce_cmd=reduce_cmd.reset_reduce).compute(
        state, data=data, bias=None, scale=1.0
    )
    np.testing.assert_array_equal(state["scalar.reduce_regs"], numerics.row_sum(data))


def test_activation_reduce_is_activation_with_reset_reduce() -> None:
    data = values(TILE, 1)
    state = {"scalar.reduce_regs": np.full(128, 9, np.float32)}
    both = build("activation_reduce", dst=TILE, op="square", data=TILE, reduce_op="add",
                 reduce_res=COLUMN, scale=0.5)  # fmt: skip
    got = both.compute(state, data=data, bias=None, scale=0.5)
    same = activation("square", scale=0.5, reduce_op="add", reduce_res=COLUMN,
                      reduce_cmd=reduce_cmd.reset_reduce)  # fmt: skip
    expected = same.compute({}, data=data, bias=None, scale=0.5)
    assert got.keys() == expected.keys()
    for name in got:
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize(("fields", "chip", "text"), [
    ({"bias": 0.5}, TRN1,
     "bias is the number 0.5; trn1 needs a tile of one element per partition "
     "(scalar.bias_scalar)"),
    ({"op": "reciprocal", "bias": COLUMN}, TRN1,
     "reciprocal takes no bias on trn1 (scalar.reciprocal_bias)"),
    ({"scale": sbuf(BF16, 128, 1)}, TRN2, "scale has dtype bfloat16; allowed: float32"),
    ({"bias": sbuf(numerics.dtype("tfloat32"), 128, 1)}, TRN2,
     "bias has dtype tfloat32; any other is allowed"),
    ({"scale": TILE}, TRN2, "scale has 64 free elements; one per partition is needed"),
    ({"reduce_op": "max"}, TRN2, "reduce_op is maximum; allowed: add"),
    ({"reduce_cmd": reduce_cmd.reset_reduce}, TRN2,
     "reduce_op is missing; reduce_cmd reset_reduce needs add"),
    ({"reduce_cmd": reduce_cmd.load_reduce}, TRN2,
     "reduce_cmd is load_reduce; allowed: idle, reset, reduce, reset_reduce"),
])  # fmt: skip
def test_activation_rules(fields: dict[str, Any], chip: facts.Chip, text: str) -> None:
    assert activation(**fields).broken_rules(chip) == [text]


def test_no_bias_is_legal_everywhere() -> None:
    for bias in (None, 0.0, COLUMN):
        for chip in (TRN1, TRN2, TRN3):
            assert activation("exp", bias=bias).broken_rules(chip) == []


def test_functions_need_their_table_and_copies_need_none() -> None:
    assert activation("exp").cost(TRN2).table == "exp"
    assert activation("copy").cost(TRN2).table is None


def test_published_trace_of_trn2() -> None:
    """Copy or activate N = 64, 128, 420: latency 212, 265, 510 ns; interval 103 and 156.7 ns."""
    for count, latency_ps in ((64, 212_000), (128, 265_000), (420, 510_000)):
        cost = activation(dst=sbuf(F32, 128, count), data=psum(F32, 128, count)).cost(TRN2)
        assert cost.latency_ps == pytest.approx(latency_ps, rel=0.005)
    small, large = (sbuf(F32, 128, n) for n in (64, 128))
    issue = [activation(dst=x, data=x).cost(TRN2).issue_ps for x in (small, large)]
    assert issue == [pytest.approx(103_000, rel=0.01), pytest.approx(156_700, rel=0.01)]


def test_reading_the_sum_costs_one_short_instruction() -> None:
    with_sum = activation("exp", reduce_op="add", reduce_res=COLUMN,
                          reduce_cmd=reduce_cmd.reset_reduce)  # fmt: skip
    extra_ps = with_sum.cost(TRN2).issue_ps - activation("exp").cost(TRN2).issue_ps
    cycles = extra_ps * TRN2.number("scalar.clock_ghz") / 1000
    assert cycles == pytest.approx(TRN2.number("scalar.accumulate_read_cycles"), abs=0.01)


# -- activate2 ----------------------------------------------------------------------------------


def activate2(**more: Any) -> Instruction:
    fields = {"dst": TILE, "op": "copy", "data": TILE, "imm0": 2.0, "imm1": COLUMN,
              "op0": "multiply", "op1": "subtract"}  # fmt: skip
    return build("activate2", **fields | more)


def test_activate2_runs_three_stages() -> None:
    data, column = values(TILE, 1), values(COLUMN, 2)
    template = activate2(reverse1=True, reduce_op="max", reduce_res=COLUMN,
                         reduce_cmd=reduce_cmd.reset_reduce)  # fmt: skip
    assert template.broken_rules(TRN3) == []
    got = template.compute({}, data=data, imm0=2.0, imm1=column, relu_param=0.0)
    np.testing.assert_array_equal(got["dst"], column - data * 2)
    np.testing.assert_array_equal(got["reduce_res"], got["dst"].max(axis=1))


def test_activate2_prelu_takes_its_slope() -> None:
    data = values(TILE, 1)
    template = activate2(op="prelu", op0="bypass", op1="bypass", imm1=0.0, relu_param=0.25)
    assert template.broken_rules(TRN3) == []
    got = template.compute({}, data=data, imm0=2.0, imm1=0.0, relu_param=0.25)
    np.testing.assert_array_equal(got["dst"], np.where(data > 0, data, data * np.float32(0.25)))


def test_activate2_rules() -> None:
    (text,) = activate2(op0="add", op1="multiply").broken_rules(TRN3)
    assert text.startswith("op0 and op1 are add then multiply; allowed: multiply then add, ")
    (text,) = activate2(imm0=sbuf(BF16, 128, 1)).broken_rules(TRN3)
    assert text == "imm0 and imm1 are bfloat16 and float32; one dtype is needed"
    (text,) = activate2().broken_rules(TRN2)
    assert text == "trn2 has no activate2; it needs NeuronCore-v4 or newer"
