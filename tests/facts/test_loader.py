"""The loader refuses what it does not know; messages say file, line, key and what is allowed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.chip import read_chip
from tenzing.facts.fact import Source
from tenzing.facts.instance import read_instances
from tenzing.facts.loader import read_sources, sources
from tenzing.facts.price import read_prices

KNOWN = {"guide": Source("guide", "A guide", "a/path.rst", "2026-01-31")}
HEAD = """schema_version = 1
name = "toy"
title = "A toy"
generation = 1
aliases = []
runs_nki = false
"""
CLOCK = 'clock_ghz = { value = 2.4, unit = "GHz", kind = "published", source = "guide" }'


def chip_of(body: str, head: str = HEAD) -> object:
    return read_chip(sheets.parse(head + body, "chips/toy.toml"), KNOWN)


def refused(body: str, head: str = HEAD) -> FactsError:
    with pytest.raises(FactsError) as caught:
        chip_of(body, head)
    return caught.value


def leaf(**fields: object) -> str:
    base: dict[str, object] = {
        "value": 2.4, "unit": "GHz", "kind": "published", "source": "guide",
    }  # fmt: skip
    merged = {k: v for k, v in (base | fields).items() if v is not None}
    return "[tensor]\nclock_ghz = { " + ", ".join(
        f"{k} = {json.dumps(v)}" for k, v in merged.items()
    ) + " }\n"  # fmt: skip


def test_a_good_leaf_is_read() -> None:
    record = chip_of(f"[tensor]\n{CLOCK}\n")
    assert record["facts"]["tensor.clock_ghz"].value == 2.4  # type: ignore[index]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"unit": "MHz"}, "tensor.clock_ghz: wrong unit; got 'MHz'; allowed: 'GHz'"),
        ({"unit": None}, "missing unit"),
        ({"source": None}, "missing source; allowed: an id of sources.toml"),
        ({"source": "my memory"}, "unknown source; got 'my memory'"),
        ({"source": ["guide"]}, "unknown source"),
        ({"kind": "guessed"}, "bad kind; got 'guessed'; allowed: published, measured, derived"),
        ({"kind": "unknown"}, "bad kind"),
        ({"kind": None}, "missing kind"),
        ({"kind": []}, "bad kind"),
        ({"value": None}, "missing value"),
        ({"value": "fast"}, "wrong type of value; got 'fast'; allowed: number"),
        ({"value": True}, "wrong type of value"),
        ({"value": -1}, "wrong type of value"),
        ({"value": []}, "wrong type of value"),
        ({"unknown": True}, "an unknown has no"),
        ({"unknown": False}, "unknown is either true or absent"),
        ({"confidence": "disputed"}, "a disputed fact names what else is published"),
        ({"confidence": "sure"}, "unknown confidence"),
        ({"colour": "red"}, "unknown field colour"),
        ({"note": 3}, "note is text"),
        ({"alternatives": 3}, "alternatives are a list"),
        ({"alternatives": [3]}, "bad alternative"),
    ],
)
def test_bad_leaves(fields: dict[str, object], words: str) -> None:
    error = refused(leaf(**fields))
    assert "toy.toml" in str(error)
    assert "tensor.clock_ghz" in str(error)
    assert words in str(error)
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == ("chips/toy.toml", 8)


def test_infinite_and_missing_numbers_are_refused() -> None:
    for text in ("inf", "nan"):
        body = CLOCK.replace("2.4", text)
        assert "wrong type of value" in str(refused(f"[tensor]\n{body}\n"))


def test_alternatives_need_known_sources() -> None:
    body = CLOCK.replace(" }", ', alternatives = [{ value = 3, source = "rumour" }] }')
    assert "unknown source; got 'rumour'" in str(refused(f"[tensor]\n{body}\n"))


def test_unknown_key_names_the_allowed_ones() -> None:
    error = refused(f"[tensor]\n{CLOCK}\n{CLOCK.replace('clock_ghz', 'speed_ghz')}\n")
    assert "toy.toml: tensor.speed_ghz: unknown key" in str(error)
    assert "tensor.clock_ghz" in str(error)
    assert error.loc is not None
    assert error.loc.line == 9
    assert "schema.py" in error.render()


def test_unknown_group() -> None:
    error = refused(f"[turbo]\n{CLOCK}\n")
    assert "turbo.clock_ghz: unknown key" in str(error)
    assert "groups chip, collective, core" in str(error)


def test_a_bare_number_is_not_a_fact() -> None:
    assert "a fact is a table, never a bare value; got 2.4" in str(
        refused("[tensor]\nclock_ghz = 2.4\n")
    )
    assert "speed: unknown key" in str(refused("", HEAD + "speed = 3\n"))


def test_all_problems_are_reported_at_once() -> None:
    body = f"[tensor]\n{CLOCK.replace('GHz', 'Hz')}\n[vector]\n{CLOCK.replace('guide', 'x')}\n"
    text = refused(body).render()
    assert "tensor.clock_ghz: wrong unit" in text
    assert "also vector.clock_ghz: unknown source" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('name = "toy"\n', "missing name"),
        ("schema_version = 1\n", "missing schema_version"),
        ("aliases = []\n", "missing aliases"),
    ],
)
def test_headers_are_needed(change: str, words: str) -> None:
    assert words in str(refused("", HEAD.replace(change, "")))


def test_header_values() -> None:
    assert "wrong type of generation" in str(refused("", HEAD.replace("= 1\nali", "= '1'\nali")))
    assert "unknown schema version; got 9; allowed: 1" in str(
        refused("", HEAD.replace("schema_version = 1", "schema_version = 9"))
    )
    assert "aliases: not a name" in str(refused("", HEAD.replace("[]", "[3]")))


def test_a_chip_that_runs_nki_must_be_complete() -> None:
    error = refused(f"[tensor]\n{CLOCK}\n", HEAD.replace("false", "true"))
    assert "a chip that runs NKI needs this key" in str(error)
    assert 'kind = "assumed"' in error.render()


@pytest.mark.parametrize("text", ["[tensor", "a = ", "a = 1\na = 2\n", 'a = "x\n', "\x00"])
def test_corrupt_toml(text: str) -> None:
    with pytest.raises(FactsError, match=r"toy\.toml is not valid TOML") as caught:
        sheets.parse("b = 1\n" + text, "chips/toy.toml")
    assert caught.value.loc is not None
    assert caught.value.loc.line >= 1
    assert "Traceback" not in caught.value.render()


def test_line_of_a_syntax_error() -> None:
    with pytest.raises(FactsError) as caught:
        sheets.parse("a = 1\nb = 2\nc = = 3\n", "x.toml")
    assert caught.value.loc is not None
    assert caught.value.loc.line == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("guide = 3", "a source is a table"),
        ('[guide]\ntitle = "A"\nwhere = "b"', "a source needs as_of"),
        ('[guide]\ntitle = ""\nwhere = "b"\nas_of = "2026"', "a source needs title"),
        ('[guide]\ntitle = "A"\nwhere = "b"\nas_of = "soon"', "not a date; got 'soon'"),
        ('[guide]\ntitle = "A"\nwhere = "b"\nas_of = "2026"\nx = 1', "unknown key"),
    ],
)
def test_bad_sources(text: str, words: str) -> None:
    with pytest.raises(FactsError) as caught:
        read_sources(sheets.parse(text, "sources.toml"))
    assert words in str(caught.value)


ROW = """[instance."toy.big"]
chips = { value = 2, unit = "count", kind = "published", source = "guide" }
vcpus = { value = 2, unit = "count", kind = "published", source = "guide" }
memory_gib = { value = 2, unit = "GiB", kind = "published", source = "guide" }
network_gbps = { value = 2, unit = "Gb/s", kind = "published", source = "guide" }
topology = { value = "ring", unit = "text", kind = "published", source = "guide" }
topology_dims = { value = [2], unit = "count", kind = "published", source = "guide" }
ec2_type = { value = true, unit = "flag", kind = "published", source = "guide" }
"""
INSTANCE = 'schema_version = 1\nchip = "trn2"\n' + ROW


def instances_of(text: str) -> object:
    return read_instances(sheets.parse(text, "instances/toy.toml"), KNOWN)


def test_a_good_instance_has_cores() -> None:
    record = instances_of(INSTANCE)["toy.big"]  # type: ignore[index]
    assert record["facts"]["cores"].value == 16
    assert record["facts"]["cores"].kind == "derived"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("vcpus", "v_cpus"), "v_cpus: unknown key"),
        (('"GiB"', '"GB"'), "wrong unit; got 'GB'; allowed: 'GiB'"),
        (('"trn2"', '"trn9"'), "chip: unknown chip; got 'trn9'"),
        (("[2]", '["2"]'), "wrong type of value"),
        (("vcpus", "cores"), "cores are computed from chips"),
        (("chip =", "chips ="), "the chip of the file or an accelerator in each row"),
        (('chip = "trn2"', 'provider = "me"'), "unknown provider"),
        (('chips = { value = 2, unit = "count", kind = "published"',
          'chips = { unknown = true, unit = "count"'), "the number of chips must be known"),
    ],
)  # fmt: skip
def test_bad_instances(change: tuple[str, str], words: str) -> None:
    with pytest.raises(FactsError) as caught:
        instances_of(INSTANCE.replace(*change))
    assert words in caught.value.render()


def test_an_instance_is_a_table() -> None:
    with pytest.raises(FactsError, match="an instance is a table"):
        instances_of('schema_version = 1\nchip = "trn2"\n[instance]\nx = 3\n')


PRICE = """schema_version = 1
[[price]]
instance = "toy.big"
term = "spot"
usd_per_hour = 1.5
regions = ["us-east-1", "us-east-2"]
date = 2026-10-03
kind = "measured"
source = "guide"
"""


def prices_of(text: str) -> object:
    return read_prices(sheets.parse(text, "prices/toy.toml"), KNOWN, ("toy.big",))


def test_a_price_row_counts_per_region() -> None:
    rows = prices_of(PRICE).rows  # type: ignore[attr-defined]
    assert [row.region for row in rows] == ["us-east-1", "us-east-2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("toy.big", "toy.huge"), "price.0.instance: unknown instance; got 'toy.huge'"),
        (("spot", "monthly"), "unknown term; got 'monthly'; allowed: on_demand, capacity_block"),
        (("1.5", '"1.5"'), "not a price"),
        (("1.5", "0"), "not a price"),
        (("1.5", "-2"), "not a price"),
        (("1.5", "nan"), "not a price"),
        (("2026-10-03", '"2026-10-03"'), "a price needs a date"),
        (("2026-10-03", "2026-10-03T00:00:00Z"), "a price needs a date"),
        (('["us-east-1", "us-east-2"]', "[]"), "a price needs regions"),
        (('"measured"', '"seen"'), "bad kind"),
        (('"guide"', '"gossip"'), "unknown source"),
        (("kind =", "sort ="), "unknown field"),
        (("[[price]]", "[price]"), "rows are tables"),
        (("[[price]]", "[[prices]]"), "unknown key"),
    ],
)
def test_bad_prices(change: tuple[str, str], words: str) -> None:
    with pytest.raises(FactsError) as caught:
        prices_of(PRICE.replace(*change))
    assert words in caught.value.render()


def test_bad_price_points_at_its_row() -> None:
    second = PRICE.split("\n", maxsplit=1)[1].replace("spot", "rent")
    with pytest.raises(FactsError) as caught:
        prices_of(PRICE + second)
    assert caught.value.loc is not None
    assert caught.value.loc.line == 12
    assert "price.1.term" in str(caught.value)


ANY = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=8),
        st.sampled_from(["GHz", "guide", "published"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", min_size=1), inner, max_size=2)
    ),
    max_leaves=4,
)  # fmt: skip


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else f"{value:.3f}"
    return (
        json.dumps(value) if not isinstance(value, str) else json.dumps(value).replace("\x7f", "")
    )


def never_a_traceback(read: Callable[[], object]) -> None:
    """Any exception but FactsError fails the test."""
    with contextlib.suppress(FactsError):
        read()


FIELDS = st.sampled_from(
    ["value", "unknown", "unit", "kind", "source", "note", "alternatives", "confidence"]
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, ANY, max_size=6))
def test_any_leaf_is_read_or_refused(fields: dict[str, object]) -> None:
    body = "[tensor]\nclock_ghz = " + toml(fields) + "\n"
    never_a_traceback(lambda: chip_of(body))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(PRICE.splitlines()[2:]), ANY)
def test_any_price_field_is_read_or_refused(line: str, value: object) -> None:
    name = line.split(" = ")[0]
    never_a_traceback(lambda: prices_of(PRICE.replace(line, f"{name} = {toml(value)}")))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ROW.splitlines()[1:]), ANY)
def test_any_instance_field_is_read_or_refused(line: str, value: object) -> None:
    name = line.split(" = ")[0]
    never_a_traceback(lambda: instances_of(INSTANCE.replace(line, f"{name} = {toml(value)}")))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(HEAD.splitlines()), ANY)
def test_any_header_is_read_or_refused(line: str, value: object) -> None:
    name = line.split(" = ")[0]
    never_a_traceback(lambda: chip_of("", HEAD.replace(line, f"{name} = {toml(value)}")))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_a_truncated_file_is_refused_or_incomplete(cut: int) -> None:
    text = resources.files("tenzing.facts").joinpath("chips/trn2.toml").read_text("utf-8")
    short = text[: cut % (len(text) - 200)]
    never_a_traceback(lambda: read_chip(sheets.parse(short, "trn2.toml"), sources()))
    with pytest.raises(FactsError):
        read_chip(sheets.parse(short, "trn2.toml"), sources())


def test_every_key_line_of_the_shipped_files_is_found() -> None:
    for folder in ("chips", "instances", "prices"):
        for file, text in sheets.files_in(folder):
            lines = sheets.key_lines(text)
            shown = text.splitlines()
            for key, number in lines.items():
                last = re.split(r"\.", key)[-1]
                assert last in shown[number - 1] or shown[number - 1].startswith("["), (file, key)
