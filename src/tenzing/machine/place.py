"""Addresses for what the kernel left unplaced: liveness, rotation, and what does not fit.

Tensors live from their first to their last access in program order. Free space is taken in
rotation (next fit), so that a buffer is reused as late as possible and engines overlap.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np

from tenzing.errors import Finding, Loc
from tenzing.isa.operand import Array, Space, Storage, resolve_loc
from tenzing.isa.program import Program
from tenzing.machine import native
from tenzing.units import format_bytes

LISTED_TENSORS: Final = 4  # how many live tensors an overflow message names
ALIGNMENT: Final = 64  # bytes; every dtype and perf mode is aligned on it


@dataclass(slots=True)
class Placement:
    """Where every storage lies, and how full the memories were.

    ``address``: byte per partition by storage id, -1 if unplaced. ``earlier``: storages whose
    bytes a storage takes over, so its first write waits for their last use. ``*_peak_bytes``:
    live bytes per partition (SBUF, PSUM) or in all (HBM) at the fullest moment.
    """

    address: Array
    first: Array
    last: Array
    earlier: dict[int, list[int]] = field(default_factory=dict)
    sbuf_peak_bytes: int = 0
    psum_peak_bytes: int = 0
    hbm_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def lifetimes(program: Program) -> tuple[Array, Array]:
    """First and last instruction that touches each storage; -1 when none does."""
    count = len(program.storages)
    first = np.full(count, -1, np.int64)
    last = np.full(count, -1, np.int64)
    if not program.rows:
        return first, last
    lengths = np.fromiter(map(len, program.rows), np.int64, len(program.rows))
    flat = np.fromiter(chain.from_iterable(program.rows), np.int64, int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    index = np.arange(len(lengths))
    for place in range(1, int(lengths.max()), 2):
        present = lengths > place
        storage = flat[starts[present] + place]
        when = index[present]
        latest = np.full(count, -1, np.int64)
        latest[storage] = when
        last = np.maximum(last, latest)
        earliest = np.full(count, len(lengths), np.int64)
        earliest[storage[::-1]] = when[::-1]
        seen = earliest < len(lengths)
        better = seen & ((first < 0) | (earliest < first))
        first[better] = earliest[better]
    return first, last


def place(program: Program) -> Placement:
    """Place every storage of ``program``; overflows become findings."""
    first, last = lifetimes(program)
    address = np.array(
        [-1 if s.address is None else s.address for s in program.storages], dtype=np.int64
    )
    result = Placement(address, first, last)
    chip = program.chip
    for space in (Space.SBUF, Space.PSUM):
        _place_space(program, space, result)
    result.hbm_bytes = hbm_need_bytes(program, first, last)
    limit = chip.integer("hbm.core_bytes")
    if result.hbm_bytes > limit:
        result.findings.append(Finding(
            "capacity", f"HBM tensors need {format_bytes(result.hbm_bytes)}; one core of "
            f"{chip.name} has {format_bytes(limit)} (hbm.core_bytes)",
            next_step="split the kernel over more cores or use a smaller dtype"))  # fmt: skip
    return result


def hbm_need_bytes(program: Program, first: Array, last: Array) -> int:
    """Most HBM bytes alive at one time: inputs, weights and results always, others while in use.

    Tensors of disjoint lifetimes share memory, as a compiler places them.
    """
    held = 0
    events: list[tuple[int, int]] = []
    for storage in program.storages:
        if storage.space is not Space.HBM:
            continue
        if storage.origin != "local" or first[storage.id] < 0:
            held += storage.nbytes
        else:
            events.append((int(first[storage.id]), storage.nbytes))
            events.append((int(last[storage.id]) + 1, -storage.nbytes))
    level = peak = 0
    for _, change in sorted(events):
        level += change
        peak = max(peak, level)
    return held + peak


class _Rotation:
    """Free byte ranges of one partition, taken in rotation."""

    def __init__(self, size: int) -> None:
        self.free = [(0, size)]
        self.pointer = 0
        self.size = size

    def take(self, need: int, align: int, bank: int) -> int | None:
        """A free range of ``need`` bytes from the pointer on; None when there is none."""
        for low, wrapped in ((self.pointer, False), (0, True)):
            for k, (start, end) in enumerate(self.free):
                at = -(-max(start, low) // align) * align
                if bank and need <= bank and at // bank != (at + need - 1) // bank:
                    at = -(-at // bank) * bank
                if at + need <= end:
                    self.free[k : k + 1] = [
                        part for part in ((start, at), (at + need, end)) if part[0] < part[1]
                    ]
                    self.pointer = at + need
                    return at
            if wrapped:
                break
        return None

    def reserve(self, start: int, end: int) -> None:
        """Take a fixed range out of the free ones."""
        kept: list[tuple[int, int]] = []
        for low, high in self.free:
            if high <= start or low >= end:
                kept.append((low, high))
            else:
                kept.extend(p for p in ((low, start), (end, high)) if p[0] < p[1])
        self.free = kept

    def give(self, start: int, end: int) -> None:
        """Return a range, joined with its neighbours."""
        k = bisect_left(self.free, (start, end))
        if k < len(self.free) and self.free[k][0] == end:
            end = self.free.pop(k)[1]
        if k > 0 and self.free[k - 1][1] == start:
            start = self.free.pop(k - 1)[0]
            k -= 1
        self.free.insert(k, (start, end))


class _Owners:
    """Which storage last held each byte range of a partition."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, int]] = []

    def take(self, start: int, end: int, owner: int) -> list[int]:
        """Record a new owner; the storages whose bytes it takes over."""
        low = bisect_left(self.ranges, (start, -1, -1))
        if low > 0 and self.ranges[low - 1][1] > start:
            low -= 1
        high = low
        before: list[int] = []
        kept: list[tuple[int, int, int]] = []
        while high < len(self.ranges) and self.ranges[high][0] < end:
            s, e, who = self.ranges[high]
            before.append(who)
            if s < start:
                kept.append((s, start, who))
            if e > end:
                kept.append((end, e, who))
            high += 1
        self.ranges[low:high] = sorted([*kept, (start, end, owner)])
        return before


