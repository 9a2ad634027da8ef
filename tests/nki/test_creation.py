"""New tensors, constants, random numbers, sizes, loops and the launch grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.nki.kernels_for_tests import ones, run

from tenzing import nki
from tenzing.errors import KernelError
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

F32 = np.float32


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum])
def test_filled_tiles(buffer: Any) -> None:
    x = ones(4, 8)
    assert (run(lambda t: nl.zeros((4, 8), nl.float32, buffer), x) == 0).all()
    assert (run(lambda t: nl.ones((4, 8), nl.float32, buffer), x) == 1).all()
    assert (run(lambda t: nl.full((4, 8), 2.5, nl.float32, buffer), x) == 2.5).all()


def test_like_functions_copy_sizes_dtype_and_memory() -> None:
    def body(t: Any) -> Any:
        half = nl.zeros_like(t, dtype=nl.bfloat16)
        assert (half.shape, half.dtype, half.buffer) == ((4, 8), nl.bfloat16, nl.sbuf)
        empty = nl.empty_like(t, buffer=nl.psum)
        assert (empty.dtype, empty.buffer) == (nl.float32, nl.psum)
        return nl.zeros_like(t)

    assert (run(body, ones(4, 8)) == 0).all()


def test_hbm_can_be_filled_too() -> None:
    def kernel() -> Any:
        return nl.full((4, 8), 3, nl.int32, buffer=nl.shared_hbm)

    np.testing.assert_array_equal(nki.jit(kernel)(), np.full((4, 8), 3))


def test_predicates_of_memories() -> None:
    assert nl.is_hbm(nl.hbm)
    assert nl.is_hbm(nl.private_hbm)
    assert nl.is_hbm(nl.shared_hbm)
    assert nl.is_psum(nl.psum)
    assert nl.is_sbuf(nl.sbuf)
    assert nl.is_on_chip(nl.psum)
    assert not nl.is_on_chip(nl.shared_hbm)
    assert not nl.is_hbm(nl.sbuf)


def test_constants_from_arrays_and_files(tmp_path: Path) -> None:
    table = np.arange(32, dtype=np.int8).reshape(4, 8)
    file = tmp_path / "table.npy"
    np.save(file, table)
    for source in (table, str(file), file):
        result = run(lambda s=source: nl.load(nl.shared_constant(s)))
        np.testing.assert_array_equal(result, table)
    wide = run(lambda: nl.load(nl.shared_constant(table, nl.float32)))
    np.testing.assert_array_equal(wide, table.astype(F32))


def test_a_constant_file_that_is_missing_or_corrupt(tmp_path: Path) -> None:
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"no array")
    for path in (bad, tmp_path / "absent.npy"):
        with pytest.raises(KernelError, match="cannot read"):
            run(lambda p=path: nl.load(nl.shared_constant(p)))


def test_identity_matrix_is_loaded_once() -> None:
    def kernel() -> Any:
        first = nl.shared_identity_matrix(16, nl.bfloat16)
        assert nl.shared_identity_matrix(16, nl.bfloat16) is first
        out = nl.ndarray((16, 16), nl.bfloat16, buffer=nl.shared_hbm)
        nl.store(out, first)
        return out

    np.testing.assert_array_equal(nki.jit(kernel)().astype(F32), np.eye(16))


def test_random_numbers_repeat_with_their_seed() -> None:
    def body(t: Any) -> Any:
        nl.random_seed(t)
        first = nl.rand((64, 64), nl.float32)
        nl.random_seed(t)
        second = nl.rand((64, 64), nl.float32)
        both = nl.ndarray((64, 128), nl.float32)
        both[:, 0:64] = first
        both[:, 64:128] = second
        return both

    result = run(body, np.full((1, 1), 42, np.int32))
    np.testing.assert_array_equal(result[:, :64], result[:, 64:])
    assert 0 <= result.min() < 0.05
    assert 0.95 < result.max() < 1
    assert abs(result.mean() - 0.5) < 0.02


@pytest.mark.parametrize("target", ["trn1", "inf2", "trn2", "trn3"])
def test_tile_sizes_follow_the_chip(target: str) -> None:
    with nki.session(target):
        sizes = nl.tile_size
        assert sizes.pmax == sizes.gemm_stationary_fmax == 128
        assert sizes.psum_fmax == sizes.psum_bank_fmax == 512
        assert sizes.psum_bank_fmax_bytes == 2048
        assert sizes.psum_num_banks == 8
        assert sizes.sbuf_size_bytes % sizes.pmax == 0
        assert sizes.sbuf_fmax * 4 <= sizes.sbuf_fmax_bytes == sizes.total_available_sbuf_size
        assert sizes.sbuf_fmax_bytes * sizes.pmax <= sizes.sbuf_size_bytes
        assert sizes.bn_stats_fmax == sizes.gemm_moving_fmax == 512
        assert sizes.psum_min_align >= 1
        assert sizes.sbuf_min_align >= 1


def test_explicit_addresses_overlap_as_placed() -> None:
    def body(t: Any) -> Any:
        whole = nl.ndarray((4, 8), nl.float32, address=(0, 1024))
        whole[...] = t
        return nl.copy(nl.ndarray((4, 4), nl.float32, address=(0, 1024 + 16)))

    x = np.arange(32, dtype=F32).reshape(4, 8)
    np.testing.assert_array_equal(run(body, x), x[:, 4:])


# -- loops and grid --------------------------------------------------------------------------------


def test_ranges_are_ranges() -> None:
    for function in (nl.affine_range, nl.sequential_range, nl.static_range, nl.dynamic_range):
        assert list(function(4)) == [0, 1, 2, 3]
        assert list(function(2, 8, 3)) == [2, 5]
    register = nisa.register_alloc(3)
    assert list(nl.dynamic_range(register)) == [0, 1, 2]


def test_counted_and_conditional_loops() -> None:
    seen: list[int] = []

    def kernel(count: Any) -> Any:
        tile = nl.load(count)
        bound = nisa.register_alloc()
        nisa.register_load(bound, tile)
        nl.fori_loop(0, bound, lambda i: seen.append(int(i)))

        def body(r: Any) -> Any:
            nisa.tensor_scalar(tile, tile, nl.subtract, 1)
            nisa.register_load(r, tile)
            return r

        nl.while_loop(bound, body)
        out = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
        nl.store(out, tile)
        return out

    assert nki.jit(kernel)(np.full((1, 1), 3, np.int32))[0, 0] == 0
    assert seen == [0, 1, 2]


def test_programs_of_a_grid_know_their_place() -> None:
    seen = []

    def kernel() -> Any:
        seen.append((nl.program_id(0), nl.num_programs(0), nl.num_programs(None),
                     nl.program_ndim()))  # fmt: skip
        return nl.ndarray((1, 1), nl.float32, buffer=nl.shared_hbm)

    nki.jit(kernel)[2]()
    assert seen == [(0, 2, 2, 1), (1, 2, 2, 1)]
    seen.clear()
    nki.jit(kernel)()
    assert seen == [(0, 1, 1, 0)]


def test_an_axis_outside_the_grid() -> None:
    with pytest.raises(KernelError, match="axis 1 of a launch grid of 1 axes"):
        nki.jit(lambda: nl.program_id(1))[2]()


def test_device_print_shows_values(capsys: pytest.CaptureFixture[str]) -> None:
    def body(t: Any) -> Any:
        nl.device_print("tile", t)
        return t

    run(body, ones(1, 2))
    assert capsys.readouterr().out == "tile [[1. 1.]]\n"


def test_a_buffer_that_is_no_memory() -> None:
    with pytest.raises(KernelError, match="buffer is not a memory; got str"):
        run(lambda: nl.ndarray((4, 4), nl.float32, buffer="sbuf"))
