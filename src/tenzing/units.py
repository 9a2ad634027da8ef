"""Units as integers with names: bytes, cycles, picoseconds, dollars.

Time inside tenzing is an ``int`` of picoseconds, so that two runs agree to the last tick.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
GIGA: Final = 10**9

PS_PER_NS: Final = 1_000
PS_PER_US: Final = 1_000_000
PS_PER_MS: Final = 1_000_000_000
PS_PER_S: Final = 1_000_000_000_000

SECONDS_PER_HOUR: Final = 3600

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
