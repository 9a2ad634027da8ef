"""All kernels of a script, or one compiled model, as text, JSON, page and trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from tenzing.errors import Finding, TenzingError, UsageError
from tenzing.fleet import Bill
from tenzing.isa.operand import Space
from tenzing.machine import Analysis
from tenzing.report.explorer import write_explorer
from tenzing.report.html import Part, Rows, Section, Text, write_html
from tenzing.report.model import ModelProfile, add_model, layer_columns, model_json
from tenzing.report.profile import (
    Profiled,
    profile_page,
    profile_parts_json,
    profile_summary,
)
from tenzing.report.run import (
    LABEL,
    assumed_sections,
    error_json,
    finding_json,
    findings_block,
    run_json,
    run_sections,
    run_summary,
)
from tenzing.report.table import Cell, Table, table
from tenzing.timeline import Trace, write_perfetto
from tenzing.units import format_time

DETAILED: Final = 3  # kernels told in full; of more, the slowest ones
NO_KERNEL: Final = "no NKI kernel was launched"
NO_PRICE: Final = "no public price"
PICTURED: Final = 12  # kernels with a picture on a page; of more, the slowest ones


class KernelResult(Protocol):
    """One kernel call or compiled model on one target, one analysis per core."""

    @property
    def name(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def analyses(self) -> Sequence[Profiled]: ...
    @property
    def slowest(self) -> Profiled: ...
    @property
    def latency_ps(self) -> int: ...
    @property
    def findings(self) -> list[Finding]: ...
    @property
    def model(self) -> ModelProfile | None: ...
    @property
    def bill(self) -> Bill | None: ...


class RunResult(Protocol):
    """Everything a script launched on one target."""

    @property
    def path(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def kernels(self) -> Sequence[KernelResult]: ...
    @property
    def agreement(self) -> dict[str, float]: ...
    @property
    def findings(self) -> list[Finding]: ...


# -- run ----------------------------------------------------------------------------------------


def run_result_text(result: RunResult) -> str:
    """Every kernel: time, engines, traffic, money; of many kernels a table and the slowest."""
    if not result.kernels:
        return f"{result.path} on {result.target}: {NO_KERNEL}{_what_launches(result)}"
    parts = []
    if len(result.kernels) > 1:
        parts.append(kernels_table(result.kernels).text())
    parts.extend(
        f"{_heading(kernel)}\n{run_summary(kernel.slowest)}\n\n{_bill_text(kernel)}"
        for kernel in _slowest(result.kernels, DETAILED)
    )
    if result.agreement:
        parts.append(_agreement_table(result.agreement).text())
    told = {id(f) for k in _slowest(result.kernels, DETAILED) for f in k.slowest.findings}
    others = [f for f in result.findings if id(f) not in told]
    if others:
        parts.append(f"elsewhere, {findings_block(others)}")
    return "\n\n".join(parts)


def run_result_json(result: RunResult) -> dict[str, Any]:
    """The run in plain types; times in ps, sizes in bytes."""
    return {
        "path": result.path,
        "target": result.target,
        "label": LABEL,
        "kernels": [_kernel_json(kernel) for kernel in result.kernels],
        "agreement": dict(result.agreement),
        "findings": [finding_json(f) for f in result.findings],
    }


def kernels_table(kernels: Sequence[KernelResult]) -> Table:
    """One row per kernel call, in order of launch."""
    return Table.of(
        ["kernel", "launched at", "cores", "instructions", "on the device", "MFU", "MBU"],
        [
            (k.name, k.where or "-", len(k.analyses), k.slowest.instructions,
             format_time(k.latency_ps), f"{k.slowest.mfu:.1%}", f"{k.slowest.mbu:.1%}")
            for k in kernels
        ],
        "Kernels",
    )  # fmt: skip


def _slowest(kernels: Sequence[KernelResult], count: int) -> list[KernelResult]:
    """The slowest ``count`` kernels, in order of launch."""
    ranked = sorted(range(len(kernels)), key=lambda k: -kernels[k].latency_ps)[:count]
    return [kernels[k] for k in sorted(ranked)]


def _heading(kernel: KernelResult) -> str:
    cores = len(kernel.analyses)
    place = f" at {kernel.where}" if kernel.where else ""
    many = f" on {cores} cores, the slowest core shown" if cores > 1 else ""
    return f"{kernel.name}{place}{many}"


def _kernel_json(kernel: KernelResult) -> dict[str, Any]:
    return {
        "name": kernel.name,
        "where": kernel.where,
        "latency_ps": kernel.latency_ps,
        "cores": [run_json(analysis) for analysis in kernel.analyses],
        "bill": _bill_json(kernel.bill),
    }


# -- money --------------------------------------------------------------------------------------


def _bill_text(kernel: KernelResult) -> str:
    bill = kernel.bill
    if bill is None:
        return "money: no instance with this chip is known"
    words = (f"money: {bill.items_per_s:,.0f} executions a second on {bill.instance}, all "
             f"{bill.cores} cores busy")  # fmt: skip
    if bill.usd_per_million is None:
        return f"{words}; {NO_PRICE}"
    return (f"{words}; ${bill.usd_per_million:.4g} per million at ${bill.usd_per_hour:g} an hour "
            f"({bill.term.replace('_', ' ')}, {bill.price_date})")  # fmt: skip


def _bill_json(bill: Bill | None) -> dict[str, Any] | None:
    if bill is None:
        return None
    return {
        "instance": bill.instance,
        "cores": bill.cores,
        "items_per_s": bill.items_per_s,
        "usd_per_hour": bill.usd_per_hour,
        "usd_per_million": bill.usd_per_million,
        "term": bill.term,
        "price_date": str(bill.price_date),
        "price_source": bill.price_source,
    }


# -- check --------------------------------------------------------------------------------------


def _what_launches(result: RunResult) -> str:
    return (f"\n  next: call a kernel in {result.path}, or name a model that it defines: "
            f"{result.path}:NAME")  # fmt: skip


def findings_text(result: RunResult) -> str:
    """What the device would refuse, or that nothing was found, and in how many kernels."""
    if not result.kernels:
        return (
            f"{result.path} on {result.target}: {NO_KERNEL}, so nothing was checked"
            + _what_launches(result)
        )
    if result.findings:
        return findings_block(result.findings)
    count = len(result.kernels)
    return (f"{result.path} on {result.target}: nothing found in {count} "
            f"kernel{'s' if count > 1 else ''}")  # fmt: skip


def findings_json(result: RunResult) -> dict[str, Any]:
    """Findings in plain types."""
    return {
        "path": result.path,
        "target": result.target,
        "kernels_checked": len(result.kernels),
        "findings": [finding_json(f) for f in result.findings],
    }


# -- profile ------------------------------------------------------------------------------------


def profile_text(result: RunResult, folder: Path) -> str:
    """Where time goes by source line, and the files written to ``folder``."""
    if not result.kernels:
        return f"{result.path} on {result.target}: {NO_KERNEL}{_what_launches(result)}"
    parts = [
        f"{_heading(kernel)}\n{profile_summary(kernel.slowest, kernel.model)}"
        for kernel in _slowest(result.kernels, DETAILED)
    ]
    parts.append(
        f"report: {folder / 'report.html'}\n"
        f"trace:  {folder / 'trace.json'} (open it in ui.perfetto.dev)"
    )
    return "\n\n".join(parts)


def profile_json(result: RunResult) -> dict[str, Any]:
    """The run with its busiest lines and longest waits."""
    plain = run_result_json(result)
    for found, kernel in zip(plain["kernels"], result.kernels, strict=True):
        found.update(profile_parts_json(kernel.slowest))
        found.update(model_json(kernel.model) if kernel.model else {})
    return plain


# -- compare ------------------------------------------------------------------------------------


def comparison_table(rows: Sequence[Mapping[str, Cell]], title: str = "") -> str:
    """Rows given by column name as text; a column a row lacks is unknown there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return table(columns, [[row.get(name) for name in columns] for row in rows], title)


