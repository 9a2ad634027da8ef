"""Small tables: aligned text for a terminal, and the same cells for a page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tenzing.errors import UsageError

UNKNOWN: Final = "unknown"  # what an absent value is called, everywhere
GAP: Final = "  "
FRACTION_DIGITS: Final = 4  # significant digits of a bare number
INTEGRAL_FROM: Final = 10 ** (FRACTION_DIGITS - 1)  # from here on no fraction is shown

Cell = str | int | float | None

# A number, perhaps with a sign, a currency, thousands, and one unit word: "28.20 ms", "$1,234".
_NUMBER: Final = re.compile(r"^[-+~<>≤≥±]?\s?\$?\d[\d,]*(\.\d+)?(e[-+]?\d+)?\s?[%×x]?(\s\S+)?$")


@dataclass(frozen=True, slots=True)
class Table:
    """Headers and rows; a column of numbers is aligned right.

    ``align``: one letter per column, ``l`` or ``r``; empty lets the cells decide. Raises
    :class:`UsageError` when a row has not one cell per header.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    align: str = ""

    @staticmethod
    def of(
        headers: Sequence[str], rows: Iterable[Sequence[Cell]], title: str = "", align: str = ""
    ) -> Table:
        """A table of values; numbers are formatted, ``None`` is shown as unknown."""
        cells = tuple(tuple(map(format_cell, row)) for row in rows)
        for number, row in enumerate(cells):
            if len(row) != len(headers):
                raise UsageError(f"row {number} of table {title!r} does not match its headers",
                                 got=f"{len(row)} cells", allowed=f"{len(headers)}")  # fmt: skip
        columns = list(zip(*cells, strict=True)) if cells else [()] * len(headers)
        return Table(tuple(headers), cells, title, align or "".join(map(_alignment, columns)))

    def text(self) -> str:
        """Aligned lines with a rule under the headers."""
        lines = [self.headers, *self.rows]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        rule = GAP.join("-" * width for width in widths)
        body = [self._line(row, widths) for row in lines]
        return "\n".join([*([self.title] if self.title else []), body[0], rule, *body[1:]])

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            " " * (width - _width(cell)) + cell
            if side == "r"
            else cell + " " * (width - _width(cell))
            for cell, width, side in zip(row, widths, self.align, strict=True)
        )
        return GAP.join(padded).rstrip()


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], title: str = "") -> str:
    """Aligned text of ``rows`` under ``headers``."""
    return Table.of(headers, rows, title).text()


def format_cell(value: Cell) -> str:
    """A value as a cell: thousands apart, four significant digits, ``None`` as unknown."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (abs(value) >= INTEGRAL_FROM and abs(value) < float("inf")):
        return f"{round(value):,}"
    return f"{value:.{FRACTION_DIGITS}g}"


def _alignment(column: Sequence[str]) -> str:
    known = [cell for cell in column if cell not in ("", "-", UNKNOWN)]
    return "r" if known and all(_NUMBER.match(cell) for cell in known) else "l"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(ch) in "WF" else 1 for ch in text)
