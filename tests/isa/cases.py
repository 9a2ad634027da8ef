"""One legal example of every Vector and Scalar instruction, on any chip and of any size."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tenzing.facts import Chip
from tenzing.isa import numerics, scalar, vector, vector_random, vector_reduce, vector_scan
from tenzing.isa import vector_select as select
from tenzing.isa.enums import reduce_cmd
from tenzing.isa.instruction import REGISTRY, Engine, Instruction
from tenzing.isa.operand import Layout, Space

F32, BF16, F16 = (numerics.dtype(n) for n in ("float32", "bfloat16", "float16"))
U8, U16, U32 = (numerics.dtype(n) for n in ("uint8", "uint16", "uint32"))
I16, I32 = (numerics.dtype(n) for n in ("int16", "int32"))
LARGEST = 512  # `size` runs from 1 to this
MODULES = (vector, vector_reduce, vector_scan, select, vector_random, scalar)


@dataclass(frozen=True)
class Case:
    """A template, the arrays of its compute, and where unwritten operands show.

    ``flows`` are operands whose NaN reaches every element of ``dst``, ``reaches`` some of them.
    """

    template: Instruction
    arrays: dict[str, Any]
    flows: tuple[str, ...] = ()
    reaches: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)


Builder = Callable[[Chip, int], Case]
CASES: dict[str, Builder] = {}
NEEDS: dict[str, str] = {}  # variant -> fact flag without which the chip refuses it


def case(nki: str, needs: str = "") -> Callable[[Builder], Builder]:
    """Register the example of one instruction; ``nki`` may carry a variant after a slash."""

    def register(builder: Builder) -> Builder:
        CASES[nki] = builder
        if needs:
            NEEDS[nki] = needs
        return builder

    return register


def supported(name: str, chip: Chip) -> bool:
    """Whether this generation has the instruction and the variant."""
    if chip.generation < REGISTRY[name.split("/")[0]].since:
        return False
    return name not in NEEDS or chip.flag(NEEDS[name])


def sbuf(dtype: np.dtype, *shape: int) -> Layout:
    return Layout.dense(Space.SBUF, dtype, shape)


def psum(dtype: np.dtype, *shape: int) -> Layout:
    return Layout.dense(Space.PSUM, dtype, shape)


def values(layout: Layout, seed: int = 0, low: int = 0, high: int = 100) -> np.ndarray:
    """Numbers of ordinary size in the layout's dtype, the same for the same seed."""
    generator = np.random.default_rng(seed)
    result = np.empty(layout.shape, layout.dtype)
    if numerics.is_integer(layout.dtype):
        result[...] = generator.integers(low, high, layout.shape)
    else:
        numerics.store(result, generator.standard_normal(layout.shape).astype(np.float32))
    return result


def unwritten(layout: Layout) -> np.ndarray:
    """What memory holds that nobody wrote: bytes 0xFF, NaN in every float dtype."""
    return np.full(layout.nbytes, 0xFF, np.uint8).view(layout.dtype).reshape(layout.shape)


def build(nki: str, **fields: Any) -> Instruction:
    return REGISTRY[nki](**fields)


def filled(template: Instruction, **given: Any) -> dict[str, Any]:
    """Arrays for every operand compute takes: the given ones, drawn ones, or the number."""
    arrays: dict[str, Any] = {}
    for seed, (name, spec) in enumerate(template.operands.items()):
        value = getattr(template, name)
        if spec.role != "writes":
            arrays[name] = values(value, seed + 1) if isinstance(value, Layout) else value
    return arrays | given


# -- vector.py ----------------------------------------------------------------------------------


