"""Step times at instance scale: prefill, decode, encoder batch and training step on many cores.

Two answers, never mixed: ``calibrated`` is what published software reaches on such a
configuration, with an interval; ``simulated`` is our own program on the simulated cores,
collectives included (see ``simulated``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tenzing import facts
from tenzing.errors import CapacityError, TenzingError, UsageError
from tenzing.fleet import simulated
from tenzing.fleet.estimate import Estimate, Prediction, calibration
from tenzing.fleet.estimators import llm, training, vision
from tenzing.fleet.estimators.device import (
    BF16_BYTES,
    BYTES,
    device_of,
    linked_chips,
    ranks_of,
)
from tenzing.fleet.estimators.serving import Serving, serving_of
from tenzing.fleet.rows import CONFIGURATION, Row
from tenzing.fleet.workload import Shape, shape_of

Progress = Callable[[str], None]
MS: Final = 1e3
RECOMPUTE_COST: Final = 4 / 3  # forward, backward (two forwards) and forward again
TRAINING_STACK: Final = {
    "neuron": "nxd", "gpu": "megatron-bridge", "tpu": "maxtext", "cpu": "pytorch",
}  # fmt: skip
STACK: Final = {"neuron": "vllm-neuron", "gpu": "vllm", "tpu": "jetstream", "cpu": "pytorch"}


@dataclass(frozen=True)
class Fit:
    """Bytes a rank must hold against what it has; ``missing`` bytes are 0 when it fits.

    ``lost`` is what ``available`` leaves of its memory: to the runtime, the programs and the gaps
    between allocations.
    """

    weights: float
    cache: float
    activations: float
    optimizer: float
    available: float
    lost: float = 0.0

    @property
    def needed(self) -> float:
        """All of it."""
        return self.weights + self.cache + self.activations + self.optimizer

    @property
    def missing(self) -> float:
        """Bytes that do not fit."""
        return max(self.needed - self.available, 0.0)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step. ``simulated_s`` is None where no builder exists, and ``why`` says so.

    ``parts``: the calibrated time by op class.
    """

    phase: str
    calibrated: Prediction
    fit: Fit
    parts: Mapping[str, float]
    simulated_s: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Layout:
    """Where a model runs: accelerator, tensor-parallel ranks, copies, stages, formats
    of weights and cache.

    On AWS silicon a rank is a logical core (two physical cores on Trn2 and Trn3). ``ep``: in how
    many groups the ranks share out the experts of a mixture; in one group every rank has a part of
    every expert.
    """

    accelerator: str = "trn2"
    tp: int = 1
    dp: int = 1
    pp: int = 1
    weights: str = "bf16"
    framework: str = ""
    kv: str = "bf16"
    ep: int = 1

    def cells(self) -> dict[str, str]:
        """The layout as configuration cells of a row."""
        device = facts.accelerator(self.accelerator)
        return {
            "accelerator": self.accelerator, "tp": str(self.tp), "dp": str(self.dp),
            "pp": str(self.pp), "weights_dtype": self.weights, "model_dtype": self.weights,
            "framework": self.framework or STACK[device.family], "kv_dtype": self.kv,
            "ep": str(self.ep) if self.ep > 1 else "",
        }  # fmt: skip


def decode_step(
    model: str, layout: Layout, *, batch: int = 1, context: int = 2048, simulate: bool = False,
    progress: Progress = lambda _: None,
) -> StepTime:  # fmt: skip
    """One token for each of ``batch`` requests with ``context`` positions in the cache.

    Raises CapacityError when weights and cache do not fit: fit comes before time.
    """
    s = _serving(model, layout, batch=batch, seq_len=context, input_len=context, output_len=1)
    fit = serving_fit(s.shape, layout, batch, context)
    found = _step("decode", llm.decode(s), _checked(fit, model))
    if not simulate:
        return found
    ours = simulated.decoder_step(model, layout.accelerator, layout.tp, batch, progress,
                                  length=context, ep=layout.ep)  # fmt: skip
    return _beside(found, ours)


