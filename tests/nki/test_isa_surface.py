"""The ``nki.isa`` functions: published calls, legality with the user's line, PSUM accumulation."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from tests.nki.kernels_for_tests import run

from tenzing import nki
from tenzing.errors import KernelError, LegalityError
from tenzing.isa import REGISTRY
from tenzing.nki import isa, language

nl: Any = language
nisa: Any = isa
F32 = np.float32


def values(*shape: int) -> Any:
    return np.random.default_rng(5).standard_normal(shape).astype(F32)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_functions_show_their_class(name: str) -> None:
    function = getattr(nisa, name)
    assert function.__name__ == name
    assert function.__doc__ == REGISTRY[name].__doc__
    assert "name" in inspect.signature(function).parameters


def test_accumulation_starts_where_nothing_was_written() -> None:
    def body(a: Any) -> Any:
        total = nl.ndarray((32, 32), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(total, a, a)
        nisa.nc_matmul(total, a, a)
        nisa.nc_matmul(total, a, a, accumulate=True)
        return total

    x = values(16, 32)
    np.testing.assert_allclose(run(body, x), 3 * x.T @ x, rtol=1e-4, atol=1e-4)


def test_accumulate_false_overwrites() -> None:
    def body(a: Any) -> Any:
        total = nl.ndarray((32, 32), nl.float32, buffer=nl.psum)
        for _ in range(2):
            nisa.nc_matmul(total, a, a, accumulate=False)
        return total

    x = values(16, 32)
    np.testing.assert_allclose(run(body, x), x.T @ x, rtol=1e-4, atol=1e-4)


def test_neighbouring_and_interleaved_parts_do_not_accumulate_on_each_other() -> None:
    def body(a: Any) -> Any:
        total = nl.ndarray((64, 64), nl.float32, buffer=nl.psum)
        for rows in (slice(0, 32), slice(32, 64)):
            nisa.nc_matmul(total[rows, 0:32], a, a)
            nisa.nc_matmul(total[rows, 32:64:2], a, a[:, 0:16])
            nisa.nc_matmul(total[rows, 33:64:2], a, a[:, 16:32])
        return total

    x = values(16, 32)
    square = x.T @ x
    mixed = np.stack([square[:, :16], square[:, 16:]], 2).reshape(32, 32)
    expected = np.tile(np.concatenate([square, mixed], 1), (2, 1))
    np.testing.assert_allclose(run(body, x), expected, rtol=1e-4, atol=1e-4)


def test_registers_carry_integers_between_tiles() -> None:
    def body(a: Any) -> Any:
        register = nisa.register_alloc()
        nisa.register_load(register, a)
        other = nisa.register_alloc(1)
        nisa.register_move(other, register)
        assert bool(other)
        out = nl.ndarray((1, 1), nl.int32)
        nisa.register_store(out, other)
        return out

    assert run(body, np.full((1, 1), 7, np.int32))[0, 0] == 7


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_the_generation_is_known(target: str) -> None:
    with nki.session(target):
        version = nisa.get_nc_version()
        assert version is nisa.nc_version[{"trn1": "gen2", "trn2": "gen3", "trn3": "gen4"}[target]]
        assert nisa.get_nc_sub_version() == 0


def test_gather_rows_by_index() -> None:
    def kernel(table: Any, index: Any) -> Any:
        rows = nl.load(index)
        tile = nl.ndarray((4, 8), nl.float32)
        nisa.dma_copy(dst=tile, src=table.ap([[8, 4], [1, 8]], vector_offset=rows))
        out = nl.ndarray((4, 8), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, tile)
        return out

    x, index = values(32, 8), np.array([[3], [30], [0], [3]], np.int32)
    np.testing.assert_array_equal(nki.jit(kernel)(x, index), x[index[:, 0]])


# -- failing paths ---------------------------------------------------------------------------------


def test_all_broken_rules_are_named_at_the_users_line() -> None:
    def body(a: Any) -> Any:
        total = nl.ndarray((32, 640), nl.float32, buffer=nl.sbuf)
        nisa.nc_matmul(total, a, a)
        return total

    with pytest.raises(LegalityError) as caught:
        run(body, values(16, 640))
    text = caught.value.render()
    assert "nki.isa.nc_matmul: dst is in SBUF; allowed: PSUM" in text
    assert f"test_isa_surface.py:{body.__code__.co_firstlineno + 2}" in text
    assert "nisa.nc_matmul(total, a, a)" in text
    assert "^" in text


def test_size_limits_name_the_fact() -> None:
    def body(a: Any) -> Any:
        total = nl.ndarray((32, 640), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(total, a[:, 0:32], a)
        return total

    with pytest.raises(LegalityError, match=r"moving has 640 free elements; trn2 allows 512") as e:
        run(body, values(16, 640))
    assert "tensor.moving_free_max" in e.value.render()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: nisa.tensor_copy(t, "x"), "src is str; allowed: a tile"),
        (lambda t: nisa.tensor_copy(t, 1.0), "src is float; allowed: a tile"),
        (lambda t: nisa.tensor_scalar(t, t, nl.add, None), "operand0"),
        (lambda t: nisa.tensor_copy(t, t, mask=1), "mask= was removed"),
        (lambda t: nisa.register_load(nisa.register_alloc(), t), "one element, got shape"),
        (lambda t: nisa.register_store(t, 3), "one element, got shape"),
    ],
)
def test_wrong_operands_are_named(call: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        run(lambda t: call(t) or t, values(4, 8))


def test_instructions_need_a_kernel() -> None:
    with pytest.raises(KernelError, match="outside a kernel"):
        nisa.memset(None, 0)