@case("tensor_tensor")
def _tensor_tensor(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("tensor_tensor", dst=tile, data1=tile, data2=psum(F32, 128, size), op="add")
    return Case(template, filled(template), ("data1", "data2"))


@case("tensor_tensor/bfloat16")
def _tensor_tensor_bfloat16(chip: Chip, size: int) -> Case:
    tile = sbuf(BF16, 100, size)
    template = build("tensor_tensor", dst=tile, data1=tile, data2=tile, op="multiply")
    return Case(template, filled(template), ("data1", "data2"))


@case("tensor_tensor/int32")
def _tensor_tensor_int32(chip: Chip, size: int) -> Case:
    tile = sbuf(I32, 128, size)
    template = build("tensor_tensor", dst=tile, data1=tile, data2=tile, op="subtract")
    return Case(template, filled(template))


@case("tensor_tensor/bits")
def _tensor_tensor_bits(chip: Chip, size: int) -> Case:
    tile = sbuf(U16, 128, size)
    template = build("tensor_tensor", dst=tile, data1=tile, data2=tile, op="bitwise_xor")
    return Case(template, filled(template))


@case("tensor_scalar")
def _tensor_scalar(chip: Chip, size: int) -> Case:
    template = build(
        "tensor_scalar", dst=sbuf(BF16, 128, size), data=psum(F32, 128, size), op0="subtract",
        operand0=sbuf(F32, 128, 1), reverse0=True, op1="multiply", operand1=0.5,
    )  # fmt: skip
    return Case(template, filled(template), ("data", "operand0"))


@case("tensor_scalar/bits")
def _tensor_scalar_bits(chip: Chip, size: int) -> Case:
    tile = sbuf(U32, 128, size)
    template = build("tensor_scalar", dst=tile, data=tile, op0="bitwise_and", operand0=0xFF)
    return Case(template, filled(template))


@case("tensor_scalar/rsqrt")
def _tensor_scalar_rsqrt(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("tensor_scalar", dst=tile, data=tile, op0="rsqrt", operand0=0.0)
    return Case(template, filled(template, data=np.abs(values(tile)) + 1), ("data",))


@case("tensor_scalar/scalar", needs="scalar.tensor_scalar")
def _tensor_scalar_scalar(chip: Chip, size: int) -> Case:
    tile = sbuf(BF16, 128, size)
    template = build(
        "tensor_scalar", dst=tile, data=tile, op0="multiply", operand0=2.0, op1="add",
        operand1=sbuf(F32, 128, 1), engine=Engine.scalar,
    )  # fmt: skip
    return Case(template, filled(template), ("data", "operand1"))


@case("tensor_copy")
def _tensor_copy(chip: Chip, size: int) -> Case:
    template = build("tensor_copy", dst=sbuf(BF16, 128, size), src=psum(F32, 128, size))
    return Case(template, filled(template), ("src",))


@case("tensor_copy/gpsimd")
def _tensor_copy_gpsimd(chip: Chip, size: int) -> Case:
    tile = sbuf(F16, 128, size)
    template = build("tensor_copy", dst=tile, src=tile, engine=Engine.gpsimd)
    return Case(template, filled(template), ("src",))


@case("tensor_copy/scalar", needs="scalar.tensor_copy")
def _tensor_copy_scalar(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("tensor_copy", dst=tile, src=tile, engine=Engine.scalar)
    return Case(template, filled(template), ("src",))


@case("tensor_copy_predicated")
def _predicated(chip: Chip, size: int) -> Case:
    tile, mask = sbuf(F32, 128, size), sbuf(U8, 128, size)
    template = build("tensor_copy_predicated", dst=tile, src=tile, predicate=mask)
    arrays = filled(template, predicate=values(mask, 9, high=2))
    return Case(template, arrays, (), ("dst", "src"))


@case("memset")
def _memset(chip: Chip, size: int) -> Case:
    return Case(build("memset", dst=sbuf(BF16, 128, size), value=1.5), {})


@case("memset/zero")
def _memset_zero(chip: Chip, size: int) -> Case:
    return Case(build("memset", dst=sbuf(BF16, 128, size), value=0), {})


@case("reciprocal")
def _reciprocal(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("reciprocal", dst=tile, data=tile)
    return Case(template, filled(template), ("data",))


@case("scalar_tensor_tensor")
def _scalar_tensor_tensor(chip: Chip, size: int) -> Case:
    tile = sbuf(BF16, 128, size)
    template = build(
        "scalar_tensor_tensor", dst=tile, data=tile, op0="subtract", operand0=sbuf(F32, 128, 1),
        op1="multiply", operand1=tile,
    )  # fmt: skip
    return Case(template, filled(template), ("data", "operand0", "operand1"))


# -- vector_reduce.py, vector_scan.py -----------------------------------------------------------


@case("tensor_reduce")
def _tensor_reduce(chip: Chip, size: int) -> Case:
    data = sbuf(BF16, 128, 2, size)
    template = build("tensor_reduce", dst=sbuf(F32, 128, 2), op="add", data=data, axis=2)
    return Case(template, filled(template), ("data",))


@case("tensor_reduce/max")
def _tensor_reduce_max(chip: Chip, size: int) -> Case:
    template = build("tensor_reduce", dst=sbuf(BF16, 128, 1), op="maximum",
                     data=sbuf(BF16, 128, size), axis=(1,), negate=True)  # fmt: skip
    return Case(template, filled(template), ("data",))


@case("tensor_reduce/bits")
def _tensor_reduce_bits(chip: Chip, size: int) -> Case:
    template = build("tensor_reduce", dst=sbuf(U32, 128, 1), op="bitwise_or",
                     data=sbuf(U32, 128, size), axis=[1])  # fmt: skip
    return Case(template, filled(template))


@case("tensor_scalar_reduce")
def _tensor_scalar_reduce(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build(
        "tensor_scalar_reduce", dst=tile, data=tile, op0="multiply", operand0=2.0,
        reduce_op="add", reduce_res=sbuf(F32, 128, 1),
    )  # fmt: skip
    return Case(template, filled(template), ("data",))


@case("tensor_scalar_cumulative")
def _cumulative(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build(
        "tensor_scalar_cumulative", dst=tile, src=tile, op0="add", op1="maximum", imm0=1.0
    )
    return Case(template, filled(template), ("src",))


@case("tensor_tensor_scan")
def _scan(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build(
        "tensor_tensor_scan", dst=tile, data0=tile, data1=tile, initial=0.0, op0="multiply",
        op1="add",
    )  # fmt: skip
    return Case(template, filled(template), ("data0", "data1"))


@case("bn_stats")
def _bn_stats(chip: Chip, size: int) -> Case:
    template = build("bn_stats", dst=sbuf(F32, 128, 6), data=sbuf(F32, 128, size))
    return Case(template, filled(template), (), ("data",))


@case("bn_aggr")
def _bn_aggr(chip: Chip, size: int) -> Case:
    data = sbuf(F32, 128, 3 * size)
    template = build("bn_aggr", dst=sbuf(F32, 128, 2), data=data)
    return Case(template, filled(template, data=np.abs(values(data)) + 1), ("data",))


@case("exponential")
def _exponential(chip: Chip, size: int) -> Case:
    template = build(
        "exponential", dst=sbuf(BF16, 128, size), src=psum(F32, 128, size),
        max_value=sbuf(F32, 128, 1), reduce_res=sbuf(F32, 128, 1),
        reduce_cmd=reduce_cmd.reset_reduce,
    )  # fmt: skip
    return Case(template, filled(template), ("src", "max_value"))


# -- vector_select.py ---------------------------------------------------------------------------


@case("max8")
def _max8(chip: Chip, size: int) -> Case:
    template = build("max8", dst=sbuf(F32, 128, 8), src=sbuf(BF16, 128, size + 8))
    return Case(template, filled(template), ("src",))


@case("nc_find_index8")
def _find_index8(chip: Chip, size: int) -> Case:
    data, vals = sbuf(F32, 128, size + 8), sbuf(F32, 128, 8)
    template = build("nc_find_index8", dst=sbuf(U32, 128, 8), data=data, vals=vals)
    found = values(data)
    return Case(template, {"data": found, "vals": found[:, 2:10].copy()})


@case("nc_match_replace8")
def _match_replace8(chip: Chip, size: int) -> Case:
    data, vals = sbuf(F32, 128, size + 8), sbuf(F32, 128, 8)
    template = build("nc_match_replace8", dst=data, data=data, vals=vals, imm=-1.0,
                     dst_idx=sbuf(U16, 128, 8))  # fmt: skip
    return Case(template, filled(template), ("data",))


@case("nc_stream_shuffle")
def _shuffle(chip: Chip, size: int) -> Case:
    tile = sbuf(BF16, 128, size)
    template = build("nc_stream_shuffle", dst=tile, src=tile,
                     shuffle_mask=[*range(31, 15, -1), *[255] * 16])  # fmt: skip
    return Case(template, filled(template), (), ("dst", "src"))


@case("range_select")
def _range_select(chip: Chip, size: int) -> Case:
    tile, bound = sbuf(F32, 128, size), sbuf(F32, 128, 1)
    template = build(
        "range_select", dst=tile, on_true_tile=tile, comp_op0="greater_equal", comp_op1="less",
        bound0=bound, bound1=bound, reduce_res=bound,
    )  # fmt: skip
    bounds = {"bound0": np.zeros((128, 1), np.float32), "bound1": np.full((128, 1), 8, np.float32)}
    return Case(template, filled(template, **bounds), (), ("on_true_tile",))


@case("select_reduce")
def _select_reduce(chip: Chip, size: int) -> Case:
    tile, mask = sbuf(F32, 128, size), sbuf(U8, 128, size)
    template = build(
        "select_reduce", dst=tile, predicate=mask, on_true=tile, on_false=-5.0,
        reduce_res=sbuf(F32, 128, 1), reduce_cmd=reduce_cmd.reset_reduce,
    )  # fmt: skip
    arrays = filled(template, predicate=values(mask, 9, high=2))
    return Case(template, arrays, (), ("on_true",))


# -- vector_random.py ---------------------------------------------------------------------------


@case("dropout")
def _dropout(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("dropout", dst=tile, data=tile, prob=0.25)
    return Case(template, filled(template), (), ("data",))


@case("rng")
def _rng(chip: Chip, size: int) -> Case:
    return Case(build("rng", dst=sbuf(U32, 128, size)), {})


@case("rng/gpsimd", needs="gpsimd.rng")
def _rng_gpsimd(chip: Chip, size: int) -> Case:
    return Case(build("rng", dst=sbuf(I16, 128, size), engine=Engine.gpsimd), {})


@case("rand2")
def _rand2(chip: Chip, size: int) -> Case:
    template = build("rand2", dst=sbuf(F32, 128, size), min=-1.0, max=sbuf(F32, 128, 1))
    return Case(template, {"min": -1.0, "max": np.full((128, 1), 2, np.float32)}, ("max",))


@case("set_rng_seed")
def _seed(chip: Chip, size: int) -> Case:
    seeds = sbuf(U32, 1, 1)
    return Case(build("set_rng_seed", src_seeds=seeds), {"src_seeds": values(seeds)})


# -- scalar.py ----------------------------------------------------------------------------------


@case("activation")
def _activation(chip: Chip, size: int) -> Case:
    template = build(
        "activation", dst=sbuf(BF16, 128, size), op="exp", data=psum(F32, 128, size),
        bias=sbuf(BF16, 128, 1), scale=sbuf(F32, 128, 1), reduce_op="add",
        reduce_res=sbuf(F32, 128, 1), reduce_cmd=reduce_cmd.reset_reduce,
    )  # fmt: skip
    return Case(template, filled(template), ("data", "bias", "scale"))


@case("activation/copy")
def _activation_copy(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("activation", dst=tile, op="copy", data=tile)
    return Case(template, filled(template), ("data",))


@case("activation_reduce")
def _activation_reduce(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("activation_reduce", dst=tile, op="square", data=tile, reduce_op="add",
                     reduce_res=sbuf(F32, 128, 1), scale=0.5)  # fmt: skip
    return Case(template, filled(template), ("data",))


@case("activate2")
def _activate2(chip: Chip, size: int) -> Case:
    tile = sbuf(F32, 128, size)
    template = build("activate2", dst=tile, op="gelu", data=tile, imm0=2.0,
                     imm1=sbuf(F32, 128, 1), op0="multiply", op1="add")  # fmt: skip
    return Case(template, filled(template), ("data", "imm1"))
