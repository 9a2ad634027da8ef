"""Steps as our own programs take them on simulated cores: the fleet's only door to the compiler.

Every function returns seconds, or None and the reason: a family without a builder, a chip without
NKI, a program that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tenzing import facts
from tenzing.compiler.models import build, decoder_times, read_config, training_times
from tenzing.compiler.timing import time_graph
from tenzing.errors import TenzingError, UsageError
from tenzing.fabric import Collective, collective_ps
from tenzing.facts import Chip
from tenzing.fleet.estimators.device import BF16_BYTES
from tenzing.fleet.workload import shape_of
from tenzing.units import PS_PER_S

Progress = Callable[[str], None]
Simulated = tuple[float | None, str]


@dataclass(frozen=True)
class Copies:
    """How a training step is cut: ``tp`` cores a stage, ``pp`` stages, ``replicas`` of all of it.

    ``micros`` microbatches of ``microbatch`` sequences of ``tokens`` pass every stage; ``devices``
    are chips, and ``linked`` instances of them are one UltraServer.
    """

    tp: int
    pp: int
    replicas: int
    micros: int
    microbatch: int
    tokens: int
    devices: int
    recompute: bool = True
    zero1: bool = True
    linked: int = 1


def decoder_step(
    model: str, accelerator: str, tp: int, batch: int, progress: Progress = lambda _: None, *,
    bucket: int = 0, length: int = 0, ep: int = 1,
) -> Simulated:  # fmt: skip
    """A prefill of ``bucket`` tokens or a decode step at ``length`` positions, on logical cores.

    ``ep`` groups of the ranks share out the experts of a mixture.
    """
    try:
        chip = facts.chip(accelerator)
        times = decoder_times(
            _config(model), batch=batch, buckets=(bucket,) if bucket else (),
            lengths=(length,) if length else (), target=chip.name, mesh=_mesh(chip, tp, ep),
            progress=progress,
        )  # fmt: skip
    except TenzingError as error:
        return None, str(error).splitlines()[0]
    time = times.prefill[bucket] if bucket else times.decode[length]
    return (time.total_ps + time.launch_ps) / PS_PER_S, ""


def encoder_step(model: str, accelerator: str, tp: int, batch: int, tokens: int) -> Simulated:
    """A batch of ``tokens`` each through an encoder, or one forward pass of a decoder's prompt."""
    try:
        chip = facts.chip(accelerator)
        graph = build(_config(model), None, batch, tokens, caches=False)
        time = time_graph(graph, chip.name, mesh=_mesh(chip, tp))
    except TenzingError as error:
        return None, str(error).splitlines()[0]
    return (time.total_ps + time.launch_ps) / PS_PER_S, ""


def training_step(
    model: str, accelerator: str, cut: Copies, progress: Progress = lambda _: None
) -> Simulated:
    """A step whose layers, ends and update are our own programs, forward and backward.

    Microbatches fill the stages one behind another and the slowest stage sets their pace; the sum
    of gradients and the gather of weights go by the fabric's collectives, not hidden.
    """
    try:
        chip = facts.chip(accelerator)
        layers = _equal_stages(model, cut.pp)
        times = training_times(
            _config(model), batch=cut.microbatch, tokens=cut.tokens, target=chip.name,
            mesh=_mesh(chip, cut.tp), recompute=cut.recompute, accumulate=cut.micros > 1,
            progress=progress,
        )  # fmt: skip
        between = _handed_on_ps(model, chip, cut) + _exchanged_ps(model, chip, cut)
    except TenzingError as error:
        return None, str(error).splitlines()[0]
    stages = [times.stage_ps(number, cut.pp) for number in range(cut.pp)]
    turns = cut.micros + cut.pp - 1
    computed = sum(stages) + (cut.micros - 1) * max(stages) + turns * times.launch_ps
    owned = _owned(model, chip, cut) / (cut.replicas if cut.zero1 else 1)
    update = owned * times.update_ps_per_parameter
    why = "" if times.head is not None else f"{layers} layers and their input; it has no loss"
    return (computed + between + update) / PS_PER_S, why


def _owned(model: str, chip: Chip, cut: Copies) -> float:
    """Parameters of one physical core."""
    return shape_of(model).params / (cut.tp * cut.pp * chip.integer("chip.logical_core_cores"))


def _exchanged_ps(model: str, chip: Chip, cut: Copies) -> int:
    """Gradients summed and weights gathered over the copies, by documented algorithms."""
    if cut.replicas == 1:
        return 0
    nbytes = math.ceil(_owned(model, chip, cut) * facts.software("training.gradient_bytes"))
    hosts = max(cut.devices // math.ceil(facts.software("training.neuron_domain")), 1)
    spread = math.gcd(hosts, cut.replicas)
    ranks = cut.tp * chip.integer("chip.logical_core_cores")
    whole = Collective("all_reduce", nbytes, cut.replicas, spread,
                       on_chip=max(chip.integer("core.per_chip") // ranks, 1),
                       linked=math.gcd(cut.linked, spread))  # fmt: skip
    kinds = ("reduce_scatter", "all_gather")
    return sum(collective_ps(chip, replace(whole, kind=kind)) for kind in kinds)


def _handed_on_ps(model: str, chip: Chip, cut: Copies) -> int:
    """The stream of a microbatch from stage to stage, there and back: later ones are hidden."""
    ranks = cut.tp * chip.integer("chip.logical_core_cores")
    stream = cut.microbatch * cut.tokens * shape_of(model).hidden * BF16_BYTES
    part = Collective("collective_permute", math.ceil(stream / ranks), 2, on_chip=1)
    return 2 * (cut.pp - 1) * collective_ps(chip, part)


def _mesh(chip: Chip, tp: int, ep: int = 1) -> dict[str, int] | None:
    """A logical core is several physical ones, which our program uses as ranks."""
    ranks = tp * chip.integer("chip.logical_core_cores")
    if ep < 1 or ranks % ep:
        raise UsageError(f"{ranks} ranks in {ep} groups of experts", allowed="groups of equal size")
    if ranks == 1:
        return None
    return {"tp": ranks} if ep == 1 else {"ep": ep, "tp": ranks // ep}


def _config(model: str) -> dict[str, Any]:
    """The configuration of a model by name or config.json, where a builder may know it."""
    if model.strip().lower().endswith(".json"):
        return read_config(model)
    known = shape_of(model).fact
    if not known:
        raise UsageError(f"no builder knows {model!r}", allowed=", ".join(facts.models()),
                         next_step="give one of these names, or a config.json")  # fmt: skip
    return facts.model(known)


def _equal_stages(model: str, stages: int) -> int:
    """The layers of a model, which stages share equally."""
    layers = shape_of(model).layers
    if layers % stages:
        raise UsageError(f"{layers} layers in {stages} stages", allowed="stages of equal layers")
    return layers


__all__ = ["Copies", "decoder_step", "encoder_step", "training_step"]
