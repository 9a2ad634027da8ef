"""The score against figures worked by hand."""

from __future__ import annotations

import math

import pytest

from tenzing.fleet.rows import Table
from tenzing.fleet.scoring import items_of, ordering, score, score_items

PREDICTED = "predicted_tpot_ms_p50"
HEADER = ["accelerator", "quality", "eval_group", "spec_decode", "tpot_ms_p50",
          PREDICTED, f"{PREDICTED}_lo", f"{PREDICTED}_hi"]  # fmt: skip


def table(*lines: str) -> Table:
    records = [dict(zip(HEADER, line.split(","), strict=True)) for line in lines]
    return Table("rows.csv", "inference_llm", HEADER, records)


def test_a_score_by_hand() -> None:
    items = items_of(
        table("trn2,A,a,,10,20,15,25", "trn2,A,b,,10,10,9,11", "trn2,B,c,,40,20,10,50")
    )
    found = score(items)
    assert found.median_abs_ln_ratio == pytest.approx(math.log(2))
    assert found.signed_median == pytest.approx(0.0)
    assert found.coverage_80 == pytest.approx(2 / 3)
    assert (found.predicted_share, found.groups) == (1.0, 3)


def test_a_configuration_published_twice_counts_once() -> None:
    once = score(items_of(table("trn2,A,a,,10,20,15,25", "trn2,A,b,,10,10,9,11")))
    twice = score(items_of(table(*["trn2,A,a,,10,20,15,25"] * 5, "trn2,A,b,,10,10,9,11")))
    assert once == twice


def test_unreliable_rows_and_unpredicted_speculation_do_not_count() -> None:
    items = items_of(table("trn2,D,a,,10,99,1,2", "trn2,A,b,EAGLE,10,,,", "trn2,A,c,,10,,,"))
    found = score_items(items).overall
    assert (found.groups, found.predicted_share, found.median_abs_ln_ratio) == (1, 0.0, None)


def test_ordering_counts_pairs_that_differ() -> None:
    items = items_of(table("a,A,1,,10,1,1,1", "a,A,2,,20,2,1,1", "a,A,3,,40,1.5,1,1",
                           "a,A,4,,40.1,9,1,1"))  # fmt: skip
    # pairs apart: 1-2, 1-3, 1-4, 2-3 (wrong), 2-4; 3-4 are within 10 %
    assert ordering(items) == pytest.approx(4 / 5)
