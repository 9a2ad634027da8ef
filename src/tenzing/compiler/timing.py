"""How long a graph takes on a chip, with layers that repeat simulated only a few times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

import numpy as np

from tenzing import facts
from tenzing.compiler.differentiation import Backward, with_gradients
from tenzing.compiler.digest import digest
from tenzing.compiler.execution import record_graph
from tenzing.compiler.graph import Graph, Node, Value
from tenzing.compiler.lowering import Recordings, device_dtype
from tenzing.compiler.ops import CollectiveOp
from tenzing.compiler.ops.control import called_kernels
from tenzing.compiler.overlap import overlapped_ps
from tenzing.compiler.passes import default_pipeline, recognise, shard
from tenzing.compiler.repetition import collapse, find_repetition
from tenzing.errors import CapacityError
from tenzing.fabric import Collective, Mesh, collective_ps
from tenzing.facts import Chip
from tenzing.machine import Analysis, Interval, analyse, interval
from tenzing.machine.store import cached
from tenzing.units import PS_PER_S, format_bytes

KEPT: Final = 3  # blocks simulated: the first is cold, the last two give the steady increment
TERA: Final = 10**12
GIGA: Final = 10**9
PS_PER_US: Final = 10**6
TOKEN_RANKS: Final = (2, 3)
Prepare = Callable[[Graph], Graph]


@dataclass(frozen=True)
class GraphTime:
    """Time and work of one execution of a graph on one core; picoseconds, bytes.

    ``repeats``: how many equal blocks the graph has, ``simulated``: how many were simulated.
    ``busy_ps`` by engine; ``collective_ps`` is spent between ranks, of which ``exposed_ps`` is part
    of the total: the rest of the program hides the remainder. ``sequence_parallel``: tokens are cut
    over ranks between products.
    """

    chip_name: str
    total_ps: int
    launch_ps: int
    instructions: int
    flops: int
    hbm_read_bytes: int
    hbm_write_bytes: int
    hbm_bytes: int
    sbuf_peak_bytes: int
    psum_peak_bytes: int
    busy_ps: dict[str, int] = field(hash=False)
    repeats: int = 1
    simulated: int = 1
    collective_ps: int = 0
    exposed_ps: int = 0
    sequence_parallel: bool = False
    assumed: tuple[str, ...] = ()

    @property
    def chip(self) -> Chip:
        """The chip it runs on, which knows the assumed facts that the time leans on."""
        chip = facts.chip(self.chip_name)
        for path in self.assumed:
            chip.fact(path)
        return chip

    @property
    def utilisation(self) -> dict[str, float]:
        """Busy share of the makespan by engine."""
        return {name: busy / max(self.total_ps, 1) for name, busy in self.busy_ps.items()}

    @property
    def latency_ps(self) -> int:
        """One execution on the device, launch included."""
        return self.total_ps + self.launch_ps

    @property
    def interval(self) -> Interval:
        """An 80 % interval of ``latency_ps``, from kernels: what layers share is not in it."""
        return interval(self.latency_ps, self.utilisation, self.assumed)

    @property
    def latency_us(self) -> float:
        """The same in microseconds."""
        return self.latency_ps / PS_PER_US

    @property
    def mfu(self) -> float:
        """Share of the core's bf16 matrix peak."""
        peak = self.chip.number("core.peak_bf16_tflops") * TERA
        return self.flops / (peak * max(self.total_ps, 1) / PS_PER_S)

    @property
    def mbu(self) -> float:
        """Share of the HBM bandwidth one core can draw."""
        rate = self.chip.number("hbm.core_gb_s") * GIGA
        moved = self.hbm_read_bytes + self.hbm_write_bytes
        return moved / (rate * max(self.total_ps, 1) / PS_PER_S)


