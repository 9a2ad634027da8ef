"""The one reader of tables of facts: what it refuses, and that it says where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.economy import read_economy
from tenzing.facts.power import read_power
from tenzing.facts.region import read_regions
from tenzing.facts.schema import TASK_KEYS
from tenzing.facts.software import read_software
from tenzing.facts.tables import Part, read_parts
from tenzing.facts.task import read_tasks

READERS: dict[str, Callable[..., Any]] = {
    "tasks.toml": read_tasks, "software.toml": read_software, "regions.toml": read_regions,
    "economics.toml": read_economy, "power.toml": read_power,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_wrong_unit_is_told_with_file_key_got_and_allowed(name: str) -> None:
    file, text = sheets.file_text(name)
    with pytest.raises(FactsError) as caught:
        READERS[name](sheets.parse(text.replace('unit = "', 'unit = "x', 1), file), facts.sources())
    told = caught.value.render()
    line = next(n for n, row in enumerate(text.splitlines(), 1) if 'unit = "' in row)
    key = text.splitlines()[line - 1].split(" =")[0]
    assert f"{name}:{line}" in told
    for word in (key, "wrong unit", "got 'x", "allowed"):
        assert word in told


@pytest.mark.parametrize("name", READERS)
def test_a_table_nobody_reads_is_refused(name: str) -> None:
    file, text = sheets.file_text(name)
    with pytest.raises(FactsError, match="moon: unknown table"):
        READERS[name](sheets.parse(text + "\n[moon]\nx = 1\n", file), facts.sources())


@pytest.mark.parametrize("name", ["tasks.toml", "regions.toml", "economics.toml", "power.toml"])
def test_a_bare_value_is_no_fact(name: str) -> None:
    """Nor does it end in a traceback, whatever the rules that look at values."""
    file, text = sheets.file_text(name)
    lines = text.splitlines()
    at = next(n for n, row in enumerate(lines) if "{ value" in row)
    lines[at] = lines[at].split(" =")[0] + " = 3"
    with pytest.raises(FactsError, match="never a bare value"):
        READERS[name](sheets.parse("\n".join(lines), file), facts.sources())


def test_every_broken_rule_is_told_at_once() -> None:
    text = "schema_version = 1\n[task]\nb = 3\n[task.a]\nwaist = 1\nprompt_tokens = 2\n"
    with pytest.raises(FactsError) as caught:
        read_parts(sheets.parse(text, "t.toml"), [Part("task", TASK_KEYS, rows=True)], {})
    told = caught.value.render()
    for words in ("a row is a table", "unknown key", "never a bare value"):
        assert words in told
