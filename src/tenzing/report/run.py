"""One program on one core as text, JSON and sections of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from tenzing.errors import Finding, Loc, TenzingError
from tenzing.facts import Chip, Fact
from tenzing.machine import Interval, OperationTime
from tenzing.report.html import (
    Bars,
    Beside,
    Cards,
    Roofline,
    Rows,
    Section,
    TimelinePicture,
    Warnings,
)
from tenzing.report.roofline import Point, Roof
from tenzing.report.table import Table
from tenzing.timeline import Timeline
from tenzing.units import PS_PER_S, format_bytes, format_time

TERA: Final = 10**12
SHOWN_LINES: Final = 10  # source lines in a ranking
SHOWN_CAUSES: Final = 3  # what a line waited for
LABEL: Final = "simulated"  # which of the four answers this is: our program on the chip model

FINDINGS_MEAN: Final = "on the chip this would fail or give wrong values"
TIMELINE_NOTE: Final = (
    "Hover over a rectangle for the instruction, source line and time. A rectangle below full "
    "height stands for several short instructions with gaps between them: its height is the busy "
    "share. DMA shows data moving."
)
ASSUMED_NOTE: Final = (
    "No public evidence exists for these numbers on this chip; the times above depend on them."
)


class Analysis(Protocol):
    """What a report reads of an analysed program; times in ps, sizes in bytes."""

    @property
    def chip(self) -> Chip: ...
    @property
    def instructions(self) -> int: ...
    @property
    def total_ps(self) -> int: ...
    @property
    def latency_ps(self) -> int: ...
    @property
    def interval(self) -> Interval: ...
    @property
    def busy_ps(self) -> dict[str, int]: ...
    @property
    def utilisation(self) -> dict[str, float]: ...
    @property
    def flops(self) -> int: ...
    @property
    def mfu(self) -> float: ...
    @property
    def mbu(self) -> float: ...
    @property
    def hbm_read_bytes(self) -> int: ...
    @property
    def hbm_write_bytes(self) -> int: ...
    @property
    def dma_bytes(self) -> int: ...
    @property
    def sbuf_peak_bytes(self) -> int: ...
    @property
    def psum_peak_bytes(self) -> int: ...
    @property
    def hbm_bytes(self) -> int: ...
    @property
    def findings(self) -> list[Finding]: ...
    def timeline(self) -> Timeline: ...
    def top_lines(self, count: int = ...) -> list[tuple[Loc, dict[str, int], int]]: ...
    def top_operations(self, count: int = ...) -> list[OperationTime]: ...
    def stalls_by_line(self, count: int = ...) -> list[tuple[Loc, int, dict[str, int]]]: ...


# -- text ---------------------------------------------------------------------------------------


def run_summary(analysis: Analysis) -> str:
    """Time, engines, traffic, memory, findings and assumed facts as lines for a terminal."""
    chip = analysis.chip
    lines = [f"{chip.title}, one NeuronCore ({LABEL})"]
    lines += [f"  {name:<8} {words}" for name, words in _figures(analysis)]
    parts = ["\n".join(lines), engine_table(analysis).text()]
    if analysis.findings:
        parts.append(findings_block(analysis.findings))
    parts.append(assumed_block(chip))
    return "\n\n".join(parts)


def _figures(analysis: Analysis) -> list[tuple[str, str]]:
    launch = analysis.latency_ps - analysis.total_ps
    chip = analysis.chip
    return [
        ("time", f"{format_time(analysis.latency_ps)} on the device: "
                 f"{format_time(analysis.total_ps)} program, {format_time(launch)} launch"),
        ("80 %", interval_words(analysis.interval)),
        ("compute", _compute_words(analysis)),
        ("memory", f"HBM {format_bytes(analysis.hbm_read_bytes)} read, "
                   f"{format_bytes(analysis.hbm_write_bytes)} written; MBU {analysis.mbu:.1%} of "
                   f"{chip.number('hbm.core_gb_s'):g} GB/s"),
        ("SBUF", _fit_words(analysis.sbuf_peak_bytes, _capacity(chip, "sbuf"))),
        ("PSUM", _fit_words(analysis.psum_peak_bytes, _capacity(chip, "psum"))),
        ("HBM", f"{format_bytes(analysis.hbm_bytes)} of tensors"),
        ("record", f"{analysis.instructions:,} instructions"),
    ]  # fmt: skip


def interval_words(found: Interval) -> str:
    """The interval of a time, and where it comes from."""
    return (f"{format_time(found.low_ps)} to {format_time(found.high_ps)}, by published "
            f"{found.limit}-bound kernels and assumed facts")  # fmt: skip


def interval_json(found: Interval) -> dict[str, Any]:
    """The interval in plain types; widths are natural logarithms."""
    return {
        "low_ps": found.low_ps, "high_ps": found.high_ps, "class": found.limit,
        "half_width_ln": found.half_width, "assumed_part_ln": found.assumed,
    }  # fmt: skip


def _compute_words(analysis: Analysis) -> str:
    if not analysis.flops:
        return "no matrix product"
    peak = analysis.chip.number("core.peak_bf16_tflops")
    return f"{reached_tflops(analysis):.3g} TFLOPS; MFU {analysis.mfu:.1%} of {peak:.1f} (bf16)"


def reached_tflops(analysis: Analysis) -> float:
    """Matrix operations per second of the program's own time, in TFLOPS."""
    return analysis.flops * PS_PER_S / max(analysis.total_ps, 1) / TERA


