"""Encoders, vision, diffusion, video, speech and protein models: a forward pass, many at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from tenzing.fleet.estimate import Estimate, Solve, conditions, slope
from tenzing.fleet.estimators.device import (
    BF16_BYTES,
    Slice,
    core_slice,
    device_of,
    dtype_class,
    framework_class,
)
from tenzing.fleet.rows import Row
from tenzing.fleet.workload import GIGA, MULTIPLY_ADD, Shape, shape_of

MS: Final = 1e3
LAUNCH_S: Final = 2e-4
LAYER_S: Final = 10e-6
DEFAULT_TOKENS: Final = 128
GENERATIVE: Final = ("diffusion", "video-diffusion", "audio-generation", "video", "protein")
CHANNEL_BYTES: Final = 2.0
ACTIVATIONS_PER_LAYER: Final = 12  # reads and writes of a token's features in a layer
SECONDS_PER_CLIP: Final = 30.0
VAE_BYTES: Final = 4.0
_PIXELS: Final = re.compile(r"(\d{2,5})\s*[x×]\s*(\d{2,5})")
_FRAMES: Final = re.compile(r"(\d+)[- ]frames?")
_TOKENS: Final = re.compile(r"([\d.]+)\s*(k?)\s*tokens", re.I)
_AUDIO: Final = re.compile(r"([\d.]+)\s*s audio")
_TO: Final = re.compile(r"->\s*(\d+)")
_HEIGHT: Final = re.compile(r"(\d{3,4})p")
COMPONENT: Final = re.compile(
    r"vae|decode|encode|unet|transformer|text|dit|step|forward|denoise|pipeline", re.I
)


@dataclass(frozen=True)
class Pass:
    """Work of one item: FLOPs, bytes and layers of a forward pass, and passes of an item."""

    flops: float
    nbytes: float
    weights: float
    layers: float
    passes: float
    extra_flops: float = 0.0
    elements: float = 0.0


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Latency percentiles, throughput, step and whole time of a row."""
    shape = shape_of(row.text("model"))
    device = device_of(row)
    batch = max(row.number("batch", 1), 1.0)
    one = work_of(row, shape)
    ranks = row.number("tp") or (1 if not _generative(row) else _cores(row))
    cores = core_slice(row, device, ranks)
    streams = max(_cores(row) / max(ranks, 1), 1.0)
    forward = _forward(row, shape, cores, one, batch)
    found = [_latency(forward, metric, name) for metric, name in
             (("latency_ms_p50", "p50"), ("latency_ms_p90", "p90"), ("latency_ms_p95", "p95"),
              ("latency_ms_p99", "p99"), ("latency_ms_mean", "mean"))]  # fmt: skip
    found.append(_with(forward, "e2e_s", 1.0, "whole"))
    per_step = _forward(row, shape, cores, Pass(one.flops, one.nbytes, one.weights, one.layers,
                        _per_step(row, shape)), batch)  # fmt: skip
    found.append(_with(per_step, "step_ms", MS, "step"))
    found.append(_throughput(row, forward, batch, streams))
    return found


def _generative(row: Row) -> bool:
    return row.text("category") in GENERATIVE


def _cores(row: Row) -> float:
    device = device_of(row)
    stated = row.number("cores_used")
    if stated or device.family != "neuron":
        return stated or 1.0
    chips = {"inf2.xlarge": 1, "trn1.2xlarge": 1, "inf1.xlarge": 1, "inf2.48xlarge": 12,
             "trn1.32xlarge": 16, "inf1.6xlarge": 4, "trn2.3xlarge": 1}  # fmt: skip
    count = chips.get(row.text("instance"), 1)
    return count * device.cores / (2 if device.cores > 2 else 1)  # noqa: PLR2004 - LNC


