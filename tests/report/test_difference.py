"""A profile against an earlier one: what changed, and files that are no profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenzing import cli

SCRIPT = """\
import numpy as np
from nki import isa as nisa, jit, language as nl


@jit
def doubled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for start in range(0, 1024, WIDTH):
        piece = nl.ndarray((128, WIDTH), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=piece, src=x[:, start : start + WIDTH])
        nisa.tensor_scalar(dst=piece, data=piece, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=out[:, start : start + WIDTH], src=piece)
    return out


doubled(np.ones((128, 1024), np.float32))
"""


def profiled(folder: Path, width: int, *more: str) -> Path:
    script = folder / "kernel.py"
    script.write_text(SCRIPT.replace("WIDTH", str(width)))
    out = folder / f"profile{width}"
    assert cli.main(["profile", str(script), "--out", str(out), *more]) == 0
    return out / "profile.json"


def test_a_faster_kernel_against_the_slow_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = profiled(tmp_path, 64)
    capsys.readouterr()
    profiled(tmp_path, 512, "--against", str(earlier))
    text = capsys.readouterr().out.split("kernel.py on trn2 -> ")[1]
    figures = []
    for width in (64, 512):
        plain = json.loads((tmp_path / f"profile{width}" / "profile.json").read_text())
        figures.append(plain["kernels"][0]["cores"][0]["program_ps"])
    gain = figures[1] / figures[0] - 1
    assert f"doubled: {gain:+.1%} in time" in text
    assert "instructions" in text
    assert "nisa.dma_copy" in text
    assert "hbm read bytes" not in text  # unchanged figures are left out


@pytest.mark.parametrize("content", ["", "[]", '{"kernels": [{}]}', '{"kernels": 3}', "[" * 9999])
def test_what_is_no_profile_is_refused(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    arguments = ["profile", str(tmp_path / "kernel.py"), "--against", str(path)]
    assert cli.main(arguments) == 2
    assert "other.json" in capsys.readouterr().err


def test_a_profile_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "x.py", "--against", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err
