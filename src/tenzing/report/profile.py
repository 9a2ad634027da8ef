"""Where the time goes and what would save some: critical path, advice, transfers by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from tenzing.errors import Loc
from tenzing.isa.operand import Array, Space
from tenzing.machine import Advice, Link
from tenzing.machine.critical import by_line
from tenzing.report.html import Rows, Section
from tenzing.report.run import (
    SHOWN_LINES,
    Analysis,
    lines_json,
    lines_table,
    loc_json,
    run_summary,
    stalls_table,
)
from tenzing.report.table import Table
from tenzing.units import PS_PER_S, format_bytes, format_time

GIGA: Final = 10**9
SHOWN_PARTS: Final = 3  # what a line's share of the critical path is spent on
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
    def transfers_by_size(self) -> list[tuple[int, int, int, int]]: ...
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
        (str(a.loc or "-"), a.change, f"{a.gain:.0%}", f"to {format_time(a.after_ps)}", a.why)
        for a in analysis.advice[:count]
    ]
    return Table.of(["line", "change", "saves", "time", "because"], rows, "Advice", "llrrl")


def sizes_table(analysis: Profiled) -> Table:
    """Transfers by payload, and the rate each size reaches with its latency counted."""
    rows = [
        (f"up to {format_bytes(size)}", count, format_bytes(moved),
         f"{moved * PS_PER_S / max(spent, 1) / GIGA:.1f} GB/s")
        for size, count, moved, spent in analysis.transfers_by_size()
    ]  # fmt: skip
    headers = ["transfer", "number", "moved", "each reaches"]
    return Table.of(headers, rows, "Transfers by size", "lrrr")


def bottleneck(analysis: Profiled) -> str:
    """One sentence: the line that most of the time hangs on, and the best change."""
    ranked = by_line(analysis.critical_path)
    if not ranked:
        return "nothing was executed"
    loc, spent, parts = ranked[0]
    reason = _largest(parts)[0][0]
    share = spent / max(analysis.total_ps, 1)
    words = f"bottleneck: {loc or 'no source line'}, {share:.0%} of the time, mostly {reason}"
    words += f": {_source(loc)}" if _source(loc) else ""
    if analysis.advice:
        best = analysis.advice[0]
        words += f"\nbest change: {best.change} at {best.loc} saves {best.gain:.0%}"
    return words


def profile_summary(analysis: Profiled) -> str:
    """The bottleneck first, then the summary of the run, then the tables."""
    tables = (critical_table(analysis), advice_table(analysis), sizes_table(analysis),
              lines_table(analysis), stalls_table(analysis))  # fmt: skip
    parts = [bottleneck(analysis), run_summary(analysis)]
    return "\n\n".join([*parts, *(t.text() for t in tables if t.rows)])


def profile_sections(analysis: Profiled) -> list[Section]:
    """The tables as parts of a page."""
    noted = ((critical_table(analysis), CRITICAL_NOTE), (advice_table(analysis), ADVICE_NOTE),
             (sizes_table(analysis), ""))  # fmt: skip
    return [Rows(table, note) for table, note in noted if table.rows]


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
             "gain": a.gain, "before_ps": a.before_ps, "after_ps": a.after_ps}
            for a in analysis.advice
        ],
        "transfers": [
            {"up_to_bytes": size, "number": count, "moved_bytes": moved, "busy_ps": spent}
            for size, count, moved, spent in analysis.transfers_by_size()
        ],
    }  # fmt: skip


__all__ = [
    "Profiled", "advice_table", "bottleneck", "critical_table", "profile_parts_json",
    "profile_sections", "profile_summary", "sizes_table",
]  # fmt: skip
