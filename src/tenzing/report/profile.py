"""Where the time goes and what would save some: critical path, advice, transfers by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from tenzing.errors import Loc
from tenzing.isa.operand import Array, Space
from tenzing.machine import Advice, Link, Tenants, TransferClass
from tenzing.machine.critical import by_line
from tenzing.report.html import Bars, Picture, Rows, Section, Verdict
from tenzing.report.model import (
    ModelProfile,
    add_model,
    model_sections,
    model_tables,
    model_verdict,
)
from tenzing.report.occupancy import occupancy_note, occupancy_svg
from tenzing.report.run import (
    SHOWN_LINES,
    Analysis,
    lines_json,
    lines_table,
    loc_json,
    operations_table,
    run_sections,
    run_summary,
    stalls_table,
)
from tenzing.report.table import Table
from tenzing.units import format_bytes, format_time

SHOWN_PARTS: Final = 3  # what a line's share of the critical path is spent on
VERDICTS: Final = ("bottleneck", "best change")
KERNEL_VERDICTS: Final = ("in our kernels", "to change there")
CRITICAL_NOTE: Final = (
    "The chain of instructions that each started when the one before let it: the shares add up to "
    "the program's time, and only a change on this chain makes it faster."
)
ADVICE_NOTE: Final = (
    "Each change was made to the recorded program and scheduled again; the times are simulated."
)


class Profiled(Analysis, Protocol):
    """An analysis that also knows its critical path."""

    @property
    def critical_path(self) -> Sequence[Link]: ...
    @property
    def advice(self) -> Sequence[Advice]: ...
    def transfers_by_size(self) -> list[TransferClass]: ...
    def tenants(self, space: Space) -> Tenants: ...
    def occupancy(self, space: Space) -> tuple[Array, Array]: ...


def critical_table(analysis: Profiled, count: int = SHOWN_LINES) -> Table:
    """Source lines by their share of the critical path."""
    total = max(analysis.total_ps, 1)
    rows = []
    for loc, spent, parts in by_line(analysis.critical_path)[:count]:
        words = ", ".join(f"{name} {part / total:.0%}" for name, part in _largest(parts))
        rows.append((str(loc or "-"), f"{spent / total:.1%}", words, _source(loc)))
    headers = ["line", "of the time", "spent on", "source"]
    return Table.of(headers, rows, "Critical path", "lrll")


def _source(loc: Loc | None) -> str:
    return loc.excerpt().split("\n")[0].strip() if loc else ""


def _largest(parts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(parts.items(), key=lambda item: -item[1])[:SHOWN_PARTS]


def advice_table(analysis: Profiled, count: int = SHOWN_LINES) -> Table:
    """Changes and what they gain, the best first."""
    rows = [
        (str(a.loc or "-"), a.change, _gain(a), f"to {format_time(a.after_ps)}", a.why)
        for a in analysis.advice[:count]
    ]
    return Table.of(["line", "change", "saves", "time", "because"], rows, "Advice", "llrrl")


def _gain(advice: Advice) -> str:
    return f"{'up to ' if advice.at_most else ''}{advice.gain:.0%}"


def sizes_table(analysis: Profiled) -> Table:
    """Transfers by payload, and the rate each size allows and reached, its latency counted."""
    rows = [
        (f"up to {format_bytes(t.up_to_bytes)}", t.number, format_bytes(t.moved_bytes),
         format_bytes(t.descriptor_bytes), f"{t.alone_gb_s:.1f} GB/s", f"{t.efficiency:.0%}",
         f"{t.reached_gb_s:.1f} GB/s")
        for t in analysis.transfers_by_size()
    ]  # fmt: skip
    headers = ["transfer", "number", "moved", "per descriptor", "alone", "efficiency", "reached"]
    return Table.of(headers, rows, "Transfers by size", "lrrrrrr")


def efficiency_bars(analysis: Profiled) -> list[Section]:
    """The share of the DMA engines' rate that each size of transfer allows, as bars."""
    found = analysis.transfers_by_size()
    if not found:
        return []
    items = [
        (f"up to {format_bytes(t.up_to_bytes)}", t.efficiency,
         f"{t.efficiency:.0%} · {t.number} moved {format_bytes(t.moved_bytes)}")
        for t in found
    ]  # fmt: skip
    return [Bars("DMA efficiency by size of transfer", items,
                 f"Share of the {found[0].full_gb_s:.0f} GB/s of all DMA engines that one transfer "
                 "of this size moves when alone, its latency counted.")]  # fmt: skip


