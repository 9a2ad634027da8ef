"""What an instance draws: its devices from TDP or an assumed range, its host assumed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenzing.facts.accelerator import accelerator, accelerators
from tenzing.facts.book import Book
from tenzing.facts.chip import all_chips, chip
from tenzing.facts.fact import Kind, Source
from tenzing.facts.instance import Instance, instance
from tenzing.facts.schema import DEVICE_POWER_KEYS, HOST_POWER_KEYS
from tenzing.facts.sheet import Problem, Sheet
from tenzing.facts.tables import Part, open_sheet, read_parts
from tenzing.units import Watts


@dataclass(frozen=True, slots=True)
class Draw:
    """Watts with the bounds they are believed within; ``kind`` is the weakest of its facts."""

    watts: Watts
    low: Watts
    high: Watts
    kind: Kind

    def __add__(self, other: Draw) -> Draw:
        kind = self.kind if self.kind == "assumed" else other.kind
        return Draw(self.watts + other.watts, self.low + other.low, self.high + other.high, kind)

    def times(self, factor: float, low: float, high: float, kind: Kind = "assumed") -> Draw:
        """Scaled, each bound by its own factor."""
        return Draw(self.watts * factor, self.low * low, self.high * high, kind)


@dataclass(frozen=True, slots=True)
class Power:
    """An instance at idle and under full load.

    ``devices`` and ``host`` are the two parts of ``peak``. ``tdp`` is one device's, with its kind
    and source. ``assumed`` says in words what was not published.
    """

    instance: str
    idle: Draw
    peak: Draw
    devices: Draw
    host: Draw
    tdp: Watts
    kind: Kind
    source: str
    note: str
    assumed: tuple[str, ...]


def power(of: str | Instance) -> Power | None:
    """The power of an instance; None when nothing is known of its accelerator."""
    asked = instance(of) if isinstance(of, str) else of
    host, devices = _books()
    book = devices.get(asked.chip)
    if book is None or not _tdp(asked.chip, book)[0]:
        return None
    tdp, kind, source, note = _tdp(asked.chip, book)
    whole = accelerator(asked.chip)
    share = accelerator(asked.accelerator).hbm_gb_s / whole.hbm_gb_s  # of a CPU, rented in part
    count = asked.chips * share
    one = _device(book, host, tdp).times(count, count, count)
    around = _host(asked, host, one, processors=whole.family != "cpu")
    idle = one.times(*_spread(host, "device_idle_share")) + around.times(
        *_spread(host, "idle_share")
    )
    assumed = ["share of TDP under load and at idle", "power of the host"]
    if kind == "assumed":
        assumed.insert(0, f"power of {asked.chip}")
    return Power(asked.name, idle, one + around, one, around, Watts(tdp), kind, source, note,
                 tuple(assumed))  # fmt: skip


def _tdp(name: str, book: Book) -> tuple[float, Kind, str, str]:
    if book.known("tdp_w"):
        fact, watts = book.fact("tdp_w"), book.number("tdp_w")
    elif name in all_chips() and chip(name).known("chip.power_w"):
        fact, watts = chip(name).fact("chip.power_w"), chip(name).number("chip.power_w")
    else:
        return 0.0, "assumed", "", ""
    return watts, fact.kind or "assumed", fact.source, fact.note


def _device(book: Book, host: Book, tdp: float) -> Draw:
    """Of one whole device: its assumed range, or the usual shares of its TDP."""
    if book.known("low_w"):
        return Draw(Watts(tdp), Watts(book.number("low_w")), Watts(book.number("high_w")),
                    "assumed")  # fmt: skip
    busy, low = host.number("device_busy_share"), host.number("device_busy_share_low")
    return Draw(Watts(tdp * busy), Watts(tdp * low), Watts(tdp), "assumed")


def _host(asked: Instance, host: Book, devices: Draw, *, processors: bool) -> Draw:
    """Processors, memory, network, and the overhead on everything."""
    amounts = {
        "vcpu_w": asked.vcpus if processors and asked.known("vcpus") else 0,
        "memory_w_per_gib": asked.memory_gib if asked.known("memory_gib") else 0.0,
        "network_w_per_gbps": asked.network_gbps if asked.known("network_gbps") else 0.0,
    }
    nothing = Draw(Watts(0.0), Watts(0.0), Watts(0.0), "assumed")
    parts = nothing
    for key, amount in amounts.items():
        middle, low, high = (Watts(x * amount) for x in _spread(host, key))
        parts = parts + Draw(middle, low, high, "assumed")
    return parts + (parts + devices).times(*_spread(host, "overhead_share"))


def _spread(host: Book, key: str) -> tuple[float, float, float]:
    return host.number(key), host.number(f"{key}_low"), host.number(f"{key}_high")


def power_facts() -> list[Book]:
    """Every fact about power: the host's shares, then a book for each device."""
    host, devices = _books()
    return [host, *devices.values()]


@functools.cache
def _books() -> tuple[Book, Mapping[str, Book]]:
    return read_power(*open_sheet("power.toml"))


def read_power(sheet: Sheet, known: Mapping[str, Source]) -> tuple[Book, Mapping[str, Book]]:
    """The host's shares and every device's power; FactsError with every broken rule."""
    books = read_parts(sheet, PARTS, known)
    return books["host"]["host"], books["device"]


def _device_problems(name: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    if name not in accelerators():
        yield Problem(f"device.{name}", "unknown accelerator", repr(name),
                      ", ".join(accelerators()))  # fmt: skip
    if ("low_w" in row) != ("high_w" in row):
        yield Problem(f"device.{name}", "a range has two ends", "one", "low_w and high_w")


PARTS: Final = (
    Part("host", HOST_POWER_KEYS), Part("device", DEVICE_POWER_KEYS, rows=True,
                                        check=_device_problems),
)  # fmt: skip

__all__ = ["Draw", "Power", "power", "power_facts", "read_power"]