def _capacity(chip: Chip, memory: str) -> int:
    return chip.integer(f"{memory}.bytes_per_partition")


def _fit_words(peak: int, capacity: int) -> str:
    share = f"{peak / capacity:.0%}" if peak <= capacity else f"{peak / capacity:.0%}, DOES NOT FIT"
    return f"{format_bytes(peak)} of {format_bytes(capacity)} per partition needed ({share})"


def engine_table(analysis: Analysis) -> Table:
    """Busy time and share by engine."""
    rows = [
        (name, _busy_words(busy), f"{analysis.utilisation.get(name, 0.0):.1%}")
        for name, busy in analysis.busy_ps.items()
    ]
    return Table.of(["engine", "busy", "share"], rows, align="lrr")


def _busy_words(busy_ps: int) -> str:
    return format_time(busy_ps) if busy_ps else "idle"


def lines_table(analysis: Analysis, count: int = SHOWN_LINES) -> Table:
    """Source lines by the time they keep an engine busy."""
    rows = []
    for loc, busy, number in analysis.top_lines(count):
        engine = max(busy, key=lambda name: busy[name], default="")
        rows.append((str(loc), number, engine, format_time(busy.get(engine, 0)), _source(loc)))
    return Table.of(
        ["line", "instructions", "engine", "busy", "source"], rows, "Busiest source lines", "lrlrl"
    )


def operations_table(analysis: Analysis, count: int = SHOWN_LINES) -> Table:
    """Operations by the time they keep their engine busy."""
    rows = [
        (o.name, o.engine, o.number, format_time(o.busy_ps), format_time(o.busy_ps / o.number),
         f"{o.busy_ps / max(analysis.total_ps, 1):.1%}")
        for o in analysis.top_operations(count)
    ]  # fmt: skip
    headers = ["instruction", "engine", "number", "busy", "each", "of the time"]
    return Table.of(headers, rows, "Top instructions", "llrrrr")


def stalls_table(analysis: Analysis, count: int = SHOWN_LINES) -> Table:
    """Source lines by the time their engine idles before them, and what for."""
    rows = []
    for loc, idle, blame in analysis.stalls_by_line(count):
        who = sorted(blame, key=lambda name: -blame[name])
        words = ", ".join(f"{name} {blame[name] / max(idle, 1):.0%}" for name in who[:SHOWN_CAUSES])
        rows.append((str(loc), format_time(idle), words, _source(loc)))
    return Table.of(
        ["line", "idle before it", "waiting for", "source"], rows, "Longest waits", "lrll"
    )


