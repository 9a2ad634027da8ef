# Derived by tools/stubs.py; `make docs` rewrites it.
"""``nki.isa``: one function per instruction."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from tenzing.errors import KernelError
from tenzing.isa import Engine
from tenzing.isa.enums import (
    dge_mode,
    dma_engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)
from tenzing.nki.language import Opcode
from tenzing.nki.tensor import NkiTensor

Operator: TypeAlias = str | Opcode | Callable[..., Any]

NkiValidationError = KernelError
engine = Engine
tensor_engine: Final = Engine.tensor
vector_engine: Final = Engine.vector
scalar_engine: Final = Engine.scalar
gpsimd_engine: Final = Engine.gpsimd
unknown_engine: Final = Engine.unknown

class VirtualRegister:
    """A scalar register of an engine; holds an integer while the kernel is simulated."""

    value: int
    def __init__(self, value: int = 0) -> None: ...
    def __index__(self) -> int: ...
    __int__ = __index__
    def __bool__(self) -> bool: ...

def register_alloc(x: int | None = None) -> VirtualRegister:
    """A new register, holding ``x``."""

def register_move(dst: VirtualRegister, src: int | VirtualRegister) -> None:
    """Copy an integer into a register."""

def register_load(dst: VirtualRegister, src: NkiTensor) -> None:
    """Read a one-element tile into a register."""

def register_store(dst: NkiTensor, src: int | VirtualRegister) -> None:
    """Write a register into a one-element tensor; recorded and timed as a fill of that element."""

def get_nc_version() -> nc_version:
    """Generation of the target NeuronCore."""

def get_nc_sub_version() -> int:
    """Silicon revision within the generation: the first."""

def dma_copy(
    dst: NkiTensor,
    src: NkiTensor,
    priority: int | None = None,
    oob_mode: oob_mode = oob_mode.error,
    dge_mode: dge_mode = dge_mode.unknown,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Copy between HBM and SBUF: ``dst = src``, gather ``src[index]`` or scatter ``dst[index]``.

    Equal dtypes copy bits, others pass through float32. ``src_index`` and ``dst_index`` hold one
    row number per partition; the indexed operand is then the whole table, rows first. Of several
    rows scattered to one place the last stays, which the chip does not promise.
    """

