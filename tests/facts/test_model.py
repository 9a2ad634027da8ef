"""Shapes of public models: every entry says where it comes from, and is found by its names."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts.fact import KINDS
from tenzing.facts.model import read_models


@pytest.mark.parametrize("name", facts.models())
def test_every_model_has_kind_and_source(name: str) -> None:
    entry = facts.model_entry(name)
    assert entry["kind"] in KINDS
    assert entry["source"] in facts.sources()
    assert facts.model(entry["where"])["model_type"] == facts.model(name)["model_type"]
    assert not {"where", "kind", "source", "aliases", "params_m"} & set(facts.model(name))


@pytest.mark.parametrize(("alias", "name"), [
    ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
    ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"), ("qwen2.5-7b-instruct", "qwen2.5-7b"),
    ("deepseek-ai/DeepSeek-R1", "deepseek-v3"), ("bert-base-uncased", "bert-base"),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
])  # fmt: skip
def test_names_of_repositories(alias: str, name: str) -> None:
    assert facts.knows_model(alias)
    assert facts.model(alias) == facts.model(name)


@pytest.mark.parametrize(("text", "message"), [
    ("[a]", "no source"), ('[a]\nwhere = "x/y"', "kind"),
    ('[a]\nwhere = "x/y"\nkind = "heard"', "kind"),
    ('[a]\nwhere = "x/y"\nkind = "assumed"\nsource = "nowhere"', "needs params_m"),
    ('[a]\nwhere = "x/y"\nkind = "assumed"\nparams_m = 1\nsource = "nowhere"', "unknown source"),
])  # fmt: skip
def test_entries_without_origin_are_refused(text: str, message: str) -> None:
    with pytest.raises(FactsError, match=message):
        read_models(text)


def test_unknown_models() -> None:
    assert not facts.knows_model("llama-9")
    with pytest.raises(FactsError, match=r"llama-3\.1-8b"):
        facts.model("llama-9")