def memory_pictures(analysis: Profiled) -> list[Section]:
    """SBUF and PSUM over time, a layer for each source line."""
    pictures: list[Section] = []
    for space in (Space.SBUF, Space.PSUM):
        held = analysis.tenants(space)
        if not len(held.owner):
            continue
        capacity = analysis.chip.integer(f"{space.name.lower()}.bytes_per_partition")
        drawing = occupancy_svg(held, capacity, analysis.total_ps)
        least = analysis.sbuf_peak_bytes if space is Space.SBUF else analysis.psum_peak_bytes
        note = occupancy_note(held, capacity, least)
        pictures.append(Picture(f"{space.name} over time", drawing, note))
    return pictures


def bottleneck(analysis: Profiled) -> str:
    """The line that most of the time hangs on; a second line has the best change."""
    ranked = by_line(analysis.critical_path)
    if not ranked:
        return "nothing was executed"
    loc, spent, parts = ranked[0]
    reason = _largest(parts)[0][0]
    share = spent / max(analysis.total_ps, 1)
    words = f"{loc or 'no source line'}, {share:.0%} of the time, mostly {reason}"
    words += f": {_source(loc)}" if _source(loc) else ""
    if analysis.advice:
        best = analysis.advice[0]
        words += f"\n{best.change} at {best.loc} saves {_gain(best)}"
    return words


def profile_summary(analysis: Profiled, model: ModelProfile | None = None) -> str:
    """The bottleneck first, then the summary of the run, then the tables; a model's own first."""
    kinds = (critical_table, advice_table, sizes_table, lines_table, operations_table, stalls_table)
    tables = [make(analysis) for make in kinds]
    words = _verdict(analysis, model)
    parts = ["\n".join(f"{label}: {text}" for label, text in words), run_summary(analysis)]
    parts += [table.text() for table, _ in model_tables(model, analysis.total_ps)] if model else []
    return "\n\n".join([*parts, *(t.text() for t in tables if t.rows)])


def _verdict(analysis: Profiled, model: ModelProfile | None) -> list[tuple[str, str]]:
    """The bottleneck and the best change; for a model first those of the model."""
    lines = bottleneck(analysis).splitlines()
    if model is None:
        return list(zip(VERDICTS, lines, strict=False))
    own = model_verdict(model, max(analysis.total_ps, 1))
    return [*zip(VERDICTS, own, strict=False), *zip(KERNEL_VERDICTS, lines, strict=False)]


def profile_page(analysis: Profiled, model: ModelProfile | None = None) -> list[Section]:
    """The parts of a page about one profile: the verdict, where the time goes, then the rest."""
    noted = (critical_table(analysis), CRITICAL_NOTE), (advice_table(analysis), ADVICE_NOTE)
    where: list[Section] = [Rows(table, note) for table, note in noted if table.rows]
    where = [*(model_sections(model, analysis.total_ps) if model else []), *where]
    where += memory_pictures(analysis)
    sizes = sizes_table(analysis)
    where += [*efficiency_bars(analysis), *([Rows(sizes)] if sizes.rows else [])]
    timeline = add_model(analysis.timeline(), model)
    return run_sections(analysis, [Verdict(_verdict(analysis, model))], where, timeline)


def profile_parts_json(analysis: Profiled) -> dict[str, Any]:
    """The same in plain types, with the busiest lines and longest waits."""
    return {
        **lines_json(analysis),
        "critical_path": [
            {**(loc_json(loc) if loc else {}), "source": _source(loc), "ps": spent,
             "spent_on_ps": parts}
            for loc, spent, parts in by_line(analysis.critical_path)
        ],
        "advice": [
            {**(loc_json(a.loc) if a.loc else {}), "change": a.change, "because": a.why,
             "gain": a.gain, "at_most": a.at_most, "before_ps": a.before_ps, "after_ps": a.after_ps}
            for a in analysis.advice
        ],
        "transfers": [
            {**asdict(t), "alone_gb_s": t.alone_gb_s, "reached_gb_s": t.reached_gb_s,
             "efficiency": t.efficiency}
            for t in analysis.transfers_by_size()
        ],
    }  # fmt: skip


__all__ = [
    "Profiled", "advice_table", "bottleneck", "critical_table", "profile_parts_json",
    "profile_page", "profile_summary", "sizes_table",
]  # fmt: skip
