"""Tasks: every default is a fact; a broken sheet is refused."""

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.task import FAMILIES, read_tasks


@pytest.mark.parametrize("name", facts.tasks())
def test_every_task_has_a_family_a_sentence_and_facts(name: str) -> None:
    family, book = facts.task(name)
    assert family in FAMILIES
    assert facts.task_about(name)
    assert all(fact.kind and fact.source in facts.sources() for _, fact in book.items())


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(FactsError, match="no such task") as caught:
        facts.task("knitting")
    assert "chat" in caught.value.render()


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ('family = "sewing"\nabout = "x"', "unknown family"),
        ('family = "serving"', "a sentence"),
        ('family = "serving"\nabout = "x"\nttft_ms = 3', "never a bare value"),
        ('family = "serving"\nabout = "x"\nwaist = 3', "unknown key"),
    ],
)
def test_broken_tasks_are_refused(row: str, word: str) -> None:
    sheet = sheets.parse(f"schema_version = 1\n[task.a]\n{row}\n", "tasks.toml")
    with pytest.raises(FactsError, match=word):
        read_tasks(sheet, facts.sources())
