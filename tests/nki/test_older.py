"""The older surface: calls that return tiles, block tensors, explicit addresses, grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenzing import nki as current
from tenzing.errors import KernelError, UsageError
from tenzing.isa.operand import Space
from tenzing.nki import older as nki
from tenzing.nki.older import compiler, isa, language, typing
from tenzing.nki.older.blocks import Allocation, BlockTensor

nl: Any = language  # names come from tables at import
nisa: Any = isa
F32 = np.float32


def values(*shape: int) -> Any:
    return np.random.default_rng(3).standard_normal(shape).astype(F32)


def run(body: Any, *arrays: Any) -> Any:
    def kernel(*inputs: Any) -> Any:
        result = body(*[nl.load(x) for x in inputs])
        out = nl.ndarray(result.shape, dtype=result.dtype, buffer=nl.shared_hbm)
        nl.store(out, value=result)
        return out

    return nki.jit(kernel)(*arrays)


def instructions(body: Any, *arrays: Any) -> list[str]:
    with current.session("trn2") as session:
        nki.jit(body)(*arrays)
    program = session.launches[0].programs[0]
    return [program.templates[row[0]].instruction.nki for row in program.rows]


# -- calls that return tiles -----------------------------------------------------------------------


def test_instructions_return_tiles() -> None:
    x, y = values(16, 32), values(16, 32)
    np.testing.assert_allclose(run(lambda a, b: nisa.tensor_tensor(a, b, np.add), x, y), x + y)
    np.testing.assert_allclose(run(lambda a, b: nisa.tensor_tensor(a, b, op=nl.multiply), x, y),
                               x * y)  # fmt: skip
    np.testing.assert_allclose(
        run(lambda a: nisa.tensor_scalar(a, np.multiply, 2.0, op1=np.add, operand1=1.0), x),
        2 * x + 1, rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(run(lambda a: nisa.activation(op=nl.exp, data=a, scale=0.5), x),
                               np.exp(x / 2), rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(run(lambda a: nisa.tensor_reduce(np.max, a, axis=1), x),
                               x.max(1, keepdims=True))  # fmt: skip
    np.testing.assert_allclose(run(lambda a: nisa.tensor_reduce(np.add, a, axis=[1]), x),
                               x.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(run(lambda a, b: nisa.nc_matmul(a, b), x, y), x.T @ y, rtol=1e-4,
                               atol=1e-4)  # fmt: skip
    np.testing.assert_array_equal(run(lambda a: nisa.tensor_copy(nisa.nc_transpose(a)), x), x.T)
    scan = run(lambda a, b: nisa.tensor_tensor_scan(a, b, 0, np.multiply, np.add), x, y)
    expected = np.zeros((16, 32), F32)
    state = np.zeros(16, F32)
    for k in range(32):
        state = x[:, k] * state + y[:, k]
        expected[:, k] = state
    np.testing.assert_allclose(scan, expected, rtol=1e-4, atol=1e-5)


def test_dtype_and_memory_of_results() -> None:
    def body(a: Any) -> Any:
        assert nisa.nc_matmul(a, a).buffer is Space.PSUM
        assert nisa.nc_transpose(a).buffer is Space.PSUM
        assert nisa.tensor_copy(a, dtype=nl.bfloat16).dtype == nl.bfloat16
        assert nisa.memset((4, 8), 1, nl.int32).dtype == nl.int32
        assert nisa.max8(src=a).shape == (32, 8)
        assert nisa.tensor_reduce(np.add, a, axis=1, keepdims=True).shape == (32, 1)
        return a

    run(body, values(32, 32))


def test_assignment_takes_the_instruction_to_its_buffer() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        total = nl.ndarray((nl.par_dim(32), 32), dtype=nl.float32, buffer=nl.psum)
        total += nisa.nc_matmul(tile, tile)
        total += nisa.nc_matmul(tile, tile)
        out = nl.ndarray((32, 32), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, nisa.tensor_copy(total))
        return out

    x = values(16, 32)
    assert instructions(kernel, x) == ["dma_copy", *["nc_matmul"] * 2, "tensor_copy", "dma_copy"]
    np.testing.assert_allclose(nki.jit(kernel)(x), 2 * x.T @ x, rtol=1e-4, atol=1e-4)


def test_a_named_product_is_added_not_consumed() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        total = nl.zeros((32, 32), dtype=nl.float32, buffer=nl.psum)
        product = nisa.nc_matmul(tile, tile)
        total += product
        both = nisa.tensor_tensor(nl.copy(total), product, np.add)
        out = nl.ndarray((32, 32), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, both)
        return out

    x = values(16, 32)
    np.testing.assert_allclose(nki.jit(kernel)(x), 2 * x.T @ x, rtol=1e-4, atol=1e-4)


def test_the_source_line_is_that_of_the_call() -> None:
    def kernel(x: Any) -> None:
        tile = nl.load(x)
        buffer = nl.ndarray((4, 8), dtype=nl.float32)
        result = nisa.activation(op=nl.exp, data=tile)

        buffer[...] = result

    with current.session("trn2") as session:
        nki.jit(kernel)(values(4, 8))
    (program,) = session.launches[0].programs
    lines = [program.template(i).loc for i in range(len(program))]
    first = kernel.__code__.co_firstlineno
    assert [loc.line - first for loc in lines if loc] == [1, 3, 5]


def test_iota_follows_its_index_expression() -> None:
    def body() -> Any:
        return nisa.iota(nl.arange(4)[:, None] * 8 + nl.arange(8)[None, :] + 3, nl.int32)

    np.testing.assert_array_equal(run(body), np.arange(32).reshape(4, 8) + 3)


# -- language --------------------------------------------------------------------------------------


def test_index_tensors_address_like_numpy() -> None:
    def body(t: Any) -> Any:
        i, j, k = nl.mgrid[0:4, 0:3, 0:5]
        return nl.copy(t[i, j + 3 * k])

    x = values(4, 15)
    expected = x.reshape(4, 5, 3).transpose(0, 2, 1)
    np.testing.assert_array_equal(run(body, x), expected)


def test_transposes_and_products_return_through_sbuf() -> None:
    x, y = values(16, 32), values(16, 8)

    def body(a: Any, b: Any) -> Any:
        return nl.matmul(nl.transpose(a), b)

    np.testing.assert_allclose(run(body, x, y), x.T @ y, rtol=1e-4, atol=1e-4)


def test_block_tensors_are_grids_of_tiles() -> None:
    def kernel(x: Any) -> Any:
        grid = nl.zeros((2, 3, nl.par_dim(4), 8), dtype=nl.float32, buffer=nl.sbuf)
        assert isinstance(grid, BlockTensor)
        assert (grid.shape, grid.ndim) == ((2, 3, 4, 8), 4)
        row = grid[1]
        row[2] = nl.load(x)
        grid[0, 0, :, 2:4] += 1.0
        grid[0, 1, 0:4, 0:8] += nl.load(x)
        row[0][...] = 5.0
        grid[1, 1] = 9
        out = nl.ndarray((2, 3, 4, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        for i in range(2):
            for j in range(3):
                nl.store(out[i, j], grid[i, j])
        return out

    x = values(4, 8)
    expected = np.zeros((2, 3, 4, 8), F32)
    expected[1, 2] = expected[0, 1] = x
    expected[0, 0, :, 2:4] = 1
    expected[1, 0], expected[1, 1] = 5, 9
    np.testing.assert_array_equal(nki.jit(kernel)(x), expected)


@pytest.mark.parametrize(
    ("index", "message"),
    [((slice(None), 0), "a block dim takes one integer index"), ((2, 0), "block index 2 of 2")],
)
def test_wrong_block_indices(index: Any, message: str) -> None:
    def kernel() -> None:
        nl.ndarray((2, 3, nl.par_dim(4), 8), dtype=nl.float32)[index]

    with pytest.raises(KernelError, match=message):
        nki.jit(kernel)()


def test_modulo_addresses() -> None:
    places: list[Any] = []

    def kernel() -> None:
        sbuf = compiler.sbuf.mod_alloc(base_addr=256, num_free_tiles=(1, 2))
        psum = compiler.psum.mod_alloc(base_bank=3, num_bank_tiles=(2,))
        places.extend(sbuf.address(i, (128, 16), 4) for i in ((0, 0), (5, 1), (0, 2)))
        places.extend(psum.address(i, (128, 16), 4) for i in ((0,), (1,), (2,)))
        free = compiler.psum.alloc(lambda index, partitions, size: (index[0], 0, size))
        places.append(free.address((2,), (128, 16), 4))

    nki.jit(kernel)()
    assert places == [(0, 256), (0, 320), (0, 256), (0, 6144), (0, 8192), (0, 6144), (0, 4160)]
    assert compiler.sbuf.auto_alloc() is Space.SBUF
    assert isinstance(compiler.psum.mod_alloc(base_bank=0), Allocation)


def test_tiles_at_one_address_share_their_bytes() -> None:
    def kernel(x: Any) -> Any:
        place = compiler.sbuf.mod_alloc(base_addr=0, num_free_tiles=(2,))
        ring = nl.ndarray((3, nl.par_dim(4), 8), dtype=nl.float32, buffer=place)
        ring[0] = nl.load(x)
        ring[1] = 1.0
        out = nl.ndarray((4, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, ring[2])
        return out

    x = values(4, 8)
    np.testing.assert_array_equal(nki.jit(kernel)(x), x)


def test_loop_reduce_copies_first_and_combines_then() -> None:
    def kernel(x: Any) -> Any:
        total = nl.ndarray((4, 8), dtype=nl.float32)
        for k in nl.affine_range(3):
            total[...] = nl.loop_reduce(nl.load(x[k]), op=np.add, loop_indices=[k])
        out = nl.ndarray((4, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, total)
        return out

    x = values(3, 4, 8)
    np.testing.assert_allclose(nki.jit(kernel)(x), x.sum(0), rtol=1e-5, atol=1e-6)


def test_like_functions_and_static_cast() -> None:
    def body(t: Any) -> Any:
        assert nl.empty_like(t, buffer=nl.psum).buffer is Space.PSUM
        assert nl.static_cast(t, nl.bfloat16).dtype == nl.bfloat16
        return nl.zeros_like(t)

    assert (run(body, values(4, 8)) == 0).all()
    assert nl.static_cast(np.ones(3), nl.bfloat16).dtype == nl.bfloat16


# -- grids and ways to run -------------------------------------------------------------------------


@nki.jit
def add_tiles(a: Any, b: Any) -> Any:
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    i = nl.program_id(0) * 32 + nl.arange(32)[:, None]
    j = nl.program_id(1) * 16 + nl.arange(16)[None, :]
    nl.store(out[i, j], nl.load(a[i, j]) + nl.load(b[i, j]))
    return out


@pytest.mark.parametrize("rows", [4, "spmd"])
def test_spmd_grids_run_every_program(rows: Any) -> None:
    first = nl.spmd_dim(2, nl.nc(2)) if rows == "spmd" else rows
    a, b = values(128, 32), values(128, 32)
    with current.session("trn2") as session:
        np.testing.assert_allclose(add_tiles[first, 2](a, b), a + b)
    assert len(session.launches[0].programs) == (2 if rows == "spmd" else 1)


def test_spmd_dim_needs_cores_once() -> None:
    with pytest.raises(KernelError, match=r"one number and one nl\.nc"):
        nl.spmd_dim(2, 2)


def test_more_cores_than_the_chip_has() -> None:
    with pytest.raises(UsageError, match="trn2 has 8 cores"):
        add_tiles[nl.spmd_dim(1, nl.nc(16)), 2](values(128, 32), values(128, 32))


def test_benchmark_gives_the_simulated_latency(tmp_path: Path) -> None:
    a, b = values(32, 16), values(32, 16)
    measured = nki.benchmark(
        add_tiles, warmup=1, iters=2, working_directory=str(tmp_path / "new"),
        save_neff_name="k.neff", save_trace_name="k.ntff",
    )[1, 1]  # fmt: skip
    np.testing.assert_allclose(measured(a, b), a + b)
    latency = measured.benchmark_result.nc_latency
    assert 1 < latency.get_latency_percentile(50) < 100
    assert latency.get_latency_percentile(99) == latency.get_latency_percentile(1)
    with pytest.raises(ValueError, match="percentile 101"):
        latency.get_latency_percentile(101)
    assert "dma_copy" in (tmp_path / "new" / "k.neff").read_text()
    assert "us simulated" in (tmp_path / "new" / "k.ntff").read_text()


def test_every_way_to_run_gives_the_same() -> None:
    a, b = values(32, 16), values(32, 16)
    kernel = add_tiles[1, 1]
    for result in (
        kernel(a, b),
        nki.baremetal(kernel)(a, b),
        nki.baremetal()(kernel)(a, b),
        nki.profile(working_directory=".")(kernel)(a, b),
        nki.simulate_kernel(kernel, a, b),
        compiler.skip_middle_end_transformations(kernel)(a, b),
    ):
        np.testing.assert_allclose(result, a + b)


def test_annotations_check_nothing() -> None:
    assert typing.tensor[4, 8] is typing.tensor
    with compiler.no_reorder():
        assert list(nl.sequential_range(2, directives=compiler.no_reorder())) == [0, 1]


# -- failing paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda t: nisa.tensor_copy(), "missing a required argument: 'src'"),
        (lambda t: nisa.tensor_copy(t, nothing=1), "unexpected keyword argument 'nothing'"),
        (lambda t: nisa.tensor_copy(1.0), "src must be a tile; got float"),
        (lambda t: nisa.iota(3, nl.int32), "takes an index expression; got int"),
        (lambda t: nl.loop_reduce(1.0, np.add, [0]), "takes a tile; got float"),
    ],
)
def test_wrong_calls_are_named(body: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        run(body, values(4, 8))


def test_unknown_instructions_list_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no 'tensor_kopy'.*tensor_copy"):
        _ = nisa.tensor_kopy
