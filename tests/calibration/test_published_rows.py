"""Simulated times of the published kernels stay where they are known to be."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from calibration.run import DATA

from calibration import explained, mechanisms, pages, reproduce, residuals, wrong
from tenzing import facts

ROWS = reproduce.rows()
KNOWN = {o["name"]: o for o in json.loads(DATA.read_text())}
QUICK = (
    "vector add, tiles [128", "vector add, one", "vector add 256000", "mamba v1, 256", "SiLU",
    "AdamW", "RoPE", "transpose", "DMA stream", "products", "dequantise", "4 x 3",
    "experts token by token, 8",
)  # fmt: skip
TICK = 1e-9


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(r, id=r["name"], marks=[] if r["name"].startswith(QUICK) else pytest.mark.slow)
        for r in ROWS
    ],
)
def test_recorded_results_are_those_of_this_code(row) -> None:
    found = reproduce.simulate(row)
    assert found.simulated_us == pytest.approx(KNOWN[row["name"]]["simulated_us"], rel=TICK), (
        "run `python -m calibration.run --write`"
    )


def test_recorded_rows_are_the_published_ones() -> None:
    assert [(r["name"], r["time_us"]) for r in ROWS] == [
        (name, known["published_us"]) for name, known in KNOWN.items()
    ]


def test_what_is_beyond_a_bar_is_explained_and_nothing_else() -> None:
    written = explained.ledger()
    assert set(written) == explained.needed(reproduce.load())
    assert len(set(written.values())) == len(written), "a sentence of its own for each"


def test_a_row_without_its_sentence_would_be_seen() -> None:
    far = next(o for o in reproduce.load() if explained.is_far(o))
    assert (far.name, "") in explained.needed([far])
    assert not explained.needed(
        [dataclasses.replace(far, published_us=far.simulated_us, published={})]
    )


def test_bars_of_kernels_hold() -> None:
    outcomes = reproduce.load()
    for some in (outcomes, residuals.checks(outcomes)):
        assert pages.quantile(some, 0.5) <= math.log(1.10)
        assert pages.quantile(some, 0.9) <= math.log(1.25)


def test_mechanisms_name_facts_and_rows_that_exist() -> None:
    names = {r["name"] for r in ROWS}
    for mechanism in mechanisms.mechanisms():
        assert set(mechanism["fitted"]) <= names
        assert set(mechanism["without"]) <= set(facts.chip(mechanism["target"]).facts)


def test_a_dependent_instruction_helps_rows_it_was_not_fitted_on() -> None:
    row = next(r for r in ROWS if r["name"].startswith("depthwise"))
    chained = next(m for m in mechanisms.mechanisms() if m["id"] == "chained")
    time = mechanisms.without(row, [chained])["chained"]
    assert time == pytest.approx(json.loads(mechanisms.DATA.read_text())[row["name"]]["chained"])
    assert time > KNOWN[row["name"]]["simulated_us"]


def test_every_row_names_its_source_and_counters_we_know() -> None:
    for row in ROWS:
        assert row["source"]
        assert row["time_us"] > 0
        assert set(row.get("counters", {})) <= {
            *pages.SHARES, "hbm_read_bytes", "hbm_write_bytes",
        }  # fmt: skip


def test_results_page_is_up_to_date() -> None:
    outcomes = reproduce.load()
    assert (DATA.parent / "RESULTS.md").read_text() == pages.results(outcomes)


def test_how_wrong_page_and_residuals_are_up_to_date() -> None:
    outcomes = reproduce.load()
    assert residuals.TARGET.read_text() == residuals.text(outcomes), (
        "run `python -m calibration.residuals`"
    )
    assert wrong.PAGE.read_text() == wrong.page(outcomes), "run `python -m calibration.wrong`"


def test_intervals_cover_what_they_say() -> None:
    checks = residuals.checks(reproduce.load())
    inside = sum(wrong.covered(o) for o in checks) / len(checks)
    assert 0.7 <= inside <= 0.9


def test_sensitivity_of_a_product_is_to_the_tensor_engine() -> None:
    row = next(r for r in ROWS if r["name"].startswith("products 128 x 128 x 512"))
    slopes = reproduce.simulate(row, sensitivity=True).sensitivity
    assert slopes is not None
    assert max(slopes, key=lambda path: abs(slopes[path])) == "tensor.streaming_factor"
    assert "dma.descriptor_ns" not in slopes