def prefill(
    model: str, layout: Layout, *, batch: int = 1, tokens: int = 1024, simulate: bool = False,
    progress: Progress = lambda _: None,
) -> StepTime:  # fmt: skip
    """The prompts of ``batch`` requests, ``tokens`` each after padding; CapacityError as above."""
    s = _serving(model, layout, batch=batch, seq_len=tokens, input_len=tokens, output_len=1)
    fit = serving_fit(s.shape, layout, batch, tokens)
    found = _step("prefill", llm.prefill(s, batch), _checked(fit, model))
    if not simulate:
        return found
    ours = simulated.decoder_step(model, layout.accelerator, layout.tp, batch, progress,
                                  bucket=tokens, ep=layout.ep)  # fmt: skip
    return _beside(found, ours)


def encoder_batch(
    model: str, layout: Layout, *, batch: int = 1, tokens: int = 128, simulate: bool = False
) -> StepTime:
    """A batch through an encoder on one core of ``layout`` (tensor-parallel ranks above one)."""
    cells = layout.cells() | {
        "model": model, "category": "encoder", "batch": str(batch), "seq_len": str(tokens),
        "model_dtype": "bf16", "cores_used": str(layout.tp), "run_mode": "single core",
        "framework": "PyTorch 2", "app_type": "Batch", "autocast_dtype": "Matmult-BF16",
    }  # fmt: skip
    row = _row("inference_encoder_vision", cells)
    wanted = (e for e in vision.estimates(row, calibration().time) if e.metric == "latency_ms_mean")
    shape = shape_of(model)
    live = batch * tokens * shape.hidden * facts.software("memory.activation_copies") * BF16_BYTES
    fit = Fit(shape.params * BF16_BYTES / layout.tp, 0.0, live, 0.0, *_rank_bytes(layout))
    found = _step("encoder", replace(next(wanted), scale=1.0), _checked(fit, model))
    if not simulate:
        return found
    ours = simulated.encoder_step(model, layout.accelerator, layout.tp, batch, tokens)
    return _beside(found, ours)


def diffusion_batch(
    model: str, layout: Layout, *, batch: int = 1, resolution: int = 0, steps: int = 0,
    simulate: bool = False,
) -> StepTime:  # fmt: skip
    """A batch of pictures from noise: ``steps`` of denoising, 0 for the model's own number.

    ``resolution`` is the side in pixels, 0 for the model's own. Raises CapacityError as above.
    """
    cells = layout.cells() | {
        "model": model, "category": "diffusion", "batch": str(batch), "cores_used": str(layout.tp),
        "resolution": f"{resolution}x{resolution}" if resolution else "",
        "steps": str(steps or ""), "framework": "PyTorch 2", "run_mode": "single copy",
    }  # fmt: skip
    row = _row("inference_encoder_vision", cells)
    wanted = (e for e in vision.estimates(row, calibration().time) if e.metric == "e2e_s")
    weights = shape_of(model).params * BF16_BYTES / layout.tp
    held = weights * (facts.software("memory.encoder_held") - 1)
    fit = Fit(weights, 0.0, held, 0.0, *_rank_bytes(layout))
    found = _step("diffusion", next(wanted), _checked(fit, model))
    return replace(found, why="no builder knows diffusion models") if simulate else found


