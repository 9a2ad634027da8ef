"""The example kernels run as scripts on every chip; the conformance runner on a small checkout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tenzing import nki
from tenzing.machine import analyse

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "kernels").glob("*.py"))
RUNNER = ROOT / "conformance" / "run.py"
SAMPLE = """\
import numpy as np
import neuronxcc.nki as nki
import neuronxcc.nki.language as nl

@nki.jit
def shift(x, by):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x) + by)
    return out

if __name__ == "__main__":
    assert (shift(np.zeros((4, 8), np.float32), RESULT) == 1).all(), "shifted wrongly"
"""


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_agree_with_numpy_and_can_be_timed(
    path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    session = nki.Session(target)
    assert nki.run_script(path, session=session) == 0
    assert "agrees with NumPy" in capsys.readouterr().out
    result = analyse(session.launches[0].programs[0])
    assert result.total_ps > 0
    assert not result.findings


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUNNER), *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one sample of the tutorials, right or wrong by name."""
    folder = tmp_path / "src" / "nki_samples" / "tutorials" / "transpose2d"
    folder.mkdir(parents=True)
    (folder / "transpose2d_nki_kernels.py").write_text(SAMPLE.replace("RESULT", "1.0"))
    return tmp_path


def test_runner_reports_what_passes(checkout: Path) -> None:
    done = run("--samples", str(checkout), "--only", "transpose2d", "--json")
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)
    assert outcome["passed"]
    assert outcome["error"] == 0
    assert outcome["instructions"] == 3
    assert outcome["simulated_us"][0] > 0


def test_runner_reports_what_fails(checkout: Path) -> None:
    sample = next(checkout.rglob("transpose2d_nki_kernels.py"))
    sample.write_text(SAMPLE.replace("RESULT", "2.0"))
    done = run("--samples", str(checkout), "--only", "transpose2d")
    assert done.returncode == 1
    assert "FAIL transpose2d" in done.stdout
    assert "shifted wrongly" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_runner_refuses_a_wrong_path_or_name(tmp_path: Path, checkout: Path) -> None:
    wrong_path = run("--samples", str(tmp_path / "absent"))
    assert (wrong_path.returncode, "is not a folder" in wrong_path.stderr) == (2, True)
    wrong_name = run("--samples", str(checkout), "--only", "nothing")
    assert (wrong_name.returncode, "no case is named like" in wrong_name.stderr) == (2, True)
