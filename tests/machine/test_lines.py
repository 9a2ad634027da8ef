"""Time and waits by source line: everything is counted once, and waits name their cause."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings

from tenzing.machine import DMA_TRACK, TRACKS, Analysis, Options, analyse
from tenzing.machine.deps import DMA_READER
from tenzing.machine.lines import TABLES
from tenzing.machine.schedule import Timing
from tenzing.nki import Spec, session

from . import slow_kernels
from .programs import Step, recorded, steps


def timed(kernel: object, *arguments: object) -> Analysis:
    with session("trn2", Options(values=False)):
        launch = kernel.launch(*arguments)  # type: ignore[attr-defined]
    return analyse(launch.programs[0])


@settings(max_examples=60, deadline=None)
@given(steps())
def test_every_wait_has_a_cause_and_is_an_idle_engine(program: list[Step]) -> None:
    result = analyse(recorded(program))
    idle = 0
    for queue in range(len(TRACKS)):
        rows = np.flatnonzero(result.queue % DMA_READER == queue)
        rows = rows[np.argsort(result.start_ps[rows], kind="stable")]
        ends = np.concatenate([[0], result.issue_end_ps[rows]])[: len(rows)]
        idle += int((result.start_ps[rows] - ends).sum())
    found = result.stalls_by_line(10**6)
    assert sum(waited for _, waited, _ in found) == idle
    for _, waited, causes in found:
        assert sum(causes.values()) == waited


@settings(max_examples=40, deadline=None)
@given(steps())
def test_lines_and_operations_hold_the_same_time(program: list[Step]) -> None:
    result = analyse(recorded(program))
    by_line: dict[str, int] = defaultdict(int)
    for _, engines, _ in result.top_lines(10**6):
        for engine, busy in engines.items():
            by_line[engine] += busy
    by_operation: dict[str, int] = defaultdict(int)
    for operation in result.top_operations(10**6):
        by_operation[operation.engine] += operation.busy_ps
    for engine in (*TRACKS[:4], DMA_TRACK):
        assert by_line[engine] == by_operation[engine]
    assert sum(n for _, _, n in result.top_lines(10**6)) == len(result.program)


def test_function_tables_are_a_reason_to_wait() -> None:
    result = timed(slow_kernels.two_functions, Spec((128, 4096), np.dtype(np.float32)))
    _, _, causes = next(s for s in result.stalls_by_line(99) if TABLES in s[2])
    assert causes[TABLES] == pytest.approx(16 * Timing.of(result.chip).table_load_ps)


def test_a_wait_names_the_engine_and_the_line_that_it_waits_for() -> None:
    result = timed(slow_kernels.row_sums, Spec((128, 12 * 2048), np.dtype(np.float32)))
    load = next(t.loc for t in result.program.templates if t.cost.transfer is not None)
    reduced = next(t.loc for t in result.program.templates if t.instruction.nki == "tensor_reduce")
    causes = next(c for loc, _, c in result.stalls_by_line() if loc.line == reduced.line)
    assert max(causes, key=lambda name: causes[name]) == f"DMA at slow_kernels.py:{load.line}"
