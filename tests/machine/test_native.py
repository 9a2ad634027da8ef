"""The native core gives the same edges, findings, addresses and ticks as the Python twins."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tenzing import nki
from tenzing.isa.operand import Space
from tenzing.isa.program import Program
from tenzing.kernels import attention, linear
from tenzing.machine import Options, native, place
from tenzing.machine.deps import _Pass, native_dependencies
from tenzing.machine.place import ALIGNMENT, native_trial, python_trial, storage_bytes
from tenzing.machine.schedule import _Simulation, native_schedule
from tenzing.nki import Spec, session
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

from .programs import PLACES, Step, recorded, steps
from .test_chains import COLUMNS, copies

pytestmark = pytest.mark.skipif(native.library() is None, reason="the native core is not built")
F32 = np.dtype(np.float32)


def agree(program: Program) -> None:
    placement = place(program)
    slow, fast = _Pass(program, placement).run(), native_dependencies(program, placement)
    assert fast is not None
    assert fast.before == slow.before
    assert fast.queue == slow.queue
    assert [f.render() for f in fast.findings] == [f.render() for f in slow.findings]
    times, ticks = _Simulation(program, slow).run(), native_schedule(program, slow)
    assert ticks is not None
    for name in ("start_ps", "issue_end_ps", "data_start_ps", "done_ps", "cause", "queue"):
        np.testing.assert_array_equal(getattr(ticks, name), getattr(times, name), err_msg=name)
    assert ticks.queue_busy_ps == times.queue_busy_ps
    assert (ticks.dma_busy_ps, ticks.dma_active_ps) == (times.dma_busy_ps, times.dma_active_ps)


def agree_on_addresses(program: Program, size: int, bank: int) -> None:
    placement = place(program)
    space = Space.PSUM if bank else Space.SBUF
    wanted = [s for s in program.storages if s.space is space and placement.first[s.id] >= 0]
    movable = sorted(wanted, key=lambda s: int(placement.first[s.id]))
    fixed = [(64, 64 + storage_bytes(s)) for s in wanted[:1]]
    for whole in {False, bool(bank)}:
        limits = (size, ALIGNMENT, bank, whole)
        fast = native_trial(movable, fixed, placement, limits)
        assert fast == python_trial(movable, fixed, placement, limits)


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_chains_of_one_engine(target: str) -> None:
    with session(target, Options(values=False)):
        launch = copies.launch(Spec((128, COLUMNS), F32), chained=True)
    agree(launch.programs[0])


@given(steps(), PLACES)
def test_drawn_programs(program: list[Step], places: Any) -> None:
    done = recorded(program, places)
    agree(done)
    agree_on_addresses(done, 400, 0)
    agree_on_addresses(done, 16384, 2048)


@pytest.mark.parametrize("chip", ["trn1", "trn2"])
def test_library_kernels(chip: str) -> None:
    with session(chip, Options(values=False)) as current:
        linear.launch(Spec((300, 200), F32), Spec((200, 700), F32))
        heads = Spec((1, 200, 4, 32), F32)
        attention.launch(heads, heads, heads)
    for launch in current.launches:
        for size in (4000, 100000):  # too small, and enough
            agree_on_addresses(launch.programs[0], size, 0)
        agree(launch.programs[0])


def test_heads_side_by_side_cost_no_walk_over_their_rows() -> None:
    """Views of packed heads recur in every row without meeting: 25 times the rows, no more work.

    The core once compared them row by row and was slower than its Python twin.
    """

    def seconds(rows: int) -> float:
        with session("trn2", Options(values=False)) as current:
            packed_copies.launch(Spec((rows, 64, 16), F32))
        program = current.launches[0].programs[0]
        placement = place(program)
        taken = []
        for _ in range(3):
            started = time.thread_time()
            native_dependencies(program, placement)
            taken.append(time.thread_time() - started)
        return min(taken)

    assert seconds(1600) < 5 * seconds(64)


@nki.jit
def packed_copies(x: Any) -> Any:
    """Heads of packed rows [rows, heads, width], one after another into another tensor."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for head in range(x.shape[1]):
        nisa.dma_copy(dst=out[:, head], src=x[:, head])
    return out


def test_the_core_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    native.library.cache_clear()
    monkeypatch.setenv(native.SWITCH, "off")
    try:
        assert native.library() is None
    finally:
        native.library.cache_clear()


def test_a_foreign_file_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    broken = tmp_path / "_core.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(native, "FILE", broken)
    native.library.cache_clear()
    try:
        assert native.library() is None
    finally:
        monkeypatch.undo()
        native.library.cache_clear()


def test_a_core_of_another_version_is_not_used_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    class Abi:
        restype: Any = None

        def __call__(self) -> int:
            return native.ABI - 1

    old = tmp_path / "_core.so"
    old.touch()
    monkeypatch.setattr(native, "FILE", old)
    monkeypatch.setattr(native.ctypes, "CDLL", lambda _: SimpleNamespace(tz_abi=Abi()))
    native.library.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="older tenzing"):
            assert native.library() is None
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
