"""Simulated times of the published kernels stay where they are known to be."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2] / "calibration"
ROWS = tomllib.loads((HERE / "published.toml").read_text())["row"]
QUICK = ("vector add, tiles [128", "vector add, one", "mamba v1, 256", "SiLU", "AdamW", "RoPE")
# beyond 25 %, with the reason in the row's note: the published compiler hoists delta * u, the
# kernel as written does not; a search's kernel that is slower than the tutorial's
EXPLAINED = (
    "mamba v2, 4096 channels", "mamba v3, sequence 8192",
    "selective scan 256 channels, sequence 7168, best of a search",
)  # fmt: skip
LIMIT = 0.25


def runner():
    sys.path.insert(0, str(HERE))
    try:
        spec = importlib.util.spec_from_file_location("calibration_run", HERE / "run.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(HERE))
    return module


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(r, id=r["name"], marks=[] if r["name"].startswith(QUICK) else pytest.mark.slow)
        for r in ROWS
    ],
)
def test_row_is_within_its_bound(row) -> None:
    outcome = runner().simulate(row)
    if row["name"] in EXPLAINED:
        assert row["note"]
        assert abs(outcome.error) > LIMIT, "now within the bound: take it off the list"
    else:
        assert abs(outcome.error) <= LIMIT


def test_every_row_names_its_source() -> None:
    assert all(row["source"] and row["time_us"] > 0 for row in ROWS)