def training_step(
    model: str, layout: Layout, *, global_batch: int, tokens: int, devices: int,
    microbatch: int = 1, ep: int = 1, zero1: bool = True, recompute: bool = True,
    simulate: bool = False, instance: str = "", progress: Progress = lambda _: None,
) -> StepTime:  # fmt: skip
    """One optimizer step of ``global_batch`` sequences on ``devices`` chips.

    Tensor, pipeline and data parallel as ``layout`` says, ``ep`` copies share out the experts of a
    mixture; ``recompute`` keeps the inputs of layers
    only and runs their forward pass again; ``zero1`` spreads the optimizer's state
    over the copies. ``instance`` may name an UltraServer, whose hosts are joined by links and not
    by the network. Raises CapacityError when a rank's share does not fit.
    """
    family = facts.accelerator(layout.accelerator).family
    cells = layout.cells() | {
        "model": model, "accelerators": str(devices), "global_batch": str(global_batch),
        "microbatch": str(microbatch), "seq_len": str(tokens), "dtype": layout.weights,
        "framework": layout.framework or TRAINING_STACK[family],
        "zero_fsdp": "ZeRO-1" if zero1 else "", "ep": str(ep), "instance": instance,
    }  # fmt: skip
    job = training.job_of(_row("training", cells))
    fit = training_fit(
        job.shape, layout, devices, microbatch=min(layout.pp, global_batch) * microbatch,
        tokens=tokens, ep=ep, zero1=zero1, recompute=recompute,
    )  # fmt: skip
    estimate = training.step_of(job)
    if recompute:  # the forward pass runs once more before the backward pass of each layer
        parts = {k: v * RECOMPUTE_COST if k in ("compute", "bubble") else v
                 for k, v in estimate.parts.items()}  # fmt: skip
        estimate = replace(estimate, parts=parts)
    found = _step("training", estimate, _checked(fit, model))
    if not simulate:
        return found
    if ep > 1:
        return replace(found, why="no builder shares experts out over ranks")
    cut = replace(_cut(job), recompute=recompute, zero1=zero1)
    ours = simulated.training_step(model, layout.accelerator, cut, progress)
    return _beside(found, ours)


def _cut(job: training.Job) -> simulated.Copies:
    """A job as the programs of its ranks."""
    copies = max(job.ranks / (job.tp * job.pp), 1.0)
    linked = linked_chips(job.row, device_of(job.row)) / facts.software("training.neuron_domain")
    return simulated.Copies(
        int(job.tp), int(job.pp), int(copies), max(round(job.batch / (copies * job.micro)), 1),
        int(job.micro), int(job.length), int(job.devices), linked=max(int(linked), 1),
    )  # fmt: skip


def training_fit(
    shape: Shape, layout: Layout, devices: int, *, microbatch: int, tokens: int, ep: int = 1,
    zero1: bool = True, recompute: bool = True,
) -> Fit:  # fmt: skip
    """What a rank of a training job holds: weights, gradients, optimizer state, activations.

    ``microbatch`` sequences of ``tokens`` are in flight in a rank at a time, those of all its
    pipeline stages; ``ep`` ranks share out the experts.
    """
    held = (shape.params - shape.expert_params * (1 - 1 / ep)) / (layout.tp * layout.pp)
    ranks = devices * ranks_per_chip(layout.accelerator)
    kept = facts.software("memory.recomputed_copies" if recompute else "memory.trained_copies")
    activations = microbatch * tokens * shape.hidden * kept * shape.layers * BF16_BYTES
    spread = shape.params / max(ranks, layout.tp * layout.pp) if zero1 else held
    optimizer = spread * facts.software("memory.optimizer_bytes")
    return Fit(
        held * BF16_BYTES, 0.0, activations / (layout.pp * layout.tp),
        optimizer + held * facts.software("training.gradient_bytes"), *_rank_bytes(layout),
    )  # fmt: skip


def serving_fit(shape: Shape, layout: Layout, batch: int, context: int) -> Fit:
    """What a rank of a serving replica holds: weights, cache, activations.

    ``batch`` requests are in each of the ``pp`` stages at a time, so the cache of a rank does not
    depend on their number.
    """
    heads = max(shape.kv_heads / layout.tp, 1.0) / shape.kv_heads  # heads are not cut
    return Fit(
        shape.params * BYTES[layout.weights] / (layout.tp * layout.pp),
        batch * context * shape.kv_values * BYTES[layout.kv] * heads,
        batch * shape.hidden * facts.software("memory.activation_copies") * BF16_BYTES,
        0.0,
        *_rank_bytes(layout),
    )


def ranks_per_chip(accelerator: str) -> int:
    """Ranks of one device: logical cores of AWS silicon; 1 for others."""
    return ranks_of(facts.accelerator(accelerator))


