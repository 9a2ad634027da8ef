"""Functions as modules, and numbers for them: for tests of compiled modules."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")


class Wrap(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def normal(*shape: int, seed: int = 0):
    """Reproducible float32 numbers."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
