"""Searches over choices: pruned by bounds, settled by measuring, the same every time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tenzing import kernels
from tenzing.kernels.matmul import chosen_plan
from tenzing.kernels.plan import Plan, Shape, candidates, default_plan
from tenzing.kernels.tuning import FINALISTS, Search, extrapolated_ns, kernel_ns
from tenzing.nki import Spec, session

BF16 = np.dtype(ml_dtypes.bfloat16)


def test_the_fastest_of_those_with_the_least_bounds_wins() -> None:
    bounds = {"a": 100.0, "b": 101.0, "c": 102.0, "far": 200.0}
    times = {"a": 150.0, "b": 120.0, "c": 130.0, "far": 1.0}
    assert Search(bounds, bounds.__getitem__, times.__getitem__).best() == "b"


def test_few_options_are_measured_and_none_after_one_near_the_floor() -> None:
    measured: list[int] = []

    def measure(option: int) -> float:
        measured.append(option)
        return 100.0

    assert Search(range(20), lambda _: 90.0, measure).best() == 0
    assert measured == list(range(FINALISTS))
    measured.clear()
    assert Search(range(20), lambda _: 90.0, measure, floor_ns=99.0).best() == 0
    assert measured == [0]


def test_a_single_candidate_is_not_measured() -> None:
    def measure(option: str) -> float:
        raise AssertionError(option)

    assert Search(["only"], lambda _: 1.0, measure).best() == "only"


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 3), (1, 9), (2, 2), (5, 1), (4, 10)])
def test_equal_trips_are_extrapolated_exactly(outer: int, inner: int) -> None:
    def nest(rounds: int, trips: int) -> float:
        return 7.0 + rounds * (3.0 + 11.0 * trips)

    assert extrapolated_ns(outer, inner, nest) == pytest.approx(nest(outer, inner))


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_a_searched_cut_is_never_slower_than_the_estimated_one(target: str) -> None:
    shape = Shape(1024, 2048, 4096, 2)
    x, w = Spec((1024, 2048), BF16), Spec((2048, 4096), BF16)
    with session(target):
        chosen, rough = chosen_plan(shape, BF16), default_plan(shape)
        assert chosen in list(candidates(shape))
        taken = kernel_ns(kernels.linear, x, w, plan=chosen)
        assert taken <= kernel_ns(kernels.linear, x, w, plan=rough)
        assert chosen_plan(shape, BF16) == chosen


def test_short_products_are_not_searched_and_hand_on_single_tiles() -> None:
    with session("trn2"):
        plan = chosen_plan(Shape(256, 384, 1536, 2), BF16)
        assert (plan.row_tiles, plan.column_tiles, plan.kept, plan.panel) == (1, 1, "right", 3)


def test_what_does_not_fit_takes_for_ever() -> None:
    with session("trn2"):
        x, w = Spec((2048, 8192), BF16), Spec((8192, 1024), BF16)
        taken = kernel_ns(kernels.linear, x, w, plan=Plan(8, 1, "left", 2, 4))
        assert taken == float("inf")
