"""Language-model serving: prefill, decode step, and what a client sees of them."""

from __future__ import annotations

import math
from typing import Final

from tenzing.facts import software
from tenzing.fleet.estimate import Estimate, Solve, conditions, slope
from tenzing.fleet.estimators.client import STATISTICS, as_metric, of_load, served
from tenzing.fleet.estimators.device import BF16_BYTES, BYTES
from tenzing.fleet.estimators.serving import Serving, serving_of
from tenzing.fleet.rows import Row
from tenzing.fleet.workload import MULTIPLY_ADD

COLLECTIVES_PER_LAYER: Final = 2
MIXED_KV: Final = {"fp4": 1.0, "fp8": 1.0, "int8": 1.0}
TOGETHER: Final = (  # prefill a whole batch
    "optimum-static", "sdk-old", "transformers-neuron", "transformers-neuronx", "nxdi-contrib",
)  # fmt: skip


def _products_dtype(s: Serving) -> str:
    """Rivals multiply in 8 bit where the weights are; AWS software keeps 16-bit products."""
    narrow = s.weights in ("fp8", "fp4") and s.cores.accelerator.family != "neuron"
    return "fp8" if narrow else "bf16"


def _summed_s(s: Serving, tokens: float) -> float:
    """Sums of every layer's products of ``tokens`` over the ranks, over the links."""
    shape, ranks = s.shape, s.cores.ranks
    sent = COLLECTIVES_PER_LAYER * shape.layers * tokens * shape.hidden * BF16_BYTES
    return 2 * s.cores.link_s(sent * (ranks - 1) / ranks)


def _hops_s(s: Serving) -> float:
    """What the same sums take however little they send."""
    steps = math.log2(s.cores.ranks)
    return COLLECTIVES_PER_LAYER * s.shape.layers * software("serving.hop_s") * steps


def decode(s: Serving, metric: str = "step") -> Estimate:
    """One decode step of the compiled batch."""
    shape, cores = s.shape, s.cores
    unpacked = s.weights == "int8" and cores.accelerator.family == "neuron"  # at run time
    width = BF16_BYTES if unpacked else BYTES[s.weights]
    compute = _products_dtype(s)
    copies = max(cores.ranks / shape.kv_heads, 1.0)  # heads are repeated when ranks outnumber them
    parts = {
        f"products{s.side or s.era}": max(
            cores.memory_s(shape.touched(s.slots) * width),
            cores.compute_s(MULTIPLY_ADD * shape.active * s.slots, compute),
        ),
        f"cache{s.side}": cores.memory_s(
            s.slots * shape.seen(s.context) * shape.kv_values * BYTES[s.kv] * copies
        ),
        f"layers{s.side}": shape.layers * software("serving.layer_s"),
        f"step{s.side}": software("serving.step_s"),
    }
    if cores.ranks > 1:
        parts[f"collectives{s.side}"] = _hops_s(s)
    if "eager" in s.row.text("framework").lower():
        parts["eager"] = shape.layers * software("serving.eager_layer_s")
    features = {**s.common, **({} if s.side else slope("ln_batch", s.slots))}
    early = s.early
    parts = {name: part * early for name, part in parts.items()}
    return Estimate(metric, "decode_step", parts, features, phase="decode", width=s.framework,
                    assumed=shape.assumed)  # fmt: skip


def _rival_prefill(s: Serving, requests: float, metric: str) -> Estimate:
    """A rival's prefill by the constants of its saturated server, where prompts are most of it."""
    shape, cores, tokens = s.shape, s.cores, s.bucket
    work = requests * tokens
    products = cores.compute_s(MULTIPLY_ADD * shape.active * work, _products_dtype(s))
    read = cores.memory_s(shape.touched(work) * BYTES[s.weights])
    parts = {
        "prefill_compute": max(products, read),
        "prefill_attention": cores.compute_s(
            requests * shape.attention_flops(tokens, shape.seen(tokens)) / 2
        ),
        "layers": shape.layers * software("serving.layer_s"),
    }
    if "eager" in s.row.text("framework").lower():
        parts["eager"] = shape.layers * software("serving.eager_layer_s")
    if cores.ranks > 1:
        parts["collective_bytes"] = _summed_s(s, work)
    return Estimate(metric, "saturated", parts, s.common, phase="prefill", width=s.framework,
                    assumed=s.prompt_assumed)  # fmt: skip


