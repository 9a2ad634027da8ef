"""Reads of memory that nothing wrote: found when they are there, silent when they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from tests.machine.programs import PLACES, Byte, Step, record, recorded, steps, touched

from tenzing.errors import Finding
from tenzing.isa.program import Program
from tenzing.machine import analyse
from tenzing.machine.place import place
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl


def findings(body: Any, *arrays: Any, values: bool = False) -> list[Finding]:
    return analyse(record(body, *arrays, values=values)).findings


def tile(rows: int = 32, columns: int = 64, buffer: Any = nl.sbuf, **rest: Any) -> Any:
    return nl.ndarray((rows, columns), nl.float32, buffer=buffer, **rest)


def read(view: Any) -> None:
    nisa.tensor_copy(dst=nl.ndarray(view.shape, nl.float32), src=view)


def fill(view: Any) -> None:
    nisa.memset(dst=view, value=0.0)


def test_a_tile_nobody_wrote() -> None:
    def body() -> None:
        source = tile(name="forgotten")
        read(source)

    (found,) = findings(body)
    assert found.rule == "uninitialised"
    assert "tensor_copy reads unwritten SBUF" in found.message
    assert "forgotten" in found.message
    assert found.loc is not None
    assert found.loc.function == "read"
    ((label, made),) = found.related
    assert (label, made.function) == ("allocated", "tile")


@pytest.mark.parametrize("values", [True, False])
def test_the_same_with_and_without_values(values: bool) -> None:
    def body() -> None:
        read(tile())

    assert len(findings(body, values=values)) == 1


def partly(*parts: slice, reads: slice = slice(0, 64), step: int = 1) -> list[Finding]:
    def body() -> None:
        source = tile()
        for part in parts:
            fill(source[:, part])
        read(source[:, reads])

    return findings(body)


@pytest.mark.parametrize(
    ("parts", "reads"),
    [
        ([slice(0, 32)], slice(0, 64)),
        ([slice(0, 63)], slice(0, 64)),
        ([slice(1, 64)], slice(0, 64)),
        ([slice(0, 32), slice(16, 48)], slice(0, 64)),  # twice the same bytes are not more bytes
        ([slice(0, 48), slice(0, 48, 3), slice(0, 48, 2)], slice(0, 64)),
        ([slice(0, 64, 2)], slice(0, 64)),
        ([slice(0, 64, 2), slice(0, 64, 4)], slice(0, 64)),
        ([slice(0, 64, 2), slice(1, 32, 2)], slice(0, 64)),
        ([slice(0, 64, 2)], slice(1, 64, 2)),
        ([slice(0, 16), slice(32, 64)], slice(8, 40)),
    ],
)
def test_a_part_nobody_wrote(parts: list[slice], reads: slice) -> None:
    (found,) = partly(*parts, reads=reads)
    assert found.rule == "uninitialised"
    assert "unwritten" in found.message


@pytest.mark.parametrize(
    ("parts", "reads"),
    [
        ([slice(0, 64)], slice(0, 64)),
        ([slice(0, 32), slice(32, 64)], slice(0, 64)),
        ([slice(0, 48), slice(16, 64)], slice(0, 64)),
        ([slice(0, 64, 2), slice(1, 64, 2)], slice(0, 64)),
        ([slice(0, 64, 2), slice(1, 64, 2)], slice(3, 40, 5)),
        ([slice(0, 64, 2)], slice(0, 64, 4)),
        ([slice(0, 48), slice(16, 64)], slice(0, 64, 3)),
        ([slice(0, 20), slice(40, 60)], slice(45, 50)),
    ],
)
def test_a_part_that_several_wrote(parts: list[slice], reads: slice) -> None:
    assert partly(*parts, reads=reads) == []


def test_a_broadcast_of_a_tile_written_in_parts_is_written() -> None:
    def body() -> None:
        source = tile(32, 2)
        fill(source[:, 0:1])
        fill(source[:, 1:2])
        wide = source.expand_dim(1).broadcast(1, 8)
        nisa.tensor_copy(dst=nl.ndarray((32, 8, 2), nl.float32), src=wide)

    assert findings(body) == []


def test_overlapping_windows_of_a_tile_written_in_parts_are_written() -> None:
    def body() -> None:
        source = tile(32, 16)
        fill(source[:, 0:8])
        fill(source[:, 8:16])
        windows = source.ap([[16, 32], [1, 12], [1, 5]])
        nisa.tensor_copy(dst=nl.ndarray((32, 12, 5), nl.float32), src=windows)

    assert findings(body) == []


def test_an_accumulating_matmul_into_fresh_psum() -> None:
    def body(accumulate: bool | None) -> None:
        source = tile(32, 32)
        fill(source)
        bank = tile(32, 32, nl.psum)
        nisa.nc_matmul(dst=bank, stationary=source, moving=source, accumulate=accumulate)
        read(bank)

    assert findings(body, None) == []
    assert findings(body, False) == []
    (found,) = findings(body, True)
    assert "nc_matmul reads unwritten PSUM" in found.message


def test_hbm_that_nobody_wrote() -> None:
    def body() -> None:
        scratch = nl.ndarray((32, 64), nl.float32, buffer=nl.hbm)
        nl.load(scratch)

    (found,) = findings(body)
    assert "dma_copy reads unwritten HBM" in found.message


def test_arguments_and_constants_are_written() -> None:
    def body(x: Any) -> None:
        nl.load(x)
        nl.load(nl.shared_constant(np.ones((4, 4), np.float32)))

    assert findings(body, np.ones((8, 8), np.float32)) == []


def test_tiles_at_one_address_write_for_each_other() -> None:
    def body(second: int) -> None:
        fill(tile(address=(0, 128)))
        read(tile(address=(0, second)))

    assert findings(body, 128) == []
    (found,) = findings(body, 192)
    assert "partly unwritten" in found.message
    (found,) = findings(body, 4096)
    assert "reads unwritten" in found.message


def test_one_finding_per_call() -> None:
    def body() -> None:
        for _ in range(5):
            read(tile())

    assert len(findings(body)) == 1


def unwritten_calls(program: Program) -> set[int]:
    """Templates whose instructions read a byte that no earlier one wrote."""
    placement = place(program)
    written: dict[int, set[Byte]] = {}
    found = set()
    for index in range(len(program)):
        mine = []
        for storage, offset, layout, is_read, is_written in program.accesses(index):
            here = touched(storage, offset, layout, placement)
            known = written.setdefault(-1 if storage.address is not None else storage.id, set())
            if is_read and storage.origin not in ("input", "constant") and not here <= known:
                found.add(program.rows[index][0])
            if is_written:
                mine.append((known, here))
        for known, here in mine:
            known |= here
    return found


@given(steps(), PLACES)
def test_findings_agree_with_bytes(program: list[Step], places: Any) -> None:
    done = analyse(recorded(program, places))
    told = [f for f in done.findings if f.rule == "uninitialised"]
    assert len(told) == len(unwritten_calls(done.program))
