"""What limits a kernel, and how far its simulated time may be off."""

from __future__ import annotations

import numpy as np

from tenzing.machine.analysis import covered
from tenzing.machine.uncertainty import limit


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
