"""Elementwise functions: values against NumPy, one instruction each, dtypes and broadcasting."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nki.kernels_for_tests import ones, programs, run

from tenzing.errors import KernelError
from tenzing.isa import numerics
from tenzing.nki import elementwise
from tenzing.nki import language as nl

F32 = np.float32
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")
NEWER_ONLY = ("abs_max", "abs_min")
NUMPY_BINARY: dict[str, Any] = {
    **{n: getattr(np, n) for n in elementwise.BINARY if n not in NEWER_ONLY},
    "abs_max": lambda x, y: np.where(abs(x) > abs(y), x, y),
    "abs_min": lambda x, y: np.where(abs(x) < abs(y), x, y),
}
erf = np.vectorize(math.erf)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def numpy_gelu(x: Any) -> Any:
    return x * (1 + erf(x / math.sqrt(2))) / 2


NUMPY_ACTIVATIONS: dict[str, Any] = {
    **{n: getattr(np, n) for n in ("exp", "log", "sqrt", "tanh", "arctan")},
    **{n: getattr(np, n) for n in ("sign", "abs", "square")},
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": numpy_gelu,
    "silu": lambda x: x * sigmoid(x),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "erf": erf,
    "erf_dx": lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x),
    "gelu_apprx_sigmoid": lambda x: x * sigmoid(1.702 * x),
}


def values(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).uniform(0.3, 3, shape).astype(F32)


@pytest.mark.parametrize("name", [n for n in elementwise.BINARY if n not in BITS])
def test_binary_functions_agree_with_numpy(name: str) -> None:
    x, y = values(1, 8, 16), values(2, 8, 16)
    target = "trn3" if name in NEWER_ONLY else "trn2"
    result = run(getattr(nl, name), x, y, target=target)
    np.testing.assert_allclose(result, NUMPY_BINARY[name](x, y).astype(F32), rtol=2e-6)
    assert result.dtype == F32


@pytest.mark.parametrize("name", BITS)
def test_bit_functions_keep_integers(name: str) -> None:
    x = np.arange(64, dtype=np.uint32).reshape(8, 8) * 3
    y = np.arange(64, dtype=np.uint32).reshape(8, 8) % 5
    result = run(getattr(nl, name), x, y)
    np.testing.assert_array_equal(result, NUMPY_BINARY[name](x, y))
    assert result.dtype == np.uint32


@pytest.mark.parametrize("name", sorted(NUMPY_ACTIVATIONS))
def test_functions_of_one_tile_agree_with_numpy(name: str) -> None:
    x = values(3, 8, 16)
    result = run(getattr(nl, name), x)
    np.testing.assert_allclose(result, NUMPY_ACTIVATIONS[name](x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(elementwise.ACTIVATIONS))
def test_every_activation_is_one_instruction_and_an_opcode(name: str) -> None:
    def kernel(x: Any) -> None:
        getattr(nl, name)(nl.load(x))

    assert programs(kernel, ones(4, 4)) == [["dma_copy", "activation"]]
    assert numerics.activation(getattr(nl, name)).name


@pytest.mark.parametrize("name", sorted(elementwise.BINARY))
def test_every_binary_function_is_an_opcode(name: str) -> None:
    assert numerics.alu_op(getattr(nl, name)) is numerics.alu_op(name)


def test_which_instruction_a_binary_call_takes() -> None:
    def kernel(x: Any, column: Any) -> None:
        tile, per_lane = nl.load(x), nl.load(column)
        nl.add(tile, tile)
        nl.add(tile, 2.0)
        nl.subtract(3.0, tile)
        nl.multiply(tile, per_lane)

    loads = ["dma_copy", "dma_copy"]
    expected = [*loads, "tensor_tensor", "tensor_scalar", "tensor_scalar", "tensor_scalar"]
    assert programs(kernel, ones(4, 4), ones(4, 1)) == [expected]


def test_numbers_and_columns_keep_the_order_of_operands() -> None:
    x, c = values(4, 4, 8), values(5, 4, 1)
    np.testing.assert_allclose(run(lambda t: nl.subtract(1.0, t), x), 1 - x)
    np.testing.assert_allclose(run(lambda t: t - 1.0, x), x - 1)
    np.testing.assert_allclose(run(lambda t, k: nl.subtract(k, t), x, c), c - x)
    np.testing.assert_allclose(run(lambda t, k: nl.divide(t, k), x, c), x / c, rtol=1e-6)
    np.testing.assert_allclose(run(lambda t: np.float32(2) * t, x), 2 * x)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=3), st.data())
def test_free_dims_broadcast_as_in_numpy(shape: list[int], data: st.DataObject) -> None:
    free = [data.draw(st.sampled_from([1, n])) for n in shape[1:]]
    x, y = values(6, *shape), values(7, shape[0], *free)
    np.testing.assert_allclose(run(nl.add, x, y), x + y)
    np.testing.assert_allclose(run(nl.subtract, y, x), y - x)


def test_half_precision_columns_broadcast_too() -> None:
    x, c = values(8, 4, 8).astype(ml_dtypes.bfloat16), values(9, 4, 1).astype(ml_dtypes.bfloat16)
    result = run(nl.multiply, x, c)
    assert result.dtype == ml_dtypes.bfloat16
    expected = (x.astype(F32) * c.astype(F32)).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(result.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.float32, ml_dtypes.bfloat16, np.float32),
        (np.float16, ml_dtypes.bfloat16, np.float32),
        (np.int32, np.float16, np.float16),
        (np.int8, np.int32, np.int32),
        (np.uint8, np.int8, np.int32),
    ],
)
def test_mixed_dtypes_promote(first: Any, second: Any, expected: Any) -> None:
    result = run(nl.add, ones(2, 2, dtype=first), ones(2, 2, dtype=second))
    assert result.dtype == expected
    assert (result.astype(F32) == 2).all()


def test_dtype_argument_decides() -> None:
    assert run(lambda t: nl.exp(t, dtype=nl.bfloat16), ones(2, 2)).dtype == ml_dtypes.bfloat16
    assert run(lambda t: nl.add(t, t, dtype="float16"), ones(2, 2)).dtype == np.float16
    assert run(lambda t: nl.less(t, 2, dtype=nl.uint8), ones(2, 2)).dtype == np.uint8


def test_rounding_functions() -> None:
    x = np.array([[-3.7, -3.2, -0.5, 0.0, 0.5, 3.2, 3.7, 4.0]], F32)
    for name in ("floor", "ceil", "trunc"):
        np.testing.assert_allclose(run(getattr(nl, name), x), getattr(np, name)(x), err_msg=name)


def test_trigonometry_is_accurate_outside_the_engine_range() -> None:
    x = np.linspace(-20, 20, 64, dtype=F32).reshape(4, 16)
    np.testing.assert_allclose(run(nl.sin, x), np.sin(x), atol=1e-5)
    np.testing.assert_allclose(run(nl.cos, x), np.cos(x), atol=1e-5)
    small = np.linspace(-1, 1, 16, dtype=F32).reshape(2, 8)
    np.testing.assert_allclose(run(nl.tan, small), np.tan(small), atol=1e-5)


def test_composed_functions() -> None:
    x = np.array([[0, 1, 2, 5]], np.int32)
    np.testing.assert_array_equal(run(nl.invert, x), ~x)
    np.testing.assert_array_equal(run(nl.negative, x), -x)
    np.testing.assert_array_equal(run(nl.logical_not, x), np.logical_not(x))
    np.testing.assert_allclose(run(nl.reciprocal, ones(2, 2) * 4), 0.25)


def test_where_takes_tiles_and_numbers() -> None:
    c = (np.arange(16).reshape(2, 8) % 3 == 0).astype(F32)
    x, y = values(10, 2, 8), values(11, 2, 8)
    np.testing.assert_array_equal(run(nl.where, c, x, y), np.where(c, x, y))
    np.testing.assert_array_equal(run(lambda t, a: nl.where(t, a, 0.0), c, x), np.where(c, x, 0))
    np.testing.assert_array_equal(run(lambda t: nl.where(t, 1.0, 0.0), c), c)


def test_dropout_zeroes_about_its_rate() -> None:
    x = ones(128, 128)
    result = run(lambda t: nl.dropout(t, 0.25), x)
    assert set(np.unique(result)) == {0.0, 1.0}
    assert abs((result == 0).mean() - 0.25) < 0.02
    assert (run(lambda t: nl.dropout(t, 0.0), x) == 1).all()
    assert (run(lambda t: nl.dropout(t, 1.0), x) == 0).all()


def test_operators_of_tiles() -> None:
    x, y = values(12, 4, 4), values(13, 4, 4)
    np.testing.assert_allclose(run(lambda a, b: (a + b) * a - b / a, x, y), (x + y) * x - y / x,
                               rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(run(lambda a: -a, x), -x)
    np.testing.assert_allclose(run(lambda a: a**2, x), x**2, rtol=1e-6)
    np.testing.assert_array_equal(run(lambda a, b: a < b, x, y), (x < y).astype(F32))


# -- failing paths ---------------------------------------------------------------------------------


def test_hbm_operands_must_be_loaded() -> None:
    with pytest.raises(KernelError, match=r"in HBM; engines read SBUF and PSUM only") as caught:
        run(nl.exp, ones(4, 4), load=False)
    assert "load it first" in caught.value.render()


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(KernelError, match=r"shapes \(4, 4\) and \(1, 4\) do not broadcast") as hit:
        run(nl.add, ones(4, 4), ones(1, 4))
    assert "nl.broadcast_to" in hit.value.render()


def test_two_numbers_are_no_instruction() -> None:
    with pytest.raises(KernelError, match="both operands are numbers"):
        run(lambda t: nl.add(1, 2), ones(2, 2))


def test_other_values_are_refused_with_their_type() -> None:
    with pytest.raises(KernelError, match=r"nl.add: a tile is needed; got str"):
        run(lambda t: nl.add(t, "x"), ones(2, 2))
