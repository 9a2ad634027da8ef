"""Claims about generations follow from the models, which never see them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from calibration.generations import PAGE, answer, claims, page

ROOT = Path(__file__).parents[2]

# what the calibrated answer may be: around the claim where it is of work, between no gain and the
# documented peak where it is of hardware
BOUNDS = {
    "trn1-trn2-training": (3.0, 5.0),
    "inf1-inf2-encoder": (2.0, 4.5),
    "trn2-fp8-decode": (1.1, 2.0),
    "trn2-trn3-training": (0.9, 1.2),
    "trn2-trn3-training8": (1.6, 2.2),
    "trn2-trn3-decode": (1.1, 1.8),
}


@pytest.mark.parametrize("name", sorted(claims()))
def test_calibrated_gains_agree(name: str) -> None:
    found = answer(name, claims()[name])
    low, high = BOUNDS[name]
    assert low < found.calibrated < high
    assert found.simulated is None


@pytest.mark.slow
def test_simulated_training_agrees() -> None:
    found = answer("trn1-trn2-training", claims()["trn1-trn2-training"], tokens=512)
    assert found.simulated is not None
    assert 3.0 < found.simulated < 5.0


def test_no_claim_is_an_input() -> None:
    names = [
        path for path in (ROOT / "src").rglob("*.py") if "generations.toml" in path.read_text()
    ]
    assert not names


def rows(text: str) -> set[tuple[str, str, str]]:
    """Title, peaks and calibrated gain of every line of the table."""
    found = [line.split("|") for line in text.splitlines() if line.startswith(("| T", "| I"))]
    return {(row[1], row[4], row[6]) for row in found}


def test_the_page_is_current() -> None:
    made = page([answer(name, claim) for name, claim in claims().items()])
    assert rows(PAGE.read_text()) == rows(made)


def test_what_holds_a_ratio_is_said_with_its_numbers() -> None:
    """The published BERT rows of the note are below the peaks, and the page names the parts."""
    text = PAGE.read_text()
    assert "What holds a ratio back" in text
    assert "ENC-0269" in text
    assert "products hold" in text


@pytest.mark.parametrize("claim", claims().values(), ids=sorted(claims()))
def test_a_claim_says_where_it_was_read(claim: dict[str, object]) -> None:
    assert claim["kind"] in ("published", "reported", "derived")
    assert "from memory" not in str(claim["source"])
    if claim["kind"] != "derived":
        assert "read 26 November 2026" in str(claim["source"])
