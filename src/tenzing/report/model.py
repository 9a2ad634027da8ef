"""A model's profile: modules and operations first, and what of them its user can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from tenzing.compiler.attribution import NodeGroup, NodeTime, grouped
from tenzing.isa.operand import Array
from tenzing.report.explorer import Column
from tenzing.report.html import Rows, Section
from tenzing.report.run import loc_json
from tenzing.report.table import Table
from tenzing.timeline import MODEL_TRACK, Timeline
from tenzing.units import PS_PER_S, format_time

SHOWN: Final = 12  # groups of operations in a text; JSON has every operation
SHOWN_PARTS: Final = 2
TERA: Final = 10**12
GIGA: Final = 10**9
OPERATIONS_NOTE: Final = (
    "Shares of the critical path, which add up to the program's time; equal operations of equal "
    "layers together. Rates are over that time, or over that of the busiest engine if it is longer."
)
CHANGES_NOTE: Final = (
    'What says "saves" was compiled and timed again. The rest is the time that a change is about, '
    "not a gain."
)


class ModelChange(Protocol):
    """Something that a model's user can change."""

    @property
    def kind(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def before_ps(self) -> int: ...
    @property
    def after_ps(self) -> int | None: ...
    @property
    def gain(self) -> float | None: ...


class ModelProfile(Protocol):
    """A model by operation, and what can be changed."""

    @property
    def nodes(self) -> Sequence[NodeTime]: ...
    @property
    def changes(self) -> Sequence[ModelChange]: ...
    @property
    def owner(self) -> Array: ...


def operations_table(model: ModelProfile, total_ps: int, count: int = SHOWN) -> Table:
    """Operations by their share of the time, with what they reach."""
    rows = [
        (g.module or "(top)", _called(g), g.number, g.result, f"{g.critical_ps / total_ps:.1%}",
         _spent(g, total_ps), _reached(g))
        for g in grouped(model.nodes)[:count] if g.critical_ps
    ]  # fmt: skip
    headers = ["module", "operation", "number", "result", "of the time", "spent on", "reaches"]
    return Table.of(headers, rows, "Modules and operations", "llrlrll")


def _called(group: NodeGroup) -> str:
    return group.name if group.operation == "fused" else group.operation


def _spent(group: NodeGroup, total_ps: int) -> str:
    largest = sorted(group.spent_on.items(), key=lambda item: -item[1])[:SHOWN_PARTS]
    return ", ".join(f"{name} {part / total_ps:.0%}" for name, part in largest)


def _reached(group: NodeGroup) -> str:
    """TFLOPS of products and GB/s of HBM: over its share of the time, or its engine's if longer."""
    seconds = max(group.critical_ps, group.busy_ps) / PS_PER_S
    words = [f"{group.flops / seconds / TERA:.3g} TFLOPS"] if group.flops else []
    return ", ".join([*words, f"{group.hbm_bytes / seconds / GIGA:.3g} GB/s"])


def changes_table(model: ModelProfile, total_ps: int) -> Table:
    """What the user can change: gains where they were tried, else the time it is about."""
    tried = sorted((c for c in model.changes if c.gain is not None), key=lambda c: -(c.gain or 0))
    told = sorted((c for c in model.changes if c.gain is None), key=lambda c: -c.before_ps)
    rows = [(c.kind, c.what, f"saves {c.gain:.0%}", f"to {format_time(c.after_ps or 0)}")
            for c in tried]  # fmt: skip
    rows += [(c.kind, c.what, f"about {c.before_ps / total_ps:.0%}", format_time(c.before_ps))
             for c in told]  # fmt: skip
    return Table.of(["what", "change", "gain", "time"], rows, "What you can change", "llrr")


def model_verdict(model: ModelProfile, total_ps: int) -> list[str]:
    """The operation that most of the time hangs on, and the best change that was tried."""
    groups = [g for g in grouped(model.nodes) if g.critical_ps]
    if not groups:
        return []
    first = groups[0]
    many = f", {first.number} of them" if first.number > 1 else ""
    reason = max(first.spent_on, key=lambda name: first.spent_on[name])
    words = (f"{_called(first)} in {first.module or 'the model itself'}{many}, "
             f"{first.critical_ps / total_ps:.0%} of the time, mostly {reason}")  # fmt: skip
    tried = [c for c in model.changes if c.gain]
    if not tried:
        return [words]
    best = max(tried, key=lambda c: c.gain or 0)
    return [words, f"{best.what}, saves {best.gain:.0%}"]


def model_tables(model: ModelProfile, total_ps: int) -> list[tuple[Table, str]]:
    """The tables of a model that have rows, each with its note."""
    found = ((operations_table(model, total_ps), OPERATIONS_NOTE),
             (changes_table(model, total_ps), CHANGES_NOTE))  # fmt: skip
    return [(table, note) for table, note in found if table.rows]


def model_sections(model: ModelProfile, total_ps: int) -> list[Section]:
    """The same as parts of a page."""
    return [Rows(table, note) for table, note in model_tables(model, total_ps)]


def add_model(timeline: Timeline, model: ModelProfile | None) -> Timeline:
    """Add a track with a span for each operation, named after it, with its module as the place."""
    nodes = [n for n in model.nodes if n.instructions] if model else []
    for node in sorted(nodes, key=lambda n: (n.start_ps, n.end_ps)):
        name = node.name if node.operation == "fused" else node.operation
        timeline.add(MODEL_TRACK, name, node.start_ps, node.end_ps, node.module)
    return timeline


def layer_columns(model: ModelProfile) -> dict[str, Column]:
    """The module and the operation of each instruction, as columns of a table."""
    nodes = sorted(model.nodes, key=lambda n: n.number)
    names = [n.name if n.operation == "fused" else n.operation for n in nodes]
    return {"layer": Column.named([n.module for n in nodes], model.owner),
            "hlo_name": Column.named(names, model.owner)}  # fmt: skip


def model_json(model: ModelProfile) -> dict[str, Any]:
    """Every operation and every change, in plain types."""
    return {
        "operations": [
            {**asdict(node), "loc": loc_json(node.loc) if node.loc else None, "engine": node.engine}
            for node in model.nodes
        ],
        "changes": [
            {"kind": c.kind, "what": c.what, "before_ps": c.before_ps, "after_ps": c.after_ps,
             "gain": c.gain}
            for c in model.changes
        ],
    }  # fmt: skip


__all__ = [
    "ModelProfile", "add_model", "changes_table", "layer_columns", "model_json", "model_sections",
    "model_tables", "model_verdict", "operations_table",
]  # fmt: skip
