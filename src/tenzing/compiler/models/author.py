"""Writes the graph of a transformer: weights by checkpoint name, linears, heads, caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import F32, GraphBuilder, Value

INDEX: Final = np.dtype(np.int32)
HEADS_FIRST: Final = (0, 2, 1, 3)
Tables = tuple[Value, ...]


class Author:
    """A graph builder that knows where it is: which layer, which tokens, which caches.

    ``length``: positions that attention can see. ``position`` is the place of the one new token of
    a decode step, None for a whole prompt. ``caches`` are read in order, new ones go to ``state``.
    """

    def __init__(self, name: str, dtype: np.dtype[Any], length: int) -> None:
        self.builder = GraphBuilder(name)
        self.dtype = dtype
        self.length = length
        self.position: Value | None = None
        self.caches: list[Value] = []
        self.state: list[Value] = []
        self._weights: dict[str, Value] = {}
        self._shared: dict[Any, Tables] = {}

    def add(self, op: ops.Op, *inputs: Value) -> Value:
        """Append an op with one output."""
        return self.builder.add(op, *inputs)

    def weight(self, name: str, *shape: int) -> Value:
        """The parameter ``name`` of the current module; a tied one is declared once."""
        path = f"{self.builder.scope}.{name}" if self.builder.scope else name
        if path not in self._weights:
            self._weights[path] = self.builder.parameter(path, shape, self.dtype)
        return self._weights[path]

    def once(self, key: Any, make: Callable[[], Tables]) -> Tables:
        """What ``make`` wrote the first time: all layers share it."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def linear(
        self, x: Value, name: str, width: int, *, bias: bool = False, turned: bool = False
    ) -> Value:
        """x W + b; ``turned`` weights lie [in, out], as GPT-2 stores them."""
        depth = x.shape[-1]
        shape = (depth, width) if turned else (width, depth)
        parts = [self.weight(f"{name}.weight", *shape)]
        if bias:
            parts.append(self.weight(f"{name}.bias", width))
        return self.add(ops.Linear("kn" if turned else "nk"), x, *parts)

    def part(self, x: Value, dim: int, start: int, stop: int, step: int = 1) -> Value:
        """x from ``start`` to ``stop`` along one dim; x itself when that is all of it."""
        if (start, stop, step) == (0, x.shape[dim], 1):
            return x
        low, high, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
        low[dim], high[dim], steps[dim] = start, stop, step
        return self.add(ops.Slice(tuple(low), tuple(high), tuple(steps)), x)

    def scaled(self, x: Value, factor: float) -> Value:
        """x times a number."""
        return x if factor == 1.0 else self.add(ops.Multiply(), x, self.splat(factor, x))

    def splat(self, number: float, like: Value) -> Value:
        """A constant of another value's shape and dtype."""
        return self.add(ops.Constant.splat(number, like.shape, like.dtype))

    def along(self, shape: Sequence[int], dims: Sequence[int], x: Value) -> Value:
        """x repeated to ``shape``; its dims become ``dims``."""
        return self.add(ops.BroadcastInDim(tuple(shape), tuple(dims)), x)

    def heads(self, x: Value, count: int) -> Value:
        """[batch, tokens, count * width] as [batch, count, tokens, width]."""
        apart = self.add(ops.Reshape((*x.shape[:2], count, x.shape[2] // count)), x)
        return self.add(ops.Transpose(HEADS_FIRST), apart)

    def joined(self, x: Value) -> Value:
        """[batch, heads, tokens, width] as [batch, tokens, heads * width]."""
        turned = self.add(ops.Transpose(HEADS_FIRST), x)
        return self.add(ops.Reshape((*turned.shape[:2], x.shape[1] * x.shape[3])), turned)

    def places(self, tokens: int) -> Value:
        """Where the new tokens stand, float32 [tokens]."""

        def make() -> Tables:
            where = self.position
            if where is None:
                where = self.add(ops.Iota((tokens,), INDEX, 0))
            return (self.add(ops.Convert(F32), where),)

        return self.once("places", make)[0]

    def cached(self, new: Value, first: int = 0) -> Value:
        """The next cache with the new rows in place; ``new`` itself when nothing is cached.

        ``first``: rows that every cache starts with.
        """
        kept = new
        if self.position is not None:
            zero = self.add(ops.Constant.splat(0, (1,), INDEX))
            where = self.position
            if first:
                where = self.add(ops.Add(), where, self.splat(first, where))
            start = self.add(ops.Concatenate(0), zero, zero, where, zero)
            kept = self.add(ops.DynamicUpdateSlice(), self.caches[len(self.state)], new, start)
        self.state.append(kept)
        return kept

    def seen(self, window: int, first: int = 0) -> Value:
        """True for the rows of a cache that hold keys in reach: bool [1, 1, 1, first + length]."""
        return self.once(("seen", window, first), lambda: (self._seen(window, first),))[0]

    def _seen(self, window: int, first: int) -> Value:
        assert self.position is not None
        shape = (1, 1, 1, self.length + first)
        place = self.add(ops.Iota(shape, INDEX, 3))
        now = self.along(shape, (0,), self.position)
        if first:
            now = self.add(ops.Add(), now, self.splat(first, now))
        seen = self.add(ops.Compare("le"), place, now)
        if not 0 < window < self.length:
            return seen
        far = self.add(ops.Subtract(), now, self.splat(window, now))
        near = self.add(ops.Compare("gt"), place, far)
        if first:
            start = self.add(ops.Compare("lt"), place, self.splat(first, place))
            near = self.add(ops.Or(), near, start)
        return self.add(ops.And(), seen, near)


__all__ = ["HEADS_FIRST", "INDEX", "Author"]