def work_of(row: Row, shape: Shape) -> Pass:
    """One item's work at the row's resolution, sequence length, frames or seconds."""
    text = f"{row.text('resolution')} {row.text('run_mode')}"
    if shape.get("gmacs"):
        return _convolutional(row, shape, text)
    tokens = _tokens(row, shape, text)
    if shape.kind == "audio-generation":
        return _autoregressive(row, shape, text)
    passes = _steps(row, shape) * shape.get("passes", 1) if _generative(row) else 1.0
    body = shape.encoder_params if shape.kind in ("encoder", "vision-transformer", "speech",
                                                  "decoder") else shape.params  # fmt: skip
    flops = MULTIPLY_ADD * body * tokens + shape.attention_flops(tokens, tokens)
    layers, elements = float(shape.layers), shape.heads * tokens * tokens * shape.layers
    for depth, hidden, length in shape.get("towers", ()):
        flops += MULTIPLY_ADD * 12 * depth * hidden**2 * length
        layers += depth
    if shape.kind in ("decoder", "encoder-decoder"):
        flops += MULTIPLY_ADD * shape.hidden * shape.vocab * tokens
    weights = body * (1.0 if not shape.get("shared_layers") else 1 / max(shape.layers, 1))
    nbytes = tokens * shape.hidden * shape.layers * ACTIVATIONS_PER_LAYER * BF16_BYTES
    if shape.kind == "speech" and shape.get("decoder_layers"):
        text_tokens = 3.0 * _audio(text)  # spoken English: about three tokens a second
        layers += shape.get("decoder_layers") * text_tokens
        weights += shape.get("decoder_layers") * 16 * shape.hidden**2 * text_tokens
    return Pass(flops, nbytes, weights * BF16_BYTES, layers, passes, 0.0, elements)


def _convolutional(row: Row, shape: Shape, text: str) -> Pass:
    base = float(shape.get("resolution", 224)) ** 2
    pixels = _pixels(text) or base
    scale = pixels / base
    flops = MULTIPLY_ADD * GIGA * shape.get("gmacs") * scale * max(scale, 1.0) ** 0.15
    passes, extra = 1.0, 0.0
    if _generative(row):
        passes = _steps(row, shape) * shape.get("passes", 1)
        extra = MULTIPLY_ADD * GIGA * shape.get("decode_gmacs", 0.0) * scale
        name = row.text("model").lower()
        if "vae" in name:
            flops, passes, extra = extra * (0.5 if "encode" in name else 1.0), 1.0, 0.0
        elif "unet" in name:
            passes, extra = 2.0 if "x2" in name else 1.0, 0.0
    nbytes = scale * shape.layers * CHANNEL_BYTES * base * 16
    return Pass(flops, nbytes, shape.params * BF16_BYTES, shape.layers, passes, extra)


def _autoregressive(row: Row, shape: Shape, text: str) -> Pass:
    tokens = row.number("steps") or 25.0 * _audio(text) * 2
    return Pass(MULTIPLY_ADD * shape.params, 0.0, shape.params * BF16_BYTES, shape.layers, tokens)


def _steps(row: Row, shape: Shape) -> float:
    if (
        COMPONENT.search(row.text("model"))
        and not row.number("steps")
        and not re.search("pipeline", row.text("model"), re.I)
    ):
        return 1.0
    return row.number("steps") or float(shape.get("steps", 1))


def _per_step(row: Row, shape: Shape) -> float:
    if shape.kind == "audio-generation":
        return 1.0
    mode = f"{row.text('model')} {row.text('run_mode')}".lower()
    return 2.0 if ("cfg" in mode and "no cfg" not in mode) or "sequential" in mode else 1.0


def _audio(text: str) -> float:
    found = _AUDIO.search(text)
    return float(found.group(1)) if found else SECONDS_PER_CLIP


def _pixels(text: str) -> float:
    target = _TO.search(text)
    if target:
        return float(target.group(1)) ** 2
    found = _PIXELS.search(text)
    if found:
        return float(found.group(1)) * float(found.group(2))
    height = _HEIGHT.search(text)
    return float(height.group(1)) ** 2 * 16 / 9 if height else 0.0


