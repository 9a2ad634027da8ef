"""Encoders, vision, diffusion, video, speech and protein models: a forward pass, many at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from tenzing import facts
from tenzing.fleet.estimate import Estimate, Solve, conditions, slope
from tenzing.fleet.estimators.device import (
    BF16_BYTES,
    BYTES,
    Slice,
    core_slice,
    device_of,
    dtype_class,
    framework_class,
)
from tenzing.fleet.rows import Row
from tenzing.fleet.workload import GIGA, LAYER_SQUARES, MULTIPLY_ADD, Shape, shape_of

MS: Final = 1e3
CROSS_SQUARES: Final = 16  # parameters of a decoder layer with attention to the encoder
TEXT: Final = ("encoder", "decoder-forward")
GENERATIVE: Final = ("diffusion", "video-diffusion", "audio-generation", "video", "protein")
_PIXELS: Final = re.compile(r"(\d{2,5})\s*[x×]\s*(\d{2,5})")
_FRAMES: Final = re.compile(r"(\d+)[- ]frames?")
_TOKENS: Final = re.compile(r"([\d.]+)\s*(k?)\s*(?:\w+ )?tok", re.I)
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
    pixels: float = 0.0


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Latency percentiles, throughput, step and whole time of a row."""
    shape = shape_of(row.text("model"))
    device = device_of(row)
    batch = max(row.number("batch", 1), 1.0)
    one = work_of(row, shape)
    ranks = row.number("tp") or (_cores(row) if _generative(row) else 1)
    cores = core_slice(row, device, ranks)
    available = max(_cores(row) / max(ranks, 1), 1.0)
    streams = _streams(row, available)
    forward = _forward(row, shape, cores, one, batch)
    # calls beyond the cores wait for one: a call's latency grows, the cores' rate does not
    queue = max(streams / available, 1.0)
    found = [_with(forward, metric, MS * queue, name) for metric, name in
             (("latency_ms_p50", "p50"), ("latency_ms_p90", "p90"), ("latency_ms_p95", "p95"),
              ("latency_ms_p99", "p99"), ("latency_ms_mean", "mean"))]  # fmt: skip
    found.append(_with(forward, "e2e_s", 1.0, "whole"))
    per_step = _forward(row, shape, cores, Pass(one.flops, one.nbytes, one.weights, one.layers,
                        _per_step(row, shape)), batch)  # fmt: skip
    found.append(_with(per_step, "step_ms", MS, "step"))
    found.append(_throughput(row, forward, batch, min(streams, available)))
    return found


def _streams(row: Row, available: float) -> float:
    """Calls in flight: stated, or as the AWS tables are measured.

    Text keeps every core busy. Vision has one call in real time and two a core in batches, as the
    published throughput x latency / batch shows (2.00, 1.00 and 4.00 on two cores).
    """
    models, workers = row.number("n_models"), row.number("workers_per_model")
    if models:
        return models * max(workers, 1.0)
    if "pipeline" in row.text("run_mode").lower():
        return row.number("threads") or available * facts.software(
            "vision.pipeline_share"
        )  # stages in flight
    if row.number("dp"):
        return row.number("dp")
    if device_of(row).generation == 1 and "torch" in row.text("framework").lower():
        return max(row.number("threads"), available)
    if row.text("category") in TEXT or not row.text("app_type"):
        return (
            min(available, facts.software("vision.text_streams"))
            if row.text("app_type")
            else available
        )
    if device_of(row).generation == 1:
        return available
    return 1.0 if row.text("app_type").lower().startswith("real") else 2 * available


def _generative(row: Row) -> bool:
    return row.text("category") in GENERATIVE


def _cores(row: Row) -> float:
    device = device_of(row)
    stated = row.number("cores_used")
    if stated or device.family != "neuron":
        return stated or 1.0
    name = row.text("instance")
    count = facts.instance(name).number("chips") if name in facts.instances() else 1.0
    return count * device.cores / (2 if device.cores > 2 else 1)  # noqa: PLR2004 - LNC


