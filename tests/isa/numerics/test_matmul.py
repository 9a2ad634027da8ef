"""The matrix product: its order, its bits, its bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.isa import numerics
from tenzing.isa.numerics import matmul as matmul_function
from tenzing.isa.numerics.matmul import slice_blas, slice_einsum, slice_loop

SMALLEST = 2.0**-126


def by_definition(a: np.ndarray, b: np.ndarray, psum: np.ndarray | None = None) -> np.ndarray:
    """The order as the module states it, one number at a time."""

    def zero_if_denormal(x: np.float32) -> np.float32:
        return x if not abs(x) < SMALLEST else np.float32(np.copysign(0, x))

    flush = np.vectorize(zero_if_denormal, otypes=[np.float32])
    depth, rows = a.shape
    total = np.zeros((rows, b.shape[1]), np.float32) if psum is None else psum
    with np.errstate(all="ignore"):
        a, b, total = flush(a), flush(b), flush(total)
        for m in range(rows):
            for n in range(b.shape[1]):
                for start in range(0, depth, 32):
                    sums = [np.float32(0), np.float32(0)]
                    for k in range(start, min(start + 32, depth)):
                        product = zero_if_denormal(a[k, m] * b[k, n])
                        sums[k % 2] = zero_if_denormal(sums[k % 2] + product)
                    block = zero_if_denormal(sums[0] + sums[1])
                    total[m, n] = zero_if_denormal(total[m, n] + block)
    return total


def draw(seed: int, name: str, *shape: int, scale: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return numerics.round_to(values * np.float32(scale), name)


def same_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.all((found == expected) | (np.isnan(found) & np.isnan(expected))))


KINDS = ("bfloat16", "float16", "tfloat32", "float8_e4m3", "float32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("depth", "rows", "columns"),
    [(1, 1, 1), (2, 1, 3), (33, 3, 5), (64, 1, 9), (128, 7, 1), (127, 4, 4), (31, 2, 17)],
)
def test_bits_follow_the_definition(kind: str, depth: int, rows: int, columns: int) -> None:
    a, b = draw(1, kind, depth, rows), draw(2, kind, depth, columns)
    assert same_bits(numerics.matmul(a, b), by_definition(a, b))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("shape", [(16, 128, 256), (16, 128, 64), (8, 17, 33), (16, 1, 256)])
def test_the_programs_that_are_chosen_equal_the_loop(
    shape: tuple[int, int, int], exact: bool
) -> None:
    depth, rows, columns = shape
    kind = "bfloat16" if exact else "float32"
    a, b = draw(3, kind, 4 * depth, rows), draw(4, kind, 4 * depth, columns)
    expected = np.zeros((rows, columns), np.float32)
    for start in range(0, len(a), 32):
        halves = np.empty((2, rows, columns), np.float32)
        for odd in (0, 1):
            slice_loop(
                a[start + odd : start + 32 : 2], b[start + odd : start + 32 : 2], halves[odd]
            )
        expected += halves[0] + halves[1]
    assert np.array_equal(numerics.matmul(a, b), expected)


def test_einsum_and_blas_are_products_even_where_their_order_differs() -> None:
    a, b = draw(5, "float32", 16, 20), draw(6, "float32", 16, 30)
    for program in (slice_loop, slice_einsum, slice_blas):
        found = np.empty((20, 30), np.float32)
        program(a, b, found)
        assert np.allclose(found, a.T @ b, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fast", [False, True])
def test_error_stays_within_the_stated_bound(kind: str, fast: bool) -> None:
    a, b = draw(7, kind, 128, 96), draw(8, kind, 128, 300)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    error = np.abs(numerics.matmul(a, b, fast=fast) - wide_a.T @ wide_b)
    assert np.all(error <= 128 * 2.0**-24 * (np.abs(wide_a).T @ np.abs(wide_b)))


def test_accumulation_continues_block_after_block() -> None:
    a, b = draw(9, "bfloat16", 96, 10), draw(10, "bfloat16", 96, 300)
    whole = numerics.matmul(a, b)
    parts = np.zeros((10, 300), np.float32)
    for start in (0, 32, 64):
        returned = numerics.matmul(a[start : start + 32], b[start : start + 32], out=parts)
        assert returned is parts
    assert np.array_equal(whole, parts)


def test_accumulating_writes_through_a_strided_window() -> None:
    a, b = draw(11, "bfloat16", 64, 6), draw(12, "bfloat16", 64, 300)
    memory = np.ones((12, 700), np.float32)
    window = memory[::2, 50:650:2]
    expected = window + numerics.matmul(a, b, out=np.zeros((6, 300), np.float32))
    numerics.matmul(a, b, out=window)
    assert np.allclose(window, expected)
    assert np.all(memory[1::2] == 1)


def test_operand_layout_does_not_change_bits() -> None:
    a, b = draw(13, "bfloat16", 64, 40), draw(14, "bfloat16", 64, 70)
    plain = numerics.matmul(a, b)
    turned = numerics.matmul(np.asfortranarray(a), np.ascontiguousarray(b.T).T)
    assert np.array_equal(plain, turned)


def test_a_matrix_times_itself_keeps_the_order() -> None:
    a = draw(15, "bfloat16", 128, 48)
    assert np.array_equal(numerics.matmul(a, a), numerics.matmul(a, a.copy()))


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
@pytest.mark.parametrize("scale", [1e-19, 1e-20, 3e-23, 1e-38])
def test_denormals_count_as_zero(kind: str, scale: float) -> None:
    a = draw(16, kind, 40, 4, scale=scale)
    b = draw(17, kind, 40, 5)
    b[:, 2:] *= np.float32(scale)
    b = numerics.round_to(b, kind)
    psum = draw(18, "float32", 4, 5, scale=scale * scale)
    assert same_bits(numerics.matmul(a, b), by_definition(a, b))
    found = psum.copy()
    numerics.matmul(a, b, out=found)
    assert same_bits(found, by_definition(a, b, psum))


def test_a_denormal_in_psum_counts_as_zero() -> None:
    psum = np.float32([[1e-40, 1e-30]])
    numerics.matmul(np.float32([[0]]), np.float32([[1, 1]]), out=psum)
    assert psum.tolist() == [[0, np.float32(1e-30)]]


def test_infinities_and_nan_spread_as_ieee_says() -> None:
    a, b = draw(19, "bfloat16", 40, 4), draw(20, "bfloat16", 40, 5)
    a[3, 1], b[7, 2], b[8, 3] = np.inf, np.nan, -np.inf
    b[3, 4] = 0
    found = numerics.matmul(a, b)
    assert same_bits(found, by_definition(a, b))
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(found[1, 4])


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40))
def test_the_same_input_gives_the_same_bits(seed: int, depth: int, rows: int, columns: int) -> None:
    a, b = draw(seed, "bfloat16", depth, rows), draw(seed + 1, "bfloat16", depth, columns)
    first, second = numerics.matmul(a, b), numerics.matmul(a.copy(), b.copy())
    assert first.tobytes() == second.tobytes()
    # a column's result does not depend on its neighbours
    assert np.array_equal(numerics.matmul(a, b[:, :1]), first[:, :1])


def test_empty_contractions_are_zero_and_shapes_are_checked() -> None:
    empty = matmul_function(np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32))
    assert empty.tolist() == np.zeros((3, 4)).tolist()
    with pytest.raises(UsageError, match=r"got \(3, 2\) and \(4, 2\)"):
        numerics.matmul(np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32))
    with pytest.raises(UsageError, match=r"stationary \[K, M\]"):
        numerics.matmul(np.zeros(3, np.float32), np.zeros((3, 2), np.float32))
