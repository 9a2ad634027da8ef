"""Random words on the chip: the generator's own order, whatever the size and the cut."""

from __future__ import annotations

import numpy as np
import pytest

from tenzing.isa import numerics
from tenzing.kernels.random import random_bits

from .running import run


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("elements", [1, 63, 64, 1000, 128 * 70 + 5])
def test_words_are_those_of_the_seeded_generator(elements: int, target: str) -> None:
    seed = np.array([2**31 - 3], np.int32)
    for offset in (0, 7):  # the sum wraps around
        words = run(random_bits, seed, elements, offset, target=target)
        expected = numerics.Rng(2**31 - 3 + offset).bits((elements,))
        np.testing.assert_array_equal(words, expected)


def test_large_tensors_are_drawn_in_several_tiles() -> None:
    elements = 128 * 2048 + 128 * 3 + 1
    words = run(random_bits, np.array([-5], np.int32), elements)
    np.testing.assert_array_equal(words, numerics.Rng(2**32 - 5).bits((elements,)))
