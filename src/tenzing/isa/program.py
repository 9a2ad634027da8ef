"""The recorded program: templates, rows and storages; one record feeds values, time and checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenzing.errors import Loc
from tenzing.facts import Chip
from tenzing.isa.instruction import Cost, Engine, Instruction
from tenzing.isa.operand import Layout, Space, Storage, resolve_loc

Row = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Template:
    """One call site with fixed layouts and attributes, validated and costed once.

    ``operands`` names the tensor operands in recorded order; a row is then
    ``(template, storage, offset, storage, offset, ...)``.
    """

    number: int
    instruction: Instruction
    engine: Engine
    cost: Cost
    operands: tuple[str, ...]
    layouts: tuple[Layout, ...]
    reads: tuple[int, ...]  # positions in ``operands``
    writes: tuple[int, ...]
    constants: dict[str, Any]
    loc_key: tuple[Any, int] | None
    name: str = ""
    psum_writes: tuple[int, ...] = ()
    _loc: Loc | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.psum_writes = tuple(k for k in self.writes if self.layouts[k].space is Space.PSUM)

    @property
    def loc(self) -> Loc | None:
        """Where in the user's source the call stands."""
        if self._loc is None:
            self._loc = resolve_loc(self.loc_key)
        return self._loc


@dataclass(slots=True)
class Program:
    """Instructions of one core in issue order.

    ``rows[i]`` is ``(template number, storage id, byte offset, ...)``. ``hbm_sharers``: cores of
    one HBM stack that the launch uses, this one included.
    """

    chip: Chip
    templates: list[Template] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    name: str = ""
    hbm_sharers: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    def template(self, index: int) -> Template:
        """Template of instruction ``index``."""
        return self.templates[self.rows[index][0]]

    def accesses(self, index: int) -> Iterator[tuple[Storage, int, Layout, bool, bool]]:
        """Operands of instruction ``index``: storage, offset, layout, is read, is written."""
        row = self.rows[index]
        template = self.templates[row[0]]
        for place, layout in enumerate(template.layouts):
            storage = self.storages[row[1 + 2 * place]]
            yield (storage, row[2 + 2 * place], layout,
                   place in template.reads, place in template.writes)  # fmt: skip

    def flops(self) -> int:
        """Multiply and add operations of all matrix products."""
        per_template = [template.instruction.flops() for template in self.templates]
        return sum(per_template[row[0]] for row in self.rows)

    def text(self, limit: int | None = None) -> str:
        """The program as lines of NKI-like calls with addresses as names."""
        lines = []
        for index, row in enumerate(self.rows[:limit]):
            template = self.templates[row[0]]
            args = ", ".join(
                f"{name}=%{row[1 + 2 * k]}+{row[2 + 2 * k]}{_shape(template.layouts[k])}"
                for k, name in enumerate(template.operands)
            )
            lines.append(f"{index:6d} {template.engine.name:7s} {template.instruction.nki}({args})")
        if limit is not None and len(self.rows) > limit:
            lines.append(f"       ... {len(self.rows) - limit} more")
        return "\n".join(lines)


def _shape(layout: Layout) -> str:
    return "[" + "x".join(map(str, layout.shape)) + "]" + layout.dtype.name


def operand_places(
    instruction: Instruction, names: Sequence[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions among ``names`` that the instruction reads and writes."""
    accumulates = getattr(instruction, "accumulate", True)
    reads = [
        k
        for k, name in enumerate(names)
        if instruction.operands[name].role == "reads"
        or (instruction.operands[name].role == "updates" and accumulates)
    ]
    writes = [k for k, name in enumerate(names) if instruction.operands[name].role != "reads"]
    return tuple(reads), tuple(writes)
