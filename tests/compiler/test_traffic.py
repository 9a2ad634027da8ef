"""Padding waste and the bucket advisor: the definition, and optimality against brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing.compiler.advice import advise
from tenzing.compiler.traffic import (
    Size,
    Traffic,
    read_traffic,
    smallest_fitting,
    tokens,
    waste_of,
)
from tenzing.errors import UsageError

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)
pairs = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 8)), min_size=1, max_size=8)
targets = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.9])
DIMS = ("batch", "length")


def slow_start(size: Size) -> float:
    """A cost like a chip's time: a fixed part, then more than linear."""
    return 10 + tokens(size) + size[-1] ** 2 / 16


def stepped(size: Size) -> float:
    """A cost under which some larger sizes are cheaper than smaller ones."""
    return tokens(size) + (7 if size[-1] % 8 else 0)


COSTS: tuple[Callable[[Size], float], ...] = (tokens, slow_start, stepped)


@given(lengths, lengths)
def test_waste_is_padding_over_all_that_is_computed(requests: list[int], ends: list[int]) -> None:
    waste = waste_of(Traffic.of(requests), [(end,) for end in ends])
    real = padded = unfit = 0
    for request in requests:
        fitting = [end for end in ends if end >= request]
        if not fitting:
            unfit += 1
            continue
        real += request
        padded += min(fitting)
    assert waste.unfit == unfit
    assert waste.waste == pytest.approx((padded - real) / padded if padded else 0)
    assert sum(use.requests for use in waste.uses) + unfit == len(requests)
    assert all(0 <= use.waste < 1 for use in waste.uses)


def best_waste(traffic: Traffic, count: int, cost: Callable[[Size], float]) -> float:
    """The least waste of ``count`` buckets that take every request, by trying all."""
    axes = [sorted({s[k] for s in traffic.counts}) for k in range(len(traffic.dims))]
    candidates: list[Size] = [()]
    for axis in axes:
        candidates = [(*c, end) for c in candidates for end in axis]
    found = [waste_of(traffic, chosen, cost) for chosen in combinations(candidates, count)]
    return min((w.waste for w in found if not w.unfit), default=2.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), targets, st.sampled_from(COSTS))
def test_one_dim_has_no_bucket_too_many(
    requests: list[int], target: float, cost: Callable[[Size], float]
) -> None:
    traffic = Traffic.of(requests)
    advice = advise(traffic, target, cost=cost)
    assert advice.exact
    assert not advice.waste.unfit
    count = len(advice.buckets)
    if advice.reached:
        assert advice.waste.waste <= target + 1e-6
        assert all(best_waste(traffic, n, cost) > target - 1e-6 for n in range(1, count))
    else:
        assert all(best_waste(traffic, n, cost) > target
                   for n in range(1, len(traffic.counts) + 1))  # fmt: skip
    assert advice.waste.waste == pytest.approx(best_waste(traffic, count, cost))


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 6))
def test_rounded_and_bounded_buckets(requests: list[int], multiple: int, most: int) -> None:
    traffic = Traffic.of(requests)
    advice = advise(traffic, 0.0, multiple=multiple, most=most)
    assert 1 <= len(advice.buckets) <= most
    assert all(end % multiple == 0 for (end,) in advice.buckets)
    assert not advice.waste.unfit
    assert advice.waste.waste <= advise(traffic, 0.0, multiple=multiple, most=1).waste.waste + 1e-9


@settings(max_examples=40, deadline=None)
@given(pairs, targets)
def test_two_dims_take_all_and_reach_the_target(requests: list[Size], target: float) -> None:
    traffic = Traffic.of(requests, DIMS)
    advice = advise(traffic, target)
    assert advice.reached
    assert not advice.waste.unfit
    assert advice.waste.waste <= target + 1e-6
    varying = sum(len({s[k] for s in traffic.counts}) > 1 for k in range(2))
    assert advice.exact == (varying < 2)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=5),
       st.sampled_from([0.1, 0.3]))  # fmt: skip
def test_two_dims_are_close_to_the_fewest(requests: list[Size], target: float) -> None:
    traffic = Traffic.of(requests, DIMS)
    count = len(advise(traffic, target).buckets)
    fewest = next(n for n in range(1, count + 1) if best_waste(traffic, n, tokens) <= target + 1e-6)
    assert count <= fewest + 1


def test_many_distinct_lengths_are_quick() -> None:
    advice = advise(Traffic.of(range(1, 3001)), 0.1)
    assert advice.reached
    assert len(advice.buckets) < 20


def test_the_smallest_fitting_bucket() -> None:
    buckets = [(8, 128), (1, 512), (4, 256)]
    assert smallest_fitting((1, 100), buckets) == (1, 512)
    assert smallest_fitting((2, 100), buckets) == (4, 256)
    assert smallest_fitting((2, 300), buckets) is None


@pytest.mark.parametrize(
    ("text", "dims", "counts"),
    [
        ("length\n5\n7\n5\n", ("length",), {(5,): 2, (7,): 1}),
        ("5\n7\n", ("length",), {(5,): 1, (7,): 1}),
        ("2,5\n2,7\n", DIMS, {(2, 5): 1, (2, 7): 1}),
        ("time,Length,batch,count\n0.5,9,2,10\n\n", DIMS, {(2, 9): 10}),
        ("\ufefflength,count\r\n 3 , 4 \r\n", ("length",), {(3,): 4}),
    ],
)
def test_files_of_traffic(tmp_path: Path, text: str, dims: tuple[str, ...], counts: object) -> None:
    path = tmp_path / "traffic.csv"
    path.write_text(text, encoding="utf-8")
    assert read_traffic(path) == Traffic(dims, counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no request"),
        (b"length\n", "holds a header and no request"),
        (b"length\n5\nx\n", "length in line 3 of .*; got x"),
        (b"length\n0\n", "got 0; allowed: a whole number above 0"),
        (b"length\n-4\n", "got -4"),
        (b"length\n9999999999999\n", "at most 9 digits"),
        (b"length,count\n5\n", None),
        (b"length,batch\n5\n", "batch in line 2 of .*; got nothing"),
        (b"tokens\n5\n", "has no column of lengths; got tokens"),
        (b"1,2,3\n", "has no column of lengths"),
        (b"length\n\xff\xfe\n", "as CSV"),
        (b"PK\x03\x04\x00\x00", "has no column of lengths"),
    ],
)
def test_bad_files_are_refused_with_their_line(
    tmp_path: Path, content: bytes, says: str | None
) -> None:
    path = tmp_path / "traffic.csv"
    path.write_bytes(content)
    if says is None:
        assert read_traffic(path).requests == 1
        return
    with pytest.raises(UsageError, match=says):
        read_traffic(path)


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    traffic = Traffic.of([3, 5])
    with pytest.raises(UsageError, match="waste target; got 10"):
        advise(traffic, 10)
    with pytest.raises(UsageError, match="allowed: 1 or more"):
        advise(traffic, 0.1, multiple=0)
    with pytest.raises(UsageError, match="a bucket; got 1x8; allowed: one number for each of"):
        waste_of(traffic, [(1, 8)])
    with pytest.raises(UsageError, match="a request's size; got"):
        Traffic.of([0])
    with pytest.raises(UsageError, match="holds no request"):
        Traffic.of([])
    with pytest.raises(UsageError, match="cannot read"):
        read_traffic(tmp_path)
