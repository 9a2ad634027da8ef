"""Training steps: six FLOPs per parameter and token, attention, bubbles, collectives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tenzing.facts import software
from tenzing.fleet.estimate import EXACT, Estimate, Solve, conditions, slope
from tenzing.fleet.estimators.device import (
    BF16_BYTES,
    Slice,
    device_of,
    dtype_class,
    framework_class,
    linked_chips,
    ranks_of,
)
from tenzing.fleet.rows import Row
from tenzing.fleet.workload import GIGA, MULTIPLY_ADD, Shape, shape_of

FORWARD_AND_BACKWARD: Final = 3
TERA: Final = 1e12
PERCENT: Final = 100.0
_FRAMEWORKS: Final = (
    ("megatron-bridge", "megatron-bridge"), ("torchtitan", "torchtitan"), ("maxtext", "maxtext"),
    ("nemo", "nemo-neuron"), ("megatron", "megatron-neuron"), ("nvidia", "mlperf"),
    ("neuronx distributed|nxd", "nxd"), ("bert", "bert-tutorial"), ("fine-?tun", "fine-tuning"),
)  # fmt: skip
_SEQUENCES: Final = {"ph1": 128.0, "phase 1": 128.0, "ph2": 512.0, "phase 2": 512.0}
SEQUENCES_BY_KIND: Final = {"vision-transformer": 197.0, "encoder": 512.0, "cnn": 1.0}
# what each family was trained with, by its model card
SEQUENCES_BY_NAME: Final = (("llama-?2", 4096.0), ("llama-?3|mistral|qwen", 8192.0))
LONG: Final = 1e5


@dataclass(frozen=True)
class Job:
    """A training row: sequences of ``length`` tokens over ``devices``, in a parallel layout."""

    row: Row
    shape: Shape
    devices: float
    ranks: float
    tp: float
    pp: float
    cp: float
    ep: float
    batch: float
    micro: float
    length: float
    framework: str
    dtype: str


def job_of(row: Row) -> Job:
    """Read a row as a training job; FactsError for an unknown accelerator."""
    device = device_of(row)
    shape = shape_of(row.text("model"), row.number("params_b"))
    devices = row.number("accelerators", 1.0) or 1.0
    topology = row.text("topology").lower()
    tp = row.number("tp") or _layout(topology, r"(\d+)x?nc\(tp\)|tp\s*=?\s*(\d+)")
    pp = row.number("pp") or _layout(topology, r"(\d+)\(pp\)|pp\s*=\s*(\d+)")
    cp = row.number("cp") or _layout(topology, r"cp\s*=\s*(\d+)")
    ep = row.number("ep") or _layout(topology, r"ep\s*=\s*(\d+)")
    ranks = devices * ranks_of(device)
    length = row.number("seq_len") or _length(row, shape)
    micro = row.number("microbatch") or 1.0
    filled = software("training.pipeline_fill") * pp if pp > 1 else 1.0
    batch = row.number("global_batch") or filled * micro * max(ranks / (tp * pp * cp), 1.0)
    framework = next((name for pattern, name in _FRAMEWORKS
                      if re.search(pattern, row.text("framework").lower())),
                     framework_class(row.text("framework")))  # fmt: skip
    narrow = framework == "mlperf" and shape.kind in ("decoder", "moe")  # their FP8 recipes
    dtype = dtype_class(row.text("dtype") or ("fp8" if narrow else "bf16"))
    return Job(row, shape, devices, ranks, tp, pp, cp, ep, batch, micro, length, framework, dtype)


def _layout(topology: str, pattern: str) -> float:
    found = re.search(pattern, topology)
    return max(float(next((g for g in found.groups() if g), 1.0)), 1.0) if found else 1.0


def _length(row: Row, shape: Shape) -> float:
    name = row.text("model").lower()
    for mark, length in _SEQUENCES.items():
        if mark in name:
            return length
    usual = next(
        (n for mark, n in SEQUENCES_BY_NAME if re.search(mark, name)),
        software("training.default_sequence"),
    )
    return SEQUENCES_BY_KIND.get(shape.kind, usual)


def flops_of_sequence(job: Job) -> float:
    """Forward and backward of one sequence or image, attention included."""
    shape, length = job.shape, job.length
    if shape.get("gmacs"):
        return FORWARD_AND_BACKWARD * MULTIPLY_ADD * GIGA * float(shape.get("gmacs"))
    flops = MULTIPLY_ADD * shape.active * length
    causal = 0.5 if shape.kind in ("decoder", "moe") else 1.0
    flops += causal * shape.attention_flops(length, length)
    for depth, hidden, tokens in shape.get("towers", ()):
        flops += MULTIPLY_ADD * 12 * depth * hidden**2 * tokens
    return FORWARD_AND_BACKWARD * flops


def step_of(job: Job) -> Estimate:
    """Seconds of one optimizer step of the global batch."""
    device = device_of(job.row)
    whole = Slice(device, job.devices, int(job.ranks))
    flops = flops_of_sequence(job)
    cast = device.family == "neuron" and job.dtype == "fp32"  # the compiler casts products
    compute = whole.compute_s(flops * job.batch, "bf16" if cast else job.dtype)
    replicas = max(job.ranks / (job.tp * job.pp * job.cp), 1.0)
    micros = max(job.batch / (replicas * job.micro), 1.0)
    owned = job.shape.params / (job.tp * job.pp * max(job.ep, 1.0))
    one = Slice(device, job.devices / job.ranks, 1)
    parts = {
        "compute": compute,
        "bubble": compute * (job.pp - 1) / micros,
        "optimizer": one.memory_s(job.shape.params * software("training.optimizer_moves")
                                  / (job.tp * job.pp * replicas)),
        "weights": one.memory_s(owned * BF16_BYTES * FORWARD_AND_BACKWARD * micros),
        "step": software("training.step_s"),
    }  # fmt: skip
    if replicas > 1:
        networked = job.devices > linked_chips(job.row, device)
        spread = software("training.network_share") if networked else 1.0
        reduced = one.link_s(2 * owned * software("training.gradient_bytes")) / spread
        # most of it hides behind the backward pass, two thirds of the products
        parts["gradients"] = min(reduced, software("training.overlapped") * compute)
    if job.tp > 1:
        sent = job.shape.layers * 4 * job.length * job.micro * job.shape.hidden * BF16_BYTES * 2
        parts["tensor_parallel"] = one.link_s(sent * micros / job.pp)
    name = device.name
    features = {
        **conditions(family=device.family, accelerator=name, framework=job.framework,
                     dtype=job.dtype, model_kind=job.shape.kind,
                     variant="long-context" if job.length > LONG else ""),
        **slope("ln_devices", job.devices, 64.0),
    }  # fmt: skip
    return Estimate("step_time_s", "training_step", parts, features, phase="training",
                    width=device.family, assumed=job.shape.assumed)  # fmt: skip


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Every metric of a training row."""
    job = job_of(row)
    step = step_of(job)
    flops = flops_of_sequence(job)
    device = device_of(row)
    tokens = job.batch * job.length

    def rate(metric: str, made: float) -> Estimate:
        return Estimate(metric, step.quantity, step.parts, step.features, made, True, step.phase,
                        step.width, step.assumed)  # fmt: skip

    total = flops * job.batch
    return [
        step,
        rate("seq_per_s", job.batch),
        rate("tokens_per_s", tokens),
        rate("tokens_per_s_per_device", tokens / job.devices),
        rate("tflops_per_device", total / job.devices / TERA),
        rate("mfu_pct", PERCENT * total / job.devices / TERA / device.bf16_tflops),
        Estimate(
            "flops_per_seq_tflop",
            EXACT,
            {"flops": flops / TERA},
            phase="training",
            assumed=step.assumed,
        ),
    ]


__all__ = ["estimates", "flops_of_sequence", "job_of", "step_of"]