def comparison_text(targets: Sequence[str], results: Sequence[RunResult | TenzingError]) -> str:
    """One row per kernel and chip; chips that refuse are listed with their reason."""
    rows: list[dict[str, Cell]] = []
    refused: list[str] = []
    for target, result in zip(targets, results, strict=True):
        if isinstance(result, TenzingError):
            refused.append(f"{target} refuses: {result.render()}")
            continue
        rows.extend(_comparison_row(target, kernel) for kernel in result.kernels)
        if result.findings:
            refused.append(f"{target}: {findings_block(result.findings)}")
    parts = [comparison_table(rows, f"{LABEL}: our program on each chip's model")] if rows else []
    return "\n\n".join([*parts, *refused, *_assumed_by_target(targets, results)]) or NO_KERNEL


def _comparison_row(target: str, kernel: KernelResult) -> dict[str, Cell]:
    slowest, bill = kernel.slowest, kernel.bill
    priced = bill is not None and bill.usd_per_million is not None
    return {
        "kernel": kernel.name,
        "chip": target,
        "on the device": format_time(kernel.latency_ps),
        "MFU": f"{slowest.mfu:.1%}",
        "MBU": f"{slowest.mbu:.1%}",
        "instance": bill.instance if bill else None,
        "per second": bill.items_per_s if bill else None,
        "$ per million": bill.usd_per_million if bill else None,
        "price": f"{bill.term.replace('_', ' ')} {bill.price_date}" if bill and priced else None,
        "findings": len(kernel.findings),
    }


