"""Choices between values that are equal within rounding, where two right answers part.

A router takes the largest scores, a detector the best boxes. Where two candidates are equal, or
nearly so, each program picks its own, and everything behind the choice differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler.graph import Array, Graph, Node, Value
from tenzing.compiler.ops import ArgMax, Compare, Op, Sort, TopK

NEAR: Final = 1e-4  # of the largest candidate: as far apart as sums in another order may be
DECIDING: Final = (ArgMax, Compare, Sort, TopK)


@dataclass(frozen=True)
class Choice:
    """An operation that decided otherwise than the framework, ``taken`` times ``of`` so many.

    ``apart``: the largest distance between what each picked, of the largest candidate.
    """

    operation: str
    module: str
    place: str
    taken: int
    of: int
    apart: float

    def __str__(self) -> str:
        where = f"{self.operation} of {self.module or '-'} {self.place}".rstrip()
        distance = "equal" if not self.apart else f"{self.apart:.1g} apart"
        return f"{where}: {self.taken} of {self.of} picked otherwise, among candidates {distance}"


def following(
    graph: Graph, bound: Mapping[Value, Array], known: Mapping[str, Array]
) -> tuple[list[Choice], tuple[Array, ...]]:
    """Outputs by NumPy's meaning of each operation, with the framework's pick in every near tie.

    ``known``: the framework's values by the origin of ours. A pick that is worse by more than
    ``NEAR`` is not followed, so what it leads to stays different.
    """
    arrays, choices = dict(bound), []
    for node in graph.nodes:
        inputs = [arrays[value] for value in node.inputs]
        results = node.op.reference(*inputs)
        theirs = known.get(node.outputs[-1].origin) if isinstance(node.op, DECIDING) else None
        if theirs is not None and theirs.shape == results[-1].shape:
            results, choice = _followed(node, inputs, results, theirs)
            choices.extend([choice] if choice else [])
        arrays.update(zip(node.outputs, results, strict=True))
    return choices, tuple(arrays[value] for value in graph.outputs)


def _followed(
    node: Node, inputs: list[Array], ours: tuple[Array, ...], theirs: Array
) -> tuple[tuple[Array, ...], Choice | None]:
    other = theirs != ours[-1]
    if not other.any():
        return ours, None
    picked = _picked(node.op, inputs, ours[-1]), _picked(node.op, inputs, theirs)
    largest = max((float(np.abs(_finite(x)).max(initial=0.0)) for x in inputs), default=0.0)
    distance = np.abs(_finite(picked[0]) - _finite(picked[1])).max(initial=0.0)
    apart = float(distance) / (largest or 1.0)
    if apart > NEAR:
        return ours, None
    place = str(node.loc or "")
    taken = int(other.sum())
    choice = Choice(node.op.name, node.scope, place, taken, other.size, apart)
    index = theirs.astype(ours[-1].dtype)
    values = (picked[1].astype(ours[0].dtype),) if len(ours) > 1 else ()
    return (*values, index), choice


def _picked(op: Op, inputs: list[Array], decision: Array) -> Array:
    """What a decision picked: the elements at its indices, or the larger side of a comparison."""
    if isinstance(op, Compare):
        left, right = np.broadcast_arrays(inputs[0], inputs[1])
        return np.where(decision.astype(bool), left, right)
    dim = op.dim if isinstance(op, Sort | ArgMax) else -1
    index = np.clip(decision.astype(np.int64), 0, inputs[0].shape[dim] - 1)
    if isinstance(op, ArgMax) and index.ndim < inputs[0].ndim:
        index = np.expand_dims(index, dim)
    return np.take_along_axis(inputs[0], index, axis=dim)


def _finite(array: Array) -> Array:
    return np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)


__all__ = ["NEAR", "Choice", "following"]
