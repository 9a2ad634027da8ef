"""A recorded program, and changes to it that can be scheduled again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np

from tenzing.errors import Loc
from tenzing.isa.instruction import Cost, Engine
from tenzing.isa.program import Program, Row, Template
from tenzing.machine.deps import Dependencies, analyse_dependencies
from tenzing.machine.place import Placement, place
from tenzing.machine.schedule import Schedule


@dataclass(frozen=True)
class Advice:
    """A change at a source line, and what it is worth: the program's time before and after.

    ``at_most``: the change has costs that are not counted, such as an order that delays others.
    """

    loc: Loc | None
    change: str
    why: str
    before_ps: int
    after_ps: int
    at_most: bool = False

    @property
    def gain(self) -> float:
        """Share of the time saved."""
        return 1 - self.after_ps / self.before_ps if self.before_ps else 0.0


@dataclass(frozen=True)
class Recorded:
    """A program with all that scheduling it again needs."""

    program: Program
    placement: Placement
    dependencies: Dependencies
    times: Schedule

    @cached_property
    def by_template(self) -> dict[int, list[int]]:
        """Instructions of every template that is used, in program order."""
        rows: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(self.program.rows):
            rows[row[0]].append(index)
        return dict(rows)

    @cached_property
    def by_line(self) -> dict[tuple[str, int], list[int]]:
        """Templates that are used, by file and line."""
        lines: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number in self.by_template:
            loc = self.program.templates[number].loc
            if loc is not None:
                lines[loc.file, loc.line].append(number)
        return dict(lines)


@dataclass(frozen=True)
class Change:
    """What to change at a line and why, and the program after it."""

    loc: Loc | None
    what: str
    why: str
    program: Program
    dependencies: Dependencies
    at_most: bool = False


Changes = Callable[[Recorded], Iterator[Change]]


class Edit:
    """A copy of a record in which instructions get other templates, or cost nothing."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.rows: list[Row] = list(recorded.program.rows)
        self.templates: list[Template] = list(recorded.program.templates)
        self._nothing: dict[tuple[int, int], int] = {}
        self._before: dict[int, list[int]] = {}

    def add(self, template: Template, cost: Cost, engine: Engine | None = None) -> int:
        """The number of a copy of a template with another cost, perhaps on another engine."""
        number = len(self.templates)
        chosen = template.engine if engine is None else engine
        self.templates.append(replace(template, number=number, cost=cost, engine=chosen))
        return number

    def give(self, index: int, number: int) -> None:
        """Instruction ``index`` is one of template ``number`` from now on."""
        self.rows[index] = (number, *self.rows[index][1:])

    def drop(self, index: int, waits_for: Sequence[int] = (), latency_ps: int = 0) -> None:
        """Instruction ``index`` takes no time, waits for others than before.

        What needs its result waits for ``latency_ps`` more.
        """
        old = self.rows[index][0]
        if (old, latency_ps) not in self._nothing:
            template = self.templates[old]
            number = self.add(template, _free(template.cost, latency_ps))
            self._nothing[old, latency_ps] = number
        self.give(index, self._nothing[old, latency_ps])
        self._before[index] = sorted(waits_for)

    def change(self, loc: Loc | None, what: str, why: str) -> Change:
        """The change made so far; dependencies are the old ones but for what was dropped."""
        program = replace(self.recorded.program, templates=self.templates, rows=self.rows)
        old = self.recorded.dependencies
        return Change(loc, what, why, program, _edges(old, self._before) if self._before else old)


def rewritten(
    recorded: Recorded, program: Program, loc: Loc | None, what: str, why: str
) -> Change | None:
    """A change whose dependencies must be found anew; None when it does not fit the memories."""
    placement = place(program)
    if any(f.rule == "capacity" for f in placement.findings) and not any(
        f.rule == "capacity" for f in recorded.placement.findings
    ):
        return None
    return Change(loc, what, why, program, analyse_dependencies(program, placement))


def _free(cost: Cost, latency_ps: int) -> Cost:
    """The cost of nothing, with a result that is late."""
    transfer = cost.transfer
    if transfer is not None:
        transfer = replace(transfer, hbm_bytes=0, service_ps=0, fixed_ps=0, descriptors=0)
    return replace(cost, issue_ps=0, latency_ps=latency_ps, chained_ps=None, load_ps=0,
                   table=None, transfer=transfer)  # fmt: skip


def _edges(old: Dependencies, changed: Mapping[int, Sequence[int]]) -> Dependencies:
    """The old edges, but for the instructions whose predecessors are given."""
    rows = np.fromiter(changed, np.int64, len(changed))
    sizes = np.fromiter(map(len, changed.values()), np.int64, len(changed))
    counts = np.diff(old.start)
    kept = np.ones(len(counts), bool)
    kept[rows] = False
    edges = np.flatnonzero(np.repeat(kept, counts))
    moved = counts.copy()
    moved[rows] = sizes
    start = np.concatenate([[0], np.cumsum(moved)]).astype(np.int64)
    joined = np.empty(start[-1], np.int64)
    shift = np.repeat(start[:-1] - old.start[:-1], counts)
    joined[edges + shift[edges]] = old.joined[edges]
    fresh = np.fromiter(chain.from_iterable(changed.values()), np.int64, int(sizes.sum()))
    joined[np.repeat(start[rows] - np.cumsum(sizes) + sizes, sizes) + np.arange(len(fresh))] = fresh
    return Dependencies(start, joined, old.queue)


__all__ = ["Advice", "Change", "Changes", "Edit", "Recorded", "rewritten"]
