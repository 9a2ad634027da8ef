"""The ledger of public names says what the code does: nothing more, nothing less."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tenzing import nki
from tenzing.isa import REGISTRY, numerics
from tenzing.nki import isa, language

ROOT = Path(__file__).parents[2]
LEDGER: dict[str, dict[str, dict[str, str]]] = tomllib.loads(
    (ROOT / "conformance" / "nki.toml").read_text(encoding="utf-8")
)
OURS: dict[str, Any] = {
    "nki": nki,
    "language": language,
    "isa": isa,
    "collectives": SimpleNamespace(),
    "tensor": nki.NkiTensor,
    "dtypes": language,
}
ROWS = [(section, name) for section, rows in LEDGER.items() for name in rows]
PUBLIC_FUNCTIONS = 168  # of nki, nki.language, nki.isa and nki.collectives in NKI 0.6


def test_every_public_function_has_a_row() -> None:
    counted = ("nki", "language", "isa", "collectives")
    assert sum(len(LEDGER[section]) for section in counted) == PUBLIC_FUNCTIONS
    assert set(LEDGER) == set(OURS)


@pytest.mark.parametrize(("section", "name"), ROWS)
def test_rows_agree_with_the_code(section: str, name: str) -> None:
    row = LEDGER[section][name]
    assert row["status"] in ("done", "partial", "gap")
    assert bool(row.get("reason")) == (row["status"] != "done"), "partial and gap say why"
    exists = _has(OURS[section], name)
    assert exists == (row["status"] != "gap"), "a gap that was closed needs a new status"
    if exists and "parameters" in row and section != "nki":
        published = row["parameters"].split(", ")
        ours = list(inspect.signature(getattr(OURS[section], name)).parameters)
        assert ours[: len(published)] == published


def test_instructions_state_their_exactness() -> None:
    for name, kind in REGISTRY.items():
        assert LEDGER["isa"][name]["exactness"] == kind.exactness.name, name


def test_the_ledger_knows_every_instruction_and_dtype() -> None:
    assert set(REGISTRY) <= set(LEDGER["isa"])
    assert set(numerics.DTYPES) <= set(LEDGER["dtypes"])


def _has(owner: Any, name: str) -> bool:
    try:
        getattr(owner, name)
    except AttributeError:
        return False
    return True
