"""Requests of many sizes, and what padding them up to buckets wastes.

The waste of a set of buckets on a sample of traffic is the share of the work done that is padding:
one minus the work of the requests at their own sizes over the work of the buckets they run in.
Work is counted in tokens (the product of the sizes), or in any other cost of a size, such as time.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenzing.errors import Loc, UsageError

Size = tuple[int, ...]
Cost = Callable[[Size], float]

LENGTH: Final = "length"
BATCH: Final = "batch"
COUNT: Final = "count"
DIGITS: Final = 9  # of one size or count in a file


@dataclass(frozen=True)
class Traffic:
    """Requests by size: how many there are of each, and what its numbers are called."""

    dims: tuple[str, ...]
    counts: Mapping[Size, int]

    @staticmethod
    def of(sizes: Iterable[int | Sequence[int]], dims: Sequence[str] = (LENGTH,)) -> Traffic:
        """Traffic of these requests, each one size per dim."""
        found = Counter((s,) if isinstance(s, int) else tuple(s) for s in sizes)
        for size in found:
            if len(size) != len(dims) or min(size) < 1:
                raise UsageError("a request's size", got=size,
                                 allowed=f"one number above 0 for {', '.join(dims)}")  # fmt: skip
        if not found:
            raise UsageError("the traffic holds no request")
        return Traffic(tuple(dims), dict(sorted(found.items())))

    @property
    def requests(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def largest(self) -> Size:
        """The largest number of each dim: a bucket of this size takes every request."""
        return tuple(map(max, zip(*self.counts, strict=True)))

    def cost(self, cost: Cost) -> float:
        """Cost of all requests at their own sizes."""
        return sum(count * cost(size) for size, count in self.counts.items())


def tokens(size: Size) -> int:
    """Elements of a batch of sequences."""
    return math.prod(size)


def read_traffic(path: str | Path) -> Traffic:
    """Traffic from a CSV file with a column ``length`` and, if there are, ``batch`` and ``count``.

    A file without a header holds lengths, or batches and lengths. Raises UsageError with the line
    of what is no size.
    """
    file = Path(path)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [(n, [cell.strip() for cell in row]) for n, row in
                    enumerate(csv.reader(stream), 1) if any(map(str.strip, row))]  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {file} as CSV", got=str(error),
                         next_step="give a file with a column named length") from None  # fmt: skip
    if not rows:
        raise UsageError(f"{file} holds no request", next_step="give one row per request")
    names, rows = _header(file, rows)
    dims = tuple(name for name in (BATCH, LENGTH) if name in names)
    counts: Counter[Size] = Counter()
    for line, cells in rows:
        row = dict(zip(names, cells, strict=False))
        size = tuple(_number(file, line, name, row.get(name, "")) for name in dims)
        counts[size] += _number(file, line, COUNT, row[COUNT]) if COUNT in row else 1
    if not counts:
        raise UsageError(f"{file} holds a header and no request")
    return Traffic(dims, dict(sorted(counts.items())))


Rows = list[tuple[int, list[str]]]


def _header(file: Path, rows: Rows) -> tuple[list[str], Rows]:
    """Names of the columns, and the rows below them."""
    first = [cell.lower() for cell in rows[0][1]]
    if LENGTH in first:
        return first, rows[1:]
    plain = ([LENGTH], [BATCH, LENGTH])
    if all(cell.isdigit() for cell in first) and len(first) <= len(plain):
        return plain[len(first) - 1], rows
    raise UsageError(
        f"{file} has no column of lengths", got=", ".join(rows[0][1]),
        allowed=f"a header with {LENGTH}, and {BATCH} and {COUNT} where there are such",
        where=Loc(str(file), rows[0][0]),
    )  # fmt: skip


def _number(file: Path, line: int, name: str, text: str) -> int:
    plain = text.isascii() and text.isdigit() and len(text) <= DIGITS
    if not plain or int(text) < 1:
        raise UsageError(f"{name} in line {line} of {file}", got=text or "nothing",
                         allowed=f"a whole number above 0, of at most {DIGITS} digits",
                         where=Loc(str(file), line))  # fmt: skip
    return int(text)


@dataclass(frozen=True)
class Use:
    """What one bucket takes: requests, their own cost and the cost of running them here."""

    bucket: Size
    requests: int
    cost: float
    padded: float

    @property
    def waste(self) -> float:
        """Share of the bucket's work that is padding."""
        return 1 - self.cost / self.padded if self.padded else 0.0


@dataclass(frozen=True)
class Waste:
    """A set of buckets on a sample of traffic; ``unfit``: requests that fit no bucket."""

    dims: tuple[str, ...]
    uses: tuple[Use, ...]
    unfit: int
    largest_unfit: Size

    @property
    def waste(self) -> float:
        """Share of all work that is padding, requests that fit nowhere left out."""
        padded = sum(use.padded for use in self.uses)
        return 1 - sum(use.cost for use in self.uses) / padded if padded else 0.0


def smallest_fitting(size: Size, buckets: Iterable[Size], cost: Cost = tokens) -> Size | None:
    """The bucket of least cost that holds a request; None when none does."""
    fitting = [b for b in buckets if all(n <= m for n, m in zip(size, b, strict=True))]
    return min(fitting, key=lambda b: (cost(b), b), default=None)


def waste_of(traffic: Traffic, buckets: Iterable[Size], cost: Cost = tokens) -> Waste:
    """What the requests of a sample waste when each runs in the smallest bucket that holds it."""
    known = {tuple(bucket): cost(tuple(bucket)) for bucket in buckets}
    for bucket in known:
        if len(bucket) != len(traffic.dims):
            raise UsageError("a bucket", got="x".join(map(str, bucket)),
                             allowed=f"one number for each of {', '.join(traffic.dims)}",
                             )  # fmt: skip
    requests: Counter[Size] = Counter()
    own: dict[Size, float] = dict.fromkeys(known, 0.0)
    unfit: list[tuple[Size, int]] = []
    for size, count in traffic.counts.items():
        found = smallest_fitting(size, known, known.__getitem__)
        if found is None:
            unfit.append((size, count))
        else:
            requests[found] += count
            own[found] += count * cost(size)
    uses = tuple(Use(b, requests[b], own[b], requests[b] * known[b]) for b in sorted(known))
    largest = max((size for size, _ in unfit), key=tokens, default=())
    return Waste(traffic.dims, uses, sum(count for _, count in unfit), largest)


__all__ = [
    "BATCH", "LENGTH", "Cost", "Size", "Traffic", "Use", "Waste", "read_traffic",
    "smallest_fitting", "tokens", "waste_of",
]  # fmt: skip
