"""Instances: what can be rented, and how many accelerators are in it.

A file of AWS silicon names its chip once; a file of others names the accelerator in every row.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from tenzing.errors import FactsError, close_names
from tenzing.facts import sheet as sheets
from tenzing.facts.accelerator import SLICE, accelerator, accelerators
from tenzing.facts.book import Book
from tenzing.facts.chip import all_chips, chip
from tenzing.facts.fact import Fact, Source
from tenzing.facts.loader import header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import INSTANCE_KEYS
from tenzing.facts.sheet import Problem, Sheet

_HEADER: Final = {"instance": dict}
_PROVIDERS: Final = ("aws", "google", "azure")


@final
@dataclass(frozen=True, eq=False, repr=False)
class Instance(Book):
    """One size of instance, UltraServer or host; ``accelerator`` names what computes in it.

    Small CPU instances have a part of one processor: ``graviton4@16`` is sixteen cores.
    ``provider`` is who rents it out: aws, google or azure.
    """

    accelerator: str = ""
    provider: str = "aws"

    @property
    def chip(self) -> str:
        """The whole accelerator; of AWS silicon, the name of its chip."""
        return self.accelerator.partition(SLICE)[0]

    @property
    def chips(self) -> int:
        """Number of chips: accelerators, or sockets of a CPU."""
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
        """How the chips are joined: single, ring, mesh, torus, switch or pcie (no links)."""
        return self.text("topology")

    @property
    def topology_dims(self) -> tuple[int, ...]:
        """Chips along each dim of the topology; their product is ``chips``."""
        return self.integers("topology_dims")


def instances() -> dict[str, Instance]:
    """Fresh Instances by name, ordered by accelerator and size; AWS silicon first."""
    return {name: Instance(**record) for name, record in _records().items()}


def instance(name: str) -> Instance:
    """A fresh Instance by name; FactsError lists the names when there is none."""
    record = _records().get(name.strip().lower())
    if record is None:
        raise FactsError(
            f"no instance is named {name!r}", allowed=close_names(name, _records()) or None,
            next_step="`tenzing facts` lists the instances",
        )  # fmt: skip
    return Instance(**record)


def instances_of(chip_name: str) -> tuple[str, ...]:
    """Names of the instances with that accelerator (any alias), smallest first."""
    wanted = accelerator(chip_name).name
    return tuple(name for name, record in _records().items() if _whole(record) == wanted)


@functools.cache
def _records() -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for file, text in sheets.files_in("instances"):
        found |= read_instances(sheets.parse(text, file), sources())
    order = accelerators()
    places = {name: order.index(_whole(record)) for name, record in found.items()}
    return dict(sorted(found.items(), key=lambda x: (places[x[0]], _size(x[1]))))


def _whole(record: Mapping[str, Any]) -> str:
    name: str = record["accelerator"]
    return name.partition(SLICE)[0]


def _size(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["facts"]["chips"].value, record["facts"]["vcpus"].value or 0


def read_instances(sheet: Sheet, known: Mapping[str, Source]) -> dict[str, Mapping[str, Any]]:
    """Checked arguments of the Instances of a sheet, by name; FactsError as for chips."""
    sheets.refuse(sheet, header_problems(sheet, _HEADER))
    sheets.refuse(sheet, _header_values(sheet))
    rows = sheet.data["instance"]
    sheets.refuse(sheet, [p for name in rows for p in _problems(name, rows[name], known)])
    return {name: _record(name, row, sheet) for name, row in rows.items()}


def _record(name: str, row: Mapping[str, Any], sheet: Sheet) -> Mapping[str, Any]:
    facts = {key: make_fact(leaf) for key, leaf in row.items()}
    named = sheet.data.get("chip")
    if named:
        per_chip = chip(named).fact("core.per_chip")
    else:
        fact = facts["accelerator"]
        named = accelerator(str(fact.value)).name
        if "chip_cores" in facts:
            named = accelerator(f"{named}{SLICE}{facts['chip_cores'].value}").name
        per_chip = Fact(1, "count", "derived", fact.source)
    return {
        "name": name,
        "file": sheet.file,
        "facts": _with_cores(facts, per_chip),
        "keys": INSTANCE_KEYS,
        "accelerator": named,
        "provider": sheet.data.get("provider", _PROVIDERS[0]),
    }


def _header_values(sheet: Sheet) -> Iterator[Problem]:
    named = sheet.data.get("chip")
    if named is not None and named not in all_chips():
        yield Problem("chip", "unknown chip", repr(named), ", ".join(all_chips()))
    provider = sheet.data.get("provider", _PROVIDERS[0])
    if provider not in _PROVIDERS:
        yield Problem("provider", "unknown provider", repr(provider), ", ".join(_PROVIDERS))
    for extra in sorted(set(sheet.data) - {*_HEADER, "schema_version", "chip", "provider"}):
        yield Problem(extra, "unknown key", repr(extra), "schema_version, chip, provider, instance")
    for name, row in sheet.data["instance"].items():
        if isinstance(row, dict):
            yield from _accelerator_problems(f"instance.{name}", row, named)


def _accelerator_problems(place: str, row: Mapping[str, Any], chip: Any) -> Iterator[Problem]:
    leaf = row.get("accelerator")
    if (leaf is None) == (chip is None):
        yield Problem(f"{place}.accelerator", "the chip of the file or an accelerator in each row",
                      "both" if chip else "neither", "one of them")  # fmt: skip
        return
    value = leaf.get("value") if isinstance(leaf, dict) else None
    if chip is None and value not in accelerators():
        yield Problem(f"{place}.accelerator", "unknown accelerator", repr(value),
                      ", ".join(accelerators()))  # fmt: skip


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
