"""The optional native core: the same results as the Python twins, faster.

Built when the package is installed and a C++ compiler is there; otherwise, or with
``TENZING_NATIVE=off``, the Python twins do the work.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing.isa.operand import Array, Layout
from tenzing.isa.program import Program

ABI: Final = 2  # TZ_ABI of native/tenzing_core.h
SUFFIX: Final = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
FILE: Final = Path(__file__).with_name(f"_core{SUFFIX}")
SWITCH: Final = "TENZING_NATIVE"
STALE: Final = (
    f"{FILE.name} was built from an older tenzing and is not used: large programs take several "
    "times as long. Install again to build it (in a checkout: `pip install -e .`)"
)
FINDING_WIDTH: Final = 5

_INT = ctypes.c_int64
_COLUMN = ctypes.POINTER(_INT)


def _columns(*names: str) -> list[tuple[str, Any]]:
    return [(name, _COLUMN) for name in names]


class _Program(ctypes.Structure):
    _fields_ = [("count", _INT), *_columns(
        "row_start", "rows", "queue", "is_dma", "is_partial", "read_start", "reads", "write_start",
        "writes", "layout_start", "layouts",
    )]  # fmt: skip


class _Layouts(ctypes.Structure):
    _fields_ = _columns("dim_start", "shape", "strides", "itemsize", "size", "area")


class _Storages(ctypes.Structure):
    _fields_ = [("count", _INT), *_columns(
        "key", "given", "row_bytes", "earlier_start", "earlier",
    )]  # fmt: skip


class _Timing(ctypes.Structure):
    _fields_ = [
        *((name, _INT) for name in (
            "hop_ps", "dma_hop_ps", "dma_engines", "warmup_ps", "warmup_idle_ps", "table_load_ps",
        )),
        ("warmup_rate", ctypes.c_double),
    ]  # fmt: skip


class _Costs(ctypes.Structure):
    _fields_ = _columns(
        "issue_ps", "latency_ps", "chained_ps", "load_ps", "table", "is_transfer", "engines",
        "service_ps", "fixed_ps", "moved_ps",
    )  # fmt: skip


class _Times(ctypes.Structure):
    _fields_ = _columns(
        "start_ps", "issue_end_ps", "data_start_ps", "done_ps", "cause", "queue_busy_ps", "dma"
    )


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The native core, None when it is absent, switched off or of another version."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no") or not FILE.exists():
        return None
    try:
        core = ctypes.CDLL(str(FILE))
        core.tz_abi.restype = _INT
        if core.tz_abi() != ABI:
            warnings.warn(STALE, RuntimeWarning, stacklevel=2)
            return None
    except (OSError, AttributeError):
        return None
    core.tz_analyse.restype = ctypes.c_void_p
    for name in ("tz_edge_count", "tz_finding_count"):
        getattr(core, name).restype = _INT
        getattr(core, name).argtypes = [ctypes.c_void_p]
    core.tz_take.argtypes = [ctypes.c_void_p, _COLUMN, _COLUMN, _COLUMN]
    core.tz_free.argtypes = [ctypes.c_void_p]
    core.tz_place.restype = _INT
    return core


def column(values: Iterable[int], count: int = -1) -> Array:
    """An int64 column."""
    return np.fromiter(values, np.int64, count)


def ragged(lists: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Where each list starts in the joined column, and the column."""
    lengths = column(map(len, lists), len(lists))
    start = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    return start, column(chain.from_iterable(lists), int(start[-1]))


def _pointer(array: Array) -> Any:
    return array.ctypes.data_as(_COLUMN)


def _fill(structure: Any, **arrays: Array) -> Any:
    """A structure of columns; keeps the arrays alive with it."""
    made = structure(**{name: _pointer(array) for name, array in arrays.items()})
    made.kept = arrays
    return made