def work_of(row: Row, shape: Shape) -> Pass:
    """One item's work at the row's resolution, sequence length, frames or seconds."""
    text = f"{row.text('resolution')} {row.text('run_mode')}"
    if shape.get("gmacs"):
        return _convolutional(row, shape, text)
    if shape.kind == "video" and "vae" in row.text("model").lower():
        return _video_decoder(shape, text)
    tokens = _tokens(row, shape, text)
    if shape.kind == "protein":
        return _pairs(shape, tokens)
    if shape.kind == "audio-generation":
        return _autoregressive(row, shape, text)
    passes = _steps(row, shape) * shape.get("passes", 1) if _generative(row) else 1.0
    body = shape.encoder_params if shape.kind in ("encoder", "vision-transformer", "speech",
                                                  "decoder") else shape.params  # fmt: skip
    flops = MULTIPLY_ADD * body * tokens + shape.attention_flops(tokens, tokens)
    layers, elements = float(shape.layers), shape.heads * tokens * tokens * shape.layers
    for depth, hidden, length in shape.get("towers", ()):
        flops += MULTIPLY_ADD * LAYER_SQUARES * depth * hidden**2 * length
        layers += depth
    headless = "automodel" in row.text("task").lower() or row.text("category") == "decoder-forward"
    if shape.kind in ("decoder", "encoder-decoder") and not headless:
        flops += MULTIPLY_ADD * shape.hidden * shape.vocab * tokens
    weights = body * (1.0 if not shape.get("shared_layers") else 1 / max(shape.layers, 1))
    nbytes = (
        tokens
        * shape.hidden
        * shape.layers
        * facts.software("vision.activation_moves")
        * BF16_BYTES
    )
    if shape.kind == "speech" and shape.get("decoder_layers"):
        text_tokens = facts.software("vision.spoken_tokens_s") * _audio(text)
        layers += shape.get("decoder_layers") * text_tokens
        weights += shape.get("decoder_layers") * CROSS_SQUARES * shape.hidden**2 * text_tokens
    pixels = _pixels(text) if shape.kind == "vision-transformer" else 0.0
    return Pass(flops, nbytes, weights * BF16_BYTES, layers, passes, 0.0, elements, pixels)


def _convolutional(row: Row, shape: Shape, text: str) -> Pass:
    base = _default(shape, "resolution") ** 2
    pixels = _pixels(text) or base
    scale = pixels / base
    if shape.kind == "speech":  # sound grows with its length, not with pixels
        scale = (row.number("seq_len") or shape.get("tokens")) / shape.get("tokens")
    flops = (
        MULTIPLY_ADD
        * GIGA
        * shape.get("gmacs")
        * scale
        * max(scale, 1.0) ** facts.software("vision.resolution_exponent")
    )
    passes, extra = 1.0, 0.0
    if _generative(row):
        passes = _steps(row, shape) * shape.get("passes", 1) * _experts(row)
        extra = MULTIPLY_ADD * GIGA * shape.get("decode_gmacs", 0.0) * scale
        name = row.text("model").lower()
        if "vae" in name:
            flops, passes, extra = (
                extra * (facts.software("vision.encode_share") if "encode" in name else 1.0),
                1.0,
                0.0,
            )
        elif "unet" in name:
            passes, extra = 2.0 if "x2" in name else 1.0, 0.0
    nbytes = flops / facts.software("vision.flops_per_byte")  # feature maps shrink with depth
    return Pass(flops, nbytes, shape.params * BF16_BYTES, shape.layers, passes, extra, 0.0,
                0.0 if _generative(row) else pixels)  # fmt: skip


def _video_decoder(shape: Shape, text: str) -> Pass:
    """A video's autoencoder: convolutions over every pixel of every frame."""
    frames = _FRAMES.search(text)
    height = float(shape.get("resolution", facts.software("vision.video_height")))
    pixels = _pixels(text) or _picture(height)
    pixels *= float(frames.group(1)) if frames else facts.software("vision.frames")
    return Pass(
        MULTIPLY_ADD * facts.software("vision.decoder_macs") * pixels,
        pixels * facts.software("vision.video_channels") * facts.software("vision.channel_bytes"),
        0.0,
        facts.software("vision.video_layers"),
        1.0,
    )


def _experts(row: Row) -> float:
    """Of a diffusion mixture of experts: how many run in a step."""
    found = re.search(r"top-(\d+)", row.text("model").lower())
    whole = "experts" in row.text("model").lower() and "full" in row.text("model").lower()
    return (
        float(found.group(1))
        if found
        else facts.software("vision.mixture_experts")
        if whole
        else 1.0
    )


def _pairs(shape: Shape, tokens: float) -> Pass:
    """A protein model works on every pair of residues, and triangles of them."""
    width = facts.software("vision.pair_width")
    squares, triangles = facts.software("vision.pair_squares"), facts.software("vision.triangles")
    flops = MULTIPLY_ADD * squares * tokens**2 * width**2 + triangles * tokens**3 * width
    moved = tokens**2 * width * facts.software("vision.pair_bytes")
    return Pass(shape.layers * flops, shape.layers * moved, shape.params * BF16_BYTES,
                shape.layers * facts.software("vision.pair_layers"),
                facts.software("vision.recycles"))  # fmt: skip


def _autoregressive(row: Row, shape: Shape, text: str) -> Pass:
    tokens = row.number("steps") or facts.software("vision.sounded_tokens_s") * _audio(text)
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
    return float(found.group(1)) if found else facts.software("vision.clip_s")


