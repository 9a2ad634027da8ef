"""The critical path adds up, and advice is worth what it says when somebody follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

from tenzing import facts
from tenzing.machine import Analysis, Options, analyse
from tenzing.machine.critical import by_line
from tenzing.nki import Spec, session
from tenzing.report import profile_summary

from . import slow_kernels
from .programs import Step, recorded, steps

F32, BF16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
WIDE = Spec((128, 4096), F32)
LONG = Spec((128, 12 * 2048), F32)


def timed(kernel: Any, *arguments: Any, target: str = "trn2", **options: Any) -> Analysis:
    with session(target, Options(values=False)):
        launch = kernel.launch(*arguments, **options)
    result = analyse(launch.programs[0])
    assert result.findings == []
    return result


def squares(dtype: np.dtype[Any], target: str) -> Analysis:
    sides = Spec((128, 128), dtype), Spec((128, 512), dtype)
    return timed(slow_kernels.products, *sides, target=target)


# The slow kernel, the line its report must name first, the change, and the kernel after it.
PLANTED: dict[str, tuple[Callable[[str], Analysis], str, str, Callable[[str], Analysis]]] = {
    "small_transfers": (
        lambda t: timed(slow_kernels.doubled, WIDE, target=t), "nisa.dma_copy", "at a time",
        lambda t: min((
            timed(slow_kernels.doubled, WIDE, target=t, **{side: 512})
            for side in ("loaded", "stored")
        ), key=lambda result: result.total_ps),
    ),
    "one_buffer": (
        lambda t: timed(slow_kernels.row_sums, LONG, target=t), "# LOAD", "second buffer",
        lambda t: timed(slow_kernels.row_sums, LONG, target=t, buffers=2),
    ),
    "wide_products": (
        lambda t: squares(F32, t), "# PRODUCT", "multiply in bf16", lambda t: squares(BF16, t),
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", facts.chips())
@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_line_comes_first_and_its_advice_gains_what_it_says(
    name: str, target: str
) -> None:
    slow, source, change, better = PLANTED[name]
    before = slow(target)
    loc, share, _ = by_line(before.critical_path)[0]
    assert loc is not None
    assert source in loc.excerpt()
    assert share > 0.4 * before.total_ps
    best = before.advice[0]
    assert change in best.change
    assert source in best.loc.excerpt()
    assert best.before_ps == before.total_ps
    gained = 1 - better(target).total_ps / before.total_ps
    assert gained == pytest.approx(best.gain, abs=0.05)


def test_the_report_names_the_planted_line_before_anything_else() -> None:
    for slow, source, change, _ in PLANTED.values():
        text = profile_summary(slow("trn2"))
        rows = [line for line in text.splitlines() if "slow_kernels.py:" in line]
        assert source in rows[0]
        assert change in text


@settings(max_examples=60, deadline=None)
@given(steps())
def test_shares_of_the_critical_path_add_up(program: list[Step]) -> None:
    result = analyse(recorded(program))
    links = result.critical_path
    assert sum(link.total_ps for link in links) == result.total_ps
    assert all(part > 0 for link in links for _, part in link.parts)
    assert sum(ps for _, ps, _ in by_line(links)) == result.total_ps
    for advice in result.advice:
        assert 0 < advice.gain <= 1


def test_transfers_by_size_hold_every_byte() -> None:
    result = timed(slow_kernels.row_sums, LONG)
    table = result.transfers_by_size()
    assert sum(t.moved_bytes for t in table) == result.dma_bytes
    assert [t.number for t in table] == [1, 12]
    small, large = table
    assert small.efficiency < 0.01 < large.efficiency <= 1  # a few bytes, and a megabyte
    assert all(t.reached_gb_s <= t.alone_gb_s * (1 + 1e-9) for t in table)
