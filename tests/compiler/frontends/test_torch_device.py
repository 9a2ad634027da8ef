"""The device ``neuron``: its cases run in a process of their own.

PyTorch prepares its gradients for the devices it knows at the first backward pass of a process; a
device that comes later has none, and other tests of this suite compute gradients before.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
CASES = Path(__file__).with_name("device_cases.py")


def test_the_cases_of_the_device() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    result = subprocess.run(
        [*words, "-m", "not slow", str(CASES)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-8000:]
    assert " passed" in result.stdout
