"""Mixture-of-experts kernels equal the meaning of their operations, on every chip."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing import facts
from tenzing.compiler.ops import ExpertBlocks, ExpertLinear, ExpertOrder, TakeRows, block_count
from tenzing.kernels.experts import expert_blocks, expert_order, expert_rows, take_rows
from tenzing.machine import Options, analyse
from tenzing.nki import Spec, session
from tenzing.units import PS_PER_NS

from .running import normal, run

CHIPS = facts.chips()


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(1, 40), experts=st.integers(1, 9), block=st.sampled_from([16, 32, 128]),
    repeat=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99),
)  # fmt: skip
def test_order_equals_its_meaning(
    rows: int, experts: int, block: int, repeat: int, seed: int
) -> None:
    index = np.random.default_rng(seed).integers(0, experts, rows * repeat).astype(np.int32)
    blocks = block_count(len(index), experts, block)
    got = run(expert_order, index, experts, block, repeat, blocks)
    for mine, meant in zip(got, ExpertOrder(experts, block, repeat).reference(index), strict=True):
        np.testing.assert_array_equal(mine, meant)


@pytest.mark.parametrize("chip", CHIPS)
def test_order_over_more_experts_and_rows_than_one_tile_holds(chip: str) -> None:
    index = np.random.default_rng(0).integers(0, 130, 2100).astype(np.int32)
    got = run(expert_order, index, 130, 16, 1, block_count(2100, 130, 16), target=chip)
    for mine, meant in zip(got, ExpertOrder(130, 16).reference(index), strict=True):
        np.testing.assert_array_equal(mine, meant)


def test_every_row_has_its_own_slot_in_a_block_of_its_expert() -> None:
    index = np.random.default_rng(1).integers(0, 7, 200)
    sources, row_slot, owner = ExpertOrder(7, 32).reference(index)
    assert len(set(row_slot.tolist())) == 200
    np.testing.assert_array_equal(sources[row_slot], np.arange(200))
    np.testing.assert_array_equal(owner[row_slot // 32], index)
    assert (sources == 200).sum() == len(sources) - 200


@pytest.mark.parametrize("chip", CHIPS)
def test_blocks_and_rows_multiply_with_the_chosen_matrix(chip: str) -> None:
    x, w = normal(64, 200), normal(5, 200, 70, seed=1)
    owner = np.array([4, 0], np.int32)
    got = run(expert_blocks, x, w, owner, target=chip)
    np.testing.assert_allclose(got, ExpertBlocks().reference(x, w, owner)[0], atol=1e-4)
    index = np.array([3, 3, 0], np.int32)
    got = run(expert_rows, x[:3], w, index, target=chip)
    np.testing.assert_allclose(got, ExpertLinear().reference(x[:3], w, index)[0], atol=1e-4)


@pytest.mark.parametrize("chip", CHIPS)
def test_more_columns_than_are_summed_at_a_time(chip: str) -> None:
    x, w = normal(6, 150), normal(3, 150, 2100, seed=1)
    index = np.array([2, 0], np.int32)
    got = run(expert_rows, x[:2], w, index, target=chip)
    np.testing.assert_allclose(got, ExpertLinear().reference(x[:2], w, index)[0], atol=1e-4)
    got = run(expert_blocks, x, w, index, target=chip)
    np.testing.assert_allclose(got, ExpertBlocks().reference(x, w, index)[0], atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 768, 2048), (2, 4096, 3584)])
def test_weights_of_single_rows_stream(shape: tuple[int, int, int]) -> None:
    """Rows take little longer than the DMA engines need for their matrices."""
    rows, depth, columns = shape
    bf16, chip = np.dtype(ml_dtypes.bfloat16), facts.chip("trn2")
    with session(chip.name, Options(values=False)):
        x, w = Spec((rows, depth), bf16), Spec((8, depth, columns), bf16)
        launch = expert_rows.launch(x, w, Spec((rows,), np.dtype(np.int32)))
    taken_ns = analyse(launch.programs[0]).total_ps / PS_PER_NS
    moved = rows * depth * columns * bf16.itemsize
    rate = chip.number("dma.engine_gb_s") * chip.integer("dma.engines")
    assert taken_ns < 1.25 * moved / rate


def test_rows_outside_the_table_are_zero() -> None:
    table = normal(9, 33)
    index = np.array([8, 9, 0, 200], np.int32)
    np.testing.assert_array_equal(
        run(take_rows, table, index), TakeRows().reference(table, index)[0]
    )
