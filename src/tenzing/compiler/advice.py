"""The fewest buckets whose padding stays below a target.

For one dim the answer is exact: an optimal bucket ends at the size of some request, so dynamic
programming over the distinct sizes gives the least cost of every number of buckets. For two dims
the problem is one of covering with rectangles; there a greedy choice with exchanges is used, whose
result is valid but may have a bucket too many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tenzing.compiler.traffic import Cost, Size, Traffic, Waste, tokens, waste_of
from tenzing.errors import UsageError

CANDIDATES: Final = 24  # sizes tried along each of two dims
SAMPLED: Final = (3, 7)  # batches and lengths at which a time is simulated
SLACK: Final = 1e-9  # of a waste target: sums of times are not exact
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Advice:
    """Buckets for a waste target, what they waste, whether they reach it and are the fewest."""

    target: float
    buckets: tuple[Size, ...]
    waste: Waste
    reached: bool
    exact: bool


def advise(
    traffic: Traffic, target: float, *, cost: Cost = tokens, multiple: int = 1, most: int = 0
) -> Advice:
    """The fewest buckets for which at most ``target`` of the work is padding.

    Sizes of the last dim are rounded up to a ``multiple``, which then counts as padding. ``most``
    bounds the number of buckets (0: no bound); the best ones within it are returned when they do
    not reach the target. Raises UsageError for a target outside 0..1.
    """
    if not 0 <= target < 1:
        raise UsageError("waste target", got=target, allowed="0 or more, below 1 (10% is 0.1)")
    if multiple < 1 or most < 0:
        raise UsageError("a multiple or number of buckets", got=min(multiple, most),
                         allowed="1 or more")  # fmt: skip
    varying = [k for k in range(len(traffic.dims)) if len({s[k] for s in traffic.counts}) > 1]
    exact = len(varying) <= 1
    if exact:
        at = varying[0] if varying else len(traffic.dims) - 1
        steps = _one_dim(traffic, at, cost, multiple if at == len(traffic.dims) - 1 else 1)
    else:
        steps = _several_dims(traffic, cost, multiple, target)
    best: tuple[Size, ...] = ()
    waste = waste_of(traffic, ())
    for buckets in steps:
        found = waste_of(traffic, buckets, cost)
        if not best or found.waste < waste.waste:
            best, waste = buckets, found
        if waste.waste <= target + SLACK or len(buckets) == most:
            break
    return Advice(target, best, waste, waste.waste <= target + SLACK, exact)


# -- one dim --------------------------------------------------------------------------------------


def _one_dim(traffic: Traffic, at: int, cost: Cost, multiple: int) -> Iterator[tuple[Size, ...]]:
    """The best 1, 2, ... buckets along one dim, the others at their largest."""
    ends, counts = _ends(traffic, at, multiple)
    largest = traffic.largest
    sizes = [(*largest[:at], end, *largest[at + 1 :]) for end in ends]
    prices = np.array([cost(size) for size in sizes], np.float64)
    kept = _undominated(prices)
    before = np.concatenate(([0.0], np.cumsum(counts)[kept]))  # requests that end before each cut
    for cuts in optimal_cuts(before, prices[kept]):
        yield tuple(sizes[kept[cut]] for cut in cuts)


def _ends(traffic: Traffic, at: int, multiple: int) -> tuple[list[int], Numbers]:
    """Where a bucket may end, and how many requests end there."""
    table: dict[int, int] = {}
    for size, count in traffic.counts.items():
        end = -(-size[at] // multiple) * multiple
        table[end] = table.get(end, 0) + count
    ends = sorted(table)
    return ends, np.array([table[end] for end in ends], np.float64)


def _undominated(prices: Numbers) -> npt.NDArray[np.int64]:
    """Sizes that no larger one undercuts: a faster larger shape serves in their place."""
    later = np.minimum.accumulate(prices[::-1])[::-1]
    cheaper_later = np.append(later[1:], np.inf)
    return np.flatnonzero(prices < cheaper_later)


def optimal_cuts(before: Numbers, prices: Numbers) -> Iterator[tuple[int, ...]]:
    """For 1, 2, ... buckets the ends of the cheapest ones; the last end is always the last size.

    ``before[j]``: requests of the first ``j`` sizes; a bucket that ends at size ``j`` costs
    ``prices[j]`` for every request in it. Ends when every size has a bucket of its own.
    """
    size = len(prices)
    least = before[1:] * prices
    parents: list[npt.NDArray[np.int64]] = []
    for number in range(1, size + 1):
        yield _traced(parents, size - 1)
        if number == size:
            return
        reached = np.full(size, np.inf)
        parent = np.zeros(size, np.int64)
        for end in range(number, size):
            starts = np.arange(number - 1, end)
            total = least[starts] + (before[end + 1] - before[starts + 1]) * prices[end]
            parent[end] = starts[int(np.argmin(total))]
            reached[end] = total.min()
        least = reached
        parents.append(parent)


def _traced(parents: Sequence[npt.NDArray[np.int64]], last: int) -> tuple[int, ...]:
    cuts = [last]
    for parent in reversed(parents):
        cuts.append(int(parent[cuts[-1]]))
    return tuple(reversed(cuts))


# -- two and more ---------------------------------------------------------------------------------


def _several_dims(
    traffic: Traffic, cost: Cost, multiple: int, target: float
) -> Iterator[tuple[Size, ...]]:
    """Growing sets of buckets: the greedy choice, bettered by exchanges, then thinned out."""
    search = _Search(traffic, cost, multiple)
    chosen = [search.covering]
    while True:
        chosen = search.exchanged(chosen)
        if search.waste(chosen) <= target + SLACK:
            chosen = search.thinned(chosen, target)
        yield tuple(search.sizes[k] for k in sorted(chosen))
        more = search.added(chosen)
        if more is None:
            return
        chosen = more


class _Search:
    """Costs of every request in every candidate bucket, and moves between sets of candidates."""

    def __init__(self, traffic: Traffic, cost: Cost, multiple: int) -> None:
        requests = np.array(list(traffic.counts), np.int64)
        self.counts = np.array(list(traffic.counts.values()), np.float64)
        self.own = traffic.cost(cost)
        axes = [_candidates(requests[:, k], multiple if k == requests.shape[1] - 1 else 1)
                for k in range(requests.shape[1])]  # fmt: skip
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
        self.sizes: list[Size] = [tuple(map(int, row)) for row in grid]
        prices = np.array([cost(size) for size in self.sizes])
        fits = (requests[:, None, :] <= grid[None, :, :]).all(-1)
        self.price = np.where(fits, prices[None, :], np.inf)
        self.covering = len(self.sizes) - 1

    def total(self, each: Any) -> float:
        """Cost of all requests at these prices."""
        return float((self.counts * each).sum())

    def waste(self, chosen: Sequence[int]) -> float:
        """Share of the work that is padding."""
        return 1 - self.own / self.total(self.price[:, chosen].min(1))

    def added(self, chosen: list[int]) -> list[int] | None:
        """With the candidate that saves most; None when none saves anything."""
        now = self.price[:, chosen].min(1)
        after = (self.counts[:, None] * np.minimum(now[:, None], self.price)).sum(0)
        best = int(np.argmin(after))
        return [*chosen, best] if after[best] < self.total(now) else None

    def exchanged(self, chosen: list[int]) -> list[int]:
        """Each bucket moved where it saves most, as long as that saves something."""
        for place in range(len(chosen)):
            others = [c for k, c in enumerate(chosen) if k != place]
            rest = self.price[:, others].min(1) if others else np.full(len(self.counts), np.inf)
            after = (self.counts[:, None] * np.minimum(rest[:, None], self.price)).sum(0)
            best = int(np.argmin(after))
            if after[best] < after[chosen[place]]:
                chosen = [*others[:place], best, *others[place:]]
        return chosen

    def thinned(self, chosen: list[int], target: float) -> list[int]:
        """Without the buckets that the target does not need."""
        for candidate in sorted(chosen, key=lambda k: -tokens(self.sizes[k])):
            fewer = [c for c in chosen if c != candidate]
            if fewer and self.waste(fewer) <= target + SLACK:
                chosen = fewer
        return chosen


def _candidates(sizes: npt.NDArray[np.int64], multiple: int) -> npt.NDArray[np.int64]:
    """Distinct sizes, rounded up; of many, the largest and evenly spread quantiles."""
    ends = np.unique(-(-sizes // multiple) * multiple)
    if len(ends) <= CANDIDATES:
        return ends
    places = np.linspace(0, len(ends) - 1, CANDIDATES).round().astype(np.int64)
    return ends[places]


def sampled_cost(cost: Cost, traffic: Traffic, points: Sequence[int] = SAMPLED) -> Cost:
    """A dear cost, such as a simulated time, known at few sizes and interpolated between them.

    ``points``: how many sizes of each dim are looked at, spread evenly over the traffic's; the last
    number is for the last dim.
    """
    axes = []
    for at, number in zip(range(-len(traffic.dims), 0), points[-len(traffic.dims) :], strict=True):
        sizes = np.unique([size[at] for size in traffic.counts])
        axes.append(np.unique(np.linspace(sizes[0], sizes[-1], number).round().astype(np.int64)))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    known = np.apply_along_axis(lambda row: cost(tuple(map(int, row))), -1, grid)
    known = known.astype(np.float64)

    def interpolated(size: Size) -> float:
        left = known
        for axis, number in zip(axes, size, strict=True):  # one dim after another falls away
            left = _between(axis, left, number)
        return float(left)

    return interpolated


def _between(axis: npt.NDArray[np.int64], values: Numbers, number: int) -> Numbers:
    """Values along the first dim at one place; beyond the last the last slope goes on."""
    if len(axis) == 1:
        found: Numbers = values[0] * max(number / axis[0], 1.0)
        return found
    right = int(np.clip(np.searchsorted(axis, number), 1, len(axis) - 1))
    share = (number - axis[right - 1]) / (axis[right] - axis[right - 1])
    between: Numbers = values[right - 1] + share * (values[right] - values[right - 1])
    return between


__all__ = ["Advice", "advise", "optimal_cuts", "sampled_cost"]
