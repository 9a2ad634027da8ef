"""Writing a Perfetto trace: time, memory and size, beside Python's json on dicts of the same spans.

python benchmarks/traces.py [--json] [--spans 1000000]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tenzing.timeline import Timeline

TRACKS = ("Tensor", "Vector", "Scalar", "GpSimd", "Sync", "DMA")
NAMES = ("nc_matmul", "tensor_tensor", "activation", "iota", "dma_copy", "dma_copy")
LINES = 50


def made_up(count: int) -> Timeline:
    """Spans as a kernel makes them: six tracks, fifty source lines, every one waited."""
    timeline = Timeline(TRACKS)
    number = np.arange(count)
    track = number % len(TRACKS)
    names = np.array([timeline.intern(name) for name in NAMES])
    lines = np.array([timeline.intern(f"kernel.py:{k} in kernel") for k in range(LINES)])
    waits = np.array([timeline.intern(f"after nc_matmul kernel.py:{k}") for k in range(LINES)])
    start = number // len(TRACKS) * 10**6
    length = np.random.default_rng(0).integers(10**5, 9 * 10**5, count)
    timeline.extend(start, start + length, track, names[track], lines[number % LINES],
                    stall=waits[number % LINES])  # fmt: skip
    return timeline


def dicts(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """The same events as dicts."""
    columns = timeline.columns()
    rows = zip(columns.track.tolist(), columns.name.tolist(), columns.start_ps.tolist(),
               columns.end_ps.tolist(), columns.loc.tolist(), columns.stall.tolist(),
               columns.instruction.tolist(), strict=True)  # fmt: skip
    for track, name, start, end, loc, stall, instruction in rows:
        yield {
            "ph": "X", "ts": start / 1e6, "dur": (end - start) / 1e6, "pid": 1, "tid": track + 1,
            "name": timeline.text_of(name),
            "args": {"line": timeline.text_of(loc), "stall": timeline.text_of(stall),
                     "instruction": instruction},
        }  # fmt: skip


def dumped(timeline: Timeline, path: Path) -> None:
    """Python's json, the whole document at once."""
    path.write_text(json.dumps({"traceEvents": list(dicts(timeline))}), encoding="utf-8")


def streamed(timeline: Timeline, path: Path) -> None:
    """Python's json, piece by piece into the file."""
    with path.open("w", encoding="utf-8") as out:
        json.dump({"traceEvents": list(dicts(timeline))}, out)


def seconds(action: Callable[[], Any]) -> float:
    """CPU seconds of this thread."""
    start = time.thread_time()
    action()
    return time.thread_time() - start


def measure(count: int) -> dict[str, float]:
    """Our writer and the two ways of json; memory is what the writer adds at its peak."""
    timeline = made_up(count)
    with tempfile.TemporaryDirectory() as folder:
        ours, other = Path(folder) / "ours.json", Path(folder) / "other.json"
        own = min(seconds(lambda: timeline.write_perfetto(ours)) for _ in range(3))
        tracemalloc.start()
        timeline.write_perfetto(ours)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        at_once = seconds(lambda: dumped(timeline, other))
        in_pieces = seconds(lambda: streamed(timeline, other))
        return {
            "spans": count, "seconds": own, "bytes": ours.stat().st_size, "peak_bytes": peak,
            "json_dumps_seconds": at_once, "json_dump_seconds": in_pieces,
            "faster_than_json_dumps": at_once / own, "faster_than_json_dump": in_pieces / own,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--spans", type=int, default=1_000_000)
    options = parser.parse_args()
    found = measure(options.spans)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:24s} {value:,.3f}")


if __name__ == "__main__":
    main()
