"""Making and moving data; matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Reader, hlo
from tenzing.compiler.graph import F32, Value, is_float


@hlo("stablehlo.iota")
def _iota(reader: Reader, operation: Operation) -> Value:
    kind = operation.type
    return reader.add(ops.Iota(kind.shape, kind.dtype, operation.integer("iota_dimension")))


@hlo("stablehlo.reshape")
def _reshape(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.reshape(x, operation.type.shape)


@hlo("stablehlo.transpose")
def _transpose(reader: Reader, operation: Operation, x: Value) -> Value:
    return reader.transpose(x, operation.integers("permutation"))


@hlo("stablehlo.broadcast_in_dim")
def _broadcast(reader: Reader, operation: Operation, x: Value) -> Value:
    """StableHLO's dims may come in any order; ours increase."""
    dims, shape = operation.integers("broadcast_dimensions"), operation.type.shape
    order = sorted(range(len(dims)), key=lambda k: dims[k])
    x = reader.transpose(x, order)
    if x.shape == shape:
        return x
    return reader.broadcast(x, shape, [dims[k] for k in order])


@hlo("stablehlo.concatenate")
def _concatenate(reader: Reader, operation: Operation, *operands: Value) -> Value:
    return reader.add(ops.Concatenate(operation.integer("dimension")), *operands)


@hlo("stablehlo.reverse")
def _reverse(reader: Reader, operation: Operation, x: Value) -> Value:
    dims = operation.integers("dimensions")
    return reader.add(ops.Reverse(tuple(sorted(dims))), x) if dims else x


@hlo("stablehlo.slice")
def _slice(reader: Reader, operation: Operation, x: Value) -> Value:
    bounds = [operation.integers(n) for n in ("start_indices", "limit_indices", "strides")]
    return reader.add(ops.Slice(*bounds), x)


@hlo("stablehlo.set_dimension_size")
def _set_dimension_size(reader: Reader, operation: Operation, x: Value, size: Value) -> Value:
    raise reader.unsupported(operation, "a size that depends on values")


@hlo("stablehlo.pad")
def _pad(reader: Reader, operation: Operation, x: Value, fill: Value) -> Value:
    low, high = (operation.integers(f"edge_padding_{side}") for side in ("low", "high"))
    inside = operation.integers("interior_padding", [0] * len(low))
    for dim, gap in enumerate(inside):
        if gap and x.shape[dim] > 1:
            x = _spread(reader, x, fill, dim, gap)
    start = tuple(max(-n, 0) for n in low)
    limit = tuple(size - max(-n, 0) for size, n in zip(x.shape, high, strict=True))
    if any(start) or limit != x.shape:
        x = reader.add(ops.Slice(start, limit, (1,) * len(start)), x)
    edges = tuple(max(n, 0) for n in low), tuple(max(n, 0) for n in high)
    return reader.add(ops.Pad(*edges), x, fill) if any((*edges[0], *edges[1])) else x


def _spread(reader: Reader, x: Value, fill: Value, dim: int, gap: int) -> Value:
    """``gap`` copies of the fill after each element of a dim but the last."""
    size, rank = x.shape[dim], len(x.shape) + 1
    column = reader.reshape(x, (*x.shape[: dim + 1], 1, *x.shape[dim + 1 :]))
    high = [0] * rank
    high[dim + 1] = gap
    wide = reader.add(ops.Pad((0,) * rank, tuple(high)), column, fill)
    shape = (*x.shape[:dim], size * (gap + 1), *x.shape[dim + 1 :])
    flat = reader.reshape(wide, shape)
    limit = tuple(n - gap if d == dim else n for d, n in enumerate(shape))
    return reader.add(ops.Slice((0,) * len(shape), limit, (1,) * len(shape)), flat)


@hlo("stablehlo.dynamic_slice")
def _dynamic_slice(reader: Reader, operation: Operation, x: Value, *starts: Value) -> Value:
    sizes = operation.integers("slice_sizes")
    return reader.add(ops.DynamicSlice(sizes), x, position(reader, starts)) if starts else x


@hlo("stablehlo.dynamic_update_slice")
def _dynamic_update_slice(
    reader: Reader, operation: Operation, x: Value, update: Value, *starts: Value
) -> Value:
    if not starts:
        return update
    return reader.add(ops.DynamicUpdateSlice(), x, update, position(reader, starts))


def position(reader: Reader, starts: Sequence[Value]) -> Value:
    """Scalars as one vector."""
    rows = [reader.reshape(reader.convert(s, np.int32), (1,)) for s in starts]
    return rows[0] if len(rows) == 1 else reader.add(ops.Concatenate(0), *rows)


@hlo("stablehlo.dot_general")
def _dot_general(reader: Reader, operation: Operation, x: Value, y: Value) -> Value:
    from jaxlib.mlir.dialects import stablehlo

    numbers = stablehlo.DotDimensionNumbers(operation.attribute("dot_dimension_numbers"))
    batch = (tuple(numbers.lhs_batching_dimensions), tuple(numbers.rhs_batching_dimensions))
    contract = (
        tuple(numbers.lhs_contracting_dimensions), tuple(numbers.rhs_contracting_dimensions)
    )  # fmt: skip
    return product(reader, operation, x, y, batch, contract)


@hlo("stablehlo.dot")
def _dot(reader: Reader, operation: Operation, x: Value, y: Value) -> Value:
    contract = ((len(x.shape) - 1,), (0,))
    return product(reader, operation, x, y, ((), ()), contract)


def product(
    reader: Reader, operation: Operation, x: Value, y: Value, batch: Any, contract: Any
) -> Value:
    """A matrix product in the dtype StableHLO gives the result."""
    out = operation.type.dtype
    if not is_float(x.dtype):  # the array multiplies floats: exact below 2^24
        wide = ops.DotGeneral(batch, contract, F32)
        found = reader.add(wide, reader.convert(x, F32), reader.convert(y, F32))
        return reader.convert(found, out)
    common = x.dtype
    if x.dtype != y.dtype:
        common = np.promote_types(x.dtype, y.dtype)
        x, y = reader.convert(x, common), reader.convert(y, common)
    return reader.add(ops.DotGeneral(batch, contract, None if out == common else out), x, y)