def _assumed_by_target(
    targets: Iterable[str], results: Iterable[RunResult | TenzingError]
) -> list[str]:
    counts = []
    for target, result in zip(targets, results, strict=True):
        if not isinstance(result, TenzingError) and result.kernels:
            found = {path for k in result.kernels for path, _ in k.slowest.chip.assumed_used()}
            counts.append(f"{target} {len(found)}")
    return [f"assumed facts used: {', '.join(counts)} (see `tenzing run` on one)"] if counts else []


def comparison_json(
    targets: Sequence[str], results: Sequence[RunResult | TenzingError]
) -> dict[str, Any]:
    """Results by chip; an ``error`` stands for a chip that refuses."""
    return {
        "label": LABEL,
        "targets": {
            target: {"error": error_json(result)}
            if isinstance(result, TenzingError)
            else run_result_json(result)
            for target, result in zip(targets, results, strict=True)
        },
    }


# -- files --------------------------------------------------------------------------------------


def write_run_html(result: RunResult, path: Path, *, profiled: bool = False) -> Path:
    """Write the page of a run: a part for each kernel, the assumed facts at the end.

    ``profiled`` adds the critical path, advice and transfers of each.
    """
    parts: list[Section] = [] if result.kernels else [Text(NO_KERNEL)]
    if len(result.kernels) > 1:
        parts.append(Rows(kernels_table(result.kernels)))
    shown = _slowest(result.kernels, PICTURED)
    if len(shown) < len(result.kernels):
        parts.append(Text(f"Of {len(result.kernels)} kernels the {len(shown)} slowest follow."))
    for kernel in shown:
        if len(result.kernels) > 1 or len(kernel.analyses) > 1:
            parts.append(Part(_heading(kernel)))
        if profiled:
            parts += profile_page(kernel.slowest, kernel.model)
        else:
            parts += run_sections(kernel.slowest)
        parts.append(Text(_bill_text(kernel).removeprefix("money: "), "Money"))
    if result.agreement:
        parts.append(Rows(_agreement_table(result.agreement)))
    if shown:
        parts += assumed_sections(shown[-1].slowest.chip)
    name = Path(result.path).name
    lead = f"{shown[0].slowest.chip.title}, {LABEL}" if shown else result.target
    return write_html(path, f"{name} on {result.target}", parts, lead)


def write_run_perfetto(result: RunResult, path: Path) -> Path:
    """Write one trace of all kernels, one after another; each core of each is a process."""
    traces = []
    begin = 0
    for kernel in result.kernels:
        for core, analysis in enumerate(kernel.analyses):
            timeline = add_model(analysis.timeline(), kernel.model)
            timeline.title = f"{kernel.name}, core {core}"
            counters = {
                f"{space.name} bytes per partition": analysis.occupancy(space)
                for space in (Space.SBUF, Space.PSUM)
            }
            chain = [link.instruction for link in analysis.critical_path]
            traces.append(Trace(timeline, begin, counters, list(dict.fromkeys(chain))))
        begin += kernel.slowest.total_ps
    return write_perfetto(path, traces)


def write_run_explorer(result: RunResult, folder: Path, form: str = "parquet") -> list[Path]:
    """Write the tables of Neuron Explorer's schema: a folder for each kernel and core.

    One kernel on one core is written into ``folder`` itself. ``form`` is ``parquet`` or ``csv``.
    """
    cores = [(f"{place}-{kernel.name}-core{core}", analysis, kernel.model)
             for place, kernel in enumerate(result.kernels)
             for core, analysis in enumerate(kernel.analyses)]  # fmt: skip
    written = []
    for name, analysis, model in cores:
        if not isinstance(analysis, Analysis):
            raise UsageError("a time without a program has no profile", got=result.path,
                             next_step="give a kernel.py or a model.py:name")  # fmt: skip
        target = folder if len(cores) == 1 else folder / name
        layers = layer_columns(model) if model else None
        written += write_explorer(analysis, target, name, form, layers)
    return written


def _agreement_table(agreement: Mapping[str, float]) -> Table:
    rows = [(name, f"{value:.7g}") for name, value in agreement.items()]
    return Table.of(["measure", "value"], rows, "Against the framework")