def _place_space(program: Program, space: Space, result: Placement) -> None:
    size = program.chip.integer(f"{space.value}.bytes_per_partition")
    bank = program.chip.integer("psum.bank_bytes") if space is Space.PSUM else 0
    wanted = [s for s in program.storages if s.space is space and result.first[s.id] >= 0]
    wanted.sort(key=lambda s: int(result.first[s.id]))
    movable = [s for s in wanted if s.address is None]
    fixed = [(s.address, s.address + storage_bytes(s)) for s in wanted if s.address is not None]
    peak = _peak_bytes(wanted, result)
    if space is Space.SBUF:
        result.sbuf_peak_bytes = peak
    else:
        result.psum_peak_bytes = peak
    # PSUM tiles get whole banks while they last, so that two engines never meet in one bank
    for whole_banks in [True, False] if bank else [False]:
        limits = (size, ALIGNMENT, bank, whole_banks)
        trial = native_trial(movable, fixed, result, limits) or python_trial(
            movable, fixed, result, limits
        )
        failed = trial.failed
        if failed is None:
            break
    if failed is not None:
        room = (size, trial.largest_piece)
        result.findings.append(_overflow(program, space, failed, wanted, result, room))
    for number, at in trial.addresses.items():
        result.address[number] = at
    result.earlier.update(trial.earlier)


def storage_bytes(storage: Storage) -> int:
    """Bytes per partition that an on-chip storage takes."""
    count = storage.dtype.itemsize
    for dim in storage.shape[1:]:
        count *= dim
    return count


@dataclass(slots=True)
class Trial:
    """One attempt to place all storages of a memory."""

    addresses: dict[int, int] = field(default_factory=dict)
    earlier: dict[int, list[int]] = field(default_factory=dict)
    failed: Storage | None = None  # the first that did not fit
    largest_piece: int = 0  # free bytes in one piece when it did not


Limits = tuple[int, int, int, bool]  # bytes, alignment, bank, whether tensors take whole banks


def native_trial(
    movable: list[Storage], fixed: list[tuple[int, int]], result: Placement, limits: Limits
) -> Trial | None:
    """Place in order of first use with the native core; None when there is none."""
    number = np.array([s.id for s in movable], np.int64)
    need = np.array([storage_bytes(s) for s in movable], np.int64)
    first, last = result.first[number], result.last[number]
    found = native.place(first, last, need, fixed, limits)
    if found is None:
        return None
    address, takes, failed, largest = found
    trial = Trial(largest_piece=largest, failed=movable[failed] if failed >= 0 else None)
    placed = address >= 0
    trial.addresses = dict(zip(number[placed].tolist(), address[placed].tolist(), strict=True))
    for taker, owner in number[takes].tolist():
        trial.earlier.setdefault(taker, []).append(owner)
    return trial