def _source(loc: Loc) -> str:
    return loc.excerpt().split("\n")[0].strip()


def findings_block(findings: Sequence[Finding]) -> str:
    """Broken rules as text, one block each."""
    head = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}: {FINDINGS_MEAN}"
    return "\n".join([head, *(f"- {f.rule}: {f.render()}" for f in findings)])


def assumed_table(chip: Chip) -> Table:
    """The facts without evidence that the numbers so far were computed from."""
    rows = [(path, fact.text(), fact.source, fact.note) for path, fact in chip.assumed_used()]
    return Table.of(["fact", "value", "source", "note"], rows, "Assumed facts", "lrll")


def assumed_block(chip: Chip) -> str:
    """The assumed facts in few lines; their notes are in ``tenzing facts``."""
    found = chip.assumed_used()
    if not found:
        return "assumed facts: none; every number used is published, measured or derived"
    named = "\n".join(f"  {path} = {fact.text()}" for path, fact in found)
    return f"assumed facts used: {len(found)} (see `tenzing facts {chip.name}`)\n{named}"


# -- JSON ---------------------------------------------------------------------------------------


def run_json(analysis: Analysis) -> dict[str, Any]:
    """Everything of :func:`run_summary`, in plain types; names carry units."""
    chip = analysis.chip
    return {
        "label": LABEL,
        "target": chip.name,
        "instructions": analysis.instructions,
        "program_ps": analysis.total_ps,
        "latency_ps": analysis.latency_ps,
        "interval_80": interval_json(analysis.interval),
        "flops": analysis.flops,
        "mfu": analysis.mfu,
        "mbu": analysis.mbu,
        "busy_ps": dict(analysis.busy_ps),
        "utilisation": dict(analysis.utilisation),
        "hbm_read_bytes": analysis.hbm_read_bytes,
        "hbm_write_bytes": analysis.hbm_write_bytes,
        "dma_bytes": analysis.dma_bytes,
        "hbm_tensor_bytes": analysis.hbm_bytes,
        "sbuf_peak_bytes_per_partition": analysis.sbuf_peak_bytes,
        "sbuf_bytes_per_partition": _capacity(chip, "sbuf"),
        "psum_peak_bytes_per_partition": analysis.psum_peak_bytes,
        "psum_bytes_per_partition": _capacity(chip, "psum"),
        "findings": [finding_json(f) for f in analysis.findings],
        "assumed_facts": [_fact_json(path, fact) for path, fact in chip.assumed_used()],
    }


