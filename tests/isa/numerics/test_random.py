"""Random generators: reproducible, uniform, and xorwow as published."""

import numpy as np
import pytest

from tenzing.errors import UsageError
from tenzing.isa import numerics

PINNED = [1210155558, 2802244911, 3011683077]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = (numerics.Rng(seed).bits((64, 64)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert np.mean(first == other) < 0.01


def test_a_generator_continues_where_its_counter_says() -> None:
    whole = numerics.Rng(1).bits((100,))
    generator = numerics.Rng(1)
    parts = [generator.bits((30,)), generator.bits((7, 10))]
    assert generator.counter == 100
    assert np.array_equal(np.concatenate([p.reshape(-1) for p in parts]), whole)
    assert np.array_equal(numerics.Rng(1, counter=30).bits((70,)), whole[30:])


def test_bits_are_fixed_for_ever() -> None:
    # pinned: a change of the generator changes every dropout mask
    assert numerics.Rng(0).bits((3,)).tolist() == PINNED


def test_words_look_uniform() -> None:
    words = numerics.Rng(3).bits((100_000,))
    ones = np.unpackbits(words.view(np.uint8)).reshape(-1, 32).mean(axis=0)
    assert np.all(np.abs(ones - 0.5) < 0.01)
    numbers = numerics.Rng(3).uniform((100_000,))
    assert numbers.dtype == np.float32
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01


def reference_xorwow(state: list[int], count: int) -> list[int]:
    """The generator as Marsaglia printed it, on Python integers."""
    x, y, z, w, v, d = state
    drawn = []
    for _ in range(count):
        t = x ^ (x >> 2)
        x, y, z, w = y, z, w, v
        v = (v ^ (v << 4) ^ t ^ (t << 1)) & 0xFFFFFFFF
        d = (d + 362437) & 0xFFFFFFFF
        drawn.append((d + v) & 0xFFFFFFFF)
    return drawn


def test_xorwow_follows_its_definition_in_every_lane() -> None:
    state = np.random.default_rng(0).integers(1, 2**32, (5, 6), np.uint32)
    generator = numerics.XorWow(state)
    found = np.concatenate([generator.bits(7), generator.bits(4)], axis=1)
    for lane in range(5):
        assert found[lane].tolist() == reference_xorwow(state[lane].tolist(), 11)
    assert np.array_equal(numerics.XorWow(state).bits(11), found)


def test_xorwow_needs_six_words() -> None:
    with pytest.raises(UsageError, match="six words per lane"):
        numerics.XorWow(np.zeros((2, 5), np.uint32))
