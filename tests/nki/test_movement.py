"""Loads, stores, transposes, broadcasts and matrix products."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.nki.kernels_for_tests import ones, programs, run

from tenzing import nki
from tenzing.errors import KernelError
from tenzing.nki import language as nl

F32 = np.float32
BF16 = ml_dtypes.bfloat16


def values(*shape: int, dtype: Any = F32) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [F32, BF16, np.float16, np.int8, np.int32, np.uint8])
def test_load_and_store_keep_every_bit(dtype: Any) -> None:
    x = (values(8, 32) * 10).astype(dtype)
    np.testing.assert_array_equal(run(lambda t: t, x).view(np.uint8), x.view(np.uint8))


def test_load_converts_when_asked() -> None:
    x = values(8, 32)
    result = run(lambda t: nl.load(t, dtype=nl.bfloat16), x, load=False)
    np.testing.assert_array_equal(result.view(np.uint16), x.astype(BF16).view(np.uint16))


def test_a_vector_loads_one_element_per_partition() -> None:
    x = values(16)
    np.testing.assert_array_equal(run(lambda t: t, x), x[:, None])


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_matmul_with_and_without_transposed_operand(target: str) -> None:
    a, b = values(64, 32), values(64, 48)
    result = run(lambda x, y: nl.matmul(x, y, transpose_x=True), a, b, target=target)
    np.testing.assert_allclose(result, a.T @ b, rtol=1e-4, atol=1e-4)
    result = run(lambda x, y: nl.matmul(x, y), a.T.copy(), b, target=target)
    np.testing.assert_allclose(result, a.T @ b, rtol=1e-4, atol=1e-4)


def test_transpose_is_exact() -> None:
    x = values(32, 100, dtype=BF16)
    np.testing.assert_array_equal(run(nl.transpose, x).view(np.uint16), x.T.view(np.uint16))


def test_load_transpose2d() -> None:
    x = values(32, 64, dtype=BF16)
    result = run(lambda t: nl.load_transpose2d(t), x, load=False)
    np.testing.assert_array_equal(result.view(np.uint16), x.T.view(np.uint16))


@pytest.mark.parametrize("dtype", [F32, BF16, np.float16, np.int8])
@pytest.mark.parametrize("free", [3, 512, 1500])
def test_broadcast_of_the_partition_dim_is_exact(dtype: Any, free: int) -> None:
    x = (values(1, free) * 10).astype(dtype)
    result = run(lambda t: nl.broadcast_to(t, (128, free)), x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.astype(F32), np.broadcast_to(x, (128, free)).astype(F32))


def test_partition_broadcast_uses_the_tensor_engine_and_one_row_of_ones() -> None:
    def kernel(x: Any) -> None:
        tile = nl.load(x)
        tile.broadcast_to((128, 600))
        nl.broadcast_to(tile, (128, 600))

    (names,) = programs(kernel, ones(1, 600))
    assert names == ["dma_copy", "memset", *["nc_matmul"] * 4]


def test_free_broadcast_costs_nothing() -> None:
    def kernel(x: Any) -> None:
        nl.broadcast_to(nl.load(x), (4, 8))

    assert programs(kernel, ones(4, 1)) == [["dma_copy"]]
    x = values(4, 1)
    np.testing.assert_array_equal(run(lambda t: nl.broadcast_to(t, (4, 8)), x),
                                  np.broadcast_to(x, (4, 8)))  # fmt: skip


def test_gather_flattened() -> None:
    x = values(8, 16)
    index = np.random.default_rng(2).integers(0, 16, (8, 5)).astype(np.uint32)
    result = run(nl.gather_flattened, x, index)
    np.testing.assert_array_equal(result, np.take_along_axis(x, index.astype(int), 1))


def test_expand_dims_is_a_view() -> None:
    x = values(4, 6)
    np.testing.assert_array_equal(run(lambda t: nl.expand_dims(t, 1), x), x[:, None])
    np.testing.assert_array_equal(run(lambda t: nl.expand_dims(t, -1), x), x[..., None])


# -- assignment ------------------------------------------------------------------------------------


def test_assigning_a_call_writes_there_without_a_copy() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        both = nl.ndarray((4, 16), nl.float32)
        both[:, 0:8] = nl.exp(tile)
        both[:, 8:16] = nl.load(x)
        out = nl.ndarray((4, 16), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, both)
        return out

    x = values(4, 8)
    assert programs(kernel, x) == [["dma_copy", "activation", "dma_copy", "dma_copy"]]
    np.testing.assert_allclose(nki.jit(kernel)(x), np.concatenate([np.exp(x), x], 1), rtol=1e-6)


def test_a_named_result_stays_its_own_after_it_was_assigned() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        buffer = nl.ndarray((4, 8), nl.float32)
        result = nl.exp(tile)
        buffer[...] = result
        buffer[...] = 0.0
        out = nl.ndarray((4, 8), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, result)
        return out

    x = values(4, 8)
    np.testing.assert_allclose(nki.jit(kernel)(x), np.exp(x), rtol=1e-6)


def test_assignment_rounds_like_the_call_it_replaces() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)  # bfloat16
        wide = nl.ndarray((4, 8), nl.float32)
        wide[...] = nl.exp(tile)
        out = nl.ndarray((4, 8), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, wide)
        return out

    x = values(4, 8, dtype=BF16)
    expected = np.exp(x.astype(F32)).astype(BF16).astype(F32)
    np.testing.assert_array_equal(nki.jit(kernel)(x), expected)


def test_assigning_tiles_numbers_and_broadcasts() -> None:
    def kernel(x: Any, column: Any) -> Any:
        tile, narrow = nl.load(x), nl.load(column)
        buffer = nl.ndarray((4, 3, 8), nl.float32)
        buffer[:, 0, :] = tile
        buffer[:, 1, :] = narrow
        buffer[:, 2, :] = 7
        out = nl.ndarray((4, 3, 8), nl.float32, buffer=nl.shared_hbm)
        out[...] = buffer
        return out

    x, c = values(4, 8), values(4, 1)
    expected = np.stack([x, np.broadcast_to(c, (4, 8)), np.full((4, 8), 7)], 1)
    np.testing.assert_array_equal(nki.jit(kernel)(x, c), expected.astype(F32))


def test_in_place_operators() -> None:
    def body(x: Any, y: Any) -> Any:
        x += y
        x -= 1
        x *= y
        return x

    a, b = values(4, 8), values(4, 8)
    np.testing.assert_allclose(run(body, a, b), (a + b - 1) * b, rtol=1e-6)


def test_a_held_back_call_runs_before_its_operand_changes() -> None:
    def body(x: Any) -> Any:
        result = nl.exp(x)
        x[...] = 0.0
        return result

    x = values(4, 8)
    np.testing.assert_allclose(run(body, x), np.exp(x), rtol=1e-6)


# -- failing paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda t: nl.load(t), r"nl.load: src must be a tensor in HBM"),
        (lambda t: nl.store(t, t), r"nl.store: dst must be a tensor in HBM"),
        (lambda t: nl.broadcast_to(t, (4, 2, 8)), "another rank"),
        (lambda t: nl.broadcast_to(t, (4, 16)), "does not broadcast"),
        (lambda t: nl.broadcast_to(t, (8, 8)), "does not broadcast"),
        (lambda t: nl.gather_flattened(t, t, axis=1), "axis must be 0"),
        (lambda t: t.__setitem__(..., "x"), "only a tile or a number can be assigned"),
        (lambda t: t.__setitem__(..., t[:, 0:4]), "does not broadcast"),
        (lambda t: t.__iadd__("x"), "in-place add needs a tile"),
    ],
)
def test_wrong_operands_are_named(body: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        run(body, ones(4, 8))


def test_a_store_of_another_size_is_refused() -> None:
    def kernel(x: Any) -> None:
        nl.store(nl.ndarray((4, 4), nl.float32, buffer=nl.shared_hbm), nl.load(x))

    with pytest.raises(KernelError, match=r"dst has shape \(4, 4\), value has shape \(4, 8\)"):
        nki.jit(kernel)(ones(4, 8))


def test_wide_integers_do_not_pass_the_tensor_engine() -> None:
    with pytest.raises(KernelError, match="cannot be repeated exactly"):
        run(lambda t: nl.broadcast_to(t, (4, 8)), ones(1, 8, dtype=np.int32))


def test_load_transpose2d_takes_a_matrix() -> None:
    with pytest.raises(KernelError, match="must have 2 dims"):
        run(lambda t: nl.load_transpose2d(t), ones(2, 3, 4), load=False)
