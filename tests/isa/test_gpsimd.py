"""Values and rules of the GpSimd engine against plain loops over the published pseudo code."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.cases import build, psum, sbuf, values
from tests.isa.cases_tensor_dma import BF16, F32, I32, U16, U32

from tenzing import facts
from tenzing.errors import KernelError, OutOfBounds
from tenzing.isa.instruction import Cost, Engine

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))
PATTERNS = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 4)), min_size=1, max_size=4)


def affine(partitions: int, pattern: Any, offset: int, multiplier: int) -> np.ndarray:
    """The published definition, element by element."""
    rows = []
    for channel in range(partitions):
        walks = itertools.product(*(range(count) for _, count in pattern))
        steps = [step for step, _ in pattern]
        rows.append([offset + channel * multiplier + sum(map(int.__mul__, steps, place))
                     for place in walks])  # fmt: skip
    return np.array(rows, np.int64)


def elements(pattern: Any) -> int:
    return int(np.prod([count for _, count in pattern]))


def cycles(cost: Cost) -> float:
    return round(cost.issue_ps / 1000 * TRN2.number("gpsimd.clock_ghz"), 2)


# --- iota and affine_select -----------------------------------------------------------------------


@given(PATTERNS, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5))
def test_iota_is_the_published_loop(pattern: Any, offset: int, multiplier: int, rows: int) -> None:
    template = build("iota", dst=sbuf(I32, rows, elements(pattern)), pattern=pattern,
                     offset=offset, channel_multiplier=multiplier)  # fmt: skip
    assert template.broken_rules(TRN2) == []
    assert np.array_equal(template.compute(), affine(rows, pattern, offset, multiplier))


def test_iota_wraps_in_32_bits() -> None:
    template = build("iota", dst=sbuf(I32, 1, 2), pattern=[[1, 2]], offset=2**31 - 1)
    assert template.compute().tolist() == [[2**31 - 1, -(2**31)]]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ([[1, 3]], "pattern walks 3 elements, dst has 4 per partition"),
        ([[1, 1]] * 4 + [[1, 4]], "pattern has 5 dims; allowed: 1 to 4"),
        ([[1, -2], [1, -2]], "pattern ((1, -2), (1, -2)) has a count below 1"),
    ],
)
def test_iota_refuses_a_pattern_that_does_not_fit(pattern: Any, text: str) -> None:
    assert text in build("iota", dst=sbuf(I32, 1, 4), pattern=pattern).broken_rules(TRN2)


def test_a_pattern_of_another_form_is_an_error_with_an_example() -> None:
    with pytest.raises(KernelError) as caught:
        build("iota", dst=sbuf(I32, 1, 4), pattern=[1, 4])
    assert caught.value.render() == (
        "kernel: pattern must be a list of [step, count]; got [1, 4]\n  next: write e.g. [[1, 128]]"
    )


@pytest.mark.parametrize("op", ["equal", "greater_equal", "less"])
@pytest.mark.parametrize("dtype", [F32, BF16, I32])
def test_affine_select_is_the_published_loop(op: str, dtype: np.dtype) -> None:
    tile, pattern = sbuf(dtype, 8, 12), [[2, 3], [-1, 4]]
    template = build("affine_select", dst=tile, pattern=pattern, channel_multiplier=1, offset=-3,
                     on_true_tile=tile, on_false_value=-7.0, cmp_op=op)  # fmt: skip
    assert template.broken_rules(TRN2) == []
    given_values = values(tile)
    ramp = affine(8, pattern, -3, 1)
    chosen = {"equal": ramp == 0, "greater_equal": ramp >= 0, "less": ramp < 0}[op]
    want = np.where(chosen, given_values.astype(np.float64), -7)
    assert np.array_equal(template.compute(given_values).astype(np.float64), want)


def test_affine_select_keeps_bits_and_hides_what_it_does_not_choose() -> None:
    tile = sbuf(I32, 1, 4)
    template = build("affine_select", dst=tile, pattern=[[1, 4]], channel_multiplier=0,
                     on_true_tile=tile, on_false_value=0.0)  # fmt: skip
    exact = np.array([[2**24 + 1, 5, 6, 7]], np.int32)
    assert template.compute(exact).tolist() == [[2**24 + 1, 0, 0, 0]]


def test_affine_select_converts_through_float32() -> None:
    template = build("affine_select", dst=sbuf(BF16, 1, 2), pattern=[[1, 2]], offset=-1,
                     channel_multiplier=0, on_true_tile=sbuf(F32, 1, 2),
                     on_false_value=float(np.finfo(np.float32).min))  # fmt: skip
    result = template.compute(np.array([[1.0, 3.0]], np.float32))
    assert result.tolist() == [[float(np.finfo(np.float32).min), 3.0]]


def test_affine_select_needs_a_comparison_and_equal_sizes() -> None:
    template = build("affine_select", dst=sbuf(F32, 4, 2), pattern=[[1, 2]],
                     channel_multiplier=0, on_true_tile=sbuf(F32, 3, 2), on_false_value=0,
                     cmp_op="add")  # fmt: skip
    assert template.broken_rules(TRN2) == [
        "dst has 4 partitions, on_true_tile has 3",
        "cmp_op is add; a comparison is needed",
    ]


# --- reductions across partitions -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "reference"), [("add", np.sum), ("max", np.max), ("average", np.mean)]
)
def test_partition_reduce_is_numpy_along_the_partitions(op: str, reference: Any) -> None:
    data = sbuf(F32, 128, 4, 8)
    template = build("tensor_partition_reduce", dst=sbuf(F32, 1, 4, 8), op=op, data=data)
    assert template.broken_rules(TRN2) == []
    given_values = values(data)
    want = reference(given_values.astype(np.float64), axis=0).reshape(1, 32)
    assert np.allclose(template.compute(given_values), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", ["bitwise_or", "bitwise_and"])
def test_partition_reduce_of_bits(op: str) -> None:
    data = sbuf(I32, 16, 8)
    template = build("tensor_partition_reduce", dst=sbuf(I32, 1, 8), op=op, data=data)
    given_values = np.random.default_rng(0).integers(-(2**31), 2**31, (16, 8)).astype(np.int32)
    want = getattr(np, op).reduce(given_values, axis=0)
    assert np.array_equal(template.compute(given_values)[0], want)


def test_partition_reduce_names_what_is_wrong() -> None:
    template = build("tensor_partition_reduce", dst=sbuf(F32, 2, 7), op="bitwise_or",
                     data=sbuf(F32, 16, 8))  # fmt: skip
    assert template.broken_rules(TRN2) == [
        "dst has 2 partitions; the result has 1",
        "dst has 7 free elements, data has 8",
        "bitwise_or needs an integer dtype; data has float32",
    ]
    other = build("tensor_partition_reduce", dst=sbuf(F32, 1, 8), op="multiply",
                  data=sbuf(F32, 16, 8))  # fmt: skip
    (text,) = other.broken_rules(TRN2)
    assert text.startswith("op is multiply; allowed: add, ")


# --- gathers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [1, 4])
@pytest.mark.parametrize("valid", [None, 50])
def test_local_gather_takes_runs_per_group_of_sixteen(run: int, valid: int | None) -> None:
    source, index = sbuf(F32, 48, 256), sbuf(U16, 48, 4)
    count = valid or 64
    template = build("local_gather", dst=sbuf(F32, 48, count * run), src_buffer=source,
                     index=index, num_elem_per_idx=run, num_valid_indices=valid)  # fmt: skip
    assert template.broken_rules(TRN2) == []
    data = values(source)
    offsets = np.random.default_rng(1).integers(0, 252, (48, 4)).astype(np.uint16)
    want = np.empty((48, count, run), np.float32)
    for partition in range(48):
        group = offsets[partition // 16 * 16 :][:16].flatten(order="F")[:count]
        for place, offset in enumerate(group):
            want[partition, place] = data[partition, offset : offset + run]
    assert np.array_equal(template.compute(data, offsets), want.reshape(48, -1))


def test_local_gather_names_what_is_wrong() -> None:
    template = build("local_gather", dst=sbuf(BF16, 20, 3), src_buffer=sbuf(F32, 20, 64),
                     index=sbuf(U16, 20, 300), num_elem_per_idx=3)  # fmt: skip
    assert template.broken_rules(TRN2) == [
        "src_buffer has 20 partitions; a multiple of 16 is needed",
        "num_elem_per_idx is 3; allowed: (1, 2, 4, 8, 16, 32)",
        "each core gathers 4800 indices; allowed: 1 to 4096 (given in index, "
        "gpsimd.gather_index_max)",
        "dst has dtype bfloat16, src_buffer has float32",
        "dst is 20 x 3; the result is 20 x 14400",
    ]


def test_n_gather_is_take_along_the_flattened_free_dims() -> None:
    data, indices = sbuf(BF16, 32, 5, 7), sbuf(U32, 32, 40)
    template = build("nc_n_gather", dst=sbuf(BF16, 32, 40), data=data, indices=indices)
    assert template.broken_rules(TRN2) == []
    given_values = values(data)
    places = np.random.default_rng(2).integers(0, 35, (32, 40)).astype(np.uint32)
    want = np.take_along_axis(given_values.reshape(32, 35), places.astype(int), axis=1)
    assert template.compute(given_values, places).tobytes() == want.tobytes()


def test_an_index_outside_the_partition_is_an_error_with_its_place() -> None:
    template = build("nc_n_gather", dst=sbuf(F32, 2, 3), data=sbuf(F32, 2, 4),
                     indices=sbuf(U32, 2, 3))  # fmt: skip
    places = np.array([[0, 1, 2], [3, 4, 0]], np.uint32)
    with pytest.raises(OutOfBounds) as caught:
        template.compute(np.zeros((2, 4), np.float32), places)
    assert caught.value.finding.message == (
        "nki.isa.nc_n_gather: index 4 at position 4; allowed: 0 to 3"
    )


# --- searches -------------------------------------------------------------------------------------


def test_sequence_bounds_of_the_published_example() -> None:
    ids = np.array([[0, 1, 1, 2, 2, 2, 0, 3, 3]], np.int32)
    template = build("sequence_bounds", dst=sbuf(I32, 1, 2, 9), segment_ids=sbuf(I32, 1, 9))
    assert template.broken_rules(TRN1) == []
    assert template.compute(ids).tolist() == [
        [[9, 1, 1, 3, 3, 3, 9, 7, 7], [-1, 3, 3, 6, 6, 6, -1, 9, 9]]
    ]
    wrong = build("sequence_bounds", dst=sbuf(I32, 1, 9), segment_ids=sbuf(I32, 2, 9))
    assert wrong.broken_rules(TRN1) == [
        "segment_ids has 2 partitions, dst has 1; 1 is needed",
        "dst has 9 free elements; two for each of the 9 segment_ids are needed",
    ]


@pytest.mark.parametrize("dtype", [F32, I32])
def test_nonzero_of_the_published_example_in_every_sixteenth_partition(dtype: np.dtype) -> None:
    source, dst = sbuf(dtype, 32, 8), sbuf(I32, 32, 9)
    template = build("nonzero_with_count", dst=dst, src=source, index_offset=16)
    assert template.broken_rules(TRN2) == []
    rows = np.ones((32, 8), dtype)
    rows[0] = [0, 1, 1, 0, 0, 1, 0, 0]
    rows[16] = 0
    held = values(dst)
    result = template.compute(held, rows)
    assert result[0].tolist() == [17, 18, 21, -1, -1, -1, -1, -1, 3]
    assert result[16].tolist() == [-1] * 8 + [0]
    others = [p for p in range(32) if p % 16]
    assert np.array_equal(result[others], held[others])
    short = build("nonzero_with_count", dst=sbuf(I32, 16, 8), src=source).broken_rules(TRN2)
    assert short == [
        "dst has 16 partitions, src has 32",
        "dst has 8 free elements; src has 8 and the count takes one more",
    ]


# --- random state ---------------------------------------------------------------------------------


def test_random_state_is_zero_until_set_and_then_comes_back() -> None:
    layout = sbuf(U32, 128, 6)
    read, write = build("rand_get_state", dst=layout), build("rand_set_state", src_seeds=layout)
    assert read.broken_rules(TRN2) == write.broken_rules(TRN2) == []
    registers: dict[str, np.ndarray] = {}
    assert not read.compute(registers).any()
    seeds = np.random.default_rng(0).integers(0, 2**32, (128, 6)).astype(np.uint32)
    write.compute(registers, seeds)
    seeds_before = seeds.copy()
    seeds[:] = 0
    assert np.array_equal(read.compute(registers), seeds_before)


def test_the_vector_engine_has_a_settable_state_from_v4() -> None:
    template = build("rand_set_state", src_seeds=sbuf(U32, 128, 24), engine=Engine.vector)
    assert template.broken_rules(TRN3) == []
    assert template.broken_rules(TRN2) == [
        "the vector engine of trn2 has no settable random state (vector.rand_state_words)"
    ]
    wrong = build("rand_get_state", dst=psum(U32, 128, 5))
    assert wrong.broken_rules(TRN3) == [
        "dst has 5 elements per partition; the gpsimd engine keeps 6 (gpsimd.rand_state_words)",
        "GpSimd cannot access PSUM",
    ]


# --- time -----------------------------------------------------------------------------------------


def test_published_costs() -> None:
    assert cycles(build("iota", dst=sbuf(I32, 128, 512), pattern=[[1, 512]]).cost(TRN2)) == 662
    gather = build("local_gather", dst=sbuf(F32, 128, 64), src_buffer=sbuf(F32, 128, 512),
                   index=sbuf(U16, 128, 4))  # fmt: skip
    assert cycles(gather.cost(TRN2)) == 150 + 64 / 8
