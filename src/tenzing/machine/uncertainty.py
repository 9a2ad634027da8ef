"""How far a simulated time may be from the chip's: classes of kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CLASSES: Final = {
    "Tensor": "tensor", "Vector": "vector", "Scalar": "vector", "GpSimd": "vector",
    "Sync": "dma", "DMA": "dma",
}  # fmt: skip
LATENCY: Final = "latency"
DOMINATES: Final = 0.5  # share of the time the busiest engine needs to be what limits


def limit(busy: Mapping[str, float]) -> str:
    """The class of a kernel whose engines are busy these shares of its time."""
    busiest = max(busy, key=lambda name: busy[name], default="")
    if not busiest or busy[busiest] < DOMINATES:
        return LATENCY
    return CLASSES[busiest]
