"""Timeline: what goes in comes out, in columns, as text and as a trace that viewers accept."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.timeline import Columns, Timeline, Trace, whole_file, write_perfetto

SPANS = st.lists(
    st.tuples(
        st.sampled_from(["Vector", "Tensor", "DMA"]),
        st.integers(0, 10**7),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


def small() -> Timeline:
    timeline = Timeline(["Scalar", "Tensor"], title="core 0")
    timeline.add("Tensor", "nc_matmul", 0, 187_500, "gemm.py:12", instruction=2)
    timeline.add("DMA Sync", "dma_copy", 0, 2_000_000, "gemm.py:8", instruction=0)
    timeline.add("DMA Sync", "dma_copy", 90_000, 2_100_400, "gemm.py:9", instruction=1)
    timeline.add("Scalar", "activation", 190_000, 400_000, "gemm.py:14", instruction=3,
                 stall='waits for nc_matmul "x"', args={"table": "exp"})  # fmt: skip
    return timeline


def load(timeline: Timeline, folder: Path, **options: object) -> list[dict[str, object]]:
    path = timeline.write_perfetto(folder / "trace.json", **options)  # type: ignore[arg-type]
    events: list[dict[str, object]] = json.loads(path.read_text())["traceEvents"]
    return events


def test_text_is_sorted_by_time_and_engine() -> None:
    assert small().text() == "\n".join([
        "           0       187500  Tensor    nc_matmul  gemm.py:12",
        "           0      2000000  DMA Sync  dma_copy  gemm.py:8",
        "       90000      2100400  DMA Sync  dma_copy  gemm.py:9",
        '      190000       400000  Scalar    activation  gemm.py:14  waits for nc_matmul "x"',
    ])  # fmt: skip


def test_text_says_what_it_leaves_out() -> None:
    assert small().text(limit=1).endswith("\n... 3 more")
    assert Timeline().text() == ""


def test_tracks_are_shown_in_engine_order() -> None:
    timeline = small()
    assert [timeline.tracks[k] for k in timeline.shown_tracks()] == ["Tensor", "Scalar", "DMA Sync"]


def test_a_span_cannot_end_before_it_starts() -> None:
    with pytest.raises(UsageError, match=r"'x' on track 'T' ends before it starts; got 2\.\.1 ps"):
        Timeline().add("T", "x", 2, 1)


def test_perfetto_names_threads_and_keeps_arguments(tmp_path: Path) -> None:
    events = load(small(), tmp_path)
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]  # type: ignore[index]
    assert names == ["Tensor", "Scalar", "DMA Sync", "DMA Sync (2)"]
    slices = {e["args"]["instruction"]: e for e in events if e["ph"] == "X"}  # type: ignore[index]
    assert slices[3]["args"] == {"line": "gemm.py:14", "stall": 'waits for nc_matmul "x"',
                                 "instruction": 3, "table": "exp"}  # fmt: skip
    assert slices[2]["dur"] == pytest.approx(0.188)  # 187.5 ns, rounded to whole ns
    assert slices[1]["ts"] == pytest.approx(0.09, abs=2e-4)


def test_perfetto_counters(tmp_path: Path) -> None:
    events = load(small(), tmp_path, counters={"SBUF bytes": ([0, 5_000_000], [0, 4096])})
    points = [(e["ts"], e["args"]) for e in events if e["ph"] == "C"]
    assert points == [(0.0001, {"value": 0}), (5.0001, {"value": 4096})]


def test_perfetto_flows_join_spans_in_order(tmp_path: Path) -> None:
    timeline = Timeline()
    for row in range(4):
        timeline.add("AB"[row % 2], f"op{row}", row * 1000, row * 1000 + 500, instruction=row)
    path = write_perfetto(tmp_path / "t.json", [Trace(timeline, flow=[0, 2, 3])])
    events = json.loads(path.read_text())["traceEvents"]
    arrows = [e for e in events if e["ph"] in "sf"]
    assert [e["ph"] for e in arrows] == ["s", "f", "s", "f"]
    assert arrows[0]["id"] == arrows[1]["id"] != arrows[2]["id"]
    slices = {e["args"]["instruction"]: e for e in events if e["ph"] == "X"}
    for arrow, row in zip(arrows, (0, 2, 2, 3), strict=True):
        assert (arrow["tid"], arrow["ts"]) == (slices[row]["tid"], slices[row]["ts"])


def test_an_empty_timeline_is_a_valid_trace(tmp_path: Path) -> None:
    assert [e["ph"] for e in load(Timeline(), tmp_path)] == ["M", "M"]


def test_gzip_by_suffix_holds_the_same_trace(tmp_path: Path) -> None:
    plain = small().write_perfetto(tmp_path / "a.json").read_bytes()
    packed = small().write_perfetto(tmp_path / "a.json.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert small().write_perfetto(tmp_path / "b.json.gz").stat().st_size == len(packed)


def test_chunks_join_into_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenzing.timeline.CHUNK_EVENTS", 3)
    timeline = Timeline()
    for k in range(10):
        timeline.add("Tensor", f"op{k}", k * 1000, k * 1000 + 500, args={"k": k} if k % 2 else None)
    slices = [e for e in load(timeline, tmp_path) if e["ph"] == "X"]
    assert [e["name"] for e in slices] == [f"op{k}" for k in range(10)]
    assert [e["args"].get("k") for e in slices] == [k if k % 2 else None for k in range(10)]  # type: ignore[attr-defined]


@given(SPANS)
def test_law_viewers_see_no_overlap_on_a_thread(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[str, int, int]]
) -> None:
    timeline = Timeline()
    for track, start, length in spans:
        timeline.add(track, "op", start, start + length)
    events = load(timeline, tmp_path_factory.mktemp("t"))
    by_thread = defaultdict(list)
    for event in events:
        if event["ph"] == "X":  # as a viewer that cuts times to whole ns reads them
            start, length = int(event["ts"] * 1000), int(event["dur"] * 1000)  # type: ignore[operator]
            by_thread[event["tid"]].append((start, start + length))
    assert sum(map(len, by_thread.values())) == len(spans)
    for found in by_thread.values():
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))


@given(SPANS)
def test_law_columns_round_trip(spans: list[tuple[str, int, int]]) -> None:
    one = Timeline(tracks=["Tensor"])
    for number, (track, start, length) in enumerate(spans):
        one.add(track, "op", start, start + length, f"k.py:{length % 3}", instruction=number)
    two = Timeline.from_columns(one.tracks, one.strings, one.columns())
    assert two.text() == one.text()
    assert two.end_ps == one.end_ps == max((s + n for _, s, n in spans), default=0)


@given(SPANS)
def test_law_lanes_are_as_few_as_the_deepest_overlap(spans: list[tuple[str, int, int]]) -> None:
    timeline = Timeline()
    for _, start, length in spans:
        timeline.add("DMA", "op", start, start + length + 1)
    columns = timeline.columns()
    deepest = max(
        (int(((columns.start_ps <= t) & (columns.end_ps > t)).sum()) for t in columns.start_ps),
        default=0,
    )
    assert len(timeline.lanes()[1]) == deepest


def columns_of(**changes: object) -> Columns:
    fields: dict[str, object] = {
        "track": np.zeros(2, np.int32), "name": np.zeros(2, np.int32),
        "start_ps": np.array([0, 5]), "end_ps": np.array([5, 9]),
        "loc": np.full(2, -1, np.int32), "instruction": np.arange(2),
        "stall": np.full(2, -1, np.int32),
    } | changes  # fmt: skip
    return Columns(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": np.zeros(3, np.int32)}, "differ in length"),
        ({"track": np.array([0, 1], np.int32)}, r"'track' has an id out of range; got 0\.\.1"),
        ({"track": np.array([0, -1], np.int32)}, r"allowed: 0\.\.0"),
        ({"loc": np.array([0, 7], np.int32)}, r"'loc' .* got 0\.\.7; allowed: -1\.\.0"),
        ({"end_ps": np.array([5, 4])}, "1 spans end before they start; got span 1"),
    ],
)
def test_bad_columns_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Timeline.from_columns(["Tensor"], ["op"], columns_of(**changes))


def test_good_columns_keep_growing() -> None:
    timeline = Timeline.from_columns(["Tensor"], ["op"], columns_of())
    timeline.add("Vector", "op", 3, 4)
    assert (len(timeline), timeline.strings, timeline.end_ps) == (3, ["op"], 9)


def test_several_timelines_are_processes_one_after_another(tmp_path: Path) -> None:
    path = write_perfetto(tmp_path / "t.json", [
        Trace(small()), Trace(small(), 5_000_000, {"SBUF": ([0], [7])})])  # fmt: skip
    events = json.loads(path.read_text())["traceEvents"]
    starts = {(e["pid"], e["args"]["instruction"]): e["ts"] for e in events if e["ph"] == "X"}
    for number in range(4):
        assert starts[2, number] - starts[1, number] == pytest.approx(5)
    assert [(e["pid"], e["ts"]) for e in events if e["ph"] == "C"] == [(2, 5.0001)]


def test_no_timeline_is_a_valid_trace(tmp_path: Path) -> None:
    path = write_perfetto(tmp_path / "t.json", [])
    assert json.loads(path.read_text())["traceEvents"] == []


def test_arrays_are_appended_and_numbered_on() -> None:
    timeline = Timeline(["Tensor", "Vector"])
    timeline.add("Vector", "copy", 0, 1, instruction=0)
    name, loc = timeline.intern("copy"), timeline.intern("k.py:3")
    timeline.extend(np.array([4, 6]), np.array([5, 9]), np.array([0, 1]),
                    np.array([name, name]), np.array([loc, -1]))  # fmt: skip
    columns = timeline.columns()
    assert columns.instruction.tolist() == [0, 1, 2]
    assert timeline.text().splitlines()[1].split() == ["4", "5", "Tensor", "copy", "k.py:3"]


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*trace\.json; got No such file"):
        small().write_perfetto(tmp_path / "absent" / "trace.json")


def write_half(path: Path) -> None:
    with whole_file(path) as out:
        out.write(b"half")
        raise RuntimeError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert [p.name for p in tmp_path.iterdir()] == ["trace.json"]
    assert path.read_text() == "old"


@given(
    spans=st.lists(
        st.tuples(st.sampled_from(["Tensor", "DMA", 'a "quoted" é']), st.integers(0, 10**16),
                  st.integers(0, 10**13), st.sampled_from(["", "k.py:1"]),
                  st.sampled_from([-1, 0, 7, 10**12]), st.booleans()),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_law_events_are_what_json_would_write(
    spans: list[tuple[str, int, int, str, int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The writer formats bytes by column; a plain formatter must give the same document."""
    timeline, expected = Timeline(), []
    for name, start, length, place, instruction, more in spans:
        args = {"note": f"{{{name}}}"} if more else None
        timeline.add(name, name, start, start + length, place, instruction=instruction, args=args)
        first, last = (start + 500) // 1000, (start + length + 500) // 1000
        expected.append({
            "ph": "X", "ts": f"{first // 1000}.{first % 1000:03d}1",
            "dur": f"{(last - first) // 1000}.{(last - first) % 1000:03d}", "pid": 1, "name": name,
            "args": {**({"line": place} if place else {}), "instruction": instruction,
                     **(args or {})},
        })  # fmt: skip
    path = tmp_path_factory.mktemp("law") / "t.json"
    timeline.write_perfetto(path, {"level": ([0, 10**7], [-3, 10**12])})
    text = path.read_text(encoding="utf-8")
    assert "\0" not in text
    events = json.loads(text, parse_float=str)["traceEvents"]
    found = [e for e in events if e["ph"] == "X"]
    for event in found:
        del event["tid"]
    key = json.dumps
    assert sorted(map(key, found)) == sorted(map(key, expected))
    levels = [e["args"]["value"] for e in events if e["ph"] == "C"]
    assert levels == [-3, 10**12]


@pytest.mark.slow
def test_a_million_spans_are_written_in_little_memory(tmp_path: Path) -> None:
    count, tracks = 1_000_000, ("Tensor", "Vector", "Scalar", "GpSimd", "Sync", "DMA")
    timeline = Timeline(tracks)
    number = np.arange(count)
    start = number // len(tracks) * 10**6
    names = np.array([timeline.intern(f"operation{k}") for k in range(len(tracks))])
    timeline.extend(start, start + 9 * 10**5, number % len(tracks), names[number % len(tracks)])
    tracemalloc.start()
    path = timeline.write_perfetto(tmp_path / "t.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150 * 2**20  # a copy of the columns, their order, and one chunk of text
    assert path.stat().st_size > 100 * count > 2 * peak / 3
    found: Counter[int] = Counter()
    with path.open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"ph":"X"'):
                event = json.loads(line.rstrip(b",\n"))
                found[event["tid"]] += 1
    assert len(found) == len(tracks)
    assert sum(found.values()) == count
    assert set(found.values()) <= {count // 6, count // 6 + 1}
