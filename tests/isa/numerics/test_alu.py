"""ALU operators against NumPy, plain Python and the documented ties."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.isa import numerics

ALU = numerics.ALU
X = np.float32([[-3.5, 0, 2.25], [1e30, -0.5, 7]])
Y = np.float32([[2, -0.0, 2.25], [1e30, 0.25, -8]])

EXPECTED = {
    "add": X + Y,
    "subtract": X - Y,
    "multiply": np.float32([[-7, 0, 5.0625], [np.inf, -0.125, -56]]),
    "divide": np.float32([[-1.75, np.nan, 1], [1, -2, -0.875]]),
    "maximum": np.maximum(X, Y),
    "minimum": np.minimum(X, Y),
    "abs_max": np.float32([[-3.5, 0, 2.25], [1e30, -0.5, -8]]),
    "abs_min": np.float32([[2, 0, 2.25], [1e30, 0.25, 7]]),
    "average": np.float32([[-0.75, 0, 2.25], [1e30, -0.125, -0.5]]),
    "equal": X == Y,
    "not_equal": X != Y,
    "greater_equal": X >= Y,
    "greater": X > Y,
    "less_equal": X <= Y,
    "less": X < Y,
    "logical_and": (X != 0) & (Y != 0),
    "logical_or": (X != 0) | (Y != 0),
    "logical_xor": (X != 0) ^ (Y != 0),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_binary_values(name: str) -> None:
    found = ALU[name](X, Y)
    assert found.dtype == np.float32
    assert np.array_equal(found, EXPECTED[name].astype(np.float32), equal_nan=True)


def test_powers_and_remainders() -> None:
    x, y = np.float32([2, 9, -7, 7]), np.float32([3, 0.5, 3, -3])
    assert ALU["power"](x, y).tolist() == [8, 3, -343, np.float32(7.0**-3)]
    assert ALU["mod"](x, y).tolist() == [2, 0, 2, -2]
    assert ALU["fmod"](x, y).tolist() == [2, 0, -1, 1]


def test_unary_values_ignore_the_second_operand() -> None:
    x = np.float32([4, -0.25, 0])
    assert ALU["abs"](x, 9.0).tolist() == [4, 0.25, 0]
    assert ALU["square"](x).tolist() == [16, 0.0625, 0]
    assert ALU["relu"](x).tolist() == [4, 0, 0]
    assert ALU["reciprocal"](x).tolist() == [0.25, -4, np.inf]
    assert ALU["rsqrt"](np.float32([4, 0.25, 0]), 0.0).tolist() == [0.5, 2, np.inf]
    assert ALU["logical_not"](x).tolist() == [0, 0, 1]
    assert ALU["bypass"](x).tolist() == x.tolist()


def test_ties_of_abs_max_and_abs_min_take_the_second() -> None:
    one, minus = np.float32([1]), np.float32([-1])
    assert ALU["abs_max"](one, minus) == -1
    assert ALU["abs_min"](one, minus) == -1
    assert ALU["abs_min"](minus, one) == 1


@pytest.mark.parametrize("op", [o for o in ALU.values() if o.kind != "bitvec"])
def test_operands_are_widened_and_broadcast(op: numerics.AluOp) -> None:
    column = np.array([[1], [2]], ml_dtypes.bfloat16)
    row = np.array([1, 2, 3], np.int16)
    found = op(column, row)
    expected = op(column.astype(np.float32), row.astype(np.float32))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    assert np.array_equal(op(column, 2.0), op(column, np.float32([2])))
    assert np.array_equal(op(2.0, row), op(np.float32([2]), row)) or op.arity == 1
    assert np.array_equal(op(np.asfortranarray(X), Y), op(X, Y), equal_nan=True)


@pytest.mark.parametrize("op", [o for o in ALU.values() if o.kind == "arithmetic"])
def test_nan_in_means_nan_out(op: numerics.AluOp) -> None:
    nan = np.float32([np.nan])
    assert np.isnan(op(nan, np.float32([2])))
    if op.arity == 2:
        assert np.isnan(op(np.float32([2]), nan))


@pytest.mark.parametrize("op", [o for o in ALU.values() if o.commutative and o.kind != "bitvec"])
def test_commutative_operators_commute(op: numerics.AluOp) -> None:
    assert np.array_equal(op(X, Y), op(Y, X), equal_nan=True)


def test_non_commutative_operators_do_not() -> None:
    x, y = np.float32([3, 1, 0.5]), np.float32([-3, 2, 2])
    for op in ALU.values():
        if op.arity == 2 and not op.commutative and op.kind != "bitvec":
            assert not np.array_equal(op(x, y), op(y, x), equal_nan=True), op.name


integers = st.integers(-(2**31), 2**31 - 1)


@given(integers, integers)
def test_bit_operators_keep_integer_bits(a: int, b: int) -> None:
    x, y = np.array([a], np.int32), np.array([b], np.int32)
    assert ALU["bitwise_and"](x, y)[0] == a & b
    assert ALU["bitwise_or"](x, y)[0] == a | b
    assert ALU["bitwise_xor"](x, y)[0] == a ^ b
    assert ALU["bitwise_xor"](x, b)[0] == a ^ b
    assert ALU["invert"](x)[0] == ~a


@given(integers, st.integers(0, 31))
def test_shifts_move_bits_and_let_zeros_in(a: int, count: int) -> None:
    x = np.array([a], np.int32)
    bits = a & 0xFFFFFFFF
    assert ALU["right_shift"](x, count).view(np.uint32)[0] == bits >> count
    assert ALU["left_shift"](x, count).view(np.uint32)[0] == (bits << count) & 0xFFFFFFFF
    assert ALU["right_shift"](x.view(np.uint32), np.array([count], np.uint32))[0] == bits >> count


def test_bit_operators_take_large_numbers_and_keep_the_dtype() -> None:
    x = np.array([-1, 5], np.int32)
    assert ALU["bitwise_and"](x, 0xFFFFFFFE).tolist() == [-2, 4]
    assert ALU["bitwise_and"](x, 6.0).tolist() == [6, 4]
    for kind in ("uint8", "int16", "uint32"):
        assert ALU["left_shift"](np.array([1], kind), 3).dtype == np.dtype(kind)
    assert ALU["left_shift"](np.array([1], np.uint8), 9).tolist() == [0]


def test_integer_arithmetic_is_exact_and_wraps() -> None:
    x, y = np.array([2**24 + 1, 2**31 - 1], np.int32), np.array([2, 1], np.int32)
    assert ALU["add"].integer(x, y).tolist() == [2**24 + 3, -(2**31)]
    assert ALU["multiply"].integer(x, 3).tolist() == [3 * 2**24 + 3, 2**31 - 3]
    assert ALU["greater"].integer(x, y).tolist() == [1, 1]
    assert ALU["subtract"].integer(np.array([1], np.uint32), 2).tolist() == [2**32 - 1]
    with pytest.raises(UsageError, match="divide has no integer form"):
        ALU["divide"].integer(x, y)


def test_wrong_operands_are_refused() -> None:
    with pytest.raises(UsageError, match="add needs two operands"):
        ALU["add"](X)
    with pytest.raises(UsageError, match="bitwise_or treats its operands as bits"):
        ALU["bitwise_or"](X, 1)
    with pytest.raises(UsageError, match="whole number"):
        ALU["bitwise_or"](np.array([1], np.int32), 0.5)
    with pytest.raises(UsageError, match="whole number"):
        ALU["bitwise_or"](np.array([1], np.int32), np.inf)


class Marked:
    """Like a function of the language that names its operator."""

    nki_op = "multiply"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("add", "add"),
        ("nl.subtract", "subtract"),
        ("max", "maximum"),
        (np.add, "add"),
        (np.multiply, "multiply"),
        (np.subtract, "subtract"),
        (np.maximum, "maximum"),
        (np.max, "maximum"),
        (np.min, "minimum"),
        (np.abs, "abs"),
        (np.true_divide, "divide"),
        (np.bitwise_and, "bitwise_and"),
        (np.left_shift, "left_shift"),
        (np.invert, "invert"),
        (np.greater_equal, "greater_equal"),
        (np.logical_and, "logical_and"),
        (np.power, "power"),
        (np.mod, "mod"),
        (max, "maximum"),
        (min, "minimum"),
        (abs, "abs"),
        (pow, "power"),
        (Marked(), "multiply"),
        (ALU["divide"], "divide"),
    ],
)
def test_what_stands_for_an_operator(given: object, name: str) -> None:
    assert numerics.alu_op(given) is ALU[name]


@pytest.mark.parametrize("given", ["ad", None, 3, lambda a, b: a, np.linspace, len])
def test_what_does_not(given: object) -> None:
    with pytest.raises(UsageError, match=r"not an ALU operator; got .*; allowed: add, subtract"):
        numerics.alu_op(given)


def test_operators_are_singletons_with_identity_hash() -> None:
    assert len({id(op) for op in ALU.values()}) == len(ALU)
    assert all(pickle.loads(pickle.dumps(op)) is op for op in ALU.values())
    assert hash(ALU["add"]) == object.__hash__(ALU["add"])
    assert {op.kind for op in ALU.values()} == {"arithmetic", "compare", "logical", "bitvec"}
    assert {op.exactness for op in ALU.values()} == {"exact", "bounded"}
    assert all(op.name == name for name, op in ALU.items())
