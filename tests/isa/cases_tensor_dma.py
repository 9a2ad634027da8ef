"""One legal example of every Tensor, GpSimd and DMA instruction, on any chip and of any size."""

from collections.abc import Callable

import numpy as np
from tests.isa.cases import Case, build, psum, sbuf, values

from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.operand import Layout, Space

F32, BF16, FP8 = (numerics.dtype(n) for n in ("float32", "bfloat16", "float8_e4m3"))
U16, U32, I32 = (numerics.dtype(n) for n in ("uint16", "uint32", "int32"))
LARGEST = 512  # `size` runs from 1 to this


Builder = Callable[[Chip, int], Case]
CASES: dict[str, Builder] = {}


def case(nki: str) -> Callable[[Builder], Builder]:
    """Register the example of one instruction; ``nki`` may carry a variant after a slash."""

    def register(builder: Builder) -> Builder:
        CASES[nki] = builder
        return builder

    return register


def hbm(dtype: np.dtype, *shape: int) -> Layout:
    return Layout.dense(Space.HBM, dtype, shape)


@case("nc_matmul")
def _matmul(chip: Chip, size: int) -> Case:
    left, right = sbuf(BF16, 128, 64), sbuf(BF16, 128, size)
    template = build("nc_matmul", dst=psum(F32, 64, size), stationary=left, moving=right)
    arrays = {"dst": None, "stationary": values(left, 1), "moving": values(right, 2)}
    return Case(template, arrays, ("stationary", "moving"))


@case("nc_matmul/float32")
def _matmul_float32(chip: Chip, size: int) -> Case:
    left, right = sbuf(F32, 100, 32), sbuf(F32, 100, size)
    template = build("nc_matmul", dst=psum(F32, 32, size), stationary=left, moving=right,
                     accumulate=True)  # fmt: skip
    arrays = {"dst": values(template.dst), "stationary": values(left, 1),
              "moving": values(right, 2)}  # fmt: skip
    return Case(template, arrays, ("dst", "stationary", "moving"))


@case("nc_transpose")
def _transpose(chip: Chip, size: int) -> Case:
    rows = min(size, 128)
    data = sbuf(BF16, rows, 96)
    template = build("nc_transpose", dst=psum(BF16, 96, rows), data=data)
    return Case(template, {"data": values(data)}, ("data",))


@case("nc_transpose/vector")
def _transpose_vector(chip: Chip, size: int) -> Case:
    columns = min(size, 32)
    data = sbuf(F32, 32, columns)
    template = build("nc_transpose", dst=sbuf(F32, columns, 32), data=data)
    return Case(template, {"data": values(data)}, ("data",))


@case("iota")
def _iota(chip: Chip, size: int) -> Case:
    template = build("iota", dst=sbuf(I32, 128, size), pattern=[[3, size]], offset=5,
                     channel_multiplier=-2)  # fmt: skip
    return Case(template, {})


@case("affine_select")
def _affine_select(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("affine_select", dst=tile, pattern=[[0, size]], channel_multiplier=0,
                     on_true_tile=tile, on_false_value=-1.0)  # fmt: skip
    return Case(template, {"on_true_tile": values(tile)}, ("on_true_tile",))


@case("tensor_partition_reduce")
def _partition_reduce(chip: Chip, size: int) -> Case:
    data = sbuf(F32, 128, size)
    template = build("tensor_partition_reduce", dst=sbuf(F32, 1, size), op="add", data=data)
    return Case(template, {"data": values(data)}, ("data",))


@case("local_gather")
def _local_gather(chip: Chip, size: int) -> Case:
    columns = -(-size // 16)
    source, index = sbuf(F32, 32, 64), sbuf(U16, 32, columns)
    template = build("local_gather", dst=sbuf(F32, 32, 2 * size), src_buffer=source, index=index,
                     num_elem_per_idx=2, num_valid_indices=size)  # fmt: skip
    offsets = np.random.default_rng(3).integers(0, 63, index.shape).astype(U16)
    return Case(template, {"src_buffer": values(source), "index": offsets}, ("src_buffer",))


@case("nc_n_gather")
def _n_gather(chip: Chip, size: int) -> Case:
    data, indices = sbuf(BF16, 64, 80), sbuf(U32, 64, size)
    template = build("nc_n_gather", dst=sbuf(BF16, 64, size), data=data, indices=indices)
    places = np.random.default_rng(4).integers(0, 80, indices.shape).astype(U32)
    return Case(template, {"data": values(data), "indices": places}, ("data",))


@case("rand_set_state")
def _rand_set(chip: Chip, size: int) -> Case:
    words = chip.integer("gpsimd.rand_state_words") or 6
    seeds = sbuf(U32, min(size, 128), words)
    return Case(build("rand_set_state", src_seeds=seeds), {"src_seeds": values(seeds)})


@case("rand_get_state")
def _rand_get(chip: Chip, size: int) -> Case:
    words = chip.integer("gpsimd.rand_state_words") or 6
    return Case(build("rand_get_state", dst=sbuf(U32, min(size, 128), words)), {})


@case("sequence_bounds")
def _sequence_bounds(chip: Chip, size: int) -> Case:
    ids = sbuf(I32, 1, size)
    template = build("sequence_bounds", dst=sbuf(I32, 1, 2, size), segment_ids=ids)
    return Case(template, {"segment_ids": values(ids) // 10})


@case("nonzero_with_count")
def _nonzero(chip: Chip, size: int) -> Case:
    source = sbuf(I32, 128, size)
    template = build("nonzero_with_count", dst=sbuf(I32, 128, size + 1), src=source)
    return Case(template, {"dst": values(template.dst), "src": values(source) // 50})


@case("dma_copy")
def _load(chip: Chip, size: int) -> Case:
    source = hbm(BF16, 128, size)
    template = build("dma_copy", dst=sbuf(BF16, 128, size), src=source)
    arrays = {"dst": None, "src": values(source), "src_index": None, "dst_index": None}
    return Case(template, arrays, ("src",))


@case("dma_copy/convert")
def _store_converted(chip: Chip, size: int) -> Case:
    source = sbuf(F32, 128, size)
    template = build("dma_copy", dst=hbm(BF16, 128, size), src=source)
    arrays = {"dst": None, "src": values(source), "src_index": None, "dst_index": None}
    return Case(template, arrays, ("src",))


@case("dma_copy/gather")
def _gather(chip: Chip, size: int) -> Case:
    table, index = hbm(F32, 1000, size), sbuf(U32, 128, 1)
    template = build("dma_copy", dst=sbuf(F32, 128, size), src=table, src_index=index)
    rows = np.random.default_rng(5).integers(0, 1000, index.shape).astype(U32)
    arrays = {"dst": None, "src": values(table), "src_index": rows, "dst_index": None}
    return Case(template, arrays, ("src",))


@case("dma_copy/scatter")
def _scatter(chip: Chip, size: int) -> Case:
    table, index = hbm(F32, 200, size), sbuf(I32, 128, 1)
    source = sbuf(F32, 128, size)
    template = build("dma_copy", dst=table, src=source, dst_index=index)
    rows = np.random.default_rng(6).permutation(200)[:128, None].astype(I32)
    arrays = {"dst": values(table), "src": values(source), "src_index": None, "dst_index": rows}
    return Case(template, arrays)


@case("dma_transpose")
def _dma_transpose(chip: Chip, size: int) -> Case:
    source = hbm(BF16, size, 128)
    template = build("dma_transpose", dst=sbuf(BF16, 128, size), src=source)
    return Case(template, {"dst": None, "src": values(source), "src_index": None}, ("src",))
