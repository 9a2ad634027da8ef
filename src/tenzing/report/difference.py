"""Two profiles side by side: an earlier one kept as JSON, and the one just made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tenzing.compiler.attribution import module_pattern
from tenzing.errors import UsageError
from tenzing.report.table import Cell, Table
from tenzing.units import format_bytes, format_time

FIGURES: Final[Mapping[str, Callable[[Any], str]]] = {
    "latency_ps": format_time, "program_ps": format_time, "instructions": str,
    "hbm_read_bytes": format_bytes, "hbm_write_bytes": format_bytes,
    "sbuf_peak_bytes_per_partition": format_bytes, "mfu": "{:.1%}".format, "mbu": "{:.1%}".format,
}  # fmt: skip
LINES: Final = 8  # source lines shown, by how much their share changed


def read_profile(path: Path) -> dict[str, Any]:
    """A profile.json that ``tenzing profile`` wrote; UsageError for anything else."""
    wanted = "give the profile.json of an earlier `tenzing profile`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["kernels"] = [_slowest_core(kernel) for kernel in found["kernels"]]
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read", got=reason, next_step=wanted) from None
    except (AttributeError, KeyError, TypeError):
        raise UsageError(f"{path} is no profile", next_step=wanted) from None
    return dict(found)


def _slowest_core(kernel: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the core that a kernel's time is of, with what its profile says."""
    core = max(kernel["cores"], key=lambda c: c["program_ps"])
    figures = {name: core[name] for name in (*FIGURES, "busy_ps")}
    return {"name": kernel["name"], "critical_path": kernel["critical_path"],
            "operations": _by_operation(kernel.get("operations", ())), **figures}  # fmt: skip


def _by_operation(operations: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """A model's operations by module, equal layers together, with their shares of the time."""
    found: dict[str, int] = {}
    for one in operations:
        what = one["name"] if one["operation"] == "fused" else one["operation"]
        name = f"{module_pattern(one['module']) or '(top)'}: {what}"
        found[name] = found.get(name, 0) + int(one["critical_ps"])
    return found


def difference_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What changed in each kernel: figures, engines, and source lines of the critical path."""
    parts = [f"{before['path']} on {before['target']} -> {after['path']} on {after['target']}"]
    old, new = before["kernels"], [_slowest_core(kernel) for kernel in after["kernels"]]
    for one, other in zip(old, new, strict=False):
        parts.append(f"{one['name']}: {_change(one['program_ps'], other['program_ps'])} in time")
        tables = _figures(one, other), _operations(one, other), _lines(one, other)
        parts += [table.text() for table in tables if table.rows]
    if len(old) != len(new):
        parts.append(f"{len(old)} kernels before, {len(new)} after; the others have no partner")
    return "\n\n".join(parts)


def _figures(one: Mapping[str, Any], other: Mapping[str, Any]) -> Table:
    rows: list[Sequence[Cell]] = [
        (name.removesuffix("_ps").replace("_", " "), write(one[name]), write(other[name]),
         _change(one[name], other[name]))
        for name, write in FIGURES.items() if one[name] != other[name]
    ]  # fmt: skip
    for engine, busy in one["busy_ps"].items():
        now = other["busy_ps"].get(engine, 0)
        if now != busy:
            rows.append((f"{engine} busy", format_time(busy), format_time(now),
                         _change(busy, now)))  # fmt: skip
    return Table.of(["what", "before", "after", "change"], rows, "", "lrrr")


def _operations(one: Mapping[str, Any], other: Mapping[str, Any]) -> Table:
    """A model's operations whose time changed most."""
    return _changed(one["operations"], other["operations"], "operation")


def _lines(one: Mapping[str, Any], other: Mapping[str, Any]) -> Table:
    """Source lines are matched by what they say: their numbers change when a file is edited."""
    return _changed(_by_source(one), _by_source(other), "on the critical path")


def _changed(before: Mapping[str, int], after: Mapping[str, int], title: str) -> Table:
    names = sorted({*before, *after}, key=lambda n: -abs(before.get(n, 0) - after.get(n, 0)))
    rows = [
        (name, format_time(before.get(name, 0)), format_time(after.get(name, 0)))
        for name in names[:LINES] if before.get(name, 0) != after.get(name, 0)
    ]  # fmt: skip
    return Table.of([title, "before", "after"], rows, "", "lrr")


def _by_source(kernel: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for link in kernel["critical_path"]:
        name = link.get("source") or f"{link.get('file', '-')}:{link.get('line', '')}"
        found[name] = found.get(name, 0) + int(link["ps"])
    return found


def _change(before: float, after: float) -> str:
    return f"{after / before - 1:+.1%}" if before else "new" if after else "none"


__all__ = ["difference_text", "read_profile"]
