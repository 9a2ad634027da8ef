"""Reductions and sliding windows: what their regions compute is found by trying them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Reader, hlo
from tenzing.compiler.graph import BOOL, Graph, Op, Value, is_float
from tenzing.compiler.ops.window import neutral

COMBINERS: Final[dict[str, Op]] = {
    "add": ops.Add(), "multiply": ops.Multiply(), "maximum": ops.Maximum(),
    "minimum": ops.Minimum(), "and": ops.And(), "or": ops.Or(),
}  # fmt: skip
NEUTRAL: Final = {"add": 0.0, "multiply": 1.0, "and": 1.0, "or": 0.0}
ONE_NODE: Final = {
    ops.Add: "add", ops.Multiply: "multiply", ops.Maximum: "maximum", ops.Minimum: "minimum",
    ops.And: "and", ops.Or: "or",
}  # fmt: skip


def combiner(reader: Reader, operation: Operation, block: object) -> str:
    """The name of a region of two scalars that combines them."""
    graph = reader.region(operation.name, block)
    if len(graph.nodes) == 1 and type(graph.nodes[0].op) in ONE_NODE:
        return ONE_NODE[type(graph.nodes[0].op)]  # type: ignore[index]
    raise reader.unsupported(operation, "with a combiner of several operations")


def starts_neutral(reader: Reader, kind: str, start: Value) -> bool:
    """Whether a reduction's initial value changes nothing."""
    number = reader.number(start)
    return number is not None and number == neutral_of(kind, start)


def neutral_of(kind: str, like: Value) -> float:
    """The number that a combiner leaves everything as it is with."""
    if like.dtype == BOOL and kind in ("maximum", "minimum"):
        return float(kind == "minimum")
    return NEUTRAL[kind] if kind in NEUTRAL else neutral(kind, like.dtype)


