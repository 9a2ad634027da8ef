"""A real kernel through the whole chain: run, summary, page, trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenzing import commands, report

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
