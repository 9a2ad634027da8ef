"""Printed facts say what, in which unit, on whose word; unknown stays unknown."""

from __future__ import annotations

import json
import re

import pytest

from tenzing import facts
from tenzing.facts.schema import CHIP_KEYS, INSTANCE_KEYS


@pytest.mark.parametrize("name", facts.all_chips())
def test_every_fact_of_a_chip_is_printed(name: str) -> None:
    chip = facts.chip(name)
    text = facts.render(chip)
    lines = {line.split()[0]: line for line in text.splitlines() if "." in line.split(" ")[0]}
    for path, fact in chip.items():
        assert fact.text() in lines[path]
        assert fact.source in lines[path]
        if fact.kind:
            assert fact.kind in lines[path]
    assert chip.used == set(), "printing is not use"
    assert all(line == line.rstrip() for line in text.splitlines())


def test_columns_line_up() -> None:
    lines = facts.render(facts.chip("trn2")).splitlines()
    head = next(line for line in lines if line.startswith("key "))
    column = head.index("value")
    rows = [line for line in lines if line.startswith(("tensor.", "dma."))]
    assert all(row[column - 1] == " " != row[column] for row in rows)


def test_unknown_is_printed_as_unknown() -> None:
    text = facts.render(facts.chip("inf1"))
    assert "incomplete, cannot be simulated" in text
    assert "tensor.clock_ghz" in text
    row = next(line for line in text.splitlines() if line.startswith("chip.power_w"))
    assert row.split()[1] == "unknown"
    content = facts.as_json(facts.chip("inf1"))
    assert content["facts"]["chip.power_w"]["value"] is None
    assert content["facts"]["chip.power_w"]["kind"] is None
    assert content["complete"] is False


def test_disputed_facts_show_the_others() -> None:
    text = facts.render(facts.chip("trn2"))
    row = next(line for line in text.splitlines() if line.startswith("hbm.chip_gb_s"))
    assert "disputed" in row
    assert "also 3000 (trn2-guide)" in row


@pytest.mark.parametrize("name", tuple(facts.instances()))
def test_instances_print_their_prices(name: str) -> None:
    text = facts.render(facts.instance(name))
    rows = facts.prices(name)
    assert all(f"{row.usd_per_hour:.4f} USD/h" in text for row in rows)
    if facts.no_price(name) or not rows:
        assert "none published" in text or "price: unknown" in text


@pytest.mark.parametrize("name", tuple(facts.instances()))
def test_json_is_plain(name: str) -> None:
    content = json.loads(json.dumps(facts.as_json(facts.instance(name))))
    assert content["facts"]["chips"]["value"] == facts.instance(name).chips
    best = facts.best_price(name)
    assert (content["best_price"] is None) == (best is None)
    assert facts.accelerator(content["accelerator"]).name == content["accelerator"]


@pytest.mark.parametrize("name", facts.all_chips())
def test_json_of_a_chip_is_plain(name: str) -> None:
    assert json.loads(json.dumps(facts.as_json(facts.chip(name))))["name"] == name


def test_schema_page_lists_every_key_once() -> None:
    page = facts.schema_page()
    chips, instances, *_ = page.split("## Chips")[1].split("\n## ")
    for part, keys in ((chips, CHIP_KEYS), (instances, INSTANCE_KEYS)):
        for key in keys.values():
            assert part.count(f"| `{key.path}` |") == 1, key.path
            assert key.meaning in part
    assert page == facts.schema_page()


def test_an_instance_shows_power_and_the_age_of_its_prices() -> None:
    text = facts.render(facts.instance("p5.48xlarge"))
    assert "under load" in text
    assert "h100: 700 W each, published" in text
    assert re.search(r"55\.0400 USD/h +on_demand +us-east-1 +2026-07-28 +\d+ days", text)
    plain = facts.as_json(facts.instance("p5.48xlarge"))
    assert plain["power"]["peak"]["low"] < plain["power"]["peak"]["high"]
    assert all(row["age_days"] > 0 for row in plain["prices"])


def test_no_price_is_said() -> None:
    assert "price: unknown" in facts.render(facts.instance("g7e.2xlarge"))
    assert facts.as_json(facts.instance("g7e.2xlarge"))["best_price"] is None


def test_a_rival_shows_its_instances() -> None:
    text = facts.render(facts.rival("gpu-h200"))
    assert "instances: p5e.48xlarge, p5en.48xlarge" in text
    assert "instances: none known" in facts.render(facts.rival("maia-200"))


@pytest.mark.parametrize("name", ["llama-3.1-8b", "bert-base-uncased", "all-MiniLM-L6-v2"])
def test_a_model_shows_where_it_was_read(name: str) -> None:
    plain, text = json.loads(json.dumps(facts.model_json(name))), facts.render_model(name)
    assert plain["read_from"] in text
    assert f"\nwhere: {plain['where']}\nsource: {plain['source']}" in text
    assert plain["hidden_size"] > 0


def test_an_estimated_model_shows_its_shape() -> None:
    assert facts.model_json("stabilityai/stable-diffusion-xl-base-1.0")["params_m"] > 2000