def python_trial(
    movable: list[Storage], fixed: list[tuple[int, int]], result: Placement, limits: Limits
) -> Trial:
    """Place in order of first use."""
    size, align, bank, whole_banks = limits
    rotation, owners = _Rotation(size), _Owners()
    for start, end in fixed:
        rotation.reserve(start, end)
    trial = Trial(largest_piece=size)
    alive: list[tuple[int, int, int]] = []
    for storage in movable:
        start = int(result.first[storage.id])
        while alive and alive[0][0] < start:
            _, low, high = heapq.heappop(alive)
            rotation.give(low, high)
        need = storage_bytes(storage)
        if whole_banks:
            need = -(-need // bank) * bank
        at = rotation.take(need, bank if whole_banks else align, bank)
        if at is None:
            if trial.failed is None:
                trial.failed = storage
                trial.largest_piece = max((b - a for a, b in rotation.free), default=0)
            continue
        trial.addresses[storage.id] = at
        heapq.heappush(alive, (int(result.last[storage.id]), at, at + need))
        before = owners.take(at, at + need, storage.id)
        if before:
            trial.earlier[storage.id] = before
    return trial


def _peak_bytes(storages: list[Storage], result: Placement) -> int:
    """Most bytes per partition alive at one time; a byte of fixed tensors counts all the time."""
    events: list[tuple[int, int, int]] = []
    fixed: list[tuple[int, int]] = []
    for storage in storages:
        need = storage_bytes(storage)
        if storage.address is not None:
            fixed.append((storage.address, storage.address + need))
            continue
        events.append((int(result.first[storage.id]), 1, need))
        events.append((int(result.last[storage.id]) + 1, 0, -need))
    level = peak = 0
    for _, _, change in sorted(events):
        level += change
        peak = max(peak, level)
    return peak + _union_bytes(fixed)


def _union_bytes(ranges: list[tuple[int, int]]) -> int:
    """Bytes in any of some ranges."""
    total = end = 0
    for low, high in sorted(ranges):
        total += max(high - max(low, end), 0)
        end = max(end, high)
    return total


def _places(live: list[Storage]) -> list[tuple[str, Loc]]:
    """The largest live tensors by the lines that made them, equal ones of a line as one."""
    groups: dict[tuple[str, Loc], int] = {}
    for storage in live:
        loc = resolve_loc(storage.loc_key)
        if loc is not None:
            shape = "x".join(map(str, storage.shape))
            words = f"{shape} {storage.dtype.name}, {format_bytes(storage_bytes(storage))}"
            groups[words, loc] = groups.get((words, loc), 0) + 1
    return [
        (f"live: {f'{count} of ' if count > 1 else ''}{words} per partition", loc)
        for (words, loc), count in list(groups.items())[:LISTED_TENSORS]
    ]


def _overflow(
    program: Program, space: Space, failed: Storage, storages: list[Storage], result: Placement,
    limits: tuple[int, int],
) -> Finding:  # fmt: skip
    size, largest_piece = limits
    when = int(result.first[failed.id])
    live = [s for s in storages if result.first[s.id] <= when <= result.last[s.id]]
    live.sort(key=storage_bytes, reverse=True)
    total = sum(storage_bytes(s) for s in live)
    related = _places(live)
    has = f"{program.chip.name} has {format_bytes(size)} ({space.value}.bytes_per_partition)"
    text = f"{format_bytes(total)} per partition are live at once ({len(live)} tensors); {has}"
    if total <= size:
        text = (f"a tensor of {format_bytes(storage_bytes(failed))} per partition does not fit; "
                f"the largest free piece is {format_bytes(largest_piece)}, and {has}")  # fmt: skip
    return Finding(
        "capacity", f"{space.name} overflow: {text}", resolve_loc(failed.loc_key),
        "use smaller tiles, fewer buffers, or let a tensor end before the next begins",
        tuple(related),
    )  # fmt: skip
