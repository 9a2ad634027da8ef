"""A real kernel through the whole chain: run, summary, page, trace."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tenzing import commands, report
from tenzing.isa.operand import Space
from tenzing.machine import TRACKS, Analysis
from tenzing.machine.deps import DMA_READER

KERNEL = """
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def double(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nl.store(out, nl.add(tile, tile))
    return out

double(np.ones((128, 512), np.float32))
"""


@pytest.fixture
def result(tmp_path: Path) -> commands.RunResult:
    path = tmp_path / "double.py"
    path.write_text(KERNEL)
    return commands.run(str(path), target="trn2")


def test_a_real_run_is_told(result: commands.RunResult, tmp_path: Path) -> None:
    text = report.run_result_text(result)
    assert "HBM 256.0 KiB read, 256.0 KiB written" in text
    assert "no matrix product" in text
    assert "tile = nl.load(x)" in report.profile_text(result, tmp_path)
    html = report.write_run_html(result, tmp_path / "r.html").read_text()
    assert "dma_copy" in html


def test_the_trace_spans_the_program(result: commands.RunResult, tmp_path: Path) -> None:
    trace = json.loads(report.write_run_perfetto(result, tmp_path / "t.json").read_text())
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    end_us = max(e["ts"] + e["dur"] for e in slices)
    assert end_us == pytest.approx(result.kernels[0].slowest.total_ps / 1e6, abs=2e-3)
    assert {e["args"]["line"].split(":")[0] for e in slices} == {"double.py"}


def test_json_of_a_real_run_is_plain(result: commands.RunResult) -> None:
    plain = json.loads(json.dumps(report.profile_json(result)))
    assert plain["kernels"][0]["cores"][0]["hbm_read_bytes"] == 128 * 512 * 4


def test_the_trace_has_every_instruction_on_its_track(
    result: commands.RunResult, tmp_path: Path
) -> None:
    """What a viewer's query for tracks, slices, flows and counters would count."""
    analysis = result.kernels[0].slowest
    assert isinstance(analysis, Analysis)
    path = report.write_run_perfetto(result, tmp_path / "t.json")
    events = json.loads(path.read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    slices = Counter(names[e["tid"]] for e in events if e["ph"] == "X")
    issued = Counter(TRACKS[queue % DMA_READER] for queue in analysis.queue.tolist())
    moved = sum(queue >= DMA_READER for queue in analysis.queue.tolist())
    on_dma = sum(count for name, count in slices.items() if name.startswith("DMA"))
    assert on_dma == moved
    assert {name: n for name, n in slices.items() if not name.startswith("DMA")} == issued
    chain = dict.fromkeys(link.instruction for link in analysis.critical_path)
    assert sum(e["ph"] == "s" for e in events) == sum(e["ph"] == "f" for e in events)
    assert sum(e["ph"] == "s" for e in events) == len(chain) - 1
    counters = Counter(e["name"] for e in events if e["ph"] == "C")
    assert counters["SBUF bytes per partition"] == len(analysis.occupancy(Space.SBUF)[0])
