"""Selection instructions of Vector: values against NumPy, sentinels, rules."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.cases import BF16, F32, U8, U16, U32, build, psum, sbuf, values

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.isa.enums import reduce_cmd
from tenzing.isa.vector_select import FLOAT32_MIN

TRN2 = facts.chip("trn2")
TILE, EIGHT, COLUMN = sbuf(F32, 128, 40), sbuf(F32, 128, 8), sbuf(F32, 128, 1)
MASK = sbuf(U8, 128, 40)


# -- top eight ----------------------------------------------------------------------------------


@given(st.lists(st.integers(-9, 9), min_size=8, max_size=60))
def test_max8_is_the_head_of_a_descending_sort(row: list[int]) -> None:
    tile = sbuf(F32, 1, len(row))
    got = build("max8", dst=sbuf(F32, 1, 8), src=tile).compute(src=np.array([row], np.float32))
    assert got[0].tolist() == sorted(row, reverse=True)[:8]


def test_search_rules() -> None:
    assert build("max8", dst=EIGHT, src=sbuf(F32, 128, 7)).broken_rules(TRN2) == [
        "src has 7 free elements; at least 8 are needed"
    ]
    assert build("max8", dst=TILE, src=TILE).broken_rules(TRN2) == [
        "dst has 40 free elements; 8 are needed"
    ]
    assert build("max8", dst=EIGHT, src=sbuf(F32, 128, 2, 2, 10)).broken_rules(TRN2) == [
        "src has 4 dims; at most 3 are allowed"
    ]
    (text,) = build("max8", dst=EIGHT, src=sbuf(BF16, 128, 16385)).broken_rules(TRN2)
    assert text == "src has 16385 free elements; trn2 allows 16384 (vector.free_max_max8)"
    (text,) = build("nc_find_index8", dst=EIGHT, data=TILE, vals=EIGHT).broken_rules(TRN2)
    assert text == "dst has dtype float32; allowed: uint16, uint32"


@pytest.mark.parametrize("index", [U16, U32])
def test_find_index8_gives_first_occurrences_and_all_ones(index: np.dtype) -> None:
    data = np.array([[5, 7, 5, 9, 1, 0, 3, 5]], np.float32)
    vals = np.array([[9, 5, 5, 5, 5, 4, 1, np.nan]], np.float32)
    template = build("nc_find_index8", dst=sbuf(index, 1, 8), data=sbuf(F32, 1, 8),
                     vals=sbuf(F32, 1, 8))  # fmt: skip
    none = np.iinfo(index).max
    got = template.compute(data=data, vals=vals)
    assert got.tolist() == [[3, 0, 2, 7, none, none, 4, none]]


def test_top8_then_find_names_each_place_once() -> None:
    data = values(TILE, 1).round()
    top = build("max8", dst=EIGHT, src=TILE).compute(src=data)
    found = build("nc_find_index8", dst=sbuf(U32, 128, 8), data=TILE, vals=EIGHT)
    index = found.compute(data=data, vals=top)
    np.testing.assert_array_equal(np.take_along_axis(data, index.astype(int), 1), top)
    assert all(len(set(row)) == 8 for row in index.tolist())


def test_match_replace8_serves_duplicates_from_the_last_column() -> None:
    """The documented example."""
    data = np.array([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8]], np.float32)
    vals = np.array([[3, 8, 8, 8, 8, 8, 8, 8]], np.float32)
    tile = sbuf(F32, 1, 11)
    template = build("nc_match_replace8", dst=tile, data=tile, vals=sbuf(F32, 1, 8), imm=-1.0,
                     dst_idx=sbuf(U32, 1, 8))  # fmt: skip
    got = template.compute(data=data, vals=vals)
    assert got["dst_idx"].tolist() == [[2, 10, 9, 8, 7, 6, 5, 4]]
    assert got["dst"].tolist() == [[1, 2, -1, 4, -1, -1, -1, -1, -1, -1, -1]]


def test_match_replace8_leaves_absent_values_and_later_copies() -> None:
    data = np.array([[4, 4, 1, 0, 0, 0, 0, 0]], BF16)
    vals = np.array([[4, 7, 7, 7, 7, 7, 7, 7]], np.float32)
    tile = sbuf(BF16, 1, 8)
    template = build("nc_match_replace8", dst=tile, data=tile, vals=sbuf(F32, 1, 8), imm=9.0)
    got = template.compute(data=data, vals=vals)
    assert got["dst"].astype(np.float32).tolist() == [[9, 4, 1, 0, 0, 0, 0, 0]]


def test_repeated_max8_and_replace_sort_a_row() -> None:
    """How a top-k is written: eight values per pass."""
    data = values(TILE, 3)
    left, passes = data.copy(), []
    for _ in range(5):
        top = build("max8", dst=EIGHT, src=TILE).compute(src=left)
        template = build("nc_match_replace8", dst=TILE, data=TILE, vals=EIGHT, imm=FLOAT32_MIN)
        left = template.compute(data=left, vals=top)["dst"]
        passes.append(top)
    np.testing.assert_array_equal(np.concatenate(passes, axis=1), np.sort(data, axis=1)[:, ::-1])


# -- shuffle ------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([*range(32), 255]), min_size=32, max_size=32))
def test_shuffle_moves_rows_within_each_quadrant(mask: list[int]) -> None:
    tile = sbuf(BF16, 64, 3)
    dst, src = values(tile, 1), values(tile, 2)
    got = build("nc_stream_shuffle", dst=tile, src=tile, shuffle_mask=mask).compute(
        dst=dst, src=src
    )
    for row in range(64):
        entry = mask[row % 32]
        expected = dst[row] if entry == 255 else src[row - row % 32 + entry]
        assert got[row].tobytes() == expected.tobytes()


@pytest.mark.parametrize(("mask", "text"), [
    ([0] * 31, "shuffle_mask has 31 entries; trn2 needs 32 (sbuf.start_partition_quantum)"),
    ([32] + [0] * 31, "shuffle_mask holds 32; allowed: 0 to 31, or 255"),
    ([9] + [0] * 31, "shuffle_mask reads partition 9; src has 8"),
])  # fmt: skip
def test_shuffle_rules(mask: list[int], text: str) -> None:
    dst, src = sbuf(F32, 32, 4), sbuf(F32, 8, 4)
    template = build("nc_stream_shuffle", dst=dst, src=src, shuffle_mask=mask)
    assert template.broken_rules(TRN2)[0] == text


def test_shuffle_broadcasts_one_row() -> None:
    dst, src = sbuf(F32, 32, 4), sbuf(F32, 1, 4)
    template = build("nc_stream_shuffle", dst=dst, src=src, shuffle_mask=[0] * 32)
    assert template.broken_rules(TRN2) == []
    row = values(src, 1)
    got = template.compute(dst=values(dst), src=row)
    np.testing.assert_array_equal(got, np.broadcast_to(row, (32, 4)))


# -- masked selection ---------------------------------------------------------------------------


def test_range_select_is_the_published_numpy_equivalent() -> None:
    data, low, high = values(TILE, 1), values(COLUMN, 2) * 10, values(COLUMN, 3) * 10 + 20
    template = build("range_select", dst=TILE, on_true_tile=TILE, comp_op0="greater_equal",
                     comp_op1="less", bound0=COLUMN, bound1=COLUMN, reduce_res=COLUMN,
                     range_start=5)  # fmt: skip
    assert template.broken_rules(TRN2) == []
    got = template.compute({}, on_true_tile=data, bound0=low, bound1=high)
    index = np.arange(40) + 5
    expected = np.where((index >= low) & (index < high), data, np.float32(FLOAT32_MIN))
    np.testing.assert_array_equal(got["dst"], expected)
    np.testing.assert_array_equal(got["reduce_res"], expected.max(axis=1))


@pytest.mark.parametrize(("fields", "text"), [
    ({"on_false_value": 0.0}, f"on_false_value is 0.0; the hardware fills in {FLOAT32_MIN}"),
    ({"comp_op0": "not_equal"},
     "comp_op0 is not_equal; allowed: equal, less, less_equal, greater, greater_equal"),
    ({"reduce_op": "add"}, "reduce_op is add; allowed: maximum"),
    ({"range_start": 2**24},
     "indices run from 16777216 to 16777255; float32 is exact to 16777216"),
    ({"bound0": TILE}, "bound0 has 40 free elements; one per partition is needed"),
])  # fmt: skip
def test_range_select_rules(fields: dict[str, Any], text: str) -> None:
    given = {"dst": TILE, "on_true_tile": TILE, "comp_op0": "less", "comp_op1": "less",
             "bound0": COLUMN, "bound1": COLUMN}  # fmt: skip
    assert build("range_select", **given | fields).broken_rules(TRN2) == [text]


def test_range_select_takes_the_float32_minimum_as_people_write_it() -> None:
    template = build("range_select", dst=TILE, on_true_tile=TILE, comp_op0="less",
                     comp_op1="less", bound0=COLUMN, bound1=COLUMN,
                     on_false_value=-3.4028235e38)  # fmt: skip
    assert template.broken_rules(TRN2) == []


def test_select_reduce_chooses_and_keeps_a_running_maximum() -> None:
    data, other = values(TILE, 1), values(COLUMN, 2)
    chosen = values(MASK, 3, high=2)
    state: dict[str, Any] = {}

    def run(command: reduce_cmd, reverse: bool) -> dict[str, np.ndarray]:
        template = build("select_reduce", dst=TILE, predicate=MASK, on_true=TILE, on_false=COLUMN,
                         reduce_res=COLUMN, reduce_cmd=command, reverse_pred=reverse)  # fmt: skip
        assert template.broken_rules(TRN2) == []
        return template.compute(state, predicate=chosen, on_true=data, on_false=other)

    first = run(reduce_cmd.reset_reduce, False)
    np.testing.assert_array_equal(first["dst"], np.where(chosen != 0, data, other))
    np.testing.assert_array_equal(first["reduce_res"], first["dst"].max(axis=1))
    second = run(reduce_cmd.reduce, True)
    np.testing.assert_array_equal(second["dst"], np.where(chosen == 0, data, other))
    both = np.maximum(first["dst"].max(axis=1), second["dst"].max(axis=1))
    np.testing.assert_array_equal(second["reduce_res"], both)


def test_select_reduce_rules() -> None:
    bank, mask = psum(F32, 128, 40), psum(U8, 128, 40)
    texts = build("select_reduce", dst=TILE, predicate=mask, on_true=bank, on_false=0.0,
                  reduce_cmd=reduce_cmd.load_reduce).broken_rules(TRN2)  # fmt: skip
    assert texts == [
        "on_true and predicate cannot both be in PSUM",
        "reduce_cmd is load_reduce; allowed: idle, reset_reduce, reduce",
    ]


def test_attributes_of_the_wrong_type_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r"shuffle_mask is a list of partitions; got 3"):
        build("nc_stream_shuffle", dst=TILE, src=TILE, shuffle_mask=3)
    with pytest.raises(UsageError, match=r"axis is a dim or several; got 'x'"):
        build("tensor_reduce", dst=COLUMN, op="add", data=TILE, axis="x")
    with pytest.raises(UsageError, match="not an ALU operator"):
        build("tensor_tensor", dst=TILE, data1=TILE, data2=TILE, op="plus")
