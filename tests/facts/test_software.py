"""Numbers about software: complete, with provenance, remembered when an answer leans on them."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.schema import SOFTWARE_KEYS
from tenzing.facts.software import read_software
from tenzing.fleet import Layout, decode_step


def test_every_key_has_a_fact_with_a_source() -> None:
    book = facts.software_facts()
    assert {path for path, _ in book.items()} == set(SOFTWARE_KEYS)
    assert all(fact.source in facts.sources() for _, fact in book.items())


def test_what_an_answer_leans_on_is_remembered() -> None:
    decode_step("llama-3.1-8b", Layout("trn2", tp=4))
    leaned = dict(facts.software_facts().assumed_used())
    assert {"serving.layer_s", "serving.step_s", "memory.usable"} <= set(leaned)


def test_a_missing_or_broken_fact_is_named() -> None:
    file, text = sheets.file_text("software.toml")
    for old, new, message in (
        ("layer_s = {", "leyer_s = {", "serving.layer_s: this fact is needed"),
        ('unit = "s"', 'unit = "hours"', "wrong unit"),
        ('kind = "assumed"', 'kind = "guessed"', "bad kind"),
    ):
        with pytest.raises(FactsError, match=message):
            read_software(sheets.parse(text.replace(old, new, 1), file), facts.sources())