def _tokens(row: Row, shape: Shape, text: str) -> float:
    stated = _TOKENS.search(text)
    if stated:
        return float(stated.group(1)) * (1000 if stated.group(2) else 1)
    if shape.kind == "video":
        pixels, frames = _pixels(text), _FRAMES.search(text)
        if pixels:
            count = float(frames.group(1)) if frames else 25.0
            spatial, temporal = shape.get("spatial", 16), shape.get("temporal", 4)
            return pixels / float(spatial) ** 2 * float(math.ceil((count - 1) / temporal) + 1)
    if shape.kind == "speech" and shape.get("decoder_layers"):
        clips = max(math.ceil(_audio(text) / SECONDS_PER_CLIP), 1)
        return float(shape.get("tokens", DEFAULT_TOKENS)) * clips
    return row.number("seq_len") or float(shape.get("tokens", DEFAULT_TOKENS))


def _forward(row: Row, shape: Shape, cores: Slice, one: Pass, batch: float) -> Estimate:
    device = cores.accelerator
    dtype = "fp32" if _full_precision(row) else "bf16"
    passes = one.passes
    parts = {
        "compute": cores.compute_s(batch * passes * one.flops, dtype),
        "activations": cores.memory_s(batch * passes * one.nbytes),
        "weights": cores.memory_s(passes * one.weights),
        "layers": passes * one.layers * LAYER_S,
        "launch": LAUNCH_S,
    }
    if one.extra_flops:
        parts["decoder"] = cores.compute_s(batch * one.extra_flops, dtype)
    if one.elements:
        parts["softmax"] = cores.memory_s(batch * passes * one.elements * BF16_BYTES)
    category = row.text("category")
    features = {
        **conditions(family=device.family, accelerator=device.name, category=category,
                     framework=framework_class(row.text("framework")),
                     dtype=dtype_class(row.text("model_dtype"))),
        **slope("ln_batch", batch), **slope("ln_ranks", cores.ranks),
    }  # fmt: skip
    return Estimate("forward", _quantity(row), parts, features, phase=category or "encoder",
                    width=category, assumed=shape.assumed)  # fmt: skip


def _quantity(row: Row) -> str:
    return "generation" if _generative(row) or row.text("category") == "speech" else "forward"


def _full_precision(row: Row) -> bool:
    """fp32 products only where nothing casts: the AWS compilers cast products to bf16."""
    return device_of(row).family != "neuron" and dtype_class(row.text("model_dtype")) == "fp32"


def _driven(row: Row) -> dict[str, float]:
    """How many calls were in flight, as far as the tables tell: by kind of model and of use."""
    group = "text" if row.text("category") in ("encoder", "decoder-forward") else "other"
    use = row.text("app_type").lower().replace(" ", "-") or "none"
    found = conditions(load=f"{group}-{use}")
    workers, models = row.number("workers_per_model"), row.number("n_models")
    return {**found, **conditions(flag="pipeline" if "pipeline" in row.text("run_mode").lower()
                                  else ""),
            **(slope("ln_workers", workers) if workers else {}),
            **(slope("ln_models", models) if models else {})}  # fmt: skip


def _latency(forward: Estimate, metric: str, name: str) -> Estimate:
    return _with(forward, metric, MS, name)


def _with(forward: Estimate, metric: str, scale: float, name: str) -> Estimate:
    stat = conditions(statistic=name)
    return Estimate(metric, forward.quantity, forward.parts, {**forward.features, **stat}, scale,
                    phase=forward.phase, width=forward.width, assumed=forward.assumed)  # fmt: skip


def _throughput(row: Row, forward: Estimate, batch: float, streams: float) -> Estimate:
    unit = row.text("throughput_unit").lower()
    made = batch * max(streams, row.number("dp", 1))
    if "real time" in unit:
        made *= _audio(row.text("run_mode"))
    features = {**forward.features, **_driven(row), **conditions(statistic="throughput")}
    return Estimate("throughput", forward.quantity, forward.parts, features, made, True,
                    forward.phase, forward.width, forward.assumed)  # fmt: skip


__all__ = ["estimates", "work_of"]
