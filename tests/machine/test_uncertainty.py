"""What limits a kernel, and how far its simulated time may be off."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.machine.analysis import covered
from tenzing.machine.uncertainty import CLASSES, LATENCY, interval, limit


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_covered_counts_every_moment_once() -> None:
    assert covered(column(), column()) == 0
    assert covered(column(0, 5, 20), column(10, 8, 25)) == 15  # one inside another, one apart
    assert covered(column(20, 0), column(25, 10)) == 15  # in any order


def test_limit_is_the_busiest_engine_that_fills_half_the_time() -> None:
    assert limit({"Tensor": 0.9, "Vector": 0.3, "DMA": 0.8}) == "tensor"
    assert limit({"Scalar": 0.6, "DMA": 0.5}) == "vector"
    assert limit({"Sync": 0.9, "DMA": 0.1}) == "dma"
    assert limit({"Tensor": 0.49, "DMA": 0.1}) == "latency"
    assert limit({}) == "latency"


BUSY = {"Tensor": 0.9}


def test_interval_holds_the_time_and_grows_with_it() -> None:
    found = interval(10**6, BUSY, [])
    assert found.low_ps < 10**6 < found.high_ps
    assert found.limit == "tensor"
    twice = interval(2 * 10**6, BUSY, [])
    assert twice.high_ps == pytest.approx(2 * found.high_ps, abs=2)


def test_assumed_facts_widen_an_interval_by_what_the_time_follows() -> None:
    plain = interval(10**6, BUSY, [])
    leaning = interval(10**6, BUSY, ["tensor.streaming_factor"])
    assert leaning.half_width > plain.half_width
    assert leaning.assumed > plain.assumed == 0
    assert interval(10**6, BUSY, ["sbuf.min_align_bytes"]) == plain


def test_a_class_nobody_measured_has_a_width_too() -> None:
    assert all(interval(10**6, {name: 1.0}, []).half_width > 0 for name in CLASSES)
    assert interval(10**6, {}, []).limit == LATENCY
