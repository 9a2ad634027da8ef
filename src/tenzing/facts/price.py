"""The price book: dated rows, each with its term, regions, kind and source.

A user's own book (``TENZING_PRICES`` names the file, ``--prices`` sets it) has the same form and
wins over ours: what somebody pays is better known to them than to us.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.fact import Alternative, Kind, Source
from tenzing.facts.instance import instance, instances
from tenzing.facts.loader import (
    alternatives_problems,
    header_problems,
    kind_problems,
    source_problems,
    sources,
)
from tenzing.facts.region import regions
from tenzing.facts.schema import PRICE_FIELDS, TERMS
from tenzing.facts.sheet import Problem, Sheet
from tenzing.units import UsdPerHour

CLOSE_NAMES: Final = 5  # shown to who misspelt a region
PRICES_VARIABLE: Final = "TENZING_PRICES"
USER: Final = Source("user", "the user's own prices", "the file given as --prices", "unknown")
_SPOKEN: Final = {
    "ondemand": "on_demand", "1_year": "one_year", "1y": "one_year", "3_year": "three_year",
    "3y": "three_year", "block": "capacity_block",
}  # fmt: skip
_ABSENT_FIELDS: Final = ("instance", "term", "date", "source", "note", "alternatives")
_BEST_ORDER: Final = (
    "on_demand", "capacity_block", "one_year", "three_year", "reserved", "spot",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """What an instance costs per hour, in US dollars, in one region on one day."""

    instance: str
    usd_per_hour: float
    term: str
    region: str
    date: datetime.date
    kind: Kind
    source: str
    note: str = ""

    @property
    def hourly(self) -> UsdPerHour:
        """The price as a typed amount."""
        return UsdPerHour(self.usd_per_hour)

    @property
    def users(self) -> bool:
        """Whether it is the user's own."""
        return self.source == USER.id

    def age_days(self, today: datetime.date | None = None) -> int:
        """Days since it was seen, counted from today unless another day is given."""
        return ((today or datetime.datetime.now(datetime.UTC).date()) - self.date).days


@dataclass(frozen=True, slots=True)
class NoPrice:
    """A recorded absence: on that date the source listed no price for this term."""

    instance: str
    term: str
    date: datetime.date
    source: str
    note: str = ""
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class Prices:
    """Rows of a price book and the absences it records."""

    rows: tuple[Price, ...]
    absent: tuple[NoPrice, ...]


def term_of(spoken: str) -> str:
    """The key of a term as people write it (``on-demand``, ``1-year``); FactsError lists all."""
    key = spoken.strip().lower().replace("-", "_").replace(" ", "_")
    found = _SPOKEN.get(key, key)
    if found not in TERMS:
        raise FactsError("unknown price term", got=repr(spoken), allowed=", ".join(TERMS))
    return found


def price(
    name: str,
    term: str = "on_demand",
    region: str | None = None,
    on: datetime.date | None = None,
) -> Price | None:
    """The newest price of an instance for a term; None when no source gives one.

    ``region`` may also be a zone's prefix (``us-east-2``); ``on`` looks no later than a day. The
    user's own price wins; on the same day the cheapest region wins. Raises FactsError for an
    unknown instance, term or region.
    """
    wanted, key = instance(name).name, term_of(term)
    _check_region(region)
    rows = [
        row
        for row in price_book().rows
        if row.instance == wanted
        and row.term == key
        and (region is None or row.region.startswith(region))
        and (on is None or row.date <= on)
    ]
    return max(rows, key=lambda r: (r.users, r.date, -r.usd_per_hour), default=None)


def _check_region(region: str | None) -> None:
    """Regions of AWS, and whatever else rows name."""
    if region is None:
        return
    known = dict.fromkeys((*regions(), *(row.region for row in price_book().rows)))
    if not region or not any(name.startswith(region) for name in known):
        near = difflib.get_close_matches(region, known, CLOSE_NAMES) or regions()
        raise FactsError("no such region", got=repr(region), allowed=", ".join(near))


def best_price(
    name: str, region: str | None = None, on: datetime.date | None = None
) -> Price | None:
    """The price to plan with: on demand, else capacity block, else committed, else spot.

    A price of the user's own comes first. Its ``term`` says which one it is. None when no source
    gives any.
    """
    found = [row for term in _BEST_ORDER if (row := price(name, term, region, on)) is not None]
    return next((row for row in found if row.users), found[0] if found else None)


def no_price(name: str, term: str = "on_demand") -> NoPrice | None:
    """The recorded absence of a price, if somebody looked and found none."""
    wanted = instance(name).name
    key = term_of(term)
    rows = [r for r in price_book().absent if r.instance == wanted and r.term == key]
    return max(rows, key=lambda r: r.date, default=None)


