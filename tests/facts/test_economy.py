"""Defaults of money and distance: complete, sourced, and refused when broken."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.economy import read_economy
from tenzing.facts.schema import ECONOMY_KEYS

FILE, TEXT = sheets.file_text("economics.toml")


def test_every_default_is_there() -> None:
    assert set(facts.economy().facts) == set(ECONOMY_KEYS)
    assert all(fact.value is not None for fact in facts.economy().facts.values())


def test_nobody_sells_a_chip_of_aws() -> None:
    assert facts.server("trn2.48xlarge") is None
    bought = facts.server("p5.48xlarge")
    assert bought is not None
    assert bought.fact("usd").kind == "assumed"


def test_launches_are_in_order() -> None:
    days = [str(fact.value) for fact in facts.launches().values()]
    assert days == sorted(days)


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ('unit = "USD/kWh"', 'unit = "USD/h"', "wrong unit"),
        ("[economy.distance]\n", "[economy.distance]\nmoon_km = 384400\n", "unknown key"),
        ("value = 199000,", "", "missing value"),
        ('source = "launches"', 'source = "nobody"', "unknown source"),
        ('headroom = {', '# {', "headroom: this fact is needed"),
    ],
)  # fmt: skip
def test_a_broken_sheet_is_refused(good: str, bad: str, told: str) -> None:
    assert good in TEXT
    with pytest.raises(FactsError, match=told):
        read_economy(sheets.parse(TEXT.replace(good, bad, 1), FILE), facts.sources())
