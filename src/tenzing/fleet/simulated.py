"""Steps as our own programs take them on simulated cores: the fleet's only door to the compiler.

Every function returns seconds, or None and the reason: a family without a builder, a chip without
NKI, a program that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.compiler.models import build, decoder_times, read_config
from tenzing.compiler.timing import time_graph
from tenzing.errors import TenzingError, UsageError
from tenzing.fabric import Collective, collective_ps
from tenzing.facts import Chip
from tenzing.fleet.workload import shape_of
from tenzing.units import PS_PER_S

Progress = Callable[[str], None]
Simulated = tuple[float | None, str]
GB: Final = 1e9
PASSES: Final = 3  # forward, and backward with the gradients of inputs and of weights
RECOMPUTED_PASSES: Final = 4  # and forward once more


@dataclass(frozen=True)
class Copies:
    """How a training step is cut: ``tp`` cores a stage, ``pp`` stages, ``replicas`` of all of it.

    ``micros`` microbatches of ``microbatch`` sequences of ``tokens`` pass every stage; ``devices``
    are chips.
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


def decoder_step(
    model: str, accelerator: str, tp: int, batch: int, progress: Progress = lambda _: None, *,
    bucket: int = 0, length: int = 0,
) -> Simulated:  # fmt: skip
    """A prefill of ``bucket`` tokens or a decode step at ``length`` positions, on logical cores."""
    try:
        chip = facts.chip(accelerator)
        times = decoder_times(
            _config(model), batch=batch, buckets=(bucket,) if bucket else (),
            lengths=(length,) if length else (), target=chip.name, mesh=_mesh(chip, tp),
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


def training_step(model: str, accelerator: str, cut: Copies) -> Simulated:
    """A stage's forward pass compiled; its backward pass, which has no builder, as two of it.

    With it: the pipeline's fill, the sum of gradients and the gather of weights by the fabric's
    collectives, not hidden, and the optimizer's bytes.
    """
    try:
        chip = facts.chip(accelerator)
        config = _stage(model, cut.pp)
        graph = build(config, None, cut.microbatch, cut.tokens, caches=False)
        forward = time_graph(graph, chip.name, mesh={"tp": cut.tp} if cut.tp > 1 else None)
        exchanged = _exchanged_ps(model, chip, cut)
    except TenzingError as error:
        return None, str(error).splitlines()[0]
    passes = RECOMPUTED_PASSES if cut.recompute else PASSES
    turns = cut.micros + cut.pp - 1
    seconds = (turns * passes * forward.total_ps + forward.launch_ps + exchanged) / PS_PER_S
    owned = shape_of(model).params / (cut.tp * cut.pp * (cut.replicas if cut.zero1 else 1))
    core_gb_s = chip.number("hbm.chip_gb_s") / chip.integer("core.per_chip")
    seconds += owned * facts.software("training.optimizer_moves") / (core_gb_s * GB)
    return seconds, "backward pass counted as two forward passes: it has no builder"


def _exchanged_ps(model: str, chip: Chip, cut: Copies) -> int:
    """Gradients summed and weights gathered over the copies, by documented algorithms."""
    if cut.replicas == 1:
        return 0
    owned = shape_of(model).params / (cut.tp * cut.pp)
    nbytes = math.ceil(owned * facts.software("training.gradient_bytes"))
    hosts = max(cut.devices // math.ceil(facts.software("training.neuron_domain")), 1)
    spread = math.gcd(hosts, cut.replicas)
    return sum(
        collective_ps(chip, Collective(kind, nbytes, cut.replicas, spread))
        for kind in ("reduce_scatter", "all_gather")
    )


def _mesh(chip: Chip, tp: int) -> dict[str, int] | None:
    """A logical core is several physical ones, which our program uses as ranks."""
    ranks = tp * chip.integer("chip.logical_core_cores")
    return {"tp": ranks} if ranks > 1 else None


def _config(model: str) -> dict[str, Any]:
    """The configuration of a model by name or config.json, where a builder may know it."""
    if model.strip().lower().endswith(".json"):
        return read_config(model)
    known = shape_of(model).fact
    if not known:
        raise UsageError(f"no builder knows {model!r}", allowed=", ".join(facts.models()),
                         next_step="give one of these names, or a config.json")  # fmt: skip
    return facts.model(known)


def _stage(model: str, stages: int) -> dict[str, Any]:
    """One of ``stages`` with an equal share of the layers; each counts the head."""
    config = _config(model)
    layers = int(config.get("num_hidden_layers", 0))
    if stages > 1 and (not layers or layers % stages):
        raise UsageError(f"{layers} layers in {stages} stages", allowed="stages of equal layers")
    return config | {"num_hidden_layers": layers // stages} if stages > 1 else config


__all__ = ["Copies", "decoder_step", "encoder_step", "training_step"]
