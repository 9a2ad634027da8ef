"""Operations between the ranks of a mesh."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Final

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, TensorType
from tenzing.compiler.ops.elementwise import expect_count, narrow, widen
from tenzing.compiler.ops.shape import check_dim

COMBINE: Final = {"add": np.add, "max": np.maximum, "min": np.minimum}
INDEX: Final = np.dtype(np.int32)


class CollectiveOp(Op):
    """Base of operations that combine one tensor of every rank of a group.

    ``axes`` name the mesh axes along which ranks meet, ``ranks`` is the size of a group.
    ``reference`` stands for ranks that all hold the same, and is what the first gets;
    ``over_ranks`` is the meaning.
    """

    axes: tuple[str, ...]
    ranks: int
    kind: ClassVar[str]

    @abstractmethod
    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """The result of every rank of a group from the input of every rank, in order of place."""

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """As if all ranks held the same."""
        return (self.over_ranks([inputs[0]] * self.ranks)[0],)

    def moved_bytes(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """The whole buffer."""
        return max(inputs[0].size_bytes, outputs[0].size_bytes)

    def _check(self, inputs: Sequence[TensorType], count: int = 1) -> None:
        expect_count(self.name, inputs, count)
        if self.ranks < 1:
            raise GraphError(f"{self.name} ranks", got=self.ranks, allowed="1 or more")

    def _resized(self, operand: TensorType, grown: int | None, cut: int | None) -> TensorType:
        """The type with dim ``grown`` times the ranks and dim ``cut`` divided by them."""
        shape = list(operand.shape)
        for dim in (grown, cut):
            if dim is not None:
                check_dim(self.name, dim, operand.rank)
        if grown is not None:
            shape[grown] *= self.ranks
        if cut is not None:
            if shape[cut] % self.ranks:
                raise GraphError(
                    f"{self.name} dim {cut}", got=operand, allowed=f"a multiple of {self.ranks}"
                )
            shape[cut] //= self.ranks
        return operand.with_shape(shape)


@dataclass(frozen=True)
class AxisIndex(CollectiveOp, name="axis_index"):
    """The place of each rank in its group, as int32 []; nothing is sent."""

    axes: tuple[str, ...]
    ranks: int
    kind = "all_gather"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """A scalar."""
        self._check(inputs, 0)
        return (TensorType((), INDEX),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        return [np.array(place, INDEX) for place in range(self.ranks)]

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """That of the first rank."""
        return (np.array(0, INDEX),)

    def moved_bytes(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """None: every rank knows its place."""
        return 0


@dataclass(frozen=True)
class AllReduce(CollectiveOp, name="all_reduce"):
    """All ranks' tensors combined, on every rank; ``add`` sums in float32 and rounds once."""

    axes: tuple[str, ...]
    ranks: int
    combine: str = "add"
    kind = "all_reduce"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's type."""
        self._check(inputs)
        if self.combine not in COMBINE:
            raise GraphError("all_reduce combine", got=self.combine, allowed=", ".join(COMBINE))
        return (inputs[0],)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        total = reduce(COMBINE[self.combine], map(widen, arrays))
        return [narrow(total, arrays[0].dtype)] * len(arrays)


@dataclass(frozen=True)
class AllGather(CollectiveOp, name="all_gather"):
    """All ranks' tensors one behind the other along ``dim``, on every rank."""

    axes: tuple[str, ...]
    ranks: int
    dim: int
    kind = "all_gather"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """``dim`` grows by the number of ranks."""
        self._check(inputs)
        return (self._resized(inputs[0], self.dim, None),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        return [np.concatenate(arrays, self.dim)] * len(arrays)


@dataclass(frozen=True)
class ReduceScatter(CollectiveOp, name="reduce_scatter"):
    """All ranks' tensors combined, of which every rank keeps its part of ``dim``."""

    axes: tuple[str, ...]
    ranks: int
    dim: int
    combine: str = "add"
    kind = "reduce_scatter"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """``dim`` shrinks by the number of ranks."""
        self._check(inputs)
        AllReduce(self.axes, self.ranks, self.combine).infer(*inputs)
        return (self._resized(inputs[0], None, self.dim),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        total = AllReduce(self.axes, self.ranks, self.combine).over_ranks(arrays)[0]
        return [np.ascontiguousarray(p) for p in np.split(total, self.ranks, self.dim)]


@dataclass(frozen=True)
class AllToAll(CollectiveOp, name="all_to_all"):
    """Part k of ``split_dim`` goes to rank k, which joins what it gets along ``concat_dim``."""

    axes: tuple[str, ...]
    ranks: int
    split_dim: int
    concat_dim: int
    kind = "all_to_all"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """``split_dim`` shrinks and ``concat_dim`` grows by the number of ranks."""
        self._check(inputs)
        return (self._resized(inputs[0], self.concat_dim, self.split_dim),)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        parts = [np.split(array, self.ranks, self.split_dim) for array in arrays]
        return [
            np.concatenate([own[place] for own in parts], self.concat_dim)
            for place in range(self.ranks)
        ]


@dataclass(frozen=True)
class CollectivePermute(CollectiveOp, name="collective_permute"):
    """Rank s sends its tensor to rank t for each of the ``pairs`` (s, t); others get zeros."""

    axes: tuple[str, ...]
    ranks: int
    pairs: tuple[tuple[int, int], ...]
    kind = "collective_permute"

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's type."""
        self._check(inputs)
        for side in zip(*self.pairs, strict=True):
            if len(set(side)) < len(side) or not set(side) <= set(range(self.ranks)):
                raise GraphError(
                    "collective_permute pairs", got=self.pairs,
                    allowed=f"each of 0..{self.ranks - 1} sends and receives at most once",
                )  # fmt: skip
        return (inputs[0],)

    def over_ranks(self, arrays: Sequence[Array]) -> list[Array]:
        """See the class."""
        found = [np.zeros_like(arrays[0]) for _ in arrays]
        for source, target in self.pairs:
            found[target] = arrays[source].copy()
        return found

    def moved_bytes(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Nothing when every rank keeps its own."""
        moving = any(source != target for source, target in self.pairs)
        return inputs[0].size_bytes if moving else 0
