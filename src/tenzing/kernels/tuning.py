"""Choices of a kernel settled by search: an analytic bound prunes, the timing model decides.

A kernel declares its options, a bound on the time of each and how to measure one at a reduced
number of trips. The search is deterministic: equal times go to the option with the lower bound,
then to the earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from tenzing.machine import Options, analyse
from tenzing.nki import session
from tenzing.nki.creation import current_chip
from tenzing.units import PS_PER_NS

Option = TypeVar("Option")

FINALISTS: Final = 4  # options that are measured
NEAR_ENOUGH: Final = 1.02  # times the floor: no other option is worth measuring
FARTHEST: Final = 1.25  # times the best bound: options beyond are not measured
MEASURED_TRIPS: Final = 3  # the first fills the pipeline; two more tell the steady pace
TIME_ONLY: Final = Options(values=False)


@dataclass(frozen=True)
class Search(Generic[Option]):
    """What a kernel can choose from; ``bound_ns`` is cheap, ``measure_ns`` records and times.

    No option can be faster than ``floor_ns``: one that comes near ends the search.
    """

    options: Iterable[Option]
    bound_ns: Callable[[Option], float]
    measure_ns: Callable[[Option], float]
    floor_ns: float = 0.0

    def best(self) -> Option:
        """The option with the least measured time among those with the least bounds."""
        bounds = [(self.bound_ns(option), option) for option in self.options]
        bounds.sort(key=lambda entry: entry[0])  # stable: the earlier of equals stays first
        near = [o for bound, o in bounds if bound <= FARTHEST * bounds[0][0]][:FINALISTS]
        if len(near) == 1:
            return near[0]
        least, found = float("inf"), near[0]
        for option in near:
            taken = self.measure_ns(option)
            if taken < least:
                least, found = taken, option
            if least <= NEAR_ENOUGH * self.floor_ns:
                break
        return found


def kernel_ns(kernel: Any, *args: Any, **rest: Any) -> float:
    """Simulated time of one call on the current chip, from shapes alone.

    A program that does not fit the chip takes for ever.
    """
    with session(current_chip().name, TIME_ONLY):
        analysis = analyse(kernel.launch(*args, **rest).programs[0])
    return float("inf") if analysis.findings else analysis.total_ps / PS_PER_NS


def extrapolated_ns(outer: int, inner: int, measure: Callable[[int, int], float]) -> float:
    """Time of a nest of ``outer`` by ``inner`` trips, from few trips and what one more adds."""
    few = min(inner, MEASURED_TRIPS)
    once = measure(1, few)
    step = (once - measure(1, few - 1)) * (inner - few) if inner > few else 0.0
    again = measure(2, few) - once + step if outer > 1 else 0.0
    return once + step + (outer - 1) * again


__all__ = ["Search", "extrapolated_ns", "kernel_ns"]