def time_graph(
    graph: Graph, target: str = "trn2", *, autocast: str = "none", autocast_dtype: str = "bf16",
    mesh: Mapping[str, int] | None = None, sequence_parallel: bool | None = None,
    backward: Backward | None = None, streams: tuple[str, ...] = (),
) -> GraphTime:  # fmt: skip
    """Time an imported or built graph: passes, kernels, schedule.

    Repeated layers cost the time of three: the rest follows the increment of the last one. Results
    are kept on disk. With a ``mesh`` it is the time of one of its ranks, which waits for
    collectives as far as nothing else is left to do (see ``overlap``). ``sequence_parallel``:
    whether tokens are cut between products, and in the inputs ``streams``; None takes the faster
    way. ``backward``: with the gradients of all float inputs and parameters. Raises CapacityError
    when a rank's share does not fit.
    """
    chip = facts.chip(target).name
    ranks = Mesh.of(mesh)
    if ranks.ranks == 1 and autocast == "none":  # neither can make weights smaller
        check_hbm(chip, _held_bytes(graph))
    pipeline = default_pipeline(autocast, autocast_dtype)
    content = digest(graph)

    def timed(sequence: bool) -> GraphTime:
        key = {"graph": content, "chip": chip, "autocast": autocast, "dtype": autocast_dtype,
               "mesh": ranks.axes, "sequence": sequence,
               "backward": backward and asdict(backward), "streams": streams}  # fmt: skip

        def optimise(given: Graph) -> Graph:
            return pipeline.run(_of_a_rank(given, ranks, sequence, streams, backward))

        if called_kernels(graph):  # a key cannot say what a user's kernel does
            return _time(graph, chip, optimise, ranks)
        found = cached("graph-time", key, lambda: asdict(_time(graph, chip, optimise, ranks)))
        return GraphTime(**{**found, "assumed": tuple(found["assumed"])})

    wanted = (False, True) if sequence_parallel is None else (sequence_parallel,)
    tokens = ranks.ranks > 1 and any(_tokens_divide(v, ranks.ranks) for v in graph.inputs)
    result = min((timed(s) for s in wanted if tokens or not s), key=lambda t: t.total_ps)
    check_memory(result)
    return result


def time_rank(graph: Graph, target: str, mesh: Mapping[str, int] | None = None) -> GraphTime:
    """Time the graph of one rank of ``mesh`` as it stands, collectives included; kept on disk."""
    ranks = Mesh.of(mesh)
    key = {"graph": digest(graph), "chip": target, "mesh": ranks.axes}
    found = cached(
        "rank-time", key, lambda: asdict(measure(default_pipeline().run(graph), target, ranks))
    )
    return GraphTime(**{**found, "assumed": tuple(found["assumed"])})


def _of_a_rank(
    graph: Graph, mesh: Mesh, sequence: bool, streams: tuple[str, ...], backward: Backward | None
) -> Graph:
    """What one rank runs, its gradients included."""
    cut: Mapping[str, object] = {}
    if mesh.ranks > 1:
        sharded = shard(recognise(graph), mesh, sequence, streams)
        graph, cut = sharded.graph, sharded.cuts
    return graph if backward is None else with_gradients(graph, backward, cut=cut, mesh=mesh)


def _tokens_divide(value: Value, ranks: int) -> bool:
    """Whether an input [batch, tokens] or [batch, tokens, width] has tokens for every rank."""
    return (
        len(value.shape) in TOKEN_RANKS and value.shape[1] >= ranks and not value.shape[1] % ranks
    )


def check_memory(time: GraphTime) -> None:
    """Raise CapacityError when weights, state and activations exceed the core's HBM."""
    check_hbm(time.chip_name, time.hbm_bytes)


