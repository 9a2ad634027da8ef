"""Two cores of a launch that share an HBM stack share its rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tenzing import facts
from tenzing.machine import Analysis, Options, analyse
from tenzing.nki import Spec, jit, session
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

COLUMNS = 4096
LOADS = 24
F32 = np.dtype(np.float32)


@jit
def stream(x: Any) -> Any:
    """Nothing but large loads."""
    out = nl.ndarray((128, 1), dtype=x.dtype, buffer=nl.shared_hbm)
    ring = [nl.ndarray((128, COLUMNS), dtype=x.dtype, buffer=nl.sbuf) for _ in range(4)]
    for k in range(LOADS):
        nisa.dma_copy(dst=ring[k % 4], src=x)
    nisa.dma_copy(dst=out, src=ring[0][:, 0:1])
    return out


@jit
def add(x: Any) -> Any:
    """One load, much work."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    for _ in range(LOADS):
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
    nl.store(out, tile)
    return out


def timed(kernel: Any, target: str, cores: int) -> list[Analysis]:
    with session(target, Options(values=False)):
        launch = kernel[cores].launch(Spec((128, COLUMNS), F32))
    return [analyse(program) for program in launch.programs]


@pytest.mark.parametrize("target", facts.chips())
def test_two_streams_take_no_more_than_their_stack_gives(target: str) -> None:
    chip = facts.chip(target)
    (alone,), pair = timed(stream, target, 1), timed(stream, target, 2)
    near = chip.integer("hbm.cores_per_stack")
    assert all(r.program.hbm_sharers == near for r in pair)
    seconds = max(r.total_ps for r in pair) * 1e-12
    stacks = 2 // near
    rate = sum(r.hbm_read_bytes for r in pair) / seconds
    assert rate <= stacks * chip.number("hbm.core_gb_s") * 1e9
    if near == 1:
        assert {r.total_ps for r in pair} == {alone.total_ps}


def test_two_streams_of_trainium2_wait_for_each_other() -> None:
    chip = facts.chip("trn2")
    (alone,), pair = timed(stream, "trn2", 1), timed(stream, "trn2", 2)
    engines = chip.integer("dma.engines") * chip.number("dma.engine_gb_s")
    slower = engines / (chip.number("hbm.core_gb_s") / 2)
    assert slower > 1.1
    assert pair[0].total_ps / alone.total_ps == pytest.approx(slower, rel=0.1)


def test_work_on_the_chip_is_not_slower() -> None:
    (alone,), pair = timed(add, "trn2", 1), timed(add, "trn2", 2)
    assert pair[0].total_ps == pytest.approx(alone.total_ps, rel=0.02)


def test_a_third_core_has_a_stack_of_its_own() -> None:
    assert [r.program.hbm_sharers for r in timed(add, "trn2", 3)] == [2, 2, 1]