def prefill(s: Serving, requests: float, metric: str = "prefill") -> Estimate:
    """One prefill of ``requests`` prompts together."""
    if s.side:
        return _rival_prefill(s, requests, metric)
    shape, cores, tokens = s.shape, s.cores, s.bucket
    compute = _products_dtype(s)
    work = requests * tokens
    parts = {
        "compute": cores.compute_s(MULTIPLY_ADD * shape.active * work, compute),
        "attention": cores.compute_s(requests * shape.attention_flops(tokens, shape.seen(tokens))),
        "weights": cores.memory_s(shape.touched(work) * BYTES[s.weights]),
        "layers": shape.layers * software("serving.layer_s"),
        "step": software("serving.step_s"),
    }
    if shape.state_space:
        parts["scan"] = (
            shape.layers * work * software("serving.scan_s")
        )  # recurrences run token by token
    if shape.experts:
        # every expert computes every token: what the published mixture prefills look like
        spare = MULTIPLY_ADD * (shape.params - shape.active) * work
        parts["experts"] = software("serving.experts_share") * cores.compute_s(spare, compute)
    if cores.ranks > 1:
        parts["collective_bytes"] = _summed_s(s, work)
        parts["collectives"] = _hops_s(s)
    return Estimate(metric, "prefill", parts, s.common, phase="prefill", width=s.framework,
                    assumed=s.prompt_assumed)  # fmt: skip


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Every metric of a serving row."""
    s = serving_of(row)
    if s.load == "saturated" and s.cores.accelerator.family != "neuron":
        return _saturated(s, solve)
    if s.framework == "contrib-profile":
        return _reprefill(s, solve)
    together = s.slots if s.framework in TOGETHER else 1
    return served(s, decode(s), prefill(s, together), solve)


def _reprefill(s: Serving, solve: Solve) -> list[Estimate]:
    """A harness that runs context encoding for every token: its rate is one over a prefill."""
    fill = prefill(s, 1)
    step = decode(s)
    every = Estimate("output_tok_s", "reprefill", fill.parts, fill.features, 1.0, True, "prefill",
                     s.framework, s.shape.assumed)  # fmt: skip
    found = [every]
    for name in STATISTICS:
        found.append(as_metric(every, f"ttft_ms_{name}", name))
        found.append(as_metric(step, f"tpot_ms_{name}", name))
    return found


def _saturated(s: Serving, solve: Solve) -> list[Estimate]:
    """As many requests in flight as memory holds: cost of a token at that batch."""
    shape, cores = s.shape, s.cores
    width = BYTES[s.weights]
    kv_width = MIXED_KV.get(s.weights, BF16_BYTES)
    compute = s.weights if s.weights in ("fp8", "fp4") else "bf16"
    mean = s.prompt + s.output / 2
    free = max(
        cores.hbm_bytes * software("serving.cache_share") - shape.params * width,
        cores.hbm_bytes * 0.05,
    )
    most = (
        software("serving.most_requests")
        if cores.ranks <= 1
        else 2 * software("serving.most_requests")
    )
    batch = min(free / (mean * shape.kv_values * kv_width), most)  # a server keeps what it computed
    batch = max(min(batch, s.slots if s.slots > 1 else batch), 1.0)
    share = s.prompt / s.output
    attention = shape.attention_flops(s.prompt, s.prompt) / 2 / s.output
    parts = {
        "prefill_compute": cores.compute_s(MULTIPLY_ADD * shape.active * share, compute),
        "prefill_attention": cores.compute_s(attention),
        "decode_compute": cores.compute_s(MULTIPLY_ADD * shape.active, compute),
        "weights": cores.memory_s(shape.touched(batch) * width) / batch,
        "cache": cores.memory_s(mean * shape.kv_values * kv_width),
        "layers": shape.layers * software("serving.layer_s") / batch,
    }
    if cores.ranks > 1:
        parts["collective_bytes"] = _summed_s(s, 1 + share)
    features = {**s.common, **conditions(flag="expert_parallel" if s.row.number("ep") > 1 else "")}
    scope = s.row.text("tok_s_scope").lower()
    per_gpu = cores.chips if "per gpu" in scope or "per chip" in scope else 1.0
    rate = Estimate("output_tok_s", "saturated", parts, features, s.replicas / per_gpu, True,
                    "serving", s.framework, shape.assumed)  # fmt: skip
    seconds = solve(rate)
    whole = s.replicas / seconds
    step = batch * seconds

    def made(metric: str, quantity: str, time: float, scale: float, rate: bool = True) -> Estimate:
        return of_load(s, metric, quantity, {"model": time}, "", "serving", scale, rate)

    return [
        rate,
        made("req_s", "request_rate", s.output / whole, 1.0),
        made("total_tok_s", "output_rate", 1 / (whole * (1 + share)), 1.0),
        *(
            of_load(s, f"tpot_ms_{n}", "between_tokens", {"decode": step}, n, "decode")
            for n in STATISTICS
        ),
    ]


__all__ = ["decode", "estimates", "prefill"]
