"""Device memory: what is known to run fits, what is known not to fit is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tenzing import facts, fleet
from tenzing.fleet.steptime import Fit, Layout, serving_fit, training_fit

KNOWN = tomllib.loads((Path(__file__).parent / "fits.toml").read_text("utf-8"))


def named(row: dict[str, Any]) -> str:
    where = row.get("row") or row["source"].split(":")[0].split(",")[0]
    return f"{row['model']}-{row['accelerator']}-{where}".replace(" ", "_")


def layout(row: dict[str, Any]) -> Layout:
    return Layout(row["accelerator"], tp=row.get("tp", 1), pp=row.get("pp", 1),
                  weights=row.get("weights", "bf16"))  # fmt: skip


def judged(row: dict[str, Any], fit: Fit) -> None:
    """Our answer is the stated one, or the disagreement is on the record and still there."""
    assert (not fit.missing) is (row["fits"] is not ("disagrees" in row))


@pytest.mark.parametrize("row", KNOWN["serving"], ids=named)
def test_serving(row: dict[str, Any]) -> None:
    judged(row, serving_fit(fleet.shape_of(row["model"]), layout(row), row["batch"],
                            row["context"]))  # fmt: skip


@pytest.mark.parametrize("row", KNOWN["training"], ids=named)
def test_training(row: dict[str, Any]) -> None:
    pp = row.get("pp", 1)
    judged(row, training_fit(
        fleet.shape_of(row["model"]), layout(row), row["devices"],
        microbatch=row.get("microbatch", 1) * min(pp, row["batch"]), tokens=row["context"],
        ep=row.get("ep", 1),
    ))  # fmt: skip


@pytest.mark.parametrize("row", [*KNOWN["serving"], *KNOWN["training"]], ids=named)
def test_every_case_says_where_it_is_stated(row: dict[str, Any]) -> None:
    assert row.get("row") or (row["source"] and "read" in row)


def test_disagreements_are_few() -> None:
    rows = [*KNOWN["serving"], *KNOWN["training"]]
    assert sum("disagrees" in row for row in rows) <= 4


@pytest.mark.parametrize("fits", [True, False])
def test_the_cases_cover_chips_and_gpus(fits: bool) -> None:
    """Both kinds of case on AWS's silicon and on others, of more than one generation each."""
    rows = [r for r in (*KNOWN["serving"], *KNOWN["training"]) if r["fits"] is fits]
    names = {row["accelerator"] for row in rows}
    own = {n for n in names if facts.accelerator(n).family == "neuron"}
    assert len(own) >= 2
    assert len(names - own) >= 4


def test_experts_are_shared_out() -> None:
    """With every expert on one rank a step of DeepSeek-V3 does not fit; over 32 it does."""
    shape = fleet.shape_of("deepseek-v3")
    where = Layout("gb300", pp=2)
    alone = training_fit(shape, where, 256, microbatch=2, tokens=4096)
    shared = training_fit(shape, where, 256, microbatch=2, tokens=4096, ep=32)
    assert alone.missing
    assert not shared.missing
    assert shared.weights < alone.weights / 10
