"""Tiny kernels whose whole schedule is kept as text: any change of time is seen in review."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.machine.programs import record

from tenzing.machine import Analysis, analyse
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

X = np.ones((128, 512), np.float32)


def copy_through(x: Any) -> None:
    """One load, one store: DMA latencies."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x))


def three_engines(x: Any) -> None:
    """A chain over Scalar, Vector and GpSimd: hops, an activation table."""
    tile = nl.load(x)
    nisa.activation(dst=tile, op=nl.exp, data=tile)
    nisa.tensor_tensor(dst=tile, data1=tile, data2=tile, op=nl.add)
    nisa.tensor_copy(dst=tile, src=tile, engine=nisa.gpsimd_engine)


def accumulate(x: Any) -> None:
    """Four products into one bank: half rate at first, then a drain."""
    tile = nl.load(x)
    bank = nl.ndarray((128, 512), nl.float32, buffer=nl.psum)
    for k in range(4):
        nisa.nc_matmul(dst=bank, stationary=tile[:, k * 128 : (k + 1) * 128], moving=tile)
    nisa.tensor_copy(dst=tile, src=bank)


def two_buffers(x: Any) -> None:
    """Loads run ahead of the compute that reads them."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    for k in range(4):
        part = slice(k * 128, (k + 1) * 128)
        tile = nl.load(x[:, part])
        nisa.activation(dst=tile, op=nl.exp, data=tile)
        nl.store(out[:, part], tile)


def one_buffer(x: Any) -> None:
    """A fixed tile: every load waits for the reads of the round before."""
    for k in range(3):
        tile = nl.ndarray((128, 128), nl.float32, address=(0, 0))
        nisa.dma_copy(dst=tile, src=x[:, k * 128 : (k + 1) * 128])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)


KERNELS: dict[str, Callable[[Any], None]] = {
    k.__name__: k for k in (copy_through, three_engines, accumulate, two_buffers, one_buffer)
}


def analysis_of(name: str, target: str = "trn2") -> Analysis:
    return analyse(record(KERNELS[name], X, target=target))


@pytest.mark.parametrize("name", KERNELS)
def test_timeline(name: str, golden: Callable[[str], None]) -> None:
    golden(analysis_of(name).timeline().text())


def test_buffers_let_loads_run_ahead() -> None:
    """The law beside the texts: the second load does not wait for the first computation."""
    ahead, fixed = analysis_of("two_buffers"), analysis_of("one_buffer")
    loads = [k for k in range(len(ahead.program)) if k % 3 == 0]
    assert ahead.start_ps[loads[1]] < ahead.start_ps[1]
    assert fixed.start_ps[2] >= fixed.done_ps[1]


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_products_into_one_bank_follow_each_other_without_a_gap(target: str) -> None:
    analysis = analysis_of("accumulate", target)
    products = slice(1, 5)
    gaps = analysis.start_ps[products][1:] - analysis.issue_end_ps[products][:-1]
    assert np.all(gaps == 0)
    assert analysis.start_ps[5] >= analysis.done_ps[4]
    assert analysis.flops == 4 * 2 * 128 * 128 * 512
