"""Operations between the ranks of a mesh axis."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, TensorType
from tenzing.compiler.ops.elementwise import expect_count, narrow, widen
from tenzing.compiler.ops.shape import check_dim


class CollectiveOp(Op):
    """Base of operations that combine one tensor of every rank.

    ``axis`` names the mesh axis, ``ranks`` its size. ``reference`` stands for ranks that all hold
    the same; ``over_ranks`` is the meaning.
    """

    axis: str
    ranks: int
    kind: ClassVar[str]

    @abstractmethod
    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """The result of every rank from the input of every rank."""

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """As if all ranks held the same."""
        return (self.over_ranks([inputs[0]] * self.ranks)[0],)

    def moved_bytes(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """The whole buffer."""
        return max(inputs[0].size_bytes, outputs[0].size_bytes)

    def _check(self, inputs: Sequence[TensorType]) -> TensorType:
        expect_count(self.name, inputs, 1)
        if self.ranks < 1:
            raise GraphError(f"{self.name} ranks", got=self.ranks, allowed="1 or more")
        return inputs[0]


@dataclass(frozen=True)
class AllReduce(CollectiveOp, name="all_reduce"):
    """The sum of all ranks' tensors, on every rank; sums in float32, rounded once."""

    axis: str
    ranks: int
    kind = "all_reduce"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's type."""
        return (self._check(inputs),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        total = widen(arrays[0])
        for array in arrays[1:]:
            total = total + widen(array)
        return [narrow(total, arrays[0].dtype)] * len(arrays)


@dataclass(frozen=True)
class AllGather(CollectiveOp, name="all_gather"):
    """All ranks' tensors one behind the other along ``dim``, on every rank."""

    axis: str
    ranks: int
    dim: int
    kind = "all_gather"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """``dim`` grows by the number of ranks."""
        operand = self._check(inputs)
        check_dim(self.name, self.dim, operand.rank)
        shape = list(operand.shape)
        shape[self.dim] *= self.ranks
        return (operand.with_shape(shape),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        return [np.concatenate(arrays, self.dim)] * len(arrays)


@dataclass(frozen=True)
class ReduceScatter(CollectiveOp, name="reduce_scatter"):
    """The sum of all ranks' tensors, of which every rank keeps its part of ``dim``."""

    axis: str
    ranks: int
    dim: int
    kind = "reduce_scatter"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """``dim`` shrinks by the number of ranks."""
        operand = self._check(inputs)
        check_dim(self.name, self.dim, operand.rank)
        if operand.shape[self.dim] % self.ranks:
            raise GraphError(
                "reduce_scatter dim", got=operand, allowed=f"a multiple of {self.ranks}"
            )
        shape = list(operand.shape)
        shape[self.dim] //= self.ranks
        return (operand.with_shape(shape),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        total = AllReduce(self.axis, self.ranks).over_ranks(arrays)[0]
        return [np.ascontiguousarray(p) for p in np.split(total, self.ranks, self.dim)]