def _pixels(text: str) -> float:
    target = _TO.search(text)
    if target:
        return float(target.group(1)) ** 2
    found = _PIXELS.search(text)
    if found:
        return float(found.group(1)) * float(found.group(2))
    height = _HEIGHT.search(text)
    return _picture(float(height.group(1))) if height else 0.0


def _default(shape: Shape, key: str) -> float:
    """A published value of a shape, or the usual one."""
    return float(shape.get(key, facts.software(f"vision.default_{key}")))


def _picture(height: float) -> float:
    """Pixels of a picture of the usual shape."""
    return height**2 * facts.software("vision.aspect")


def _tokens(row: Row, shape: Shape, text: str) -> float:
    stated = _TOKENS.search(text)
    if stated:
        return float(stated.group(1)) * (1000 if stated.group(2) else 1)
    if shape.kind == "video":
        pixels, frames = _pixels(text), _FRAMES.search(text)
        if pixels:
            count = float(frames.group(1)) if frames else facts.software("vision.frames")
            spatial, temporal = _default(shape, "spatial"), _default(shape, "temporal")
            return pixels / spatial**2 * float(math.ceil((count - 1) / temporal) + 1)
    if shape.kind == "speech" and shape.get("decoder_layers"):
        clips = max(math.ceil(_audio(text) / facts.software("vision.clip_s")), 1)
        return float(shape.get("tokens", facts.software("vision.default_tokens"))) * clips
    return row.number("seq_len") or float(
        shape.get("tokens", facts.software("vision.default_tokens"))
    )


def _forward(row: Row, shape: Shape, cores: Slice, one: Pass, batch: float) -> Estimate:
    device = cores.accelerator
    dtype = "fp32" if _full_precision(row) else "bf16"
    passes = one.passes
    kind = "cnn" if shape.kind == "cnn" else ""
    parts = {
        f"compute{kind}": cores.compute_s(batch * passes * one.flops, dtype),
        f"activations{kind}": cores.memory_s(batch * passes * one.nbytes),
        f"layers{kind}": passes * one.layers * facts.software("vision.layer_s"),
        "launch": facts.software("vision.launch_s"),
    }
    if device.generation > 1 or device.family != "neuron":  # NeuronCore-v1 keeps weights on chip
        weights = passes * one.weights * _weight_bytes(row) / BF16_BYTES
        parts[f"weights{kind}"] = cores.memory_s(weights)
    if one.extra_flops:
        parts["decoder"] = cores.compute_s(batch * one.extra_flops, dtype)
    if one.elements:
        parts["softmax"] = cores.memory_s(batch * passes * one.elements * BF16_BYTES)
    category = row.text("category")
    if one.pixels:
        parts["pixels"] = batch * passes * one.pixels * facts.software("vision.pixel_s")
    features = {
        **conditions(family=device.family, accelerator=device.name, framework=_stack(row),
                     category="cnn" if kind else "transformer"),
        **slope("ln_batch", batch, 8.0), **slope("ln_ranks", cores.ranks),
    }  # fmt: skip
    return Estimate("forward", _quantity(row), parts, features, phase=category or "encoder",
                    width=category, assumed=shape.assumed)  # fmt: skip


def _stack(row: Row) -> str:
    """The AWS tables are one stack whatever release of PyTorch they name."""
    named = framework_class(row.text("framework"))
    if device_of(row).family == "neuron" and row.text("app_type"):
        return "sdk-table"
    return named


def _weight_bytes(row: Row) -> float:
    """fp32 models keep fp32 weights in device memory: products are cast as they are read."""
    return BYTES[dtype_class(row.text("model_dtype") or "bf16")]


def _quantity(row: Row) -> str:
    category = row.text("category")
    generated = _generative(row) or category == "speech"
    return f"generation_{category.split('-')[0]}" if generated else "forward"


def _full_precision(row: Row) -> bool:
    """fp32 products only where nothing casts: the AWS compilers cast products to bf16."""
    return device_of(row).family != "neuron" and dtype_class(row.text("model_dtype")) == "fp32"


def _with(forward: Estimate, metric: str, scale: float, name: str) -> Estimate:
    stat = conditions(statistic=name)
    return Estimate(metric, forward.quantity, forward.parts, {**forward.features, **stat}, scale,
                    phase=forward.phase, width=forward.width, assumed=forward.assumed)  # fmt: skip


def _throughput(row: Row, forward: Estimate, batch: float, streams: float) -> Estimate:
    unit = row.text("throughput_unit").lower()
    made = batch * streams
    if "real time" in unit:
        made *= _audio(row.text("run_mode"))
    features = {**forward.features, **conditions(statistic="throughput")}
    return Estimate("throughput", forward.quantity, forward.parts, features, made, True,
                    forward.phase, forward.width, forward.assumed)  # fmt: skip


__all__ = ["estimates", "work_of"]