def _rank_bytes(layout: Layout) -> tuple[float, float]:
    """Memory of a rank that tensors can use, and what is lost of it."""
    device = facts.accelerator(layout.accelerator)
    whole = device.hbm_bytes / ranks_of(device)
    usable = facts.software("memory.usable")
    return whole * usable, whole * (1 - usable)


def _checked(fit: Fit, model: str) -> Fit:
    if fit.missing:
        raise CapacityError(
            f"{model} does not fit: a rank needs {fit.needed / 2**30:.1f} GiB",
            got=f"weights {fit.weights / 2**30:.1f}, cache {fit.cache / 2**30:.1f}, activations "
            f"{fit.activations / 2**30:.1f}, optimizer {fit.optimizer / 2**30:.1f} GiB",
            allowed=f"{fit.available / 2**30:.1f} GiB, {fit.lost / 2**30:.1f} more are lost to the "
            "runtime and between allocations",
            next_step="use more ranks, a smaller batch or context, or narrower weights",
        )  # fmt: skip
    return fit


def _row(kind: str, cells: Mapping[str, str]) -> Row:
    return Row(kind, {name: cells.get(name, "") for name in CONFIGURATION[kind]})


def _serving(model: str, layout: Layout, **sizes: int) -> Serving:
    cells = layout.cells() | {k: str(v) for k, v in sizes.items()}
    return serving_of(_row("inference_llm", {**cells, "model": model}))


def _step(phase: str, estimate: Estimate, fit: Fit) -> StepTime:
    using = calibration()
    made = using.predict(estimate)
    if made is None:
        raise UsageError(f"{phase}: nothing to run", next_step="give a batch and a length above 0")
    return StepTime(phase, made, fit, using.parts(estimate))


def _beside(found: StepTime, simulated: tuple[float | None, str]) -> StepTime:
    """The calibrated answer with that of our own program."""
    return replace(found, simulated_s=simulated[0], why=simulated[1])


def simulated_ms(row: Row, progress: Progress = lambda _: None) -> dict[str, float]:
    """Our own program's steps in ms by phase, for a row; empty where none can be compiled.

    Prefill and decode of a serving row, a batch of an encoder's, a step of a training row; only on
    AWS silicon that runs NKI, of a model whose builder is known.
    """
    by_kind = {"inference_llm": _served_s, "inference_encoder_vision": _encoded_s,
               "training": _trained_s}  # fmt: skip
    if row.kind not in by_kind:
        return {}
    try:
        name = device_of(row).name
        known = by_kind[row.kind](row, name, progress) if name in facts.chips() else {}
    except TenzingError:
        return {}
    return {phase: MS * seconds for phase, seconds in known.items() if seconds is not None}


def _served_s(row: Row, chip: str, progress: Progress) -> dict[str, float | None]:
    s = serving_of(row)
    ranks, name = s.cores.ranks, row.text("model")
    step, _ = simulated.decoder_step(name, chip, ranks, s.slots, progress, length=int(s.context))
    fill, _ = simulated.decoder_step(name, chip, ranks, 1, progress, bucket=int(s.bucket))
    return {"decode": step, "prefill": fill}


def _encoded_s(row: Row, chip: str, progress: Progress) -> dict[str, float | None]:
    if row.text("category") not in vision.TEXT:
        return {}
    batch, tp = max(int(row.number("batch", 1)), 1), max(int(row.number("tp", 1)), 1)
    tokens = int(row.number("seq_len") or facts.software("vision.default_tokens"))
    return {"encoder": simulated.encoder_step(row.text("model"), chip, tp, batch, tokens)[0]}


def _trained_s(row: Row, chip: str, progress: Progress) -> dict[str, float | None]:
    cut = _cut(training.job_of(row))
    return {"training": simulated.training_step(row.text("model"), chip, cut, progress)[0]}


__all__ = [
    "Fit", "Layout", "StepTime", "decode_step", "diffusion_batch", "encoder_batch", "prefill",
    "ranks_per_chip",
    "serving_fit", "simulated_ms", "training_fit", "training_step",
]  # fmt: skip
