"""Simulated training steps stand beside published ones, within what the page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from calibration.training_steps import PAGE, beside, cases


def test_every_case_is_on_the_page_with_its_published_time() -> None:
    text = PAGE.read_text("utf-8")
    for name, case in cases().items():
        published = case["global_batch"] / case["sequences_s"]
        assert f"| {name} | {case['title']} |" in text
        assert f"| {published:.1f} |" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TRN-0003", "TRN-0031"])
def test_a_step_is_near_the_published_one(name: str) -> None:
    found = beside(name, cases()[name])
    assert 0.6 < found.kept_s / found.published_s < 1.6
    assert found.kept_s < found.recomputed_s
    assert found.backward > 2  # products alone make it 2
    assert found.waiting == 0  # one core waits for nobody
