"""Random instructions: same seed same bits, streams, truncation, distribution, rules."""

from typing import Any

import numpy as np
import pytest
from tests.isa.cases import BF16, F32, I32, U8, U16, U32, build, sbuf, values

from tenzing import facts
from tenzing.isa import numerics
from tenzing.isa.instruction import Engine

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))
TILE = sbuf(U32, 128, 64)
FLOATS = sbuf(F32, 128, 512)


def seeded(seed: int) -> dict[str, Any]:
    state: dict[str, Any] = {}
    template = build("set_rng_seed", src_seeds=sbuf(U32, 1, 1))
    assert template.compute(state, src_seeds=np.array([[seed]], np.uint32)) is None
    return state


def test_the_same_seed_gives_the_same_sequence_and_another_another() -> None:
    rng = build("rng", dst=TILE)
    runs = []
    for seed in (7, 7, 8):
        state = seeded(seed)
        runs.append([rng.compute(state) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.mean(runs[0][0] == runs[2][0]) < 0.01
    assert np.mean(runs[0][0] == runs[0][1]) < 0.01


def test_the_core_seed_starts_the_stream() -> None:
    rng = build("rng", dst=TILE)
    first = rng.compute({"rng.seed": np.full(1, 3, np.uint32)})
    np.testing.assert_array_equal(first, rng.compute(seeded(3)))


def test_small_dtypes_keep_the_low_bits() -> None:
    words = build("rng", dst=TILE).compute(seeded(1))
    for dtype in (U8, U16):
        low = build("rng", dst=sbuf(dtype, 128, 64)).compute(seeded(1))
        np.testing.assert_array_equal(low, words.astype(dtype))


def test_engines_have_streams_of_their_own() -> None:
    state = seeded(1)
    expected = build("rng", dst=TILE).compute(seeded(1))
    build("rng", dst=TILE, engine=Engine.gpsimd).compute(state)
    np.testing.assert_array_equal(build("rng", dst=TILE).compute(state), expected)


@pytest.mark.parametrize(("engine", "words"), [(Engine.gpsimd, 6), (Engine.vector, 24)])
def test_a_state_that_was_read_back_repeats_the_numbers(engine: Engine, words: int) -> None:
    rng, layout = build("rng", dst=TILE, engine=engine), sbuf(U32, 128, words)
    state: dict[str, Any] = {}
    seeds = values(layout, 1, high=2**32)
    setter = build("rand_set_state", src_seeds=layout, engine=engine)
    setter.compute(state, src_seeds=seeds)
    rng.compute(state)
    middle = build("rand_get_state", dst=layout, engine=engine).compute(state)
    assert np.any(middle != seeds)
    second = rng.compute(state)
    setter.compute(state, src_seeds=middle)
    np.testing.assert_array_equal(rng.compute(state), second)
    assert len(np.unique(second)) > 0.99 * second.size


def test_settable_state_is_xorwow_per_lane() -> None:
    layout = sbuf(U32, 4, 6)
    seeds = values(layout, 1, high=2**32)
    state = {"rng.state.gpsimd": seeds}
    got = build("rng", dst=sbuf(U32, 4, 10), engine=Engine.gpsimd).compute(state)
    np.testing.assert_array_equal(got, numerics.XorWow(seeds).bits(10))


def test_set_rng_seed_replaces_a_settable_state() -> None:
    state: dict[str, Any] = {"rng.state.vector": values(sbuf(U32, 128, 24), 1)}
    build("set_rng_seed", src_seeds=sbuf(U32, 1, 1)).compute(
        state, src_seeds=np.array([[5]], np.uint32)
    )
    np.testing.assert_array_equal(build("rng", dst=TILE).compute(state),
                                  build("rng", dst=TILE).compute(seeded(5)))  # fmt: skip


@pytest.mark.parametrize("prob", [0.0, 0.25, 1.0])
def test_dropout_drops_its_share_and_keeps_the_rest(prob: float) -> None:
    data = np.abs(values(FLOATS, 1)) + 1
    got = build("dropout", dst=FLOATS, data=FLOATS, prob=prob).compute(
        seeded(1), data=data, prob=prob
    )
    dropped = got == 0
    np.testing.assert_array_equal(got[~dropped], data[~dropped])
    spread = 4 * np.sqrt(prob * (1 - prob) / data.size)
    assert abs(dropped.mean() - prob) <= spread


def test_dropout_takes_a_probability_per_partition() -> None:
    column = sbuf(BF16, 128, 1)
    prob = (np.arange(128) % 2).astype(BF16).reshape(128, 1)
    data = np.ones((128, 512), np.float32)
    template = build("dropout", dst=FLOATS, data=FLOATS, prob=column)
    assert template.broken_rules(TRN2) == []
    got = template.compute(seeded(1), data=data, prob=prob)
    np.testing.assert_array_equal(got, np.broadcast_to(1 - prob.astype(np.float32), got.shape))


def test_rand2_is_uniform_between_its_bounds() -> None:
    got = build("rand2", dst=FLOATS, min=-1.0, max=3.0).compute(seeded(1), min=-1.0, max=3.0)
    assert got.min() >= -1
    assert got.max() <= 3
    assert abs(got.mean() - 1) < 4 * 4 / np.sqrt(12 * got.size)


def test_random_rules() -> None:
    assert build("rng", dst=FLOATS).broken_rules(TRN2) == [
        "dst has dtype float32; allowed: int8, int16, int32, uint8, uint16, uint32"
    ]
    assert build("rng", dst=TILE, engine=Engine.gpsimd).broken_rules(TRN1) == [
        "GpSimd on trn1 has no rng (gpsimd.rng)"
    ]
    assert build("dropout", dst=FLOATS, data=FLOATS, prob=1.5).broken_rules(TRN2) == [
        "prob is 1.5; a probability between 0 and 1 is needed"
    ]
    integers = sbuf(I32, 128, 4)
    assert build("dropout", dst=integers, data=integers, prob=sbuf(BF16, 128, 1)).broken_rules(
        TRN2
    ) == ["prob has dtype bfloat16; allowed: float32"]
    assert build("set_rng_seed", src_seeds=sbuf(U8, 1, 4)).broken_rules(TRN2) == [
        "src_seeds has shape (1, 4); (1, 1) is needed",
        "src_seeds has dtype uint8; 32 bits are needed",
    ]
    assert build("rand2", dst=FLOATS, min=1.0, max=1.0).broken_rules(TRN3) == [
        "min is 1.0 and max is 1.0; min < max is needed"
    ]
