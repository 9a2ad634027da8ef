"""Changes to compute: a faster engine, wider instructions, fewer changes of function tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Final

from tenzing.errors import Loc
from tenzing.facts import Chip
from tenzing.isa.instruction import Cost, Engine, Instruction
from tenzing.isa.operand import Layout
from tenzing.isa.program import Template
from tenzing.machine.advice.edits import Change, Edit, Recorded, rewritten
from tenzing.machine.schedule import Timing
from tenzing.units import PS_PER_NS, PS_PER_US

TRIED: Final = 6  # lines that are tried, the busiest first
JOINED: Final = 8  # instructions of a line that are tried as one
FEWEST: Final = 2 * JOINED
FIXED_SHARE: Final = 0.5  # an instruction is short when this much of it is overhead
FEWEST_LOADS: Final = 3
TITLES: Final = {Engine.vector: "Vector", Engine.scalar: "Scalar", Engine.gpsimd: "GpSimd"}


def other_engines(recorded: Recorded) -> Iterator[Change]:
    """Lines whose instructions another engine runs too: there."""
    program = recorded.program
    for numbers in _busiest(recorded):
        templates = [program.templates[number] for number in numbers]
        choices = {e for t in templates for e in t.instruction.engines if e in TITLES}
        for engine in choices - {t.engine for t in templates}:
            moved = [_moved(template, engine, program.chip) for template in templates]
            if None in moved:
                continue
            changed = list(program.templates)
            for template, new in zip(templates, moved, strict=True):
                assert new is not None
                changed[template.number] = new
            old, new = templates[0], changed[templates[0].number]
            why = (f"{old.instruction.nki} takes {_ns(old)} on {TITLES[old.engine]} and "
                   f"{_ns(new)} on {TITLES[engine]}")  # fmt: skip
            what = f"run it on {TITLES[engine]}"
            found = rewritten(recorded, replace(program, templates=changed), old.loc, what, why)
            if found is not None:
                yield found


def _busiest(recorded: Recorded) -> Iterator[list[int]]:
    """Templates of the lines of elementwise work that keep their engine busy for longest."""
    program = recorded.program
    busy: dict[tuple[str, int], int] = {}
    for line, numbers in recorded.by_line.items():
        if all(program.templates[number].engine in TITLES for number in numbers):
            busy[line] = sum(
                len(recorded.by_template[k]) * program.templates[k].cost.issue_ps for k in numbers
            )
    for line in sorted(busy, key=lambda line: -busy[line])[:TRIED]:
        yield recorded.by_line[line]


def _moved(template: Template, engine: Engine, chip: Chip) -> Template | None:
    """The template on another engine; None where that cannot run it with the same result."""
    integers = any(x.dtype.kind in "iu" for x in template.layouts)
    if integers or not hasattr(template.instruction, "engine"):
        return None
    instruction = copy(template.instruction)
    instruction.engine = engine
    if instruction.broken_rules(chip):
        return None
    cost = instruction.cost(chip)
    return replace(template, instruction=instruction, engine=engine, cost=cost)


def _ns(template: Template) -> str:
    return f"{template.cost.issue_ps / PS_PER_NS:.0f} ns"


# -- size ----------------------------------------------------------------------------------------


def wider_instructions(recorded: Recorded) -> Iterator[Change]:
    """Lines of many short instructions: eight of them as one with eight times the columns."""
    program = recorded.program
    for numbers in _busiest(recorded):
        for number in numbers:
            template, where = program.templates[number], recorded.by_template[number]
            if len(where) < FEWEST or template.cost.table is not None:
                continue
            if _serial(recorded, number):
                continue
            wide = _widened(template.instruction, program.chip)
            shorter = wide is not None and wide.issue_ps < JOINED * template.cost.issue_ps
            if wide is None or not shorter or not _is_short(template.cost, wide):
                continue
            edit = Edit(recorded)
            whole = edit.add(template, wide)
            for start in range(0, len(where), JOINED):
                first, *others = where[start : start + JOINED]
                edit.give(first, whole)
                for other in others:
                    edit.drop(other, latency_ps=wide.latency_ps - wide.issue_ps)
            columns = max(x.free for x in template.layouts)
            what = f"work on {JOINED} of them at a time, as one wider instruction"
            why = (f"{len(where)} instructions of {columns} columns, each {_ns(template)} of which "
                   f"most does not depend on its size")  # fmt: skip
            yield edit.change(template.loc, what, why)


def _is_short(cost: Cost, wide: Cost) -> bool:
    """Whether most of an instruction's time is there at any size."""
    each = (wide.issue_ps - cost.issue_ps) / (JOINED - 1)
    return cost.issue_ps - each > FIXED_SHARE * cost.issue_ps


