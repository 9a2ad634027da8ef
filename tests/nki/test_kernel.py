"""Calling kernels: arrays in and out, inputs written in place, grids over cores, time-only runs."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tenzing import nki
from tenzing.errors import FactsError, KernelError, UsageError
from tenzing.machine import Options
from tenzing.nki import language

nl: Any = language


@nki.jit
def double(x: Any) -> Any:
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(nl.load(x), 2))
    return out


@nki.jit
def half_each(x: Any) -> Any:
    """Each program of the grid doubles its rows."""
    rows = x.shape[0] // nl.num_programs(0)
    part = nl.ds(nl.program_id(0) * rows, rows)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out[part], nl.multiply(nl.load(x[part]), 2))
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int32])
def test_arrays_come_back_in_their_dtype(dtype: Any) -> None:
    x = np.arange(32).reshape(4, 8).astype(dtype)
    result = double(x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.astype(np.float32), x.astype(np.float32) * 2)


def test_structures_of_results_are_kept() -> None:
    @nki.jit
    def kernel(x: Any, *, count: int) -> Any:
        outs = [double(x) for _ in range(count)]  # a kernel inside a kernel is a plain call
        return {"first": outs[0], "rest": tuple(outs[1:])}, count

    x = np.ones((2, 2), np.float32)
    result, count = kernel(x, count=3)
    assert count == 3
    assert (result["first"] == 2).all()
    assert len(result["rest"]) == 2


def test_inputs_that_are_written_change_for_the_caller() -> None:
    @nki.jit
    def kernel(x: Any, *, y: Any) -> None:
        nl.store(x, nl.load(y))

    x, y = np.zeros((2, 4), np.float32), np.ones((2, 4), np.float32)
    kernel(x, y=y)
    np.testing.assert_array_equal(x, y)
    untouched = np.zeros((2, 4), np.float32)
    double(untouched)
    assert (untouched == 0).all()


def test_both_cores_of_a_grid_write_one_result() -> None:
    x = np.arange(64, dtype=np.float32).reshape(8, 8)
    with nki.session("trn2") as session:
        np.testing.assert_array_equal(half_each[2](x), 2 * x)
    assert [len(p) for p in session.launches[0].programs] == [3, 3]


def test_a_session_records_launches_and_calls_back() -> None:
    names: list[str] = []
    with nki.session("trn3", on_launch=lambda launch: names.append(launch.name)) as session:
        double(np.ones((2, 2), np.float32))
    assert names == ["double"]
    launch = session.launches[0]
    assert launch.loc is not None
    assert launch.loc.function == "test_a_session_records_launches_and_calls_back"
    assert launch.programs[0].chip.name == "trn3"


def test_time_only_runs_take_shapes() -> None:
    with nki.session("trn2", Options(values=False)) as session:
        result = double(nki.Spec((4, 8), np.dtype(np.float32)))
    assert result == nki.Spec((4, 8), np.dtype(np.float32))
    assert len(session.launches[0].programs[0]) == 3


def test_values_and_time_only_runs_record_the_same() -> None:
    x = np.ones((4, 8), np.float32)
    rows = []
    for options in (Options(), Options(values=False)):
        with nki.session("trn2", options) as session:
            double(x)
        rows.append(session.launches[0].programs[0].rows)
    assert rows[0] == rows[1]


def test_simulate_and_jit_accept_plain_functions_and_kernels() -> None:
    def plain(x: Any) -> Any:
        return double(x)

    x = np.ones((2, 2), np.float32)
    assert (nki.simulate(plain)(x) == 2).all()
    assert (nki.simulate(double)(x) == 2).all()
    assert nki.jit(double) is double
    assert (nki.jit(debug=True)(plain)(x) == 2).all()
    assert double.__name__ == "double"  # type: ignore[attr-defined]


def test_the_target_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @nki.jit
    def kernel(x: Any) -> None:
        seen.append(nl.load(x).storage.space.name + str(nl.tile_size.pmax))

    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "gen2")
    kernel(np.ones((2, 2), np.float32))
    assert seen == ["SBUF128"]
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "gen9")
    with pytest.raises(FactsError, match="gen9"):
        kernel(np.ones((2, 2), np.float32))


# -- failing paths ---------------------------------------------------------------------------------


def test_more_cores_than_there_are() -> None:
    wanted = "trn1 has 2 cores; got a grid over 4"
    with nki.session("trn1"), pytest.raises(UsageError, match=wanted):
        half_each[4](np.ones((8, 8), np.float32))


@pytest.mark.parametrize("size", [0, -1])
def test_a_grid_without_programs(size: int) -> None:
    with pytest.raises(UsageError, match="has no programs; allowed: 1 or more"):
        half_each[size](np.ones((8, 8), np.float32))


def test_programs_must_allocate_shared_tensors_alike() -> None:
    @nki.jit
    def kernel() -> None:
        nl.ndarray((nl.program_id(0) + 1, 4), nl.float32, buffer=nl.shared_hbm)

    with pytest.raises(KernelError, match="allocate different shared tensors"):
        kernel[2]()


def test_an_argument_that_is_no_array_stays_what_it_is() -> None:
    with pytest.raises(KernelError, match="src must be a tensor in HBM; got list"):
        nki.jit(lambda x: nl.load(x))([1, 2])


@pytest.mark.torch
def test_torch_tensors_go_in_and_come_out() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.int32):
        x = torch.arange(32).reshape(4, 8).to(dtype)
        result = double(x)
        assert isinstance(result, torch.Tensor)
        assert result.dtype == dtype
        assert torch.equal(result, 2 * x)
    written = torch.zeros(2, 4)

    @nki.jit
    def kernel(y: Any) -> None:
        nl.store(y, nl.ones((2, 4), nl.float32))

    kernel(written)
    assert torch.equal(written, torch.ones(2, 4))
