"""What a fact is: a value with its unit, kind and source, or a recorded unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["published", "measured", "derived", "assumed"]
Scalar: TypeAlias = int | float | bool | str
Value: TypeAlias = Scalar | tuple[Scalar, ...]

KINDS: Final[dict[str, str]] = {
    "published": "stated by AWS (documentation, AWS source code, AWS price list)",
    "measured": "measured on real hardware by somebody; the source says who",
    "derived": "computed from other facts, read off a figure, or inherited by a document that "
    "describes only what changed",
    "assumed": "no evidence for this chip: carried over from another generation, or said by a "
    "third party without a measurement",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where numbers come from: title, place (path or repository and commit), date of that text.

    ``as_of`` is an ISO date, as much of one as is known (``2024-12``), or ``unknown``.
    """

    id: str
    title: str
    where: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another public value for the same thing, with its own source."""

    value: Scalar
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A number we use, and why we may.

    ``value is None`` (and then ``kind is None``) is a recorded unknown: somebody looked in
    ``source`` and it does not say. ``disputed`` facts list what else is published.
    """

    value: Value | None
    unit: str
    kind: Kind | None
    source: str
    note: str = ""
    alternatives: tuple[Alternative, ...] = ()
    disputed: bool = False

    @property
    def unknown(self) -> bool:
        """True when no public number exists."""
        return self.value is None

    def text(self) -> str:
        """Value with unit for people: ``2.4 GHz``, ``yes``, ``unknown``."""
        if self.value is None:
            return "unknown"
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        if isinstance(self.value, tuple):
            shown = " x ".join(format_scalar(x) for x in self.value)
        else:
            shown = format_scalar(self.value)
        return f"{shown} {self.unit}" if self.unit not in BARE_UNITS else shown


BARE_UNITS: Final = frozenset({"count", "ratio", "flag", "text"})

UNITS: Final[dict[str, str]] = {
    "count": "a whole number of things",
    "ratio": "a pure number",
    "flag": "true or false",
    "text": "words",
    "B": "bytes",
    "GiB": "2^30 bytes",
    "GHz": "10^9 cycles per second",
    "cycles": "cycles of the engine the key names",
    "s": "seconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "GB/s": "10^9 bytes per second",
    "Gb/s": "10^9 bits per second",
    "TFLOPS": "10^12 floating point operations per second, a multiply-add counts two",
    "TOPS": "10^12 integer operations per second, a multiply-add counts two",
    "W": "watts",
    "elements": "tensor elements per partition",
    "share": "a part of a whole, 0 to 1",
    "percent": "hundredths",
    "tokens": "tokens of a model",
    "ms": "milliseconds",
    "USD": "United States dollars",
    "USD/h": "United States dollars per hour",
    "USD/kWh": "United States dollars per kilowatt-hour",
    "USD/kW-month": "United States dollars per kilowatt and month",
    "years": "years of 8760 hours",
    "km": "kilometres",
    "km/s": "kilometres per second",
    "degrees": "degrees of an angle",
}


def format_scalar(value: Scalar) -> str:
    """A value as people read it: no trailing zeros, thousands kept plain for copying."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
