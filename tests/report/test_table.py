"""Tables: alignment, unknown values, and rows that do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.report.table import Table, format_cell, table


def test_numbers_lean_right_and_words_left() -> None:
    assert table(
        ["engine", "busy", "share"],
        [("Tensor", "28.20 ms", 0.9952), ("Vector", "1.50 us", 0.01), ("GpSimd", None, None)],
        title="engines",
    ) == "\n".join([
        "engines",
        "engine      busy    share",
        "------  --------  -------",
        "Tensor  28.20 ms   0.9952",
        "Vector   1.50 us     0.01",
        "GpSimd   unknown  unknown",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (True, "yes"), (False, "no"), (1234567, "1,234,567"), (0, "0"),
     (1234.5, "1,234"), (3.14159, "3.142"), (1e-9, "1e-09"), (float("inf"), "inf"),
     (float("nan"), "nan"), ("text", "text"), (-0.5, "-0.5")],
)  # fmt: skip
def test_cells(value: str | float | None, text: str) -> None:
    assert format_cell(value) == text


def test_headers_alone_make_a_table() -> None:
    assert table(["a", "bb"], []) == "a  bb\n-  --"


def test_a_short_row_is_refused() -> None:
    with pytest.raises(UsageError, match=r"row 1 of table 't' .* got 1 cells; allowed: 2"):
        Table.of(["a", "b"], [(1, 2), (1,)], title="t")


def test_wide_characters_count_twice() -> None:
    assert table(["n", "v"], [("層", "x"), ("ab", "y")]).splitlines()[2:] == ["層  x", "ab  y"]


@given(st.lists(st.tuples(st.integers(), st.integers()), min_size=1, max_size=9))
def test_law_number_columns_end_at_the_same_place(rows: list[tuple[int, int]]) -> None:
    lines = table(["first", "second"], rows).splitlines()
    assert len({len(line) for line in lines}) == 1
