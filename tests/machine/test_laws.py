"""Laws every schedule and placement obeys, on small random programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machine.programs import (
    PLACES,
    Step,
    effects,
    hazards,
    inputs,
    kernel,
    record,
    recorded,
    steps,
)

from tenzing import facts
from tenzing.isa.operand import Space
from tenzing.isa.program import Program
from tenzing.machine import Analysis, analyse
from tenzing.machine.deps import DMA_READER, QUEUES, analyse_dependencies
from tenzing.machine.place import place, storage_bytes
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.units import ns_to_ps

SYNC = len(QUEUES) - 1
TENSOR = 0


def is_transfer(analysis: Analysis) -> list[bool]:
    return [t >= DMA_READER for t in analysis.queue.tolist()]


def hops_ps(program: Program) -> tuple[int, int]:
    chip = program.chip
    return ns_to_ps(chip.number("sync.hop_ns")), ns_to_ps(chip.number("sync.dma_hop_ns"))


@given(steps(), PLACES)
def test_an_instruction_starts_after_every_result_it_needs_is_visible(
    program: list[Step], places: Any
) -> None:
    analysis = analyse(recorded(program, places))
    hop, dma_hop = hops_ps(analysis.program)
    dma = is_transfer(analysis)
    queue = analysis.queue % DMA_READER
    for earlier, later, why in hazards(effects(analysis.program, analysis.placement)):
        both_tensor = queue[earlier] == queue[later] == TENSOR
        if both_tensor:
            continue  # PSUM adds in order near the memory
        wait = dma_hop if dma[earlier] else hop
        same = queue[earlier] == queue[later]
        if same and not dma[earlier] and not dma[later] and why != "read after write":
            continue  # one compute queue runs in order
        wait = 0 if same else wait
        assert analysis.start_ps[later] >= analysis.done_ps[earlier] + wait, (earlier, later, why)


@given(steps(), PLACES)
def test_every_hazard_is_ordered_by_dependencies_and_queues(
    program: list[Step], places: Any
) -> None:
    done = recorded(program, places)
    placement = place(done)
    found = analyse_dependencies(done, placement)
    reach: list[set[int]] = []
    last: dict[int, int] = {}
    for index, before in enumerate(found.before):
        queue = found.queue[index]
        direct = set(before)
        if queue != SYNC and queue in last:
            direct.add(last[queue])
        last[queue] = index
        reach.append(direct.union(*(reach[other] for other in direct)))
    for earlier, later, why in hazards(effects(done, placement)):
        assert earlier in reach[later], (earlier, later, why)


@given(steps(), PLACES)
def test_dependencies_point_back_and_each_is_a_hazard(program: list[Step], places: Any) -> None:
    done = recorded(program, places)
    placement = place(done)
    found = analyse_dependencies(done, placement)
    real = {(a, b) for a, b, _ in hazards(effects(done, placement))}
    for index, before in enumerate(found.before):
        assert len(set(before)) == len(before)
        assert all(other < index for other in before)
        if all(s.address is not None or not s.space.on_chip for s in done.storages):
            assert {(other, index) for other in before} <= real


@given(steps(), PLACES)
def test_a_queue_does_one_thing_at_a_time(program: list[Step], places: Any) -> None:
    analysis = analyse(recorded(program, places))
    queues = analysis.queue % DMA_READER
    for queue in set(queues.tolist()):
        mine = np.flatnonzero(queues == queue)
        if queue == SYNC:  # takes ready triggers out of order
            mine = mine[np.argsort(analysis.start_ps[mine], kind="stable")]
        assert np.all(analysis.start_ps[mine][1:] >= analysis.issue_end_ps[mine][:-1])


@given(steps(), PLACES)
def test_times_of_one_instruction_are_in_order(program: list[Step], places: Any) -> None:
    analysis = analyse(recorded(program, places))
    times = analysis.times
    assert np.all(times.start_ps >= 0)
    assert np.all(times.issue_end_ps > times.start_ps)
    for index, transfers in enumerate(is_transfer(analysis)):
        cost = analysis.program.template(index).cost
        if transfers:
            fixed = cost.transfer.fixed_ps
            assert times.data_start_ps[index] >= times.issue_end_ps[index] + fixed
            moving = times.done_ps[index] - times.data_start_ps[index]
            assert moving >= cost.transfer.service_ps
        else:
            assert times.data_start_ps[index] == times.start_ps[index]
            assert times.done_ps[index] - times.start_ps[index] >= cost.latency_ps


@given(steps(), PLACES)
def test_the_makespan_holds_every_busy_time(program: list[Step], places: Any) -> None:
    analysis = analyse(recorded(program, places))
    assert analysis.total_ps == analysis.done_ps.max()
    assert all(0 <= busy <= analysis.total_ps for busy in analysis.busy_ps.values())
    assert all(0.0 <= share <= 1.0 for share in analysis.utilisation.values())
    engines = analysis.chip.integer("dma.engines")
    assert analysis.times.dma_busy_ps <= engines * analysis.times.dma_active_ps
    hbm = analysis.hbm_read_bytes + analysis.hbm_write_bytes
    least = hbm / analysis.chip.number("hbm.core_gb_s") * 1000
    assert analysis.total_ps >= least * (1 - 1e-9)
    assert analysis.mbu <= 1


@given(steps(), PLACES)
def test_causes_are_earlier_and_bind(program: list[Step], places: Any) -> None:
    analysis = analyse(recorded(program, places))
    for index, cause in enumerate(analysis.times.cause.tolist()):
        assert cause != index
        if cause >= 0:
            assert analysis.start_ps[cause] <= analysis.start_ps[index]


@given(steps(), PLACES)
def test_two_runs_are_byte_identical(program: list[Step], places: Any) -> None:
    first, second = (analyse(recorded(program, places, values=v)) for v in (True, False))
    assert first.program.rows == second.program.rows
    for name in ("start_ps", "issue_end_ps", "data_start_ps", "done_ps", "cause", "queue"):
        assert getattr(first.times, name).tobytes() == getattr(second.times, name).tobytes()
    assert first.timeline().text() == second.timeline().text()
    assert [f.render() for f in first.findings] == [f.render() for f in second.findings]


@given(steps(), PLACES, st.sampled_from(["trn1", "trn2", "trn3"]))
def test_every_generation_times_the_same_program(
    program: list[Step], places: Any, target: str
) -> None:
    legal = [s for s in program if s.kind not in ("copy", "drain")]  # Scalar of v2 cannot copy
    analysis = analyse(recorded(legal, places, target=target))
    assert analysis.total_ps > 0
    assert analysis.latency_ps > analysis.total_ps


# -- placement ---------------------------------------------------------------------------------


SHAPES = st.lists(
    st.tuples(st.sampled_from([4, 100, 2000, 9000, 20000]), st.integers(0, 12), st.integers(0, 6)),
    min_size=1, max_size=12,
)  # fmt: skip


def tiles_in_turn(wanted: list[tuple[int, int, int]], space: Space) -> Program:
    """Tiles of ``free`` elements, written at time ``start`` and read ``length`` later."""

    def body() -> None:
        tiles = [nl.ndarray((8, free), nl.float32, buffer=space) for free, _, _ in wanted]
        for time in range(20):
            for tile, (_, start, length) in zip(tiles, wanted, strict=True):
                if time == start:
                    nisa.memset(dst=tile, value=0.0)
                if time == start + length:
                    nisa.tensor_copy(dst=tile[:, 0:1], src=tile[:, 1:2])

    return record(body)


@pytest.mark.parametrize("space", [Space.SBUF, Space.PSUM])
@given(wanted=SHAPES)
def test_live_tensors_never_share_a_byte(space: Space, wanted: list[Any]) -> None:
    if space is Space.PSUM:
        wanted = [(min(free, 512), start, length) for free, start, length in wanted]
    program = tiles_in_turn(wanted, space)
    found = place(program)
    size = program.chip.integer(f"{space.value}.bytes_per_partition")
    peak = found.sbuf_peak_bytes if space is Space.SBUF else found.psum_peak_bytes
    if found.findings:
        assert {f.rule for f in found.findings} == {"capacity"}
        return
    assert peak <= size
    placed = [(s, int(found.address[s.id])) for s in program.storages]
    for storage, at in placed:
        assert 0 <= at <= size - storage_bytes(storage)
        for other, there in placed:
            apart = at + storage_bytes(storage) <= there or there + storage_bytes(other) <= at
            over = (found.last[storage.id] < found.first[other.id]
                    or found.last[other.id] < found.first[storage.id])  # fmt: skip
            assert storage is other or apart or over


@given(wanted=SHAPES)
def test_the_peak_is_the_fullest_moment(wanted: list[Any]) -> None:
    program = tiles_in_turn(wanted, Space.SBUF)
    found = place(program)
    level = [
        sum(
            storage_bytes(s) for s in program.storages if found.first[s.id] <= t <= found.last[s.id]
        )
        for t in range(len(program))
    ]
    assert found.sbuf_peak_bytes == max(level)
    fits = max(level) <= program.chip.integer("sbuf.bytes_per_partition")
    assert fits or found.findings, "an overflow must be reported"


@given(steps(), st.integers(1, 3))
def test_first_and_last_use_are_those_of_the_record(program: list[Step], times: int) -> None:
    done = recorded(program * times)
    found = place(done)
    for storage in done.storages:
        uses = [k for k in range(len(done)) if any(a[0] is storage for a in done.accesses(k))]
        want = (uses[0], uses[-1]) if uses else (-1, -1)
        assert (found.first[storage.id], found.last[storage.id]) == want


# -- growth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", facts.chips())
@pytest.mark.parametrize("engine", ["vector", "scalar", "tensor", "dma"])
def test_a_doubled_loop_takes_longer(target: str, engine: str) -> None:
    def body(x: Any, out: Any, count: int) -> None:
        tile = nl.load(x)
        bank = nl.ndarray((32, 32), nl.float32, buffer=nl.psum)
        for _ in nl.affine_range(count):
            if engine == "vector":
                nisa.memset(dst=tile, value=0.0)
            elif engine == "scalar":
                nisa.activation(dst=tile, op=nl.exp, data=tile)
            elif engine == "tensor":
                nisa.nc_matmul(dst=bank, stationary=tile, moving=tile)
            else:
                nisa.dma_copy(dst=out, src=tile)

    x, out = inputs()
    once, twice, four = (analyse(record(body, x, out, n, target=target)).total_ps
                         for n in (64, 128, 256))  # fmt: skip
    assert once < twice < four
    assert (four - twice) == pytest.approx(2 * (twice - once), rel=0.05)


@given(steps(most=8))
def test_a_program_run_twice_takes_longer_than_once(program: list[Step]) -> None:
    assert analyse(recorded(program * 2)).total_ps > 0
    once, twice = (analyse(record(kernel(program * n), *inputs())) for n in (1, 2))
    assert twice.times.queue_busy_ps[0] >= once.times.queue_busy_ps[0]
    assert twice.total_ps >= once.total_ps
