"""Units: bytes, cycles and picoseconds as integers with names, money and energy as types.

Time inside tenzing is an ``int`` of picoseconds, so that two runs agree to the last tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, overload

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
GIGA: Final = 10**9

PS_PER_NS: Final = 1_000
PS_PER_US: Final = 1_000_000
PS_PER_MS: Final = 1_000_000_000
PS_PER_S: Final = 1_000_000_000_000

SECONDS_PER_HOUR: Final = 3600
HOURS_PER_YEAR: Final = 8760
WATTS_PER_KW: Final = 1000

_TIME_STEPS: Final = ((PS_PER_S, "s"), (PS_PER_MS, "ms"), (PS_PER_US, "us"), (PS_PER_NS, "ns"))
_BYTE_STEPS: Final = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def cycles_to_ps(cycles: float, clock_ghz: float) -> int:
    """Time of ``cycles`` at ``clock_ghz``, rounded to whole picoseconds."""
    return round(cycles * PS_PER_NS / clock_ghz)


def ns_to_ps(nanoseconds: float) -> int:
    """Nanoseconds as whole picoseconds."""
    return round(nanoseconds * PS_PER_NS)


def bytes_to_ps(byte_count: float, gb_per_s: float) -> int:
    """Time to move ``byte_count`` bytes at ``gb_per_s`` (10^9 bytes per second)."""
    return round(byte_count * PS_PER_NS / gb_per_s)


def format_time(time_ps: float) -> str:
    """A duration in the largest unit that keeps it above one: ``28.20 ms``."""
    for step, unit in _TIME_STEPS:
        if abs(time_ps) >= step:
            return f"{time_ps / step:.2f} {unit}"
    return f"{time_ps:.0f} ps"


def format_bytes(byte_count: float) -> str:
    """A size in binary units: ``224.0 KiB``."""
    for step, unit in _BYTE_STEPS:
        if abs(byte_count) >= step:
            return f"{byte_count / step:.1f} {unit}"
    return f"{byte_count:.0f} B"


# --- money, energy and time as types ------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """An amount of one unit. Like adds to like, a plain number scales, like over like is a number.

    Everything else is a TypeError, which a type checker finds before. Products of units have names:
    ``UsdPerHour.over(Hours)``, ``Watts.over(Hours)``.
    """

    amount: float

    def __add__(self, other: Self) -> Self:
        return type(self)(self.amount + self._same(other))

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.amount - self._same(other))

    def __mul__(self, factor: float) -> Self:
        return type(self)(self.amount * _plain(factor))

    __rmul__ = __mul__

    @overload
    def __truediv__(self, other: float) -> Self: ...

    @overload
    def __truediv__(self, other: Self) -> float: ...

    def __truediv__(self, other: Self | float) -> Self | float:
        if isinstance(other, Quantity):
            return self.amount / self._same(other)
        return type(self)(self.amount / _plain(other))

    def __neg__(self) -> Self:
        return type(self)(-self.amount)

    def _same(self, other: Quantity) -> float:
        if type(other) is not type(self):
            raise TypeError(f"{_unit(other)} and {type(self).__name__} do not mix")
        return other.amount


def _plain(number: object) -> float:
    if not isinstance(number, int | float):
        raise TypeError(f"{_unit(number)} is not a plain number")
    return number


def _unit(thing: object) -> str:
    return type(thing).__name__


class Hours(Quantity):
    """Hours."""


class Usd(Quantity):
    """United States dollars."""

    def per(self, time: Hours) -> UsdPerHour:
        """Spread evenly over a time."""
        return UsdPerHour(self.amount / time.amount)

    def __str__(self) -> str:
        sign = "-" if round(self.amount, 2) < 0 else ""
        return f"{sign}${abs(self.amount):,.2f}"


class UsdPerHour(Quantity):
    """United States dollars per hour."""

    def over(self, time: Hours) -> Usd:
        """What a time costs."""
        return Usd(self.amount * time.amount)

    def __str__(self) -> str:
        return f"{Usd(self.amount)}/h"


class Joules(Quantity):
    """Joules."""

    @property
    def kwh(self) -> float:
        """The same in kilowatt-hours."""
        return self.amount / (SECONDS_PER_HOUR * WATTS_PER_KW)


class Watts(Quantity):
    """Watts."""

    def over(self, time: Hours) -> Joules:
        """The energy of a time."""
        return Joules(self.amount * time.amount * SECONDS_PER_HOUR)


class UsdPerKwh(Quantity):
    """United States dollars per kilowatt-hour."""

    def of(self, energy: Joules) -> Usd:
        """What an energy costs."""
        return Usd(self.amount * energy.kwh)
