"""The critical path adds up, and advice is worth what it says when somebody follows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing import facts
from tenzing.errors import Loc
from tenzing.machine import Analysis, Options, analyse
from tenzing.machine.advice.edits import Edit, Recorded
from tenzing.machine.critical import by_line
from tenzing.nki import Spec, session
from tenzing.nki import isa as nisa
from tenzing.report import profile_summary

from . import slow_kernels
from .programs import Step, recorded, steps

F32, BF16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
WIDE = Spec((128, 4096), F32)
LONG = Spec((128, 12 * 2048), F32)
NARROW = Spec((128, 8192), BF16)
SIDES = Spec((128, 128), BF16), Spec((128, 512), BF16)
PROJECTION = Spec((128, 24 * 128), BF16), Spec((128, 4096), BF16)
SCORES = Spec((128, 128), BF16), Spec((128, 24 * 512), BF16)
GRADUAL = ("small_transfers", "one_buffer")  # of more the kernel could do with more still


def timed(kernel: Any, *arguments: Any, target: str = "trn2", **options: Any) -> Analysis:
    with session(target, Options(values=False)):
        launch = kernel.launch(*arguments, **options)
    result = analyse(launch.programs[0])
    assert result.findings == []
    return result


def squares(dtype: np.dtype[Any], target: str) -> Analysis:
    sides = Spec((128, 128), dtype), Spec((128, 512), dtype)
    return timed(slow_kernels.products, *sides, target=target)


@dataclass(frozen=True)
class Planted:
    """A slow kernel, the same after a change, and what its report must say first.

    ``lines`` are texts of the source lines that may come first: the planted one, or the two that
    take turns. ``chips`` is where the fault is one.
    """

    slow: Callable[[str], Analysis]
    better: Callable[[str], Analysis]
    lines: tuple[str, ...]
    change: str
    chips: tuple[str, ...] = tuple(facts.chips())


def kernel(function: Any, *arguments: Any, **options: Any) -> Callable[[str], Analysis]:
    return lambda target: timed(function, *arguments, target=target, **options)


PLANTED = {
    "small_transfers": Planted(
        kernel(slow_kernels.doubled, WIDE),
        lambda t: min((
            timed(slow_kernels.doubled, WIDE, target=t, **{side: 512})
            for side in ("loaded", "stored")
        ), key=lambda result: result.total_ps),
        ("nisa.dma_copy",), "at a time, as one larger transfer",
    ),
    "one_buffer": Planted(
        kernel(slow_kernels.row_sums, LONG), kernel(slow_kernels.row_sums, LONG, buffers=2),
        ("# LOAD",), "second buffer",
    ),
    "wide_products": Planted(
        lambda t: squares(F32, t), lambda t: squares(BF16, t), ("# PRODUCT",), "multiply in bf16",
    ),
    "sums_in_sbuf": Planted(
        kernel(slow_kernels.summed_products, *SIDES),
        kernel(slow_kernels.summed_products, *SIDES, in_psum=True),
        ("# SUM",), "accumulate in PSUM",
    ),
    "weights_loaded_again": Planted(
        kernel(slow_kernels.projected, *PROJECTION),
        kernel(slow_kernels.projected, *PROJECTION, kept=True),
        ("# WEIGHTS",), "load it once and keep it in SBUF",
    ),
    "narrow_instructions": Planted(
        kernel(slow_kernels.squared, WIDE), kernel(slow_kernels.squared, WIDE, width=128),
        ("# SQUARE",), "as one wider instruction",
    ),
    "one_buffer_in_psum": Planted(
        kernel(slow_kernels.largest_scores, *SCORES),
        kernel(slow_kernels.largest_scores, *SCORES, buffers=2),
        ("# SCORE", "# MAX"), "second buffer",
    ),
    "slow_engine": Planted(
        kernel(slow_kernels.doubled_up, NARROW),
        kernel(slow_kernels.doubled_up, NARROW, engine=nisa.engine.vector),
        ("# DOUBLE",), "run it on Vector", ("trn2", "trn3"),
    ),
    "changing_functions": Planted(
        kernel(slow_kernels.two_functions, Spec((128, 8192), F32)),
        kernel(slow_kernels.two_functions, Spec((128, 8192), F32), grouped=True),
        ("# FUNCTION",), "all of one function before the next", ("trn2", "trn3"),
    ),
}  # fmt: skip
CASES = [(name, target) for name, planted in PLANTED.items() for target in planted.chips]


def source_of(loc: Loc | None) -> str:
    """The source of the call at ``loc``: a comment may stand on its last line."""
    assert loc is not None
    lines = Path(loc.file).read_text().splitlines()[loc.line - 1 :]
    depth, found = 0, []
    for line in lines:
        found.append(line)
        depth += line.count("(") - line.count(")")
        if not depth:
            break
    return " ".join(found)


@pytest.mark.parametrize(("name", "target"), CASES)
def test_the_planted_line_comes_first_and_its_advice_gains_what_it_says(
    name: str, target: str
) -> None:
    planted = PLANTED[name]
    before = planted.slow(target)
    loc, share, _ = by_line(before.critical_path)[0]
    assert any(line in source_of(loc) for line in planted.lines)
    assert share > 0.25 * before.total_ps
    best = before.advice[0]
    assert planted.change in best.change
    assert any(line in source_of(best.loc) for line in planted.lines)
    assert best.before_ps == before.total_ps
    gained = 1 - planted.better(target).total_ps / before.total_ps
    assert gained == pytest.approx(best.gain, abs=0.05)


@pytest.mark.parametrize("name", PLANTED)
def test_the_report_names_the_planted_line_before_anything_else(name: str) -> None:
    planted = PLANTED[name]
    text = profile_summary(planted.slow("trn2"))
    numbers = [int(found) for found in re.findall(r"slow_kernels\.py:(\d+)", text)]
    assert any(line in source_of(Loc(slow_kernels.__file__, numbers[0])) for line in planted.lines)
    assert planted.change in text.split("\n\n")[0]


@pytest.mark.parametrize("name", PLANTED)
def test_advice_followed_is_not_given_again(name: str) -> None:
    planted = PLANTED[name]
    after = planted.better("trn2")
    assert not any(
        planted.change in advice.change and advice.gain > 0.1
        and any(line in source_of(advice.loc) for line in planted.lines)
        for advice in after.advice if name not in GRADUAL
    )  # fmt: skip


def test_an_engine_is_not_advised_where_it_is_slower() -> None:
    """On Trainium1 Vector takes longer for these columns than GpSimd."""
    assert timed(slow_kernels.doubled_up, NARROW, target="trn1").advice == []


def test_a_chain_of_instructions_cannot_be_made_wider() -> None:
    """Every doubling reads what the one before it wrote."""
    advice = timed(slow_kernels.doubled_up, NARROW).advice
    assert not any("wider" in found.change for found in advice)


def test_gains_that_depend_on_more_than_the_change_are_upper_bounds() -> None:
    """A short table load saves less than it takes: the order of functions delays what follows."""
    slow, better = PLANTED["changing_functions"].slow, PLANTED["changing_functions"].better
    before = slow("trn1")
    best = before.advice[0]
    assert best.at_most
    assert better("trn1").total_ps >= best.after_ps


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


@settings(max_examples=40, deadline=None)
@given(steps(), st.data())
def test_edges_of_a_changed_record_are_the_old_ones_but_for_what_was_dropped(
    program: list[Step], data: st.DataObject
) -> None:
    result = analyse(recorded(program))
    count = len(result.program)
    edit = Edit(Recorded(result.program, result.placement, result.dependencies, result.times))
    dropped = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=count))
    expected = [list(row) for row in result.dependencies.before]
    for index in dropped:
        waits = data.draw(st.lists(st.integers(0, max(index - 1, 0)), unique=True, max_size=3))
        waits = sorted(waits) if index else []
        edit.drop(index, waits)
        expected[index] = waits
    assert edit.change(None, "", "").dependencies.before == expected