def lines_json(analysis: Analysis, count: int = SHOWN_LINES) -> dict[str, Any]:
    """Busiest lines and longest waits, in plain types."""
    return {
        "busiest_lines": [
            {**loc_json(loc), "busy_ps": dict(busy), "instructions": number}
            for loc, busy, number in analysis.top_lines(count)
        ],
        "top_instructions": [asdict(found) for found in analysis.top_operations(count)],
        "longest_waits": [
            {**loc_json(loc), "idle_ps": idle, "waiting_for_ps": dict(blame)}
            for loc, idle, blame in analysis.stalls_by_line(count)
        ],
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """A broken rule with its places."""
    return {
        "rule": finding.rule,
        "message": finding.message,
        "where": loc_json(finding.loc) if finding.loc else None,
        "related": [{"label": label, **loc_json(loc)} for label, loc in finding.related],
        "next_step": finding.next_step,
    }


def error_json(error: TenzingError) -> dict[str, Any]:
    """An error as its finding; all of them where it carries several."""
    several = getattr(error, "findings", ())
    more = {"findings": [finding_json(f) for f in several]} if several else {}
    return {**finding_json(error.finding), **more}


def loc_json(loc: Loc) -> dict[str, Any]:
    """A place in the user's source."""
    return {"file": loc.file, "line": loc.line, "function": loc.function}


def _fact_json(path: str, fact: Fact) -> dict[str, Any]:
    return {"fact": path, "value": fact.value, "unit": fact.unit, "source": fact.source,
            "note": fact.note}  # fmt: skip


# -- page ---------------------------------------------------------------------------------------


def run_sections(
    analysis: Analysis, first: Sequence[Section] = (), then: Sequence[Section] = (),
    timeline: Timeline | None = None,
) -> list[Section]:  # fmt: skip
    """The parts of a page about one program; ``first`` and ``then`` around its timeline."""
    return [
        Cards(_cards(analysis)),
        *first,
        Warnings(analysis.findings, f"Findings: {FINDINGS_MEAN}"),
        TimelinePicture(timeline or analysis.timeline(), note=TIMELINE_NOTE),
        *then,
        _engine_bars(analysis),
        Beside(
            [
                Rows(Table.of(["what", "value"], _figures(analysis), "Figures", "ll")),
                *_roofline(analysis),
            ]
        ),
        *(
            Rows(t)
            for t in (lines_table(analysis), operations_table(analysis), stalls_table(analysis))
            if t.rows
        ),
    ]


def assumed_sections(chip: Chip) -> list[Section]:
    """The list of facts without evidence; empty when none was used."""
    table = assumed_table(chip)
    return [Rows(table, ASSUMED_NOTE)] if table.rows else []


def _cards(analysis: Analysis) -> list[tuple[str, str]]:
    busiest = max(analysis.utilisation.items(), key=lambda item: item[1], default=("none", 0.0))
    mfu = [("MFU, of the bf16 peak", f"{analysis.mfu:.1%}")] if analysis.flops else []
    return [
        ("on the device, launch included", format_time(analysis.latency_ps)),
        ("program", format_time(analysis.total_ps)),
        *mfu,  # a kernel without a matrix product has no share of that peak
        ("MBU, of one core's HBM rate", f"{analysis.mbu:.1%}"),
        (f"busiest engine: {busiest[0]}", f"{busiest[1]:.1%}"),
        ("instructions", f"{analysis.instructions:,}"),
    ]


def _engine_bars(analysis: Analysis) -> Bars:
    chip = analysis.chip
    bars = [
        (name, share, f"{share:.1%} · {_busy_words(analysis.busy_ps.get(name, 0))}")
        for name, share in analysis.utilisation.items()
    ]
    memory: Mapping[str, int] = {"sbuf": analysis.sbuf_peak_bytes, "psum": analysis.psum_peak_bytes}
    for name, peak in memory.items():
        capacity = _capacity(chip, name)
        words = f"{format_bytes(peak)} of {format_bytes(capacity)}"
        bars.append((f"{name.upper()} peak", peak / capacity, words))
    return Bars("Engines and memories", bars, "Share of the program's time an engine is busy; "
                "bytes per partition at the fullest moment.")  # fmt: skip


def _roofline(analysis: Analysis) -> list[Section]:
    moved = analysis.hbm_read_bytes + analysis.hbm_write_bytes
    if not analysis.flops or not moved or not analysis.total_ps:
        return []
    chip = analysis.chip
    rate = chip.number("hbm.core_gb_s")
    roofs = [
        Roof(f"{kind} {chip.number(f'core.peak_{kind}_tflops'):.1f} TFLOPS",
             chip.number(f"core.peak_{kind}_tflops"), rate)
        for kind in ("bf16", "fp32")
    ]  # fmt: skip
    reached = reached_tflops(analysis)
    point = Point(f"{reached:.3g} TFLOPS", analysis.flops / moved, reached)
    bound = "memory" if point.intensity < roofs[0].ridge else "arithmetic"
    return [Roofline(roofs, [point],
                     f"At {point.intensity:.3g} FLOP per byte of HBM traffic, {bound} sets the "
                     f"bf16 ceiling; the slope is {rate:g} GB/s.")]  # fmt: skip