def dma_transpose(
    dst: NkiTensor,
    src: NkiTensor,
    axes: Sequence[int] | None = None,
    priority: int | None = None,
    dge_mode: dge_mode = dge_mode.unknown,
    oob_mode: oob_mode = oob_mode.error,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Permute the dims while copying to SBUF: ``dst = transpose(src, axes)``, bit for bit.

    With an index tile, rows ``index.T.flatten()`` of the table are gathered first.
    """

def iota(
    dst: NkiTensor,
    pattern: Sequence[Sequence[int]],
    offset: int = 0,
    channel_multiplier: int = 0,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Write an affine ramp: ``dst[p, i] = offset + p * channel_multiplier + pattern(i)``.

    Values are computed in 32-bit integers and converted to the dtype of ``dst``.
    """

def affine_select(
    dst: NkiTensor,
    pattern: Sequence[Sequence[int]],
    channel_multiplier: int,
    on_true_tile: NkiTensor,
    on_false_value: float,
    cmp_op: Operator = "equal",
    offset: int = 0,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Choose by position: ``dst = on_true_tile where cmp_op(affine, 0) else on_false_value``.

    ``affine`` is the ramp of ``iota``. Chosen elements keep their bits when the dtypes agree and
    pass through float32 otherwise.
    """

def tensor_partition_reduce(
    dst: NkiTensor, op: Operator, data: NkiTensor, name: str | None = None, dtype: Any = None
) -> None:
    """Reduce across partitions: ``dst[0, i] = op over p of data[p, i]``.

    No cost is published; assumed is a halving tree over the partitions, one pass per level.
    """

def local_gather(
    dst: NkiTensor,
    src_buffer: NkiTensor,
    index: NkiTensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Gather within groups of 16 partitions: every partition of a group reads the same offsets.

    A group's ``index`` tile, read down the partitions first, gives the element offsets; each
    takes ``num_elem_per_idx`` neighbours: ``dst[p, n, e] = src_buffer[p, offset[n] + e]``.
    """

def nc_n_gather(
    dst: NkiTensor, data: NkiTensor, indices: NkiTensor, name: str | None = None, dtype: Any = None
) -> None:
    """Gather within each partition: ``dst[p, i] = data[p, indices[p, i]]``.

    No cost is published; assumed is one streaming pass and a fixed part per documented group of
    elements.
    """

def rand_set_state(
    src_seeds: NkiTensor, engine: Engine = Engine.gpsimd, name: str | None = None, dtype: Any = None
) -> None:
    """Set the random state of an engine, one row of words per lane: ``state = src_seeds``."""

def rand_get_state(
    dst: NkiTensor, engine: Engine = Engine.gpsimd, name: str | None = None, dtype: Any = None
) -> None:
    """Read the random state of an engine, one row of words per lane: ``dst = state``."""

def sequence_bounds(
    dst: NkiTensor, segment_ids: NkiTensor, name: str | None = None, dtype: Any = None
) -> None:
    """First and past-the-last position of the run of equal ids around each element.

    ``dst[0, 0, i]`` is the start, ``dst[0, 1, i]`` the end; padding (id 0) gets ``n`` and ``-1``.
    """

def nonzero_with_count(
    dst: NkiTensor,
    src: NkiTensor,
    index_offset: int = 0,
    padding_val: int = -1,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Positions of the nonzeros of a row, padding, then their count, in every 16th partition.

    ``dst[p] = [position + index_offset ..., padding_val ..., count]``; the other partitions of
    ``dst`` keep what they hold.
    """

def tensor_tensor(
    dst: NkiTensor,
    data1: NkiTensor,
    data2: NkiTensor,
    op: Operator,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Combine two tiles element by element: ``dst = data1 <op> data2``.

    32-bit integers go to GpSimd by default, which keeps every bit (wrapping on overflow); on
    Vector they pass through float32.
    """

def tensor_scalar(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Operator | None,
    operand0: NkiTensor | float | None = None,
    reverse0: bool = False,
    op1: Operator | None = None,
    operand1: NkiTensor | float | None = None,
    reverse1: bool = False,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Up to two operators with per-partition operands: ``(data <op0> operand0) <op1> operand1``.

    An operand is a number or a tile of one element per partition; the second operator is free.
    ``reverse0`` and ``reverse1`` put the operand on the left. No operator passes data through.
    """

def tensor_copy(
    dst: NkiTensor,
    src: NkiTensor,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Copy a tile on chip: ``dst = src``, bit for bit when the dtypes agree, else by float32."""

def tensor_copy_predicated(
    dst: NkiTensor,
    src: NkiTensor | float,
    predicate: NkiTensor,
    reverse_pred: bool = False,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Copy where a predicate holds: ``dst[i] = src[i] if predicate[i] else dst[i]``."""

def memset(
    dst: NkiTensor,
    value: Any,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Fill a tile with a constant: ``dst = value``."""

def reciprocal(dst: NkiTensor, data: NkiTensor, name: str | None = None, dtype: Any = None) -> None:
    """Reciprocal of every element: ``dst = 1 / data``, within one rounding of float32."""

def scalar_tensor_tensor(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Operator,
    operand0: NkiTensor | float,
    op1: Operator,
    operand1: NkiTensor,
    reverse0: bool = False,
    reverse1: bool = False,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """A column then a tile: ``(data <op0> operand0) <op1> operand1``; operand1 is a full tile."""

def tensor_reduce(
    dst: NkiTensor,
    op: Operator,
    data: NkiTensor,
    axis: int | Sequence[int],
    negate: bool = False,
    keepdims: bool = False,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Reduce the last free dims of a tile: ``dst = <op> over axis of data``, optionally negated.

    ``axis`` names consecutive dims that end at the last one. Sums are float32 in the canonical
    order, within n roundings of the exact sum; minimum, maximum and bits are exact.
    """

def tensor_scalar_reduce(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Operator,
    operand0: NkiTensor | float | None = None,
    reduce_op: Operator | None = None,
    reduce_res: NkiTensor | None = None,
    reverse0: bool = False,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    reduce_init: NkiTensor | float | None = None,
    reduce_res_negate: bool = False,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Tensor-scalar with a reduction of its result: ``dst = data <op0> operand0``, then a sum.

    The reduction runs over all free dims into the Vector registers as ``reduce_cmd`` says;
    ``reduce_res`` reads them, negated on request.
    """

def bn_stats(dst: NkiTensor, data: NkiTensor, name: str | None = None, dtype: Any = None) -> None:
    """Statistics of a partition: count, mean, variance x count of even, then of odd elements."""

def bn_aggr(dst: NkiTensor, data: NkiTensor, name: str | None = None, dtype: Any = None) -> None:
    """Mean and population variance out of (count, mean, variance x count) triples."""

def exponential(
    dst: NkiTensor,
    src: NkiTensor,
    max_value: NkiTensor | float = 0.0,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    reduce_init: NkiTensor | float = 0.0,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Exponential after a subtraction, with a running sum: ``dst = exp(src - max_value)``."""

def activation(
    dst: NkiTensor,
    op: Operator,
    data: NkiTensor,
    bias: NkiTensor | float | None = None,
    scale: NkiTensor | float = 1.0,
    reduce_op: Operator | None = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """A function of a scaled and shifted tile: ``dst = op(data x scale + bias)``.

    ``scale`` and ``bias`` are numbers or one element per partition. With ``reduce_cmd`` the sum
    over the free dims goes to the Scalar registers, which ``reduce_res`` reads. The hardware's
    function tables are not public; functions are computed in float64 and rounded.
    """

def activation_reduce(
    dst: NkiTensor,
    op: Operator,
    data: NkiTensor,
    reduce_op: Operator,
    reduce_res: NkiTensor | None = None,
    bias: NkiTensor | float | None = None,
    scale: NkiTensor | float = 1.0,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """An activation and the sum of its result: ``reduce_res = sum(op(data x scale + bias))``.

    It resets the Scalar registers first; :class:`Activation` with ``reset_reduce`` is the same.
    """

def activate2(
    dst: NkiTensor,
    op: Operator,
    data: NkiTensor,
    imm0: NkiTensor | float,
    imm1: NkiTensor | float,
    op0: Operator,
    op1: Operator,
    relu_param: NkiTensor | float = 0.0,
    reverse0: bool = False,
    reverse1: bool = False,
    reduce_op: Operator | None = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """An activation behind two operators: ``dst = op((data <op0> imm0) <op1> imm1)``.

    No public cycle formula exists; it is timed as ``activation``.
    """

def nc_matmul(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    perf_mode: matmul_perf_mode = matmul_perf_mode.none,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Multiply on the systolic array: ``dst = stationary.T @ moving``, or add that to ``dst``.

    The contraction runs along the partitions; in ``double_row`` mode along the partitions and a
    first free dim of two. Sums are float32 in the canonical order of the numerics; the silicon's
    own order is not public, so a result is within rounding of it. With ``is_transpose`` and a
    permutation as ``moving`` the bits of ``stationary`` pass through unchanged, as NeuronCore-v3
    and newer document; on v2 that holds for finite values only. ``tile_position`` and
    ``tile_size`` are checked, but small tiles are timed as if they had the array alone.
    """

def nc_transpose(
    dst: NkiTensor,
    data: NkiTensor,
    engine: Engine = Engine.unknown,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Swap the partition dim and the flattened free dims: ``dst[j, i] = data[i, j]``, bit for bit.

    On NeuronCore-v2 the Tensor engine multiplies by an identity, so NaN and infinity would spread
    there; that is not modelled.
    """

def rng(
    dst: NkiTensor, engine: Engine = Engine.vector, name: str | None = None, dtype: Any = None
) -> None:
    """Random integers: ``dst`` holds the low bits of one 32-bit random word per element."""

def rand2(
    dst: NkiTensor,
    min: NkiTensor | float,
    max: NkiTensor | float,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Uniform random values: ``dst = min + (max - min) x u`` with u in [0, 1)."""

def dropout(
    dst: NkiTensor,
    data: NkiTensor,
    prob: NkiTensor | float,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Replace elements by zero at random: ``dst = 0`` with probability ``prob``, else ``data``."""

def set_rng_seed(src_seeds: NkiTensor, name: str | None = None, dtype: Any = None) -> None:
    """Restart the random numbers of Vector from a 32-bit seed."""

def tensor_scalar_cumulative(
    dst: NkiTensor,
    src: NkiTensor,
    op0: Operator,
    op1: Operator,
    imm0: NkiTensor | float,
    imm1: NkiTensor | float | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Running reduction along a partition: ``reg = (src[i] <op0> imm0) <op1> reg; dst[i] = reg``.

    The register starts at the identity of ``op1``, at its old value or at ``imm1`` as
    ``reduce_cmd`` says. No public cycle formula exists; it is timed as ``tensor_tensor_scan``.
    """

def tensor_tensor_scan(
    dst: NkiTensor,
    data0: NkiTensor,
    data1: NkiTensor,
    initial: NkiTensor | float,
    op0: Operator,
    op1: Operator,
    reverse0: bool = False,
    reverse1: bool = False,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """First-order recurrence: ``dst[i] = (data0[i] <op0> dst[i-1]) <op1> data1[i]``.

    ``initial`` stands for ``dst[-1]``. Float32 throughout; the destination rounds the copies, not
    the running value.
    """

def max8(dst: NkiTensor, src: NkiTensor, name: str | None = None, dtype: Any = None) -> None:
    """The eight largest values of each partition in descending order; NaN counts as largest."""

def nc_find_index8(
    dst: NkiTensor, data: NkiTensor, vals: NkiTensor, name: str | None = None, dtype: Any = None
) -> None:
    """Position in ``data`` of each of eight values; all ones when a value is absent.

    A value given several times takes successive occurrences, in order of its columns.
    """

def nc_match_replace8(
    dst: NkiTensor,
    data: NkiTensor,
    vals: NkiTensor,
    imm: Any,
    dst_idx: NkiTensor | None = None,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Copy of ``data`` with the first occurrence of each of eight values replaced by ``imm``.

    A value given several times takes successive occurrences, from the last column to the first.
    ``dst_idx`` receives the positions, all ones for a value that is absent (assumed).
    """

def nc_stream_shuffle(
    dst: NkiTensor,
    src: NkiTensor,
    shuffle_mask: Sequence[int],
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Move rows within each quadrant: ``dst[i] = src[shuffle_mask[i]]``; 255 leaves ``dst[i]``.

    The mask has one entry per partition of a quadrant and applies to every quadrant.
    """

def range_select(
    dst: NkiTensor,
    on_true_tile: NkiTensor,
    comp_op0: Operator,
    comp_op1: Operator,
    bound0: NkiTensor,
    bound1: NkiTensor,
    reduce_cmd: reduce_cmd = reduce_cmd.reset_reduce,
    reduce_res: NkiTensor | None = None,
    reduce_op: Operator = "maximum",
    range_start: int = 0,
    on_false_value: float = -3.4028234663852886e38,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Keep elements whose free index lies in a range, others become the float32 minimum.

    ``i = range_start + free index; dst = data if i <comp_op0> bound0 and i <comp_op1> bound1``.
    The maximum of the result goes to the Vector registers as ``reduce_cmd`` says.
    """

def select_reduce(
    dst: NkiTensor,
    predicate: NkiTensor,
    on_true: NkiTensor,
    on_false: NkiTensor | float,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd = reduce_cmd.idle,
    reduce_op: Operator = "maximum",
    reverse_pred: bool = False,
    name: str | None = None,
    dtype: Any = None,
) -> None:
    """Choose by a predicate, with a running maximum: ``dst = on_true if predicate else on_false``.

    No public cycle formula exists; it is timed at one element per cycle.
    """

__all__ = [
    "VirtualRegister",
    "activate2",
    "activation",
    "activation_reduce",
    "affine_select",
    "bn_aggr",
    "bn_stats",
    "dge_mode",
    "dma_copy",
    "dma_engine",
    "dma_transpose",
    "dropout",
    "engine",
    "exponential",
    "get_nc_sub_version",
    "get_nc_version",
    "gpsimd_engine",
    "iota",
    "local_gather",
    "matmul_perf_mode",
    "max8",
    "memset",
    "nc_find_index8",
    "nc_match_replace8",
    "nc_matmul",
    "nc_n_gather",
    "nc_stream_shuffle",
    "nc_transpose",
    "nc_version",
    "nonzero_with_count",
    "oob_mode",
    "rand2",
    "rand_get_state",
    "rand_set_state",
    "range_select",
    "reciprocal",
    "reduce_cmd",
    "register_alloc",
    "register_load",
    "register_move",
    "rng",
    "scalar_engine",
    "scalar_tensor_tensor",
    "select_reduce",
    "sequence_bounds",
    "set_rng_seed",
    "tensor_copy",
    "tensor_copy_predicated",
    "tensor_engine",
    "tensor_partition_reduce",
    "tensor_reduce",
    "tensor_scalar",
    "tensor_scalar_cumulative",
    "tensor_scalar_reduce",
    "tensor_tensor",
    "tensor_tensor_scan",
    "unknown_engine",
    "vector_engine",
]
