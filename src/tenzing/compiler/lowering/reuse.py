"""Kernels recorded once: an operation seen before, on operands that lie alike, is copied.

Only records without values are copied: shapes, dtypes and layouts alone decide them. What one
graph records serves every other graph of the same chip that is given the same ``Recordings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from tenzing.compiler.digest import op_line
from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import Rule
from tenzing.isa import Storage
from tenzing.isa.operand import Layout
from tenzing.isa.program import Row, Template
from tenzing.machine.core import Core, active_core
from tenzing.nki import NkiTensor
from tenzing.nki.tensor import as_tensor

OWN_STATE: Final = frozenset({"kernel"})  # a user's kernel may do anything while it is recorded


@dataclass
class Recordings:
    """What was recorded so far for one chip: templates, and the rows of each distinct kernel."""

    templates: list[Template] = field(default_factory=list)
    by_call: dict[tuple[Any, ...], Template] = field(default_factory=dict)
    kernels: dict[Any, Recording] = field(default_factory=dict)

    def serve(self, core: Core) -> None:
        """Number the templates of a new core as those before."""
        core.program.templates = self.templates
        core.templates = self.by_call


RECORDINGS: Final[ContextVar[Recordings]] = ContextVar("recordings")


@dataclass(frozen=True)
class Recording:
    """Rows of one kernel; storages by number among its own, those from outside from the end.

    ``kept``: constant tiles of the core that it reads, by their names there.
    """

    rows: tuple[Row, ...]
    own: tuple[Storage, ...]
    kept: tuple[Any, ...]
    results: tuple[tuple[int, int, Layout], ...]

    def again(self, core: Core, inputs: Sequence[NkiTensor]) -> list[NkiTensor] | None:
        """The kernel on other inputs; None when the core lacks a constant tile."""
        if any(name not in core.kept for name in self.kept):
            return None
        storages = core.program.storages
        first = len(storages)
        storages.extend(_again(s, first + k) for k, s in enumerate(self.own))
        outside = [x.storage.id for x in (*inputs, *(core.kept[name] for name in self.kept))]
        place = [*range(first, len(storages)), *reversed(outside)]
        core.program.rows.extend([_renamed(row, place) for row in self.rows])
        return [as_tensor(storages[place[k]], layout, None, at) for k, at, layout in self.results]


def lowered(rule: Rule, node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    """What ``rule`` makes of a node on the active core, copied where it was recorded before."""
    core, recordings = active_core(), RECORDINGS.get(None)
    if recordings is None or core.values or node.op.name in OWN_STATE:
        return rule(node, inputs)
    core.flush()
    key = (rule, op_line(node.op), *(v.type for v in node.outputs), *_operands(inputs))
    known = recordings.kernels.get(key)
    results = None if known is None else known.again(core, inputs)
    if results is None:
        start = len(core.program.rows), len(core.program.storages), len(core.kept)
        results = rule(node, inputs)
        core.flush()
        made = _recorded(core, start, inputs, results)
        if made is not None:
            recordings.kernels[key] = made
    return results


def _operands(inputs: Sequence[NkiTensor]) -> list[tuple[Any, ...]]:
    """How each operand lies in its storage, and which operands share one."""
    ids = [x.storage.id for x in inputs]
    return [(x.layout, x.offset, x.storage.shape, ids.index(x.storage.id)) for x in inputs]


def _recorded(
    core: Core,
    start: tuple[int, int, int],
    inputs: Sequence[NkiTensor],
    results: Sequence[NkiTensor],
) -> Recording | None:
    """What was added since ``start``; None when it reads or leaves behind more than its key says.

    ``start``: rows, storages and constant tiles there were before.
    """
    rows, first = core.program.rows[start[0] :], start[1]
    if len(core.kept) != start[2]:
        return None
    place = {first + k: k for k in range(len(core.program.storages) - first)}
    tiles = {tile.storage.id: name for name, tile in core.kept.items()}
    read = {s for row in rows for s in row[1::2]}
    kept = [number for number in tiles if number in read]
    outside = [*(x.storage.id for x in inputs), *kept]
    place.update((s, -1 - k) for k, s in reversed(list(enumerate(outside))))
    if not read.union(x.storage.id for x in results) <= place.keys():
        return None
    return Recording(
        tuple(_renamed(row, place) for row in rows),
        tuple(core.program.storages[first:]), tuple(tiles[number] for number in kept),
        tuple((place[x.storage.id], x.offset, x.layout) for x in results),
    )  # fmt: skip


def _renamed(row: Row, place: Any) -> Row:
    """The row with each storage replaced by its entry in ``place``."""
    if len(row) == 5:  # noqa: PLR2004 - the common sizes without a loop
        return (row[0], place[row[1]], row[2], place[row[3]], row[4])
    if len(row) == 7:  # noqa: PLR2004
        number, a, i, b, j, c, k = row
        return (number, place[a], i, place[b], j, place[c], k)
    parts = [place[x] if at % 2 == 0 else x for at, x in enumerate(row[1:])]
    return (row[0], *parts)


def _again(storage: Storage, number: int) -> Storage:
    return Storage(
        number, storage.space, storage.dtype, storage.shape, storage.partitions, storage.pitch,
        storage.name, storage.origin, storage.loc_key, storage.address,
    )  # fmt: skip


__all__ = ["RECORDINGS", "Recording", "Recordings", "lowered"]
