"""The price book: newest row, honest absence."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts.fact import KINDS
from tenzing.facts.schema import TERMS

NAMES = tuple(facts.instances())


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_kind_source_and_term(name: str) -> None:
    for row in facts.prices(name):
        assert row.instance == name
        assert row.usd_per_hour > 0
        assert row.term in TERMS
        assert row.kind in KINDS
        assert row.source in facts.sources()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("term", TERMS)
def test_price_is_the_newest_row(name: str, term: str) -> None:
    rows = [row for row in facts.prices(name) if row.term == term]
    found = facts.price(name, term)
    assert (found is None) == (not rows)
    if found is not None:
        newest = max(row.date for row in rows)
        assert found.date == newest
        assert found.usd_per_hour == min(r.usd_per_hour for r in rows if r.date == newest)


@pytest.mark.parametrize("name", NAMES)
def test_best_price_prefers_on_demand_then_capacity_block(name: str) -> None:
    best = facts.best_price(name)
    terms = {row.term for row in facts.prices(name)}
    ranked = ("on_demand", "capacity_block", "one_year", "three_year", "reserved", "spot")
    order = [t for t in ranked if t in terms]
    assert (best.term if best else None) == (order[0] if order else None)


def test_no_price_twice() -> None:
    """Of one source, term, region and day there is one row, blocks of several lengths aside."""
    for name in NAMES:
        rows = [r for r in facts.prices(name) if r.term != "capacity_block"]
        seen = [(r.term, r.region, r.date, r.source) for r in rows]
        assert len(seen) == len(set(seen)), name


def test_region() -> None:
    near = facts.price("trn1.32xlarge", "on_demand", region="us-west-2")
    assert near is not None
    assert (near.region, near.usd_per_hour) == ("us-west-2", 21.5)
    assert facts.price("trn1.32xlarge", "on_demand", region="us-west-2-lax-1") is None
    with pytest.raises(FactsError, match=r"no such region.*us-west-2"):
        facts.price("trn1.32xlarge", "on_demand", region="us-wset-2")
    zone = facts.price("trn2.48xlarge", "spot", region="us-east-2")
    assert zone is not None
    assert zone.region == "us-east-2c"


def test_trainium2_is_sold_in_capacity_blocks_only() -> None:
    assert facts.price("trn2.48xlarge") is None
    best = facts.best_price("trn2.48xlarge")
    assert best is not None
    assert best.term == "capacity_block"
    absent = facts.no_price("trn2.48xlarge")
    assert absent is not None
    assert [x.value for x in absent.alternatives] == [85.964]


@pytest.mark.parametrize("name", facts.instances_of("trn3"))
def test_trainium3_has_no_public_price(name: str) -> None:
    assert all(facts.price(name, term) is None for term in TERMS)
    assert facts.best_price(name) is None
    assert facts.no_price(name) is not None


def test_a_commitment_is_cheaper_than_on_demand() -> None:
    for name in NAMES:
        listed = facts.price(name)
        for term in ("reserved", "spot", "capacity_block"):
            other = facts.price(name, term)
            if listed is not None and other is not None:
                assert other.usd_per_hour < listed.usd_per_hour, (name, term)


def test_bad_questions() -> None:
    with pytest.raises(FactsError, match="unknown price term; got 'weekly'; allowed: on_demand"):
        facts.price("trn1.2xlarge", "weekly")
    with pytest.raises(FactsError, match="no instance is named"):
        facts.price("trn9.metal")


def test_terms_as_people_write_them() -> None:
    assert facts.price("p5.48xlarge", "on-demand") == facts.price("p5.48xlarge", "on_demand")
    assert facts.price("p5.48xlarge", "Capacity Block") == facts.price(
        "p5.48xlarge", "capacity_block"
    )
    assert facts.price("p5.48xlarge", "3-year") is None  # nobody published one: not a zero


def test_a_price_of_an_earlier_day() -> None:
    """H100 cost 98.32 until the cut of mid-2025."""
    early = facts.price("p5.48xlarge", on=datetime.date(2025, 5, 31))
    late = facts.price("p5.48xlarge", on=datetime.date(2026, 8, 1))
    assert early is not None
    assert late is not None
    assert (early.usd_per_hour, late.usd_per_hour) == (98.32, 55.04)
    assert facts.price("p5.48xlarge", on=datetime.date(2020, 1, 1)) is None
    assert late.age_days(datetime.date(2026, 8, 1)) == 4
    assert str(late.hourly) == "$55.04/h"


def test_a_quoted_price_is_never_planned_with() -> None:
    for name in NAMES:
        best = facts.best_price(name)
        assert best is None or best.term not in ("quoted", "sagemaker")


OWN = """schema_version = 1
[[price]]
instance = "trn2.48xlarge"
term = "three_year"
usd_per_hour = 20.5
regions = ["us-east-2"]
date = 2024-01-31
kind = "published"
source = "user"
"""


def test_the_users_own_price_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(OWN)
    monkeypatch.setenv("TENZING_PRICES", str(book))
    best = facts.best_price("trn2.48xlarge")
    assert best is not None
    assert (best.usd_per_hour, best.term, best.users) == (20.5, "three_year", True)
    assert facts.price("trn2.48xlarge", "spot") is not None  # ours are still there
    assert facts.prices("trn2.48xlarge")[0] == best


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("20.5", "-1"), "not a price"),
        (("20.5", '"20.5"'), "not a price"),
        (("trn2.48xlarge", "trn2.big"), "unknown instance"),
        (("three_year", "weekly"), "unknown term"),
        (('"user"', '"my boss"'), "unknown source"),
        (("2024-01-31", '"soon"'), "a price needs a date"),
        (("usd_per_hour", "eur_per_hour"), "not a price"),
        (('source = "user"', 'source = "user"\ncurrency = "EUR"'), "only dollars are compared"),
        (("[[price]]", "[[price"), "is not valid TOML"),
    ],
)
def test_a_broken_price_file_is_refused(
    change: tuple[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(OWN.replace(*change))
    monkeypatch.setenv("TENZING_PRICES", str(book))
    with pytest.raises(FactsError, match=words):
        facts.best_price("trn2.48xlarge")


def test_a_missing_price_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENZING_PRICES", str(tmp_path / "none.toml"))
    with pytest.raises(FactsError, match="cannot be read"):
        facts.price("p5.48xlarge")
