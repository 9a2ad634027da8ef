"""Executing at once, holding a call back, and only recording agree with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machine.programs import PLACES, Step, inputs, kernel, record, steps

from tenzing import nki
from tenzing.errors import KernelError
from tenzing.machine import Options, analyse
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

X = np.random.default_rng(3).standard_normal((32, 48)).astype(np.float32)


def outcome(body: Any, *arrays: Any, **options: Any) -> Any:
    with nki.session("trn2", Options(**options)):
        return nki.jit(body)(*arrays)


@given(steps(), PLACES)
def test_the_same_program_gives_the_same_bits(program: list[Step], places: Any) -> None:
    results = []
    for _ in range(2):
        x, out = inputs()
        nki.jit(kernel(program, places))(x, out)
        results.append(out.tobytes())
    assert results[0] == results[1]


@given(st.lists(st.sampled_from(["exp", "square", "negative", "reciprocal"]), max_size=6))
def test_held_back_calls_equal_calls_issued_at_once(names: list[str]) -> None:
    def held_back(x: Any) -> Any:
        tile = nl.ndarray(x.shape, nl.float32)
        tile[...] = nl.load(x)
        for name in names:
            tile[...] = getattr(nl, name)(tile)
        out = nl.ndarray(x.shape, nl.float32, buffer=nl.shared_hbm)
        nl.store(out, tile)
        return out

    def at_once(x: Any) -> Any:
        tile = nl.load(x)
        for name in names:
            fresh = getattr(nl, name)(tile)
            nl.ndarray((32, 1), nl.float32)
            tile = nl.copy(fresh)
        out = nl.ndarray(x.shape, nl.float32, buffer=nl.shared_hbm)
        nl.store(out, tile)
        return out

    assert outcome(held_back, X).tobytes() == outcome(at_once, X).tobytes()


def test_a_value_can_be_looked_at_while_the_kernel_runs() -> None:
    seen = []

    def body(x: Any) -> None:
        tile = nl.load(x)
        seen.append(tile.numpy())
        nisa.memset(dst=tile, value=3.0)
        seen.append(tile.numpy())

    outcome(body, X)
    np.testing.assert_array_equal(seen[0], X)
    np.testing.assert_array_equal(seen[1], 3)


def test_time_only_has_no_values_and_says_so() -> None:
    def body(x: Any) -> None:
        nl.load(x).numpy()

    with pytest.raises(KernelError, match="time only"):
        outcome(body, X, values=False)


def test_time_only_returns_shapes() -> None:
    def body(x: Any) -> Any:
        out = nl.ndarray((32, 8), nl.bfloat16, buffer=nl.shared_hbm)
        nl.store(out, nl.load(x[:, 0:8]))
        return out

    spec = outcome(body, X, values=False)
    assert (spec.shape, spec.dtype.name) == ((32, 8), "bfloat16")


def test_the_generator_follows_the_seed() -> None:
    def body() -> Any:
        out = nl.ndarray((32, 8), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, nl.rand((32, 8), nl.float32))
        return out

    one, same, other = (outcome(body, seed=s) for s in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()
    assert np.all((one >= 0) & (one < 1))


def test_an_operation_outside_a_kernel_says_so() -> None:
    with pytest.raises(KernelError, match="outside a kernel"):
        nl.ndarray((4, 4), nl.float32)
    with pytest.raises(KernelError, match="outside a kernel"):
        nisa.memset(dst=None, value=0.0)


def test_a_failed_kernel_leaves_nothing_behind() -> None:
    def bad(x: Any) -> None:
        nl.load(x)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        outcome(bad, X)
    with pytest.raises(KernelError, match="outside a kernel"):
        nl.ndarray((4, 4), nl.float32)


def test_the_end_of_a_matmul_chain_is_added_in_psum() -> None:
    def body(x: Any) -> Any:
        tile = nl.load(x)
        bank = nl.ndarray((48, 48), nl.float32, buffer=nl.psum)
        for _ in range(3):
            nisa.nc_matmul(dst=bank, stationary=tile, moving=tile)
        out = nl.ndarray((48, 48), nl.float32, buffer=nl.shared_hbm)
        nl.store(out, nl.copy(bank))
        return out

    np.testing.assert_allclose(outcome(body, X), 3 * X.T @ X, rtol=1e-5, atol=1e-4)


def test_analysis_of_an_empty_kernel() -> None:
    analysis = analyse(record(lambda: None))
    assert analysis.total_ps == 0
    assert analysis.findings == []
    assert analysis.mfu == analysis.mbu == 0
    assert len(analysis.timeline()) == 0
    assert analysis.top_lines() == analysis.stalls_by_line() == []
