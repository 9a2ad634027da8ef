"""Instances: what AWS rents, and how many chips are in it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.chip import all_chips, chip
from tenzing.facts.fact import Fact, Source
from tenzing.facts.loader import header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import INSTANCE_KEYS
from tenzing.facts.sheet import Problem, Sheet

_HEADER: Final = {"chip": str, "instance": dict}


@final
@dataclass(frozen=True, eq=False, repr=False)
class Instance(Book):
    """One instance size or UltraServer; ``chip`` names its chip."""

    chip: str = ""

    @property
    def accelerator(self) -> str:
        """Name of what computes in it."""
        return self.chip

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self.integer("chips")

    @property
    def cores(self) -> int:
        """Number of physical cores."""
        return self.integer("cores")

    @property
    def vcpus(self) -> int:
        """Virtual CPUs of the host."""
        return self.integer("vcpus")

    @property
    def memory_gib(self) -> float:
        """Host memory in GiB."""
        return self.number("memory_gib")

    @property
    def network_gbps(self) -> float:
        """Network bandwidth in Gb/s; a burst where ``network_burst`` says so."""
        return self.number("network_gbps")

    @property
    def topology(self) -> str:
        """How the chips are joined: single, ring, torus or switch."""
        return self.text("topology")

    @property
    def topology_dims(self) -> tuple[int, ...]:
        """Chips along each dim of the topology; their product is ``chips``."""
        return self.integers("topology_dims")


def instances() -> dict[str, Instance]:
    """Fresh Instances by name, ordered by chip and size."""
    return {name: Instance(**record) for name, record in _records().items()}


def instance(name: str) -> Instance:
    """A fresh Instance by name; FactsError lists the names when there is none."""
    record = _records().get(name.strip().lower())
    if record is None:
        raise FactsError(
            f"no instance is named {name!r}", got=repr(name), allowed=", ".join(_records()),
            next_step="add it to facts/instances with a source",
        )  # fmt: skip
    return Instance(**record)


def instances_of(chip_name: str) -> tuple[str, ...]:
    """Names of the instances with that chip (any alias), smallest first."""
    wanted = chip(chip_name).name
    return tuple(name for name, record in _records().items() if record["chip"] == wanted)


@functools.cache
def _records() -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for file, text in sheets.files_in("instances"):
        found |= read_instances(sheets.parse(text, file), sources())
    order = all_chips()
    return dict(sorted(found.items(), key=lambda x: (order.index(x[1]["chip"]), _size(x[1]))))


def _size(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["facts"]["chips"].value, record["facts"]["vcpus"].value


def read_instances(sheet: Sheet, known: Mapping[str, Source]) -> dict[str, Mapping[str, Any]]:
    """Checked arguments of the Instances of a sheet, by name; FactsError as for chips."""
    sheets.refuse(sheet, header_problems(sheet, _HEADER))
    sheets.refuse(sheet, _header_values(sheet))
    rows = sheet.data["instance"]
    sheets.refuse(sheet, [p for name in rows for p in _problems(name, rows[name], known)])
    per_chip = chip(sheet.data["chip"]).fact("core.per_chip")
    return {
        name: {
            "name": name,
            "file": sheet.file,
            "facts": _with_cores({k: make_fact(v) for k, v in row.items()}, per_chip),
            "keys": INSTANCE_KEYS,
            "chip": sheet.data["chip"],
        }
        for name, row in rows.items()
    }


def _header_values(sheet: Sheet) -> Iterator[Problem]:
    if sheet.data["chip"] not in all_chips():
        yield Problem("chip", "unknown chip", repr(sheet.data["chip"]), ", ".join(all_chips()))
    for extra in sorted(set(sheet.data) - set(_HEADER) - {"schema_version"}):
        yield Problem(extra, "unknown key", repr(extra), "schema_version, chip, instance")


def _problems(name: str, row: Any, known: Mapping[str, Source]) -> Iterator[Problem]:
    place = f"instance.{name}"
    if not isinstance(row, dict):
        yield Problem(place, "an instance is a table", repr(row))
        return
    for path, leaf in row.items():
        if path == "cores":
            yield Problem(f"{place}.cores", "cores are computed from chips", "a value", "no value")
        yield from leaf_problems(f"{place}.{path}", path, leaf, INSTANCE_KEYS, known)
    for key in INSTANCE_KEYS.values():
        if key.required and key.path not in row:
            yield Problem(place, f"an instance needs {key.path} ({key.meaning})",
                          next_step="give it, or record that it is unknown")  # fmt: skip
    if isinstance(row.get("chips"), dict) and "value" not in row["chips"]:
        yield Problem(f"{place}.chips", "the number of chips must be known")


def _with_cores(facts: dict[str, Fact], per_chip: Fact) -> dict[str, Fact]:
    chips = facts["chips"].value
    assert isinstance(chips, int)
    assert isinstance(per_chip.value, int)
    note = f"{chips} chips x {per_chip.value} cores"
    cores = Fact(chips * per_chip.value, "count", "derived", per_chip.source, note)
    return {**facts, "cores": cores}
