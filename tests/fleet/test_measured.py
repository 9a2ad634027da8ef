"""Measurements as data: what is derived from runs, and files that are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.fleet import Measurement, measurements_json, read_measurements, write_measurements

ONE = Measurement(
    model="m", task="decode", batch=8, length=100, dtype="bf16", device="cuda", threads=4,
    compiled=False, date="2026-11-26", machine={"gpu": "G", "cpu": "C"},
    times_s=(0.5, 0.1, 0.2, 0.3, 0.4), parameters=7, peak_bytes=9, energy_j=60.0,
)  # fmt: skip


def test_what_is_derived() -> None:
    # 8 tokens of a decode step in the middle run's 0.3 s; 5 runs of 8 tokens share 60 J
    assert ONE.median_s == 0.3
    assert ONE.tokens_per_s == pytest.approx(8 / 0.3)
    assert ONE.j_per_token == pytest.approx(60 / 40)
    assert replace(ONE, task="prefill").tokens_per_s == pytest.approx(800 / 0.3)
    assert ONE.accelerator == "G"
    assert replace(ONE, machine={"cpu": "C"}).accelerator == "C"


def test_what_nobody_counted_is_unknown() -> None:
    assert replace(ONE, energy_j=None).j_per_token is None
    assert replace(ONE, times_s=(0.1, 0.1)).j_per_token is None  # too short for the counter
    own = replace(ONE, length=0)
    assert own.tokens_per_s is None
    assert own.j_per_token is None


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30))
def test_the_spread_is_what_numpy_says(times: list[float]) -> None:
    found = replace(ONE, times_s=tuple(times)).spread_s
    assert found == pytest.approx(tuple(np.quantile(times, [0.1, 0.9])))


def test_files_come_back_and_grow(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    write_measurements([ONE], file)
    write_measurements([replace(ONE, batch=16), replace(ONE, energy_j=None)], file)
    assert read_measurements(file) == [ONE, replace(ONE, batch=16), replace(ONE, energy_j=None)]
    assert json.loads(file.read_text())["measurements"][0]["kind"] == "measured"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"times_s": []}, "times_s"), ({"times_s": [0.0]}, "times_s"), ({"batch": "8"}, "batch"),
        ({"model": 3}, "model"), ({"batch": True}, "batch"), ({"machine": "mine"}, "machine"),
        ({"kind": "assumed"}, "measured"), ({"energy_j": float("nan")}, "energy_j"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    content = measurements_json([ONE, ONE])
    content["measurements"][1] |= change
    file = tmp_path / "m.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=f"measurement 1.*{told}"):
        read_measurements(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "tenzing measurements 1"}',
                                  '{"schema": "tenzing measurements 1", "measurements": [3]}',
                                  '{"schema": "tenzing measurements 1", "measurements": [{}]}',
                                  "[" * 100_000])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="holds no measurements"):
        read_measurements(file)