def analyse(
    program: Program, kinds: Mapping[str, Sequence[int]], storages: Mapping[str, Sequence[int]],
    earlier: Sequence[Sequence[int]], areas: Callable[[Layout], int],
) -> tuple[Array, Array, Array] | None:  # fmt: skip
    """Sorted predecessors (starts, joined) and findings; None without a native core.

    ``kinds``: queue, is_dma and is_partial of every template. ``storages``: key, given and
    row_bytes. ``areas`` gives the distinct bytes of a layout.
    """
    core = library()
    if core is None:
        return None
    known = {id(x): x for t in program.templates for x in t.layouts}
    distinct: list[Layout] = list(known.values())
    place = {key: number for number, key in enumerate(known)}
    row_start, rows = ragged(program.rows)
    read_start, reads = ragged([t.reads for t in program.templates])
    write_start, writes = ragged([t.writes for t in program.templates])
    layout_start, layouts = ragged([[place[id(x)] for x in t.layouts] for t in program.templates])
    dim_start, shape = ragged([x.shape for x in distinct])
    strides = ragged([x.strides for x in distinct])[1]
    given = _fill(
        _Program, row_start=row_start, rows=rows, read_start=read_start, reads=reads,
        write_start=write_start, writes=writes, layout_start=layout_start, layouts=layouts,
        **{name: column(values) for name, values in kinds.items()},
    )  # fmt: skip
    given.count = len(program.rows)
    table = _fill(
        _Layouts, dim_start=dim_start, shape=shape, strides=strides,
        itemsize=column(x.itemsize for x in distinct), size=column(x.size for x in distinct),
        area=column(areas(x) for x in distinct),
    )  # fmt: skip
    earlier_start, owners = ragged(earlier)
    memory = _fill(
        _Storages, earlier_start=earlier_start, earlier=owners,
        **{name: column(values) for name, values in storages.items()},
    )  # fmt: skip
    memory.count = len(program.storages)
    handle = core.tz_analyse(ctypes.byref(given), ctypes.byref(table), ctypes.byref(memory))
    try:
        start = np.empty(len(program.rows) + 1, np.int64)
        before = np.empty(core.tz_edge_count(handle), np.int64)
        findings = np.empty((core.tz_finding_count(handle), FINDING_WIDTH), np.int64)
        core.tz_take(handle, _pointer(start), _pointer(before), _pointer(findings))
    finally:
        core.tz_free(handle)
    return start, before, findings


def schedule(
    edges: tuple[Array, Array], template: Array, queue: Array, queues: int,
    costs: Mapping[str, Sequence[int]], timing: Mapping[str, int | float],
) -> dict[str, Array] | None:  # fmt: skip
    """Columns of a schedule by name, ``queue_busy_ps`` and ``dma`` (busy, active) with them."""
    core = library()
    if core is None:
        return None
    count = len(template)
    names = ("start_ps", "issue_end_ps", "data_start_ps", "done_ps", "cause")
    out = {name: np.empty(count, np.int64) for name in names}
    out |= {"queue_busy_ps": np.empty(queues, np.int64), "dma": np.empty(2, np.int64)}
    times = _fill(_Times, **out)
    plans = _fill(_Costs, **{name: column(values) for name, values in costs.items()})
    core.tz_schedule(
        _INT(count), _INT(queues), _pointer(template), _pointer(queue), _pointer(edges[0]),
        _pointer(edges[1]), ctypes.byref(plans), ctypes.byref(_Timing(**timing)),
        ctypes.byref(times),
    )  # fmt: skip
    return out


def place(
    first: Array, last: Array, need: Array, reserved: Sequence[tuple[int, int]],
    limits: tuple[int, int, int, bool],
) -> tuple[Array, Array, int, int] | None:  # fmt: skip
    """Addresses, (storage, earlier owner) pairs, first failure (-1: none), largest free piece.

    Storages come in order of first use; ``limits`` are size, alignment, bank and whether tensors
    take whole banks.
    """
    core = library()
    if core is None:
        return None
    size, align, bank, whole = limits
    starts, ends = (column(r[k] for r in reserved) for k in (0, 1))
    address = np.empty(len(first), np.int64)
    counts = np.zeros(2, np.int64)
    room = 4 * len(first)
    while True:
        takes = np.empty((room, 2), np.int64)
        failed = core.tz_place(
            _INT(len(first)), _pointer(first), _pointer(last), _pointer(need), _INT(len(reserved)),
            _pointer(starts), _pointer(ends), _INT(size), _INT(align), _INT(bank), _INT(whole),
            _pointer(address), _pointer(takes), _INT(room), _pointer(counts),
        )  # fmt: skip
        if counts[0] <= room:
            return address, takes[: counts[0]], int(failed), int(counts[1])
        room = int(counts[0])