def _serial(recorded: Recorded, number: int) -> bool:
    """Whether an instruction of a template reads what another one of them led to."""
    program = recorded.program
    led: set[tuple[int, int]] = set()  # tiles and offsets
    for row in program.rows:
        template = program.templates[row[0]]
        views = [(row[1 + 2 * k], row[2 + 2 * k]) for k in range(len(template.layouts))]
        reads = any(views[k] in led for k in template.reads)
        if row[0] == number and reads:
            return True
        for k in template.writes:
            if row[0] == number or reads:
                led.add(views[k])
            else:
                led.discard(views[k])
    return False


def _widened(instruction: Instruction, chip: Chip) -> Cost | None:
    """Cost with eight times the columns; None where the operands cannot grow alike.

    A number for each partition stays as it is.
    """
    wide = copy(instruction)
    columns = {layout.free for _, _, layout in instruction.layouts()}
    for name, spec, layout in instruction.layouts():
        if layout.free == 1 and spec.role == "reads" and max(columns) > 1:
            continue
        if len(layout.shape) <= 1 or layout.free != max(columns):
            return None
        shape = (*layout.shape[:-1], JOINED * layout.shape[-1])
        setattr(wide, name, Layout.of(layout.space, layout.dtype, shape, layout.strides,
                                      layout.pitch))  # fmt: skip
    return None if wide.broken_rules(chip) else wide.cost(chip)


# -- tables --------------------------------------------------------------------------------------


def grouped_functions(recorded: Recorded) -> Iterator[Change]:
    """Functions that take turns on Scalar: each table loaded once."""
    program = recorded.program
    used = [(index, t) for index, row in enumerate(program.rows)
            if (t := program.templates[row[0]]).cost.table is not None]  # fmt: skip
    loads = [pair for k, pair in enumerate(used) if not k or _differs(used[k - 1][1], pair[1])]
    tables = {template.cost.table for _, template in used}
    if len(loads) < FEWEST_LOADS or len(loads) <= len(tables):
        return
    edit = Edit(recorded)
    loaded: set[str | None] = set()
    bare: dict[int, int] = {}
    for index, template in used:
        if template.cost.table not in loaded:
            loaded.add(template.cost.table)
            continue
        if template.number not in bare:
            bare[template.number] = edit.add(template, replace(template.cost, table=None))
        edit.give(index, bare[template.number])
    names = " and ".join(sorted(map(str, tables))[:2])
    each = Timing.of(program.chip).table_load_ps / PS_PER_US
    what = "do all of one function before the next, so that each table is loaded once"
    why = f"{len(loads)} table loads of {each:.2g} us: {names} take turns"
    yield replace(edit.change(_most_common(loads), what, why), at_most=True)


def _differs(one: Template, other: Template) -> bool:
    return one.cost.table != other.cost.table


def _most_common(loads: Sequence[tuple[int, Template]]) -> Loc | None:
    """The line at which most tables are loaded."""
    counts = Counter((t.loc.file, t.loc.line) for _, t in loads if t.loc is not None)
    if not counts:
        return None
    line = counts.most_common(1)[0][0]
    return next(t.loc for _, t in loads if t.loc and (t.loc.file, t.loc.line) == line)


__all__ = ["grouped_functions", "other_engines", "wider_instructions"]