def prices(name: str) -> tuple[Price, ...]:
    """All rows of an instance, newest first, the user's own before ours."""
    rows = [row for row in price_book().rows if row.instance == instance(name).name]
    return tuple(sorted(rows, key=lambda r: (r.users, r.date, r.term, r.region), reverse=True))


def price_book() -> Prices:
    """All price files together, and the user's where the environment names one."""
    path = os.environ.get(PRICES_VARIABLE, "").strip()
    if not path:
        return _published()
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise _unreadable(path, error) from None
    own, ours = _own(path, changed), _published()
    return Prices(ours.rows + own.rows, ours.absent + own.absent)


@functools.cache
def _published() -> Prices:
    parts = [
        read_prices(sheets.parse(text, file), sources(), tuple(instances()))
        for file, text in sheets.files_in("prices")
    ]
    return Prices(
        tuple(row for part in parts for row in part.rows),
        tuple(row for part in parts for row in part.absent),
    )


@functools.lru_cache(maxsize=1)
def _own(path: str, changed: int) -> Prices:
    """The user's book; ``changed`` makes an edited file be read again."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    return read_prices(sheets.parse(text, path), {USER.id: USER}, tuple(instances()))


def _unreadable(path: str, error: Exception) -> FactsError:
    return FactsError(
        f"the price file {path} cannot be read: {error}",
        next_step=f"correct --prices or {PRICES_VARIABLE}",
    )


def read_prices(sheet: Sheet, known: Mapping[str, Source], names: Sequence[str]) -> Prices:
    """Checked rows of a sheet; FactsError for unknown fields, instances, terms and sources."""
    sheets.refuse(sheet, header_problems(sheet, {}))
    sheets.refuse(sheet, _sheet_problems(sheet, known, names))
    rows = [
        Price(
            row["instance"], float(row["usd_per_hour"]), row["term"], region, row["date"],
            row["kind"], row["source"], row.get("note", ""),
        )
        for row in sheet.data.get("price", ())
        for region in row["regions"]
    ]  # fmt: skip
    absent = [
        NoPrice(
            row["instance"], row["term"], row["date"], row["source"], row.get("note", ""),
            tuple(Alternative(**other) for other in row.get("alternatives", ())),
        )
        for row in sheet.data.get("absent", ())
    ]  # fmt: skip
    return Prices(tuple(rows), tuple(absent))


def _sheet_problems(
    sheet: Sheet, known: Mapping[str, Source], names: Sequence[str]
) -> Iterator[Problem]:
    for extra in sorted(set(sheet.data) - {"schema_version", "price", "absent"}):
        yield Problem(extra, "unknown key", repr(extra), "schema_version, price, absent")
    for name in ("price", "absent"):
        rows = sheet.data.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            yield Problem(name, "rows are tables", repr(rows), f"[[{name}]]")
            return
    for number, row in enumerate(sheet.data.get("price", ())):
        place = f"price.{number}"
        yield from _row_problems(place, row, tuple(PRICE_FIELDS), known, names)
        yield from kind_problems(place, row.get("kind"))
        yield from _amount_problems(place, row)
    for number, row in enumerate(sheet.data.get("absent", ())):
        place = f"absent.{number}"
        yield from _row_problems(place, row, _ABSENT_FIELDS, known, names)
        yield from alternatives_problems(place, row.get("alternatives", []), known)


def _row_problems(
    place: str,
    row: Mapping[str, Any],
    fields: Sequence[str],
    known: Mapping[str, Source],
    names: Sequence[str],
) -> Iterator[Problem]:
    for extra in sorted(set(row) - set(fields)):
        yield Problem(f"{place}.{extra}", "unknown field", repr(extra), ", ".join(fields))
    if row.get("instance") not in names:
        yield Problem(f"{place}.instance", "unknown instance", repr(row.get("instance")),
                      ", ".join(names))  # fmt: skip
    if row.get("term") not in tuple(TERMS):
        yield Problem(f"{place}.term", "unknown term", repr(row.get("term")), ", ".join(TERMS))
    if type(row.get("date")) is not datetime.date:
        yield Problem(f"{place}.date", "a price needs a date", repr(row.get("date")), "2026-01-31")
    if not isinstance(row.get("note", ""), str):
        yield Problem(f"{place}.note", "note is text", repr(row["note"]))
    yield from source_problems(f"{place}.source", row.get("source"), known)


def _amount_problems(place: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    amount = row.get("usd_per_hour")
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < 1e6:
        yield Problem(f"{place}.usd_per_hour", "not a price", repr(amount), "dollars per hour")
    if row.get("currency", "USD") != "USD":
        yield Problem(f"{place}.currency", "only dollars are compared", repr(row["currency"]),
                      "USD", "convert the price")  # fmt: skip
    regions = row.get("regions")
    if not isinstance(regions, list) or not regions or not all(type(x) is str for x in regions):
        yield Problem(f"{place}.regions", "a price needs regions", repr(regions), '["us-east-1"]')