@hlo("stablehlo.reduce")
def _reduce(reader: Reader, operation: Operation, *operands: Value) -> tuple[Value, ...]:
    dims = tuple(sorted(operation.integers("dimensions")))
    (block,) = operation.blocks()
    values, starts = operands[: len(operands) // 2], operands[len(operands) // 2 :]
    if len(values) > 1:
        return _arg_reduce(reader, operation, reader.region(operation.name, block), values, dims)
    kind = combiner(reader, operation, block)
    return (reduced(reader, kind, values[0], starts[0], dims),)


def reduced(reader: Reader, kind: str, x: Value, start: Value, dims: tuple[int, ...]) -> Value:
    """A reduction of one tensor from a start."""
    logical = x.dtype == BOOL
    if kind in ("and", "or") and not logical:  # of integers: no chip reduces bits
        found = _bits_reduced(reader, kind, x, dims)
    else:
        found = reader.add(ops.Reduce(kind, dims), x) if dims else x
    if starts_neutral(reader, kind, start):
        return found
    return reader.add(COMBINERS[kind], found, reader.broadcast(start, found.shape))


def _bits_reduced(reader: Reader, kind: str, x: Value, dims: tuple[int, ...]) -> Value:
    for dim in reversed(dims):
        rows = []
        for place in range(x.shape[dim]):
            low, high = [0] * len(x.shape), list(x.shape)
            low[dim], high[dim] = place, place + 1
            taken = reader.add(ops.Slice(tuple(low), tuple(high), (1,) * len(low)), x)
            rows.append(reader.reshape(taken, (*x.shape[:dim], *x.shape[dim + 1 :])))
        x = rows[0]
        for row in rows[1:]:
            x = reader.add(COMBINERS[kind], x, row)
    return x


def _arg_reduce(
    reader: Reader, operation: Operation, body: Graph, values: Sequence[Value],
    dims: tuple[int, ...],
) -> tuple[Value, ...]:  # fmt: skip
    """The largest or smallest element and where it is: values and an iota go in together."""
    pair = len(values) == 2 and len(dims) == 1  # noqa: PLR2004 - value and place
    if not pair or not is_iota(reader, values[1], dims[0]):
        raise reader.unsupported(operation, "of several tensors")
    # of (1, place 5) and (2, place 3); then of two equal elements, the first place wins
    won, tie = reader.try_out(body, 1, 5, 2, 3), reader.try_out(body, 1, 5, 1, 3)
    if won not in ([2, 3], [1, 5]) or tie != [1, 3]:
        raise reader.unsupported(operation, "of several tensors")
    largest = won == [2, 3]
    x, (dim,) = values[0], dims
    keys = x if largest else reader.add(ops.Negate(), reader.convert(x, _signed(x)))
    place = reader.add(ops.ArgMax(dim, values[1].dtype), keys)
    best = reader.add(ops.Reduce("maximum" if largest else "minimum", dims), x)
    return best, place


def _signed(x: Value) -> np.dtype[np.generic]:
    return np.dtype(np.int32) if x.dtype.kind in "bu" else x.dtype


def is_iota(reader: Reader, value: Value, dim: int) -> bool:
    """Whether a value numbers the places along a dim."""
    maker = reader.builder.maker(value)
    if maker is not None and isinstance(maker.op, ops.BroadcastInDim):
        dims = maker.op.dims
        maker, dim = reader.builder.maker(maker.inputs[0]), dims.index(dim) if dim in dims else -1
    return maker is not None and isinstance(maker.op, ops.Iota) and maker.op.dim == dim


# -- windows -----------------------------------------------------------------------------------


@hlo("stablehlo.reduce_window")
def _reduce_window(reader: Reader, operation: Operation, *operands: Value) -> Value:
    (block,) = operation.blocks()
    if len(operands) != 2:  # noqa: PLR2004 - one tensor and its start
        raise reader.unsupported(operation, "of several tensors")
    x, start = operands
    kind = combiner(reader, operation, block)
    size = operation.integers("window_dimensions")
    window = window_of(operation, len(size))
    running = _running(x, size, window)
    if running is not None and starts_neutral(reader, kind, start):
        dim, backwards = running
        x = reader.add(ops.Reverse((dim,)), x) if backwards else x
        found = reader.add(ops.Cumulative(kind, dim), x)
        return reader.add(ops.Reverse((dim,)), found) if backwards else found
    if kind not in ("add", "maximum", "minimum"):
        raise reader.unsupported(operation, f"with {kind}")
    order, dims, own = _last(size, window)
    moved = reader.transpose(x, order)
    shape = tuple(size[d] for d in dims)
    found = reader.add(ops.ReduceWindow(kind, shape, own), moved)
    if not starts_neutral(reader, kind, start):
        found = reader.add(COMBINERS[kind], found, reader.broadcast(start, found.shape))
    return reader.transpose(found, np.argsort(order).tolist())


def window_of(operation: Operation, rank: int) -> ops.Window:
    """Strides, padding and dilations of an operation."""
    ones = (1,) * rank
    pads = operation.integers("padding", [0] * (2 * rank))
    pairs = tuple((pads[2 * d], pads[2 * d + 1]) for d in range(rank))
    return ops.Window(
        operation.integers("window_strides", ones), pairs,
        operation.integers("window_dilations", ones), operation.integers("base_dilations", ones),
    )  # fmt: skip


def _running(x: Value, size: Sequence[int], window: ops.Window) -> tuple[int, bool] | None:
    """The dim along which a window takes all that comes before (or after) an element."""
    wide = [d for d, n in enumerate(size) if n > 1]
    plain = {*window.strides, *window.dilation, *window.base_dilation} <= {1}
    if len(wide) != 1 or not plain or size[wide[0]] != x.shape[wide[0]]:
        return None
    (dim,) = wide
    others = [p for d, p in enumerate(window.padding) if d != dim]
    reach = size[dim] - 1
    if any(p != (0, 0) for p in others) or window.padding[dim] not in ((reach, 0), (0, reach)):
        return None
    return dim, window.padding[dim] == (0, reach)


def _last(size: Sequence[int], window: ops.Window) -> tuple[list[int], list[int], ops.Window]:
    """An order of dims with the windowed ones last, those, and the window over them alone."""
    rank = len(size)

    def still(d: int) -> bool:
        return (size[d], window.strides[d], window.padding[d], window.base_dilation[d]) == (
            1, 1, (0, 0), 1)  # fmt: skip

    dims = [d for d in range(rank) if not still(d)] or [rank - 1]
    order = [d for d in range(rank) if d not in dims] + dims
    own = ops.Window(
        tuple(window.strides[d] for d in dims), tuple(window.padding[d] for d in dims),
        tuple(window.dilation[d] for d in dims), tuple(window.base_dilation[d] for d in dims),
    )  # fmt: skip
    return order, dims, own


@hlo("stablehlo.select_and_scatter")
def _select_and_scatter(
    reader: Reader, operation: Operation, x: Value, source: Value, start: Value
) -> Value:
    select, scatter = operation.blocks()
    chosen = reader.region(operation.name, select)
    picks_largest = reader.try_out(chosen, 2, 1) == [True] and reader.try_out(chosen, 1, 2) == [
        False
    ]
    if not picks_largest or combiner(reader, operation, scatter) != "add":
        raise reader.unsupported(operation, "other than the gradient of max pooling")
    size = operation.integers("window_dimensions")
    order, dims, own = _last(size, window_of(operation, len(size)))
    inputs = [reader.transpose(v, order) for v in (x, source)]
    found = reader.add(ops.SelectAndScatter(tuple(size[d] for d in dims), own), *inputs)
    if not starts_neutral(reader, "add", start):
        found = reader.add(ops.Add(), found, reader.broadcast(start, found.shape))
    return reader.transpose(found, np.argsort(order).tolist())


@hlo("stablehlo.convolution")
def _convolution(reader: Reader, operation: Operation, x: Value, kernel: Value) -> Value:
    from jaxlib.mlir.dialects import stablehlo

    numbers = stablehlo.ConvDimensionNumbers(operation.attribute("dimension_numbers"))
    places = list(numbers.input_spatial_dimensions)
    taps = list(numbers.kernel_spatial_dimensions)
    x = reader.transpose(
        x, [numbers.input_batch_dimension, numbers.input_feature_dimension, *places]
    )
    kernel = reader.transpose(kernel, [
        numbers.kernel_output_feature_dimension, numbers.kernel_input_feature_dimension, *taps
    ])  # fmt: skip
    if operation.has("window_reversal"):
        flags = np.asarray(list(operation.attribute("window_reversal"))).reshape(-1)
        turned = tuple(d + 2 for d, flag in enumerate(flags) if bool(getattr(flag, "value", flag)))
        kernel = reader.add(ops.Reverse(turned), kernel) if turned else kernel
    rank, groups = len(places), operation.integer("feature_group_count", 1)
    batches = operation.integer("batch_group_count", 1)
    if batches > 1:
        x, groups = _batches_as_features(reader, x, batches), batches
    ones = (1,) * rank
    pads = operation.integers("padding", [0] * (2 * rank))
    window = ops.Window(
        operation.integers("window_strides", ones),
        tuple((pads[2 * d], pads[2 * d + 1]) for d in range(rank)),
        operation.integers("rhs_dilation", ones), operation.integers("lhs_dilation", ones),
    )  # fmt: skip
    out = operation.type.dtype
    if not is_float(x.dtype):
        raise reader.unsupported(operation, f"of {x.dtype.name}")
    found = reader.add(ops.Convolution(window, groups, "oi", None if out == x.dtype else out),
                       x, kernel)  # fmt: skip
    order = [numbers.output_batch_dimension, numbers.output_feature_dimension,
             *numbers.output_spatial_dimensions]  # fmt: skip
    return reader.transpose(found, np.argsort(order).tolist())


def _batches_as_features(reader: Reader, x: Value, groups: int) -> Value:
    """[G * N, C, ...] to [N, G * C, ...]: batch groups are feature groups of another batch."""
    batch, channels, *rest = x.shape
    split = reader.reshape(x, (groups, batch // groups, channels, *rest))
    order = (1, 0, *range(2, 3 + len(rest)))
    moved = reader.transpose(split, order)
    return reader.reshape(moved, (batch // groups, groups * channels, *rest))
