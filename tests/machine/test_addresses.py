"""What does not fit, what starts in the wrong place, and tiles that share bytes on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.machine.programs import record

from tenzing import facts, nki
from tenzing.errors import Finding, KernelError
from tenzing.isa.operand import Space
from tenzing.machine import analyse
from tenzing.machine.checks import start_partition_ok
from tenzing.machine.place import place
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

TRN2 = facts.chip("trn2")
SBUF = TRN2.integer("sbuf.bytes_per_partition")
PSUM = TRN2.integer("psum.bytes_per_partition")
BANK = TRN2.integer("psum.bank_bytes")


def findings(body: Any, *arrays: Any, target: str = "trn2") -> list[Finding]:
    return analyse(record(body, *arrays, target=target)).findings


def filled(columns: int, buffer: Any = nl.sbuf, rows: int = 32, **rest: Any) -> Any:
    tile = nl.ndarray((rows, columns), nl.float32, buffer=buffer, **rest)
    nisa.memset(dst=tile, value=0.0)
    return tile


def use(*tiles: Any) -> None:
    for tile in tiles:
        nisa.tensor_copy(dst=tile[:, 0:1], src=tile[:, 1:2])


# -- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize("space", [Space.SBUF, Space.PSUM])
@pytest.mark.parametrize("target", facts.chips())
def test_a_full_memory_fits_and_one_tile_more_does_not(space: Space, target: str) -> None:
    size = facts.chip(target).integer(f"{space.value}.bytes_per_partition")
    columns = BANK // 4

    def body(count: int) -> None:
        use(*[filled(columns, space) for _ in range(count)])

    assert findings(body, size // BANK, target=target) == []
    (found,) = findings(body, size // BANK + 1, target=target)
    assert found.rule == "capacity"
    assert f"{space.name} overflow" in found.message
    assert f"{space.value}.bytes_per_partition" in found.message
    assert found.loc is not None
    assert found.loc.function == "filled"
    ((label, _),) = found.related  # equal tiles of a line are one entry
    assert label.startswith(f"live: {size // BANK + 1} of 32x512")
    assert found.next_step


def test_tiles_whose_lives_do_not_meet_share_the_memory() -> None:
    def body() -> None:
        for _ in range(10):
            use(filled(SBUF // 4 * 3 // 4))

    assert findings(body) == []


def test_an_overflow_names_what_is_live() -> None:
    def body() -> None:
        big = filled(SBUF // 4 - 100)
        small = filled(200)
        use(big, small)

    (found,) = findings(body)
    assert "2 tensors" in found.message
    assert "live: 32x57244 float32, 223.6 KiB per partition" in found.related[0][0]


def test_free_bytes_in_pieces_are_told_apart_from_too_many_bytes() -> None:
    """A tile that would fit into the sum of the holes, but into none of them."""

    def body() -> None:
        fixed = [filled(16, address=(0, at)) for at in range(SBUF // 8, SBUF, SBUF // 8)]
        use(filled(SBUF // 4 // 2), *fixed)

    (found,) = findings(body)
    assert found.rule == "capacity"
    assert "largest free piece" in found.message


def test_fixed_tiles_fill_only_their_own_bytes() -> None:
    def body() -> None:
        high = filled(16, address=(0, SBUF - 64))
        low = filled(SBUF // 4 // 2)
        use(high, low)

    program = record(body)
    found = place(program)
    assert found.findings == []
    assert found.sbuf_peak_bytes == 64 + SBUF // 2


def test_fixed_tiles_at_one_place_count_once() -> None:
    def body() -> None:
        use(*[filled(16, address=(0, 1024 + 32 * (k % 2))) for k in range(9)])

    assert place(record(body)).sbuf_peak_bytes == 96


def test_hbm_that_is_too_small() -> None:
    wide = TRN2.integer("hbm.core_bytes") // 4

    def body(count: int) -> None:
        shape = (1, wide // 2)
        tensors = [nl.ndarray(shape, nl.float32, buffer=nl.hbm) for _ in range(count)]
        for tensor in tensors * 2:  # all are alive at once
            nisa.dma_copy(dst=tensor[:, 0:2], src=filled(2, rows=1))

    assert findings(body, 2) == []
    (found,) = findings(body, 3)
    assert found.rule == "capacity"
    assert "36.0 GiB" in found.message
    assert "hbm.core_bytes" in found.message


def test_hbm_tensors_that_are_never_alive_together_share_memory() -> None:
    half = TRN2.integer("hbm.core_bytes") // 8

    def body() -> None:
        for _ in range(5):
            tensor = nl.ndarray((1, half), nl.float32, buffer=nl.hbm)
            nisa.dma_copy(dst=tensor[:, 0:2], src=filled(2, rows=1))

    assert findings(body) == []
    assert place(record(body)).hbm_bytes == half * 4


def test_a_fixed_tile_past_the_end_is_refused_at_once() -> None:
    def body() -> None:
        filled(16, address=(0, SBUF - 60))

    with pytest.raises(KernelError) as told:
        record(body)
    assert f"ends at byte {SBUF + 4}" in str(told.value)
    assert told.value.loc is not None


@pytest.mark.parametrize(("start", "rows"), [(96, 64), (128, 1), (-32, 32)])
def test_a_fixed_tile_outside_the_partitions_is_refused_at_once(start: int, rows: int) -> None:
    def body() -> None:
        filled(16, rows=rows, address=(start, 0))

    with pytest.raises(KernelError) as told:
        record(body)
    assert "partition" in str(told.value)


def test_a_fixed_tile_before_the_start_is_refused_at_once() -> None:
    def body() -> None:
        filled(16, address=(0, -4))

    with pytest.raises(KernelError):
        record(body)


# -- where an operand may start ------------------------------------------------------------------


def test_the_start_rule_is_the_documented_table() -> None:
    allowed = {
        count: [p for p in range(128) if start_partition_ok(p, count, 32)]
        for count in (1, 32, 33, 64, 65, 128)
    }
    quarters, halves = [0, 32, 64, 96], [0, 64]
    assert allowed == {1: quarters, 32: quarters, 33: halves, 64: halves, 65: [0], 128: [0]}


@pytest.mark.parametrize(("start", "count"), [(16, 8), (32, 64), (64, 65 - 1), (1, 127)])
def test_a_bad_start_partition(start: int, count: int) -> None:
    def body() -> None:
        tile = filled(8, rows=128)
        part = tile[start : start + count]
        nisa.tensor_copy(dst=part, src=part, engine=nisa.vector_engine)

    told = [f for f in findings(body) if f.rule == "start-partition"]
    if start_partition_ok(start, count, 32):
        assert told == []
        return
    assert len(told) == 1  # once per call, though both operands break it
    assert f"covers {count} partitions from {start}" in told[0].message
    assert told[0].loc is not None


def test_transfers_may_start_anywhere() -> None:
    def body(x: Any) -> None:
        tile = filled(8, rows=128)
        nisa.dma_copy(dst=tile[5:12], src=x)

    assert findings(body, np.ones((7, 8), np.float32)) == []


# -- PSUM banks ----------------------------------------------------------------------------------


def product(columns: int, address: int | None, first: int = 0) -> Any:
    def body() -> None:
        left, right = filled(32), filled(512)
        place_at = None if address is None else (0, address)
        bank = nl.ndarray((32, 1024), nl.float32, buffer=nl.psum, address=place_at)
        nisa.nc_matmul(dst=bank[:, first : first + columns], stationary=left,
                       moving=right[:, 0:columns])  # fmt: skip

    return body


@pytest.mark.parametrize(
    ("columns", "address", "first", "ok"),
    [
        (512, 0, 0, True),
        (512, BANK, 0, True),
        (512, 4, 0, False),
        (512, 0, 1, False),
        (512, None, 512, True),
        (512, None, 256, False),
        (256, None, 256, True),
        (1, BANK - 4, 0, True),
        (2, BANK - 4, 0, False),
    ],
)
def test_a_product_stays_inside_one_bank(
    columns: int, address: int | None, first: int, ok: bool
) -> None:
    told = [f for f in findings(product(columns, address, first)) if f.rule == "psum-bank"]
    assert len(told) == (0 if ok else 1)
    if told:
        assert "nc_matmul: dst spans bytes" in told[0].message
        assert "psum.bank_bytes" in told[0].message


# -- tiles that share bytes on purpose -----------------------------------------------------------


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum])
def test_tiles_at_one_address_are_the_same_bytes(buffer: Any) -> None:
    def body(out: Any) -> None:
        first = nl.ndarray((32, 16), nl.float32, buffer=buffer, address=(32, 256))
        second = nl.ndarray((32, 32), nl.uint16, buffer=buffer, address=(32, 256))
        third = nl.ndarray((32, 8), nl.float32, buffer=buffer, address=(32, 256 + 32))
        nisa.memset(dst=first, value=1.0)
        nisa.memset(dst=third, value=2.0)
        staged = nl.ndarray((32, 32), nl.uint16)
        nisa.tensor_copy(dst=staged, src=second)
        nisa.dma_copy(dst=out, src=staged)

    out = np.zeros((32, 32), np.uint16)
    nki.jit(body)(out)
    expected = np.concatenate([np.full(8, 1, np.float32), np.full(8, 2, np.float32)])
    np.testing.assert_array_equal(out, np.tile(expected.view(np.uint16), (32, 1)))


def test_tiles_at_other_partitions_or_bytes_do_not_meet() -> None:
    def body(out: Any) -> None:
        kept = nl.ndarray((32, 16), nl.float32, address=(32, 256))
        nisa.memset(dst=kept, value=1.0)
        for partition, byte in ((0, 256), (64, 256), (32, 256 + 64), (32, 256 - 64)):
            nisa.memset(dst=nl.ndarray((32, 16), nl.float32, address=(partition, byte)), value=9.0)
        nisa.dma_copy(dst=out, src=kept)

    out = np.zeros((32, 16), np.float32)
    nki.jit(body)(out)
    np.testing.assert_array_equal(out, 1)


def test_a_tile_written_through_another_is_waited_for() -> None:
    def body(x: Any, second: int) -> None:
        one = nl.ndarray((32, 16), nl.float32, address=(0, 0))
        two = nl.ndarray((32, 16), nl.float32, address=(0, second))
        nisa.dma_copy(dst=one, src=x)
        nisa.memset(dst=two, value=0.0)

    x = np.ones((32, 16), np.float32)
    apart, same = (analyse(record(body, x, at)) for at in (4096, 60))
    assert apart.start_ps[1] == 0
    assert same.start_ps[1] > same.done_ps[0]


def test_inputs_the_kernel_writes_to_come_back() -> None:
    def body(x: Any) -> None:
        nisa.dma_copy(dst=x[0:4], src=filled(8, rows=4))

    x = np.ones((8, 8), np.float32)
    nki.jit(body)(x)
    np.testing.assert_array_equal(x[:4], 0)
    np.testing.assert_array_equal(x[4:], 1)


def test_fresh_memory_reads_as_nan() -> None:
    def body(out: Any) -> None:
        nisa.dma_copy(dst=out, src=nl.ndarray((4, 8), nl.float32))

    out = np.zeros((4, 8), np.float32)
    nki.jit(body)(out)
    assert np.isnan(out).all()
