"""MFU, MBU and the roofline of kernels whose work is counted by hand."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tenzing import facts
from tenzing.machine import Analysis, Options, analyse
from tenzing.nki import Spec, session
from tenzing.report.run import run_sections

from . import slow_kernels

BF16 = np.dtype(ml_dtypes.bfloat16)


def timed(kernel: Any, *shapes: tuple[int, int], target: str = "trn2", **options: Any) -> Analysis:
    with session(target, Options(values=False)):
        launch = kernel.launch(*(Spec(shape, BF16) for shape in shapes), **options)
    return analyse(launch.programs[0])


# Kernel, shapes, options; flops and bytes of HBM traffic by hand.
COUNTED: dict[str, tuple[Any, tuple[tuple[int, int], ...], dict[str, Any], int, int]] = {
    "products": (
        slow_kernels.products, ((128, 128), (128, 512)), {"turns": 64},
        64 * 2 * 128 * 128 * 512, 128 * 128 * 2 + 128 * 512 * 2 + 128 * 512 * 4,
    ),
    "weights_again": (
        slow_kernels.projected, ((128, 4 * 128), (128, 1024)), {},
        4 * 2 * 128 * 128 * 1024, 4 * (128 * 128 * 2 + 128 * 1024 * 2) + 128 * 1024 * 4,
    ),
    "weights_once": (
        slow_kernels.projected, ((128, 4 * 128), (128, 1024)), {"kept": True},
        4 * 2 * 128 * 128 * 1024, 4 * 128 * 128 * 2 + 128 * 1024 * 2 + 128 * 1024 * 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", facts.chips())
@pytest.mark.parametrize("name", COUNTED)
def test_rates_are_work_over_time_over_the_published_peak(name: str, target: str) -> None:
    kernel, shapes, options, flops, moved = COUNTED[name]
    result = timed(kernel, *shapes, target=target, **options)
    seconds = result.total_ps * 1e-12
    chip = facts.chip(target)
    assert result.flops == flops
    assert result.hbm_read_bytes + result.hbm_write_bytes == moved
    peak = chip.number("core.peak_bf16_tflops") * 1e12
    assert result.mfu == pytest.approx(flops / seconds / peak)
    assert result.mbu == pytest.approx(moved / seconds / (chip.number("hbm.core_gb_s") * 1e9))
    assert 0 < result.mfu < 1
    assert 0 < result.mbu < 1


@pytest.mark.parametrize("name", COUNTED)
def test_the_roofline_has_the_kernel_where_it_is(name: str) -> None:
    kernel, shapes, options, flops, moved = COUNTED[name]
    result = timed(kernel, *shapes, **options)
    html = "".join(part.html() for part in run_sections(result))
    words = r"At ([\d.e+]+) FLOP per byte of HBM traffic, (\w+) sets the bf16 ceiling"
    note = re.search(words, html)
    assert note is not None
    assert float(note[1]) == pytest.approx(flops / moved, rel=0.01)
    ridge = 78.6432e12 / 716e9
    assert note[2] == ("memory" if flops / moved < ridge else "arithmetic")
    assert f"{flops / result.total_ps:.3g} TFLOPS" in html


def test_most_work_comes_first_among_operations() -> None:
    result = timed(slow_kernels.products, (128, 128), (128, 512), turns=64)
    first = result.top_operations()[0]
    assert (first.name, first.engine, first.number) == ("nc_matmul", "Tensor", 64)
    assert first.busy_ps == result.busy_ps["Tensor"]
