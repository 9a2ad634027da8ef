"""Spans on tracks: the picture of a run, as columns, as text and as a Perfetto file.

A timeline is columns of integers plus one list of interned strings, so a million instructions
cost about 40 MB and are written out in about a second. It knows nothing of chips or kernels.
"""

from __future__ import annotations

import gzip
import heapq
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, Final, cast

import numpy as np
import numpy.typing as npt

from tenzing.errors import UsageError
from tenzing.units import PS_PER_NS, PS_PER_US

NONE: Final = -1  # no instruction, no source line, no stall
NS_PER_US: Final = PS_PER_US // PS_PER_NS
GZIP_LEVEL: Final = 3  # traces repeat themselves: a higher level costs time, gains little
WRITABLE: Final = "give a path in an existing, writable folder"
FLOW: Final = "critical path"
CHUNK_EVENTS: Final = 10_000  # events formatted and written at a time

# The order in which the tracks of a core are shown; others follow by first use.
MODEL_TRACK: Final = "Model"  # operations of a model, beside the instructions they became
TRACK_ORDER: Final = (MODEL_TRACK, "Tensor", "Vector", "Scalar", "GpSimd", "Sync")

Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int32] | npt.NDArray[np.int64]
Series = tuple[Sequence[int] | Integers, Sequence[float] | npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Columns:
    """The spans of a timeline as equal-length arrays; ids index ``Timeline.strings``.

    ``start_ps``, ``end_ps``, ``instruction``: int64. ``track`` indexes ``Timeline.tracks``;
    ``name``, ``loc`` and ``stall`` index ``Timeline.strings``; -1 means none.
    """

    track: Numbers
    name: Numbers
    start_ps: Integers
    end_ps: Integers
    loc: Numbers
    instruction: Integers
    stall: Numbers

    def __len__(self) -> int:
        return len(self.start_ps)

    def take(self, rows: npt.NDArray[Any] | slice) -> Columns:
        """The spans at ``rows`` (indices or a mask), in that order."""
        return Columns(
            self.track[rows], self.name[rows], self.start_ps[rows], self.end_ps[rows],
            self.loc[rows], self.instruction[rows], self.stall[rows],
        )  # fmt: skip


class Timeline:
    """Spans of time on named tracks, each with a name, a source line and a reason for waiting."""

    def __init__(self, tracks: Sequence[str] = (), title: str = "NeuronCore") -> None:
        self.title = title
        self.tracks: list[str] = []
        self.strings: list[str] = []
        self._track_ids: dict[str, int] = {}
        self._string_ids: dict[str, int] = {}
        self._track, self._name = array("i"), array("i")
        self._start, self._end = array("q"), array("q")
        self._loc, self._stall = array("i"), array("i")
        self._instruction = array("q")
        self.extra: dict[int, str] = {}  # row -> more members of its JSON "args"
        for track in tracks:
            self.track(track)

    def __len__(self) -> int:
        return len(self._start)

    def track(self, name: str) -> int:
        """The number of track ``name``, created on first use."""
        found = self._track_ids.get(name)
        if found is None:
            found = self._track_ids[name] = len(self.tracks)
            self.tracks.append(name)
        return found

    def intern(self, text: str) -> int:
        """The number of ``text`` in ``strings``; -1 for the empty text."""
        if not text:
            return NONE
        found = self._string_ids.get(text)
        if found is None:
            found = self._string_ids[text] = len(self.strings)
            self.strings.append(text)
        return found

    def text_of(self, number: int) -> str:
        """The string behind an id; empty for none."""
        return "" if number < 0 else self.strings[number]

    def add(
        self,
        track: str,
        name: str,
        start_ps: int,
        end_ps: int,
        loc: str = "",
        *,
        instruction: int = NONE,
        stall: str = "",
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Append one span; ``loc`` is ``file:line``, ``args`` extra facts shown when selected.

        Raises :class:`UsageError` when the span ends before it starts.
        """
        if end_ps < start_ps:
            raise UsageError(f"span {name!r} on track {track!r} ends before it starts",
                             got=f"{start_ps}..{end_ps} ps")  # fmt: skip
        if args:
            self.extra[len(self)] = json.dumps(dict(args), default=str)[1:-1]
        self._track.append(self.track(track))
        self._name.append(self.intern(name))
        self._start.append(start_ps)
        self._end.append(end_ps)
        self._loc.append(self.intern(loc))
        self._instruction.append(instruction)
        self._stall.append(self.intern(stall))

    def extend(
        self,
        start_ps: Integers,
        end_ps: Integers,
        track: Numbers,
        name: Numbers,
        loc: Numbers | None = None,
        *,
        instruction: Integers | None = None,
        stall: Numbers | None = None,
    ) -> None:
        """Append spans as arrays of equal length, without a Python step per span.

        ``track`` holds numbers from :meth:`track`; ``name``, ``loc`` and ``stall`` numbers from
        :meth:`intern`. ``instruction`` counts on by itself when absent. Raises
        :class:`UsageError` for unequal lengths, numbers out of range and negative durations.
        """
        count = len(start_ps)
        none = np.full(count, NONE, np.int32)
        follow = np.arange(len(self), len(self) + count)
        columns = Columns(
            track, name, start_ps, end_ps,
            none if loc is None else loc,
            follow if instruction is None else instruction,
            none if stall is None else stall,
        )  # fmt: skip
        _check(self.tracks, self.strings, columns)
        for target, values, kind in (
            (self._track, columns.track, np.int32),
            (self._name, columns.name, np.int32),
            (self._start, columns.start_ps, np.int64),
            (self._end, columns.end_ps, np.int64),
            (self._loc, columns.loc, np.int32),
            (self._instruction, columns.instruction, np.int64),
            (self._stall, columns.stall, np.int32),
        ):
            target.frombytes(np.ascontiguousarray(values, kind).tobytes())

    @classmethod
    def from_columns(
        cls,
        tracks: Sequence[str],
        strings: Sequence[str],
        columns: Columns,
        title: str = "NeuronCore",
    ) -> Timeline:
        """A timeline of ready columns; errors as in :meth:`extend`."""
        timeline = cls(tracks, title)
        timeline.strings = list(strings)
        timeline._string_ids = {text: number for number, text in enumerate(strings)}
        timeline.extend(
            columns.start_ps, columns.end_ps, columns.track, columns.name, columns.loc,
            instruction=columns.instruction, stall=columns.stall,
        )  # fmt: skip
        return timeline

    def columns(self) -> Columns:
        """A copy of the spans as arrays, in the order they were added."""
        return Columns(
            np.array(self._track, np.int32), np.array(self._name, np.int32),
            np.array(self._start, np.int64), np.array(self._end, np.int64),
            np.array(self._loc, np.int32), np.array(self._instruction, np.int64),
            np.array(self._stall, np.int32),
        )  # fmt: skip

    @property
    def end_ps(self) -> int:
        """When the last span ends; 0 for an empty timeline."""
        return max(self._end, default=0)

    def shown_tracks(self) -> list[int]:
        """Track numbers in display order: the engines, then the rest by first use."""
        rank = {name.lower(): place for place, name in enumerate(TRACK_ORDER)}
        place = [rank.get(name.lower(), len(rank)) for name in self.tracks]
        return sorted(range(len(self.tracks)), key=lambda track: (place[track], track))

    def text(self, limit: int | None = None) -> str:
        """One line per span by start and track, times in ps; ``limit`` lines, then a count."""
        columns = self.columns()
        place = np.zeros(max(len(self.tracks), 1), np.int64)
        place[self.shown_tracks()] = np.arange(len(self.tracks))
        order = np.lexsort((columns.end_ps, place[columns.track], columns.start_ps))
        width = max((len(name) for name in self.tracks), default=0)
        lines = [self._line(columns, int(row), width) for row in order[:limit]]
        if limit is not None and len(order) > limit:
            lines.append(f"... {len(order) - limit} more")
        return "\n".join(lines)

    def _line(self, columns: Columns, row: int, width: int) -> str:
        texts = [self.text_of(int(ids[row])) for ids in (columns.name, columns.loc, columns.stall)]
        head = f"{columns.start_ps[row]:>12} {columns.end_ps[row]:>12}"
        track = self.tracks[columns.track[row]]
        return "  ".join([head, f"{track:<{width}}", *filter(None, texts)])

    def lanes(self) -> tuple[Ids, list[tuple[int, int]]]:
        """A lane for each span so that spans on one lane never overlap.

        Returns the lane of each span, and for each lane (track, place among the track's lanes)
        in display order. A track whose spans follow each other has one lane; transfers that
        overlap on one queue spread over several.
        """
        columns = self.columns()
        lane = np.zeros(len(columns), np.int32)
        found: list[tuple[int, int]] = []
        for track in self.shown_tracks():
            rows = np.flatnonzero(columns.track == track)
            if not len(rows):
                continue
            rows = rows[np.lexsort((columns.end_ps[rows], columns.start_ps[rows]))]
            place = _spread(columns.start_ps[rows], columns.end_ps[rows])
            lane[rows] = place + len(found)
            found.extend((track, k) for k in range(int(place.max()) + 1))
        return lane, found

    def write_perfetto(
        self, path: str | Path, counters: Mapping[str, Series] | None = None
    ) -> Path:
        """Write this timeline alone as a trace; see :func:`write_perfetto`."""
        return write_perfetto(path, [Trace(self, 0, counters or {})])


@dataclass(frozen=True, slots=True)
class Trace:
    """A timeline in a Perfetto file: moved by ``offset_ps``, with counters beside it.

    ``counters``: name to (times in ps, values). ``flow``: spans joined by arrows, in order.
    """

    timeline: Timeline
    offset_ps: int = 0
    counters: Mapping[str, Series] = field(default_factory=dict)
    flow: Sequence[int] = ()

    def blocks(self, process: int) -> Iterator[bytes]:
        """The events as pieces of JSON, each without a comma at its end."""
        lane, lanes = self.timeline.lanes()
        yield self._metadata(lanes, process).encode()
        columns = self.timeline.columns()
        order = np.lexsort((columns.end_ps, columns.start_ps))
        columns, lane = columns.take(order), lane[order]
        endings = _Endings(self.timeline.strings, process)
        extra = self.timeline.extra
        for first in range(0, len(order), CHUNK_EVENTS):
            here = slice(first, first + CHUNK_EVENTS)
            args = [extra.get(row) for row in order[here].tolist()] if extra else ()
            yield _slices(columns.take(here), lane[here], endings, args, self.offset_ps)
        for name, (times, values) in self.counters.items():
            if len(times):
                stamps = np.asarray(times, np.int64) + self.offset_ps
                yield _counter(name, stamps, values, process)
        yield from map(str.encode, self._arrows(process))

    def _arrows(self, process: int) -> Iterator[str]:
        """An arrow from each span of the flow to the next; viewers tie its ends to the spans."""
        if len(self.flow) <= 1:
            return
        lane, _ = self.timeline.lanes()
        rows = np.asarray(self.flow, np.int64)
        stamps = self.timeline.columns().start_ps[rows] + self.offset_ps + PS_PER_NS // 2
        places = zip((stamps // PS_PER_NS).tolist(), (lane[rows] + 1).tolist(), strict=True)
        points = [f'"pid":{process},"tid":{thread},"ts":{ns // NS_PER_US}.{ns % NS_PER_US:03d}1'
                  for ns, thread in places]  # fmt: skip
        for number, (one, other) in enumerate(pairwise(points)):
            head = f'"cat":"critical","name":"{FLOW}","id":{process}{number:09d},'
            yield f'{{"ph":"s",{head}{one}}},\n{{"ph":"f","bp":"e",{head}{other}}}'

    def _metadata(self, lanes: Sequence[tuple[int, int]], process: int) -> str:
        events = [
            _meta("process_name", process, 0, {"name": self.timeline.title}),
            _meta("process_sort_index", process, 0, {"sort_index": process}),
        ]
        for thread, (track, place) in enumerate(lanes, start=1):
            name = self.timeline.tracks[track] + (f" ({place + 1})" if place else "")
            events.append(_meta("thread_name", process, thread, {"name": name}))
            events.append(_meta("thread_sort_index", process, thread, {"sort_index": thread}))
        return ",\n".join(events)


def write_perfetto(path: str | Path, traces: Sequence[Trace]) -> Path:
    """Write a trace that ui.perfetto.dev and chrome://tracing open; ``.gz`` compresses it.

    Each timeline is a process, each track a thread (several where its spans overlap). Times are
    rounded to ns, the resolution of these viewers. The file appears under ``path`` only when it
    is complete. Raises :class:`UsageError` when it cannot be written.
    """
    target = Path(path)
    with _trace_file(target) as out:
        out.write(b'{"displayTimeUnit":"ns","traceEvents":[')
        separator = b"\n"
        for process, trace in enumerate(traces, start=1):
            for block in trace.blocks(process):
                out.write(separator)
                out.write(block)
                separator = _BETWEEN
        out.write(b"\n]}\n")
    return target


def _check(tracks: Sequence[str], strings: Sequence[str], columns: Columns) -> None:
    lengths = {
        name: len(getattr(columns, name))
        for name in ("track", "name", "start_ps", "end_ps", "loc", "instruction", "stall")
    }
    if len(set(lengths.values())) > 1:
        raise UsageError("timeline columns differ in length", got=lengths)
    if not lengths["track"]:
        return
    for name, limit, lowest in (
        ("track", len(tracks), 0),
        ("name", len(strings), NONE),
        ("loc", len(strings), NONE),
        ("stall", len(strings), NONE),
    ):
        ids = getattr(columns, name)
        if ids.min() < lowest or ids.max() >= limit:
            raise UsageError(
                f"timeline column {name!r} has an id out of range",
                got=f"{ids.min()}..{ids.max()}",
                allowed=f"{lowest}..{limit - 1}",
            )
    wrong = np.flatnonzero(columns.end_ps < columns.start_ps)
    if len(wrong):
        raise UsageError(f"{len(wrong)} spans end before they start", got=f"span {wrong[0]}")


def _spread(start: Integers, end: Integers) -> Ids:
    """Lowest free lane for each span, spans sorted by start."""
    if not len(start) or bool((start[1:] >= np.maximum.accumulate(end)[:-1]).all()):
        return np.zeros(len(start), np.int32)
    busy: list[tuple[int, int]] = []  # (end, lane)
    free: list[int] = []
    lanes = 0
    result = []
    for begin, finish in zip(start.tolist(), end.tolist(), strict=True):
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heapq.heappush(busy, (finish, lane))
        result.append(lane)
    return np.array(result, np.int32)


def _meta(kind: str, process: int, thread: int, args: Mapping[str, object]) -> str:
    return json.dumps({"ph": "M", "pid": process, "tid": thread, "name": kind, "args": args})


class _Endings:
    """What follows the times of an event, by lane, name, line and stall: few distinct texts."""

    def __init__(self, strings: Sequence[str], process: int) -> None:
        self._process = process
        self._quoted = [*map(json.dumps, strings), '""']  # the last one is number -1: none
        self._known: dict[int, bytes] = {}

    def of(self, columns: Columns, lane: Ids) -> tuple[list[bytes], Integers]:
        """The distinct texts of some spans, and which one each span has."""
        count = len(self._quoted) + 1
        key = lane.astype(np.int64)
        for ids in (columns.name, columns.loc, columns.stall):
            key = key * count + (ids + 1)
        distinct, place = np.unique(key, return_inverse=True)
        for number in distinct.tolist():
            if number not in self._known:
                self._known[number] = self._text(number, count)
        return [self._known[number] for number in distinct.tolist()], place

    def _text(self, key: int, count: int) -> bytes:
        key, stall = divmod(key, count)
        key, loc = divmod(key, count)
        lane, name = divmod(key, count)
        known = "".join(
            f'"{label}":{self._quoted[number - 1]},'
            for label, number in (("line", loc), ("stall", stall))
            if number - 1 != NONE
        )
        return (f',"pid":{self._process},"tid":{lane + 1},"name":{self._quoted[name - 1]},'
                f'"args":{{{known}"instruction":').encode()  # fmt: skip


# The last digit of "ts" is a tenth of a ns: readers that cut a float to whole ns then never fall
# to the ns before, where the span would overlap its predecessor and be dropped.
_BEFORE_TS: Final = b'{"ph":"X","ts":'
_BEFORE_LENGTH: Final = b'1,"dur":'
_SHUT: Final = b"}}"
_BETWEEN: Final = b",\n"
_NOTHING: Final = b"\0"
_ZERO: Final = ord("0")
TEN: Final = 10
THOUSANDTHS: Final = 3  # digits behind the point
DIGITS_32: Final = 9  # so many fit an integer of 32 bits, which is faster

Bytes = npt.NDArray[np.uint8]


def _slices(
    columns: Columns, lane: Ids, endings: _Endings, args: Sequence[str | None], offset_ps: int
) -> bytes:
    """Events of some spans, separated by commas.

    Each event is a row of bytes as wide as the longest; what a shorter one leaves over is zero and
    dropped in the end. No step is taken for a single span.
    """
    shift = offset_ps + PS_PER_NS // 2
    start = (columns.start_ps + shift) // PS_PER_NS
    length = (columns.end_ps + shift) // PS_PER_NS - start
    count = len(lane)
    texts, place = endings.of(columns, lane)
    return _joined([
        *_decimals(_BEFORE_TS, start), *_decimals(_BEFORE_LENGTH, length),
        _table(texts)[place], _digits(columns.instruction), _closings(args, count),
    ])  # fmt: skip


def _closings(args: Sequence[str | None], count: int) -> Bytes:
    """The ends of events, with the further members of their arguments."""
    if not any(args):
        return _same(_SHUT + _BETWEEN, count)
    tails = [(f",{text}" if text else "").encode() + _SHUT + _BETWEEN for text in args]
    number = {text: k for k, text in enumerate(dict.fromkeys(tails))}
    return _table(list(number))[[number[text] for text in tails]]


def _same(text: bytes, count: int) -> Bytes:
    """One text in every row."""
    return np.broadcast_to(np.frombuffer(text, np.uint8), (count, len(text)))


def _decimals(before: bytes, ns: Integers) -> list[Bytes]:
    """A word and a time in microseconds with three decimals."""
    whole, rest = np.divmod(ns, NS_PER_US)
    count = len(ns)
    return [_same(before, count), _digits(whole), _same(b".", count), _digits(rest, THOUSANDTHS)]


def _digits(values: Integers, width: int = 0) -> Bytes:
    """Decimal digits; zero bytes, or with a ``width`` zeros, in front of shorter numbers."""
    left = np.abs(values).astype(np.uint64)
    columns = width or len(str(int(left.max(initial=0))))
    if columns <= DIGITS_32:
        left = left.astype(np.uint32)
    found = np.empty((len(values), columns + 1), np.uint8)
    found[:, 0] = np.where(values < 0, ord("-"), 0)
    for place in range(columns, 0, -1):
        shorter = left // TEN
        digit = (left - shorter * TEN).astype(np.uint8) + np.uint8(_ZERO)
        if not width and place < columns:
            digit *= left > 0
        found[:, place] = digit
        left = shorter
    return found


def _table(texts: Sequence[bytes]) -> Bytes:
    """Texts as rows of bytes, padded with zeros."""
    width = max(map(len, texts))
    return np.frombuffer(b"".join(text.ljust(width, b"\0") for text in texts), np.uint8).reshape(
        len(texts), width
    )


def _counter(name: str, times_ps: Integers, values: Any, process: int) -> bytes:
    head = f'{{"ph":"C","pid":{process},"tid":0,"name":{json.dumps(name)},"ts":'
    stamps = (times_ps + PS_PER_NS // 2) // PS_PER_NS
    level = np.asarray(values)
    if level.dtype.kind not in "iu":
        levels = map(json.dumps, level.tolist())
        return _BETWEEN.join(
            f'{head}{ns // NS_PER_US}.{ns % NS_PER_US:03d}1,"args":{{"value":{value}}}}}'.encode()
            for ns, value in zip(stamps.tolist(), levels, strict=True)
        )
    count = len(stamps)
    return _joined([
        *_decimals(head.encode(), stamps), _same(b'1,"args":{"value":', count),
        _digits(level.astype(np.int64)), _same(_SHUT + _BETWEEN, count),
    ])  # fmt: skip


def _joined(parts: Sequence[Bytes]) -> bytes:
    """Rows of bytes as one, without the zeros and the last comma."""
    flat = np.concatenate(parts, axis=1).tobytes()
    return flat.translate(None, _NOTHING)[: -len(_BETWEEN)]


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes its name only when the block ends without an error.

    Raises :class:`UsageError` when the folder is missing or not writable.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}", got="Is a directory", next_step=WRITABLE)
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        with temporary.open("xb") as out:
            yield out
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}",
            got=error.strerror or error,
            next_step=WRITABLE,
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _trace_file(path: Path) -> Iterator[IO[bytes]]:
    with whole_file(path) as out:
        if path.suffix != ".gz":
            yield out
            return
        with gzip.GzipFile(path.stem, "wb", GZIP_LEVEL, out, mtime=0) as packed:
            yield cast(IO[bytes], packed)
