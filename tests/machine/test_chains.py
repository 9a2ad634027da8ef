"""Instructions that need each other on one engine, and loads that decide the pace of a product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tenzing import facts
from tenzing.machine import Analysis, Options, analyse
from tenzing.nki import Spec, jit, session
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

F32 = np.dtype(np.float32)
COLUMNS = 512
CHAIN = 6
MANY = 24  # products: the first ones run at half rate


def tile(columns: int = COLUMNS, rows: int = 128) -> Any:
    made = nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=made, value=0.0)
    return made


@jit
def copies(x: Any, chained: bool, scalar: bool = False) -> Any:
    """Copies on Vector or Scalar, each of the one before or each of the first."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    first = last = tile()
    for _ in range(CHAIN):
        fresh = nl.ndarray((128, COLUMNS), dtype=nl.float32, buffer=nl.sbuf)
        source = last if chained else first
        if scalar:
            nisa.activation(dst=fresh, op=nl.copy, data=source)
        else:
            nisa.tensor_scalar(dst=fresh, data=source, op0=nl.add, operand0=1.0)
        last = fresh
    nisa.dma_copy(dst=out, src=last)
    return out


@jit
def products(x: Any, step: int, narrow: int = 128) -> Any:
    """Products with stationary columns ``step`` elements apart, one after another."""
    out = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.shared_hbm)
    left, right = tile(128 * step).reshape((128, 128, step)), tile(narrow)
    for _ in range(MANY):
        psum = nl.ndarray((128, narrow), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=psum, stationary=left[:, :, 0], moving=right, accumulate=False)
    last = tile(1)
    nisa.tensor_copy(dst=last, src=psum[:, 0:1])
    nisa.dma_copy(dst=out, src=last)
    return out


def timed(kernel: Any, target: str, **options: Any) -> Analysis:
    with session(target, Options(values=False)):
        launch = kernel.launch(Spec((128, COLUMNS), F32), **options)
    return analyse(launch.programs[0])


def gaps_ps(result: Analysis, name: str) -> set[int]:
    """Times between the starts of the last few instructions of one kind."""
    mine = [k for k in range(len(result.program))
            if result.program.template(k).instruction.nki == name]  # fmt: skip
    return set(np.diff(result.start_ps[mine])[1 - CHAIN :].tolist())


@pytest.mark.parametrize("target", facts.chips())
@pytest.mark.parametrize(
    ("engine", "name"), [("vector", "tensor_scalar"), ("scalar", "activation")]
)
def test_a_chain_runs_at_its_own_overhead(target: str, engine: str, name: str) -> None:
    chip = facts.chip(target)
    cycles = COLUMNS + chip.number(f"{engine}.chained_overhead_cycles")
    expected = cycles / chip.number(f"{engine}.clock_ghz") * 1000
    found = gaps_ps(timed(copies, target, chained=True, scalar=engine == "scalar"), name)
    assert all(gap == pytest.approx(expected, abs=1) for gap in found)
    apart = gaps_ps(timed(copies, target, chained=False, scalar=engine == "scalar"), name)
    assert max(apart) < min(found)


def test_another_engine_waits_for_the_result_itself() -> None:
    result = timed(copies, "trn1", chained=True)
    chip = result.chip
    last = max(k for k in range(len(result.program))
               if result.program.template(k).instruction.nki == "tensor_scalar")  # fmt: skip
    cycles = COLUMNS + chip.number("vector.latency_overhead_cycles")
    spent = int(result.done_ps[last] - result.start_ps[last])
    assert spent == pytest.approx(cycles / chip.number("vector.clock_ghz") * 1000, abs=1)
    assert result.start_ps[last + 1] >= result.done_ps[last]


def test_strided_weights_of_float32_set_the_pace() -> None:
    chip = facts.chip("trn2")
    load = chip.number("tensor.load_cycles_fp32") / chip.number("tensor.clock_ghz") * 1000
    passes = chip.integer("tensor.fp32_passes")
    near = gaps_ps(timed(products, "trn2", step=1, narrow=222), "nc_matmul")
    far = gaps_ps(timed(products, "trn2", step=9, narrow=222), "nc_matmul")
    rows = 222 * chip.number("tensor.fp32_cycles_per_row")
    streamed = (rows + chip.number("tensor.interval_overhead_cycles")) * 1000 / 2.4
    assert streamed > load  # so a dense load hides under the pass before it
    assert min(near) == pytest.approx(passes * streamed, abs=2)
    assert min(far) == pytest.approx(passes * 2 * load, abs=2)
