"""The page on timing names real facts and quotes their values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tenzing import facts

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "timing.md"
TEXT = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
SCALE = {"ns": 1, "us": 1000, "B": 1}
KEYS = sorted(set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", TEXT)) - {"nki.isa"})
QUOTED = re.findall(r"`([a-z]+\.[a-z0-9_]+)` \((?:about )?([\d.]+) (ns|us|B)\b", TEXT)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_a_fact_of_trainium2(key: str) -> None:
    assert facts.chip("trn2").known(key)


@pytest.mark.parametrize(("key", "value", "unit"), QUOTED)
def test_quoted_values_are_the_facts(key: str, value: str, unit: str) -> None:
    assert facts.chip("trn2").number(key) == pytest.approx(float(value) * SCALE[unit], rel=0.01)


def test_the_page_quotes_values() -> None:
    assert len(QUOTED) >= 6