def check_hbm(chip: str, needed: int) -> None:
    """Raise CapacityError when ``needed`` bytes exceed the HBM of one core."""
    limit = facts.chip(chip).integer("hbm.core_bytes")
    if needed > limit:
        fit = 1 << (-(-needed // limit) - 1).bit_length()
        raise CapacityError(
            f"the model needs {format_bytes(needed)} of HBM on one core of {chip}",
            allowed=f"{format_bytes(limit)} (hbm.core_bytes)",
            next_step=f"spread it over {fit} or more cores (tensor parallel), or use a smaller "
            "batch, length or dtype",
        )  # fmt: skip


def _held_bytes(graph: Graph) -> int:
    """Bytes of the weights and state that some node reads: what any program of it must hold."""
    read = {value for node in graph.nodes for value in node.inputs}
    held = read.intersection((*graph.inputs, *graph.parameters))
    return sum(v.type.elements * device_dtype(v.dtype).itemsize for v in held)


def _time(graph: Graph, chip: str, optimise: Prepare, mesh: Mesh) -> GraphTime:
    run = find_repetition(graph)
    if run is None or run.count <= KEPT + 1:
        return measure(optimise(graph), chip, mesh)
    shared = Recordings()
    more = measure(optimise(collapse(graph, run, KEPT)), chip, mesh, shared)
    less = measure(optimise(collapse(graph, run, KEPT - 1)), chip, mesh, shared)
    return _extended(less, more, run.count)


def measure(graph: Graph, chip: str, mesh: Mesh, shared: Recordings | None = None) -> GraphTime:
    """Time an optimised graph of one rank of ``mesh``, every node of it.

    ``shared``: kernels that graphs before recorded for this chip.
    """
    waits = {k: _collective_ps(node, chip, mesh) for k, node in enumerate(graph.nodes)
             if isinstance(node.op, CollectiveOp)}  # fmt: skip
    marks: list[int] = []
    ends = marks if waits else None
    program = record_graph(graph, chip, check_memory=False, ends=ends, recordings=shared)
    analysis = analyse(program)
    own = summarise(analysis)
    if not waits:
        return own
    done = np.maximum.accumulate(np.asarray([0, *analysis.done_ps], np.int64))
    reached = [int(done[mark]) for mark in marks]
    total = overlapped_ps(graph, reached, waits) + own.total_ps - reached[-1]
    kinds = {node.op.kind for node in graph.nodes if isinstance(node.op, CollectiveOp)}
    return replace(own, total_ps=total, collective_ps=sum(waits.values()),
                   exposed_ps=total - own.total_ps,
                   sequence_parallel="reduce_scatter" in kinds)  # fmt: skip


def _collective_ps(node: Node, chip: str, mesh: Mesh) -> int:
    """How long the ranks exchange what one node combines."""
    op, where = node.op, facts.chip(chip)
    assert isinstance(op, CollectiveOp)
    moved = op.moved_bytes([v.type for v in node.inputs], [v.type for v in node.outputs])
    cores = where.integer("core.per_chip")
    whole = cores * math.ceil(facts.software("training.neuron_domain"))
    instances = math.gcd(1 + max(mesh.groups(op.axes)[0]) // whole, op.ranks)
    linked = math.gcd(instances, _linked_instances(chip))
    return collective_ps(where, Collective(op.kind, moved, op.ranks, instances,
                                           mesh.together(op.axes, cores), linked))  # fmt: skip


def _linked_instances(chip: str) -> int:
    """Instances of the largest UltraServer of a chip; 1 where there is none."""
    found = (i for i in facts.instances().values() if i.chip == chip and i.known("hosts"))
    return max((i.integer("hosts") for i in found), default=1)


def summarise(analysis: Analysis) -> GraphTime:
    """The numbers of an analysis."""
    return GraphTime(
        analysis.chip.name, analysis.total_ps, analysis.launch_ps, len(analysis.program),
        analysis.flops, analysis.hbm_read_bytes, analysis.hbm_write_bytes, analysis.hbm_bytes,
        analysis.sbuf_peak_bytes, analysis.psum_peak_bytes, dict(analysis.busy_ps),
        assumed=tuple(path for path, _ in analysis.chip.assumed_used()),
    )  # fmt: skip


def _extended(less: GraphTime, more: GraphTime, count: int) -> GraphTime:
    """Every amount continued by the difference that the last block made."""
    extra = count - KEPT

    def grown(name: str) -> int:
        last = getattr(more, name)
        return int(last + extra * (last - getattr(less, name)))

    amounts = {
        name: grown(name)
        for name in ("total_ps", "instructions", "flops", "hbm_read_bytes", "hbm_write_bytes",
                     "hbm_bytes", "collective_ps", "exposed_ps")
    }  # fmt: skip
    busy = {k: v + extra * (v - less.busy_ps[k]) for k, v in more.busy_ps.items()}
    return GraphTime(
        more.chip_name, launch_ps=more.launch_ps, sbuf_peak_bytes=more.sbuf_peak_bytes,
        psum_peak_bytes=more.psum_peak_bytes, busy_ps=busy, repeats=count, simulated=KEPT,
        assumed=more.assumed, sequence_parallel=more.sequence_parallel, **amounts,
    )  # fmt: skip


__all__ = ["GraphTime", "check_memory", "measure", "summarise", "time_graph", "time_rank"]
