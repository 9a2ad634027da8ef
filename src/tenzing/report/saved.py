"""A saved program as text and JSON, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from tenzing.compiler import SavedFile
from tenzing.compiler.manifest import Manifest, Tensor, facts_digest
from tenzing.machine.store import source_digest
from tenzing.report.run import LABEL
from tenzing.report.table import Table
from tenzing.units import format_bytes, format_time

SHOWN_KINDS: Final = 12  # kinds of instructions in the text; JSON has all
SHOWN_ROWS: Final = 40  # rows of a memory map in the text; JSON has all
DMA: Final = "dma"  # transfers are the instructions of the engines that start them
PLACES: Final = {"inside": "inside this file", "beside": "in a file beside it: ", "none": "none: "
                 "it can be timed, not run"}  # fmt: skip


def saved_text(saved: SavedFile, shown: Sequence[str] = ()) -> str:
    """What a file holds; ``shown`` adds its graph, imported graph, memory map or kernels."""
    note = saved.manifest
    size = saved.path.stat().st_size
    lines = [f"{saved.path}: {format_bytes(size)}, format {note.format}, tenzing {note.tenzing}"]
    lines += [f"  {name:<8} {words}" for name, words in _rows(note)]
    parts = ["\n".join(lines)]
    if note.recorded is not None:
        parts.append(_engines(note).text())
        kinds = list(note.recorded.kinds.items())[:SHOWN_KINDS]
        parts.append(Table.of(["instruction", "count"], kinds).text())
    texts = {"graph": saved.graph_text, "imported": saved.imported_text, "memory": _memory(saved),
             "kernels": _kernels(saved)}  # fmt: skip
    parts += [texts[name].rstrip("\n") for name in shown]
    return "\n\n".join(parts)


def _rows(note: Manifest) -> list[tuple[str, str]]:
    autocast = f", autocast {note.autocast}"
    autocast += "" if note.autocast == "none" else f" in {note.autocast_dtype}"
    time = f"{format_time(note.time.latency_ps)} on the device, launch included ({LABEL})"
    weights = note.weights
    rows = [
        ("model", f"{note.name} for {note.target}: numerics {note.numerics}{autocast}"),
        ("time", time + ("" if current(note) else "; made by another simulator: loading times it "
                         "again")),
        *_listed("inputs", note.inputs), *_listed("outputs", note.outputs),
        *_listed("state", note.state),
        ("weights", f"{weights.tensors} tensors, {format_bytes(weights.bytes)}, "
                    f"{PLACES[weights.place]}{weights.file}"),
        ("HBM", f"{format_bytes(note.time.hbm_bytes)} of tensors"),
        ("example", "inputs to run it on" if note.example else "none"),
        ("facts", f"{note.target} sha256 {note.facts_sha256}, " + (
            "as they are now" if facts_digest(note.target) == note.facts_sha256
            else "which have changed since")),
    ]  # fmt: skip
    rows += [("kernel", f"{k.name} ({k.function}), the user's own: loading needs it given, the "
              "source here is never run") for k in note.kernels]  # fmt: skip
    return rows


def current(note: Manifest) -> bool:
    """Whether this simulator and these facts made the time in a file."""
    return note.simulator == source_digest()


def _listed(title: str, tensors: Sequence[Tensor]) -> list[tuple[str, str]]:
    names = [f"{one.name}: {one.type}" for one in tensors]
    return [(title if not k else "", words) for k, words in enumerate(names)]


def _engines(note: Manifest) -> Table:
    counts: Mapping[str, int] = note.recorded.engines if note.recorded else {}
    busy = {name.lower(): (name, ps) for name, ps in note.time.busy_ps.items()}
    names = [*busy, *(name for name in counts if name not in busy)]
    rows = [
        (busy[k][0] if k in busy else k, counts.get(k, 0) if k != DMA else None,
         format_time(busy[k][1]) if k in busy else "")
        for k in names
    ]  # fmt: skip
    cells = [(name, "" if count is None else count, time) for name, count, time in rows]
    return Table.of(["engine", "instructions", "busy"], cells)


def _memory(saved: SavedFile) -> str:
    if saved.memory is None:
        return "no memory map: the program was timed, not recorded"
    held = [(one.name, one.origin, format_bytes(one.bytes), f"{one.first}..{one.last}")
            for one in saved.memory.tensors]  # fmt: skip
    regions = [(one.space, f"{one.address:#x}", format_bytes(one.bytes), one.tiles,
                f"{one.first}..{one.last}") for one in saved.memory.regions]  # fmt: skip
    return "\n\n".join((
        _cut(["tensor", "origin", "size", "instructions"], held, "Tensors in HBM"),
        _cut(["memory", "address", "per partition", "tiles", "instructions"], regions,
             "Regions on chip"),
    ))  # fmt: skip


def _cut(headers: Sequence[str], rows: Sequence[Sequence[str | int]], title: str) -> str:
    """A table of the first rows, and how many there are beyond them."""
    more = f"\n... {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return Table.of(headers, rows[:SHOWN_ROWS], title).text() + more


def _kernels(saved: SavedFile) -> str:
    sources = saved.kernel_sources.items()
    return "\n\n".join(f"# {name}\n{text.rstrip()}" for name, text in sources) or (
        "it calls no kernel of the user's own"
    )


def saved_json(saved: SavedFile, shown: Sequence[str] = ()) -> dict[str, Any]:
    """The manifest, the memory map, and the texts asked for."""
    note = saved.manifest
    parts: dict[str, Any] = {"graph": saved.graph_text, "imported": saved.imported_text,
                             "kernels": saved.kernel_sources}  # fmt: skip
    return {
        "file": str(saved.path),
        "bytes": saved.path.stat().st_size,
        "manifest": {**asdict(note), "latency_us": note.time.latency_us},
        "time_is_current": current(note),
        "facts_are_current": facts_digest(note.target) == note.facts_sha256,
        "memory": asdict(saved.memory) if saved.memory else None,
        **{name: parts[name] for name in shown if name in parts},
    }


__all__ = ["saved_json", "saved_text"]
