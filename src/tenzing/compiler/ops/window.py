"""Operations over sliding windows: convolution, pooling, and the gradient of max pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import (
    Array,
    GraphBuilder,
    GraphError,
    Op,
    Shape,
    TensorType,
    Value,
    Work,
    is_float,
)
from tenzing.compiler.ops.contraction import accumulate
from tenzing.compiler.ops.elementwise import Add, Convert, expect_count, narrow, widen
from tenzing.compiler.ops.shape import BroadcastInDim

Padding = tuple[tuple[int, int], ...]
LEAD: Final = 2  # batch and channel dims stand before the spatial ones
LAYOUTS: Final = ("oi", "io")
WITH_BIAS: Final = 3
COMBINERS: Final[Mapping[str, Callable[..., Array]]] = {
    "maximum": np.maximum, "minimum": np.minimum, "add": np.add,
}  # fmt: skip


@dataclass(frozen=True)
class Window:
    """How windows slide over the spatial dims of an input."""

    strides: Shape
    padding: Padding
    dilation: Shape  # of the window
    base_dilation: Shape  # of the input: zeros between its elements

    def output(self, sizes: Shape, window: Shape) -> Shape:
        """Positions of the window in each dim; GraphError when it does not fit."""
        result = []
        for d, (size, taps) in enumerate(zip(sizes, window, strict=True)):
            spread = (size - 1) * self.base_dilation[d] + 1 if size else 0
            room = spread + sum(self.padding[d]) - ((taps - 1) * self.dilation[d] + 1)
            if room < 0 or self.strides[d] < 1 or min(self.dilation[d], self.base_dilation[d]) < 1:
                raise GraphError("window does not fit its input", got=f"{window} on {sizes}")
            result.append(room // self.strides[d] + 1)
        return tuple(result)

    def spread(self, array: Array, fill: float) -> Array:
        """The input [.., *spatial] dilated and padded with ``fill``; negative padding cuts."""
        lead = array.ndim - len(self.strides)
        sizes = zip(array.shape[lead:], self.base_dilation, strict=True)
        spread = [(n - 1) * b + 1 if n else 0 for n, b in sizes]
        wide = np.full((*array.shape[:lead], *spread), fill, array.dtype)
        wide[_last(slice(None, None, b) for b in self.base_dilation)] = array
        cut = [slice(max(-low, 0), n - max(-high, 0))
               for n, (low, high) in zip(spread, self.padding, strict=True)]  # fmt: skip
        edges = [(0, 0)] * lead + [(max(low, 0), max(high, 0)) for low, high in self.padding]
        return np.pad(wide[_last(cut)], edges, constant_values=fill)

    def views(self, array: Array, window: Shape) -> Array:
        """Every window of a spread input: [.., *positions, *window]."""
        spatial = tuple(range(array.ndim - len(window), array.ndim))
        reach = [(n - 1) * d + 1 for n, d in zip(window, self.dilation, strict=True)]
        slid = np.lib.stride_tricks.sliding_window_view(array, reach, axis=spatial)
        steps = [slice(None, None, s) for s in (*self.strides, *self.dilation)]
        return np.asarray(slid[_last(steps)])

    @staticmethod
    def of(
        strides: Sequence[int], padding: Sequence[int], dilation: Sequence[int] | None = None
    ) -> Window:
        """A window with equal padding on both sides and no dilated input."""
        ones = (1,) * len(strides)
        return Window(tuple(strides), tuple((p, p) for p in padding), tuple(dilation or ones), ones)

    def __str__(self) -> str:
        parts = {
            "stride": self.strides, "pad": self.padding, "dilation": self.dilation,
            "base_dilation": self.base_dilation,
        }  # fmt: skip
        return " ".join(f"{k}={v}".replace(" ", "") for k, v in parts.items())


@dataclass(frozen=True)
class Convolution(Op, name="convolution"):
    """Sum of products over windows: inputs are (x [N, C, *S], kernel, optional bias [O]).

    The kernel is [O, C / groups, *K] in layout "oi" or [*K, C / groups, O] in "io". As in StableHLO
    nothing is flipped; a transposed convolution is one of a dilated input.
    """

    window: Window
    groups: int = 1
    layout: str = "oi"
    out_dtype: np.dtype[Any] | None = None

    def kernel(self, kernel: Shape) -> tuple[Shape, int, int]:
        """Window, input channels per group and output channels of a kernel's shape."""
        if self.layout == "oi":
            return kernel[LEAD:], kernel[1], kernel[0]
        return kernel[:-LEAD], kernel[-2], kernel[-1]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """[N, O, *positions]."""
        expect_count(self.name, inputs, 2, WITH_BIAS)
        x, kernel = inputs[:2]
        rank = len(self.window.strides)
        fits = x.rank == kernel.rank == rank + LEAD and x.dtype == kernel.dtype
        if not fits or self.layout not in LAYOUTS or not is_float(x.dtype):
            raise GraphError("convolution needs float x and kernel of one dtype and rank",
                             got=f"{x} and {kernel}", allowed=f"rank {rank + LEAD}")  # fmt: skip
        window, depth, width = self.kernel(kernel.shape)
        if depth * self.groups != x.shape[1] or width % self.groups:
            raise GraphError("convolution channels", got=f"{x} and {kernel}",
                             allowed=f"{self.groups} groups of input and output channels",
                             )  # fmt: skip
        if len(inputs) == WITH_BIAS and inputs[2].shape != (width,):
            raise GraphError("convolution bias", got=inputs[2], allowed=f"[{width}]")
        positions = self.window.output(x.shape[LEAD:], window)
        return (TensorType((x.shape[0], width, *positions), self.out_dtype or x.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32 by NumPy's matmul, rounded once."""
        x, kernel = inputs[:2]
        out = self.infer(*(TensorType(a.shape, a.dtype) for a in inputs))[0]
        if self.layout == "io":
            kernel = kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - LEAD))
        window = kernel.shape[LEAD:]
        batch, rank, groups = x.shape[0], len(window), self.groups
        views = self.window.views(self.window.spread(accumulate(x), 0.0), window)
        positions = views.shape[LEAD : LEAD + rank]
        grouped = views.reshape(batch, groups, -1, *positions, *window)
        order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        rows = grouped.transpose(order).reshape(groups, batch * math.prod(positions), -1)
        matrices = accumulate(kernel).reshape(groups, kernel.shape[0] // groups, -1)
        total = np.matmul(rows, matrices.swapaxes(1, 2))  # [groups, positions, O / groups]
        total = total.reshape(groups, batch, *positions, -1)
        total = total.transpose(1, 0, 2 + rank, *range(2, 2 + rank)).reshape(out.shape)
        if len(inputs) == WITH_BIAS:
            total = total + accumulate(inputs[2]).reshape(-1, *(1,) * rank)
        return (narrow(total, out.dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two operations per product, one per biased element."""
        window, depth, _ = self.kernel(inputs[1].shape)
        count = outputs[0].elements
        biased = count if len(inputs) == WITH_BIAS else 0
        return Work(matmul_flops=2 * depth * math.prod(window) * count, vector_ops=biased)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...] | None:
        """The bias apart; None without one."""
        if len(inputs) < WITH_BIAS:
            return None
        dtype = self.out_dtype or inputs[0].dtype
        wide = dtype if dtype.itemsize > inputs[2].dtype.itemsize else inputs[2].dtype
        total = builder.add(replace(self, out_dtype=wide), *inputs[:2])
        bias = inputs[2] if inputs[2].dtype == wide else builder.add(Convert(wide), inputs[2])
        spread = builder.add(BroadcastInDim(total.shape, (1,)), bias)
        total = builder.add(Add(), total, spread)
        return (total if dtype == wide else builder.add(Convert(dtype), total),)


def _last(slices: Iterable[slice]) -> Any:
    """An index of the last dims."""
    return (..., *slices)


def neutral(kind: str, dtype: np.dtype[Any]) -> float:
    """What padding holds so that it does not change the result."""
    if kind == "add":
        return 0.0
    if is_float(dtype):
        return -math.inf if kind == "maximum" else math.inf
    limits = np.iinfo(dtype)
    return float(limits.min if kind == "maximum" else limits.max)


@dataclass(frozen=True)
class ReduceWindow(Op, name="reduce_window"):
    """Combine the elements of each window of the last dims: [.., *S] to [.., *positions]."""

    kind: str
    size: Shape
    window: Window

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """[.., *positions]."""
        expect_count(self.name, inputs, 1)
        (x,) = inputs
        lead = x.rank - len(self.size)
        if self.kind not in COMBINERS:
            raise GraphError("reduce_window kind", got=self.kind, allowed=", ".join(COMBINERS))
        if lead < 0 or len(self.size) != len(self.window.strides):
            raise GraphError("reduce_window rank", got=x, allowed=f"at least {len(self.size)}")
        shape = (*x.shape[:lead], *self.window.output(x.shape[lead:], self.size))
        return (x.with_shape(shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32, rounded once."""
        (x,) = inputs
        spread = self.window.spread(widen(x), neutral(self.kind, x.dtype))
        views = self.window.views(spread, self.size)
        dims = tuple(range(views.ndim - len(self.size), views.ndim))
        return (narrow(COMBINERS[self.kind].reduce(views, axis=dims), x.dtype),)  # type: ignore[attr-defined]

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One operation per element of each window."""
        return Work(vector_ops=outputs[0].elements * math.prod(self.size))


@dataclass(frozen=True)
class SelectAndScatter(Op, name="select_and_scatter"):
    """Gradient of max pooling: each window's number goes to its first largest element.

    Inputs are (operand [.., *S], source [.., *positions]); the result sums what each element got.
    """

    size: Shape
    window: Window

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The operand's type."""
        expect_count(self.name, inputs, 2)
        operand, source = inputs
        if ReduceWindow("maximum", self.size, self.window).infer(operand) != (source,):
            raise GraphError("select_and_scatter source", got=source, allowed="pooled operand")
        return (operand,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32, rounded once."""
        operand, source = inputs
        spread = self.window.spread(widen(operand), neutral("maximum", operand.dtype))
        views = self.window.views(spread, self.size)
        rank = len(self.size)
        flat = views.reshape(*views.shape[:-rank], -1)
        chosen = flat.argmax(-1)
        numbers = np.arange(spread.size).reshape(spread.shape)
        places = self.window.views(numbers, self.size).reshape(flat.shape)
        target = np.take_along_axis(places, chosen[..., None], -1)[..., 0]
        total = np.zeros(spread.size, np.float32)
        np.add.at(total, target.reshape(-1), widen(source).reshape(-1))
        return (narrow(self._inside(total.reshape(spread.shape), operand.shape), operand.dtype),)

    def _inside(self, spread: Array, shape: Shape) -> Array:
        lead = spread.ndim - len(self.size)
        cut = [slice(low, low + n) for (low, _), n in zip(self.window.padding, shape[lead:],
                                                          strict=True)]  # fmt: skip
        return np.asarray(spread[_last(cut)])

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """A comparison and a sum per element of each window."""
        return Work(vector_ops=2 * inputs[1].elements * math.prod(self.size))
