"""Values, rules and timing of DMA against plain NumPy and the published traces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.cases import build, sbuf, values
from tests.isa.cases_tensor_dma import BF16, F32, I32, U32, hbm

from tenzing import facts
from tenzing.errors import OutOfBounds
from tenzing.isa import numerics
from tenzing.isa.dma import transfer
from tenzing.isa.enums import dge_mode, oob_mode
from tenzing.isa.instruction import Cost, Engine
from tenzing.isa.operand import Layout, Space

TRN1, TRN2, TRN3 = (facts.chip(n) for n in ("trn1", "trn2", "trn3"))


def copy(dst: Layout, src: Layout, **rest: Any) -> Any:
    return build("dma_copy", dst=dst, src=src, **rest)


def ns(time_ps: int) -> float:
    return round(time_ps / 1000, 1)


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(numerics.DTYPES))
def test_equal_dtypes_copy_bits(name: str) -> None:
    dtype = numerics.dtype(name)
    layout = hbm(dtype, 16, 33)
    bits = np.random.default_rng(0).integers(0, 256, layout.nbytes, np.uint8)
    array = bits.view(dtype).reshape(layout.shape)
    result = copy(sbuf(dtype, 16, 33), layout).compute(None, array, None, None)
    assert result.dtype == dtype
    assert result.tobytes() == array.tobytes()


def test_other_dtypes_pass_through_float32() -> None:
    template = copy(sbuf(BF16, 4, 4), hbm(F32, 4, 4))
    array = values(template.src)
    result = template.compute(None, array, None, None)
    assert result.dtype == np.float32
    assert np.array_equal(result, array)


@given(st.integers(1, 40), st.integers(1, 128), st.integers(0, 2**31))
def test_gather_takes_rows(rows: int, count: int, seed: int) -> None:
    table, index = hbm(F32, rows, 3, 2), sbuf(U32, count, 1)
    template = copy(sbuf(F32, count, 6), table, src_index=index)
    assert template.broken_rules(TRN2) == []
    array = values(table, seed)
    chosen = np.random.default_rng(seed).integers(0, rows, (count, 1)).astype(np.uint32)
    result = template.compute(None, array, chosen, None)
    assert np.array_equal(result, array[chosen[:, 0]])


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_scatter_writes_rows_and_leaves_the_others(rows: int, seed: int) -> None:
    table, index = hbm(BF16, rows, 4), sbuf(I32, max(rows // 2, 1), 1)
    source = sbuf(F32, index.shape[0], 4)
    template = copy(table, source, dst_index=index)
    assert template.broken_rules(TRN2) == []
    held, given_values = values(table, seed), values(source, seed + 1)
    before = held.copy()
    chosen = np.random.default_rng(seed).permutation(rows)[: index.shape[0], None].astype(np.int32)
    assert template.compute(held, given_values, None, chosen) is None
    want = before.astype(np.float32)
    want[chosen[:, 0]] = given_values.astype(BF16).astype(np.float32)
    assert np.array_equal(held.astype(np.float32), want)


@pytest.mark.parametrize(("index", "place"), [([0, 5, 9], 1), ([-1, 0, 1], 0)])
def test_an_index_outside_the_table_is_an_error_with_its_place(
    index: list[int], place: int
) -> None:
    tile = np.array(index, np.int32)[:, None]
    template = copy(sbuf(F32, 3, 2), hbm(F32, 5, 2), src_index=sbuf(I32, 3, 1))
    with pytest.raises(OutOfBounds) as caught:
        template.compute(None, np.zeros((5, 2), np.float32), tile, None)
    assert caught.value.finding.message == (
        f"nki.isa.dma_copy: index {index[place]} at position {place} leaves the table; "
        "allowed: rows 0 to 4"
    )
    assert "oob_mode.skip" in caught.value.finding.next_step


def test_skip_leaves_what_was_there() -> None:
    tile = np.array([[1], [7], [0]], np.int32)
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    held = np.full((3, 2), -1, np.float32)
    gather = copy(sbuf(F32, 3, 2), hbm(F32, 5, 2), src_index=sbuf(I32, 3, 1),
                  oob_mode=oob_mode.skip)  # fmt: skip
    assert gather.accumulate, "the old contents of dst count as read"
    assert gather.compute(held, table, tile, None).tolist() == [[2, 3], [-1, -1], [0, 1]]
    scatter = copy(hbm(F32, 5, 2), sbuf(F32, 3, 2), dst_index=sbuf(I32, 3, 1),
                   oob_mode=oob_mode.skip)  # fmt: skip
    scatter.compute(table, np.full((3, 2), 9, np.float32), None, tile)
    assert table.tolist() == [[9, 9], [9, 9], [4, 5], [6, 7], [8, 9]]


def test_a_plain_copy_does_not_read_its_destination() -> None:
    assert not copy(sbuf(F32, 1, 1), hbm(F32, 1, 1)).accumulate


@pytest.mark.parametrize(
    ("shape", "axes"), [((24, 96), (1, 0)), ((4, 5, 32), (2, 1, 0)), ((6, 2, 3, 16), (3, 1, 2, 0))]
)
def test_transpose_permutes_bits(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    turned = tuple(shape[a] for a in axes)
    for given_axes in (None, list(axes)):
        template = build("dma_transpose", dst=sbuf(BF16, *turned), src=hbm(BF16, *shape),
                         axes=given_axes)  # fmt: skip
        assert template.broken_rules(TRN2) == []
        array = values(template.src)
        result = template.compute(None, array, None)
        assert result.tobytes() == array.transpose(axes).tobytes()


def test_indirect_transpose_reads_the_index_tile_down_its_columns() -> None:
    table, index = hbm(BF16, 300, 64), sbuf(U32, 128, 2)
    template = build("dma_transpose", dst=sbuf(BF16, 64, 160), src=table, src_index=index)
    assert template.broken_rules(TRN2) == []
    array = values(table)
    tile = np.random.default_rng(0).integers(0, 300, (128, 2)).astype(np.uint32)
    want = array[tile.T.flatten()[:160]].T
    assert template.compute(None, array, tile).tobytes() == want.tobytes()


def test_indirect_transpose_skips_to_what_was_there() -> None:
    index = sbuf(U32, 16, 1)
    template = build("dma_transpose", dst=sbuf(BF16, 4, 16), src=hbm(BF16, 8, 4), src_index=index,
                     oob_mode=oob_mode.skip)  # fmt: skip
    array, held = values(template.src), values(template.dst, 1)
    tile = np.arange(16, dtype=np.uint32)[:, None]
    result = template.compute(held, array, tile)
    assert np.array_equal(result[:, :8], array.T)
    assert np.array_equal(result[:, 8:], held[:, 8:])


# --- rules --------------------------------------------------------------------------------------


def test_copy_needs_as_many_elements_on_both_sides() -> None:
    assert copy(sbuf(F32, 8, 6), hbm(F32, 4, 12)).broken_rules(TRN2) == []
    (text,) = copy(sbuf(F32, 8, 6), hbm(F32, 47)).broken_rules(TRN2)
    assert text == "src has 47 elements, dst has 48"
    (text,) = copy(sbuf(F32, 8, 6), hbm(F32, 9, 6), src_index=sbuf(U32, 7, 1)).broken_rules(TRN2)
    assert text == "src has 42 elements, dst has 48"


def test_hardware_generation_is_for_v3_without_conversion_on_two_queues() -> None:
    pair = {"dst": sbuf(BF16, 8, 6), "src": hbm(F32, 8, 6), "dge_mode": dge_mode.hwdge}
    assert copy(**pair, engine=Engine.gpsimd).broken_rules(TRN1) == [
        "trn1 has no hardware descriptor generation (dma.hwdge)",
        "src has dtype float32, dst has bfloat16; hwdge does not convert",
        "engine gpsimd cannot trigger hwdge; allowed: sync, scalar",
    ]
    for queue in (Engine.sync, Engine.scalar):
        assert copy(**pair | {"src": hbm(BF16, 8, 6)}, engine=queue).broken_rules(TRN2) == []


def test_software_generation_runs_on_gpsimd() -> None:
    pair = {"dst": sbuf(F32, 8, 6), "src": hbm(F32, 8, 6), "dge_mode": dge_mode.swdge}
    assert copy(**pair).engine_on(TRN2) is Engine.gpsimd
    assert copy(**pair, engine=Engine.sync).broken_rules(TRN2) == [
        "engine sync cannot run swdge; allowed: gpsimd"
    ]


def test_indirection_is_one_sided_from_hbm_and_in_software() -> None:
    index = sbuf(U32, 8, 1)
    both = copy(hbm(F32, 9, 6), hbm(F32, 9, 6), src_index=index, dst_index=index)
    assert both.broken_rules(TRN2) == ["src and dst are both indirect; only one side can be"]
    local = copy(sbuf(F32, 8, 6), sbuf(F32, 9, 6), src_index=index, dge_mode=dge_mode.none)
    assert local.broken_rules(TRN2) == [
        "src is indirect; dge_mode none cannot, use swdge or unknown",
        "src is indirect and in SBUF; an indexed table is in HBM",
    ]


def test_priority_has_four_classes_on_v4() -> None:
    pair = {"dst": sbuf(F32, 8, 6), "src": hbm(F32, 8, 6)}
    assert copy(**pair, priority=3).broken_rules(TRN3) == []
    assert copy(**pair, priority=4).broken_rules(TRN3) == [
        "priority is 4; trn3 has 4 classes (dma.priority_classes)"
    ]
    assert copy(**pair, priority=0).broken_rules(TRN2) == [
        "priority is 0; trn2 has 0 classes (dma.priority_classes)"
    ]


@pytest.mark.parametrize(
    ("dst", "src", "rest", "texts"),
    [
        (sbuf(BF16, 4), hbm(BF16, 4), {}, ["src has 1 dims; allowed: 2, 3 or 4"]),
        (sbuf(BF16, 4, 8), hbm(BF16, 8, 4), {"axes": (0, 1)},
         ["axes are (0, 1); for 2 dims only (1, 0) is supported"]),
        (sbuf(F32, 4, 8), hbm(BF16, 8, 4), {}, ["dst has dtype float32, src has bfloat16"]),
        (sbuf(BF16, 8, 4), hbm(BF16, 8, 4), {},
         ["dst has shape (8, 4); the transpose of src is (4, 8)"]),
        (sbuf(BF16, 4, 8), hbm(BF16, 8, 4), {"dge_mode": dge_mode.hwdge},
         ["src.shape[0] is 8; a 2-dim hwdge transpose needs 16 (dma.transpose_rows)"]),
        (sbuf(BF16, 4, 3, 3), hbm(BF16, 3, 3, 4), {"dge_mode": dge_mode.hwdge},
         ["src.shape[0] is 3 and src.shape[-2] is 3; hwdge needs a divisor of 16 and a product "
          "that is a multiple of it (dma.transpose_rows)"]),
        (sbuf(F32, 4, 16), hbm(F32, 16, 4), {"dge_mode": dge_mode.hwdge},
         ["src has elements of 4 bytes; the generated transpose needs 2"]),
        (sbuf(BF16, 4, 8), hbm(BF16, 8, 4), {"dge_mode": dge_mode.swdge},
         ["dge_mode swdge transposes indirect views only; use hwdge, none or unknown"]),
        (sbuf(BF16, 4, 24), hbm(BF16, 99, 4), {"src_index": sbuf(U32, 16, 1)},
         ["24 rows are gathered with 16 indices; a multiple of 16, at most the indices given"]),
        (sbuf(BF16, 4, 64), hbm(BF16, 99, 4), {"src_index": sbuf(U32, 32, 2)},
         ["an index tile of 2 columns needs 128 partitions"]),
    ],
)  # fmt: skip
def test_transpose_names_what_is_wrong(
    dst: Layout, src: Layout, rest: dict[str, Any], texts: list[str]
) -> None:
    assert build("dma_transpose", dst=dst, src=src, **rest).broken_rules(TRN2) == texts


def test_indirect_transpose_needs_v3() -> None:
    template = build("dma_transpose", dst=sbuf(BF16, 4, 16), src=hbm(BF16, 99, 4),
                     src_index=sbuf(U32, 16, 1))  # fmt: skip
    assert template.broken_rules(TRN2) == []
    assert template.broken_rules(TRN1) == ["trn1 has no indirect transpose (dma.gather_transpose)"]


# --- time ---------------------------------------------------------------------------------------


def load_cost(shape: tuple[int, ...], chip: facts.Chip = TRN2, **rest: Any) -> Cost:
    return copy(sbuf(F32, *shape), hbm(F32, *shape), **rest).cost(chip)


def test_hardware_generation_costs_what_the_vector_add_loops_show() -> None:
    assert ns(load_cost((1, 1)).issue_ps) == pytest.approx(486, abs=1)
    assert ns(load_cost((128, 1)).issue_ps) == pytest.approx(612, abs=1)


def test_static_rings_only_cost_a_trigger() -> None:
    cost = load_cost((128, 512), dge_mode=dge_mode.none)
    assert ns(cost.issue_ps) == TRN2.number("dma.trigger_ns")
    assert load_cost((128, 512), TRN1).issue_ps == pytest.approx(
        TRN1.number("dma.trigger_ns") * 1000
    ), "v2 has no hardware generation"


def test_a_conversion_or_another_queue_falls_back_to_static_rings() -> None:
    trigger = TRN2.number("dma.trigger_ns")
    converted = copy(sbuf(BF16, 128, 8), hbm(F32, 128, 8))
    assert converted.broken_rules(TRN2) == []
    assert ns(converted.cost(TRN2).issue_ps) == trigger
    assert ns(load_cost((128, 8), engine=Engine.vector).issue_ps) == trigger


@pytest.mark.parametrize(
    ("partitions", "engines"), [(1, 1), (4, 1), (8, 1), (9, 2), (64, 8), (100, 13), (128, 16)]
)
def test_eight_partitions_share_an_engine(partitions: int, engines: int) -> None:
    work = load_cost((partitions, 1000)).transfer
    assert work is not None
    assert work.engines == engines
    assert work.descriptors == partitions


def test_a_descriptor_is_a_fixed_part_and_its_bytes() -> None:
    """Decoded from a trace: 512 bytes 21.2 ns, 4000 bytes 151.8 ns on one engine."""
    for size, expected in ((512, 21.2), (4000, 151.8)):
        work = load_cost((8, size // 4)).transfer
        assert work is not None
        assert ns(work.service_ps) / 8 == pytest.approx(expected, rel=0.08)


def test_reads_and_writes_of_hbm_have_their_own_start() -> None:
    load, store = (copy(a, b).cost(TRN2).transfer
                   for a, b in ((sbuf(F32, 8, 8), hbm(F32, 8, 8)), (hbm(F32, 8, 8), sbuf(F32, 8, 8))))  # fmt: skip  # noqa: E501
    assert load is not None
    assert store is not None
    assert ns(load.fixed_ps) == TRN2.number("dma.load_fixed_ns")
    assert ns(store.fixed_ps) == TRN2.number("dma.store_fixed_ns")
    assert load.hbm_bytes == store.hbm_bytes == load.payload_bytes == 256
    local = copy(sbuf(F32, 8, 8), sbuf(F32, 8, 8)).cost(TRN2).transfer
    assert local is not None
    assert local.hbm_bytes == 0
    assert local.fixed_ps == store.fixed_ps


def test_a_copy_inside_hbm_uses_every_engine_and_counts_both_ways() -> None:
    work = copy(hbm(F32, 1 << 20), hbm(F32, 1 << 20)).cost(TRN2).transfer
    assert work is not None
    assert work.engines == TRN2.integer("dma.engines")
    assert work.hbm_bytes == 2 * work.payload_bytes == 8 << 20
    assert work.descriptors == (4 << 20) // 65536


def test_scattered_elements_need_a_descriptor_each() -> None:
    column = Layout.of(Space.HBM, F32, (128, 10), (4, 512), 5120)
    work = transfer(TRN2, sbuf(F32, 128, 10), column)
    assert work.descriptors == 1280
    dense = transfer(TRN2, sbuf(F32, 128, 10), hbm(F32, 128, 10))
    assert work.service_ps > 3 * dense.service_ps
    assert work.payload_bytes == dense.payload_bytes


def test_a_gather_moves_the_chosen_rows_only() -> None:
    table, index = hbm(F32, 100_000, 256), sbuf(U32, 64, 1)
    cost = copy(sbuf(F32, 64, 256), table, src_index=index).cost(TRN2)
    assert cost.transfer is not None
    assert cost.transfer.payload_bytes == cost.transfer.hbm_bytes == 64 * 1024
    assert cost.transfer.descriptors == 64
    assert ns(cost.issue_ps) == TRN2.number("dma.swdge_fixed_ns")
    scatter = copy(table, sbuf(F32, 64, 256), dst_index=index).cost(TRN2)
    assert scatter.transfer is not None
    assert scatter.transfer.payload_bytes == 64 * 1024
    assert scatter.transfer.service_ps == cost.transfer.service_ps


def test_transposes_reach_their_published_share_of_the_rate() -> None:
    shape = (2048, 128)
    plain = copy(sbuf(BF16, 128, 2048), hbm(BF16, *shape)).cost(TRN2).transfer
    turned = build("dma_transpose", dst=sbuf(BF16, 128, 2048), src=hbm(BF16, *shape))
    work = turned.cost(TRN2).transfer
    assert plain is not None
    assert work is not None
    assert work.payload_bytes == plain.payload_bytes
    assert work.service_ps == pytest.approx(plain.service_ps / 0.9, rel=0.01)


def test_visible_after_trigger_start_and_data() -> None:
    cost = load_cost((128, 512))
    work = cost.transfer
    assert work is not None
    assert cost.latency_ps == cost.issue_ps + work.fixed_ps + work.service_ps
