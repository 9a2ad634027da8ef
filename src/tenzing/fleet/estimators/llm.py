"""Language-model serving: prefill, decode step, and what a client sees of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

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
from tenzing.fleet.rows import Row, number
from tenzing.fleet.workload import MULTIPLY_ADD, Shape, shape_of

MS: Final = 1e3
HOP_S: Final = 10e-6  # one small collective; its real cost is fitted
LAYER_S: Final = 20e-6  # kernels of a layer that are neither products nor bytes
STEP_S: Final = 1e-3  # host and launch of a step
COLLECTIVES_PER_LAYER: Final = 2
DEFAULT_INPUT: Final = 512
DEFAULT_OUTPUT: Final = 128
SATURATED: Final = r"throughput|max load|through the server|sharegpt"
SMALLEST_BUCKET: Final = 128
SPECULATED: Final = re.compile(r"(?:accepted(?: length)?|mean)\D{0,12}(\d+\.\d+)", re.I)
DRAFTED: Final = re.compile(r"\bk\s*=\s*(\d+)", re.I)
ACCEPTED_PER_DRAFT: Final = 0.45  # of each drafted token, where no accepted length is stated
MAX_BATCH: Final = 2048  # requests in flight of a saturated server
FREE_MEMORY: Final = 0.9
MIXED_KV: Final = {"fp4": 1.0, "fp8": 1.0, "int8": 1.0}
WHOLE_PROMPT: Final = ("optimum-static", "optimum-client", "nxdi-contrib", "contrib-profile")
TOGETHER: Final = (
    "optimum-static",
    "sdk-old",
    "transformers-neuronx",
    "nxdi-contrib",
)  # prefill a whole batch
OLD_TABLES: Final = ("sdk-old", "transformers-neuronx", "nxd")
EXPERTS_SHARE: Final = 0.5  # of products with experts a token did not choose; the rest is fitted
SCAN_S: Final = 1e-6
EAGER_S: Final = 1e-3  # a layer of a framework that launches every operation alone
STATISTICS: Final = ("p50", "mean", "p99")


@dataclass(frozen=True)
class Serving:
    """A row's configuration in the terms of a server."""

    row: Row
    shape: Shape
    cores: Slice
    framework: str
    weights: str
    replicas: int
    slots: int
    prompt: float
    output: float
    window: float
    load: str
    active: float
    waiting: float
    rate: float
    accepted: float
    clients: float = 0.0
    kv: str = "bf16"
    prefix_hit: float = 0.0

    @property
    def common(self) -> dict[str, float]:
        """Conditions that every quantity shares."""
        device = self.cores.accelerator
        found = conditions(
            family=device.family, accelerator=device.name, framework=self.framework,
            dtype=self.weights, model_kind=self.shape.kind,
        )  # fmt: skip
        return {**found, **slope("ln_ranks", self.cores.ranks, 8.0)}

    @property
    def side(self) -> str:
        """Overheads of rivals are theirs: their parts carry this ending."""
        return "" if self.cores.accelerator.family == "neuron" else "_rival"

    @property
    def bucket(self) -> float:
        """Tokens that a prefill computes: the window, or what is new of the prompt, padded."""
        new = max(self.prompt * (1 - self.prefix_hit), 1.0)
        if self.cores.accelerator.family != "neuron":
            return new
        if self.framework in WHOLE_PROMPT and self.window:
            return self.window
        padded = 2 ** math.ceil(math.log2(max(new, SMALLEST_BUCKET)))
        return float(min(padded, max(self.window, new)) if self.window else padded)

    @property
    def context(self) -> float:
        """Positions that a decode step reads: the compiled window, or the mean so far."""
        mean = self.prompt + self.output / 2
        if self.cores.accelerator.family == "neuron" and self.window:
            padded = 2.0 ** math.ceil(math.log2(max(mean, SMALLEST_BUCKET)))
            return min(self.window, padded)
        return mean


def serving_of(row: Row) -> Serving:
    """Read a row as a server; FactsError for an unknown accelerator."""
    device = device_of(row)
    shape = shape_of(row.text("model"), row.number("params_b"), row.text("arch"))
    framework = framework_class(row.text("framework"))
    replicas = int(row.number("dp", 1)) or 1
    ranks = row.number("tp")
    if not ranks:
        whole = row.number("cores_used" if device.family == "neuron" else "chips_used")
        shared = 1 if row.number("ep") > 1 else replicas
        need = _fit(shape, device.hbm_bytes / device.cores)
        ranks = whole / shared if whole else need
    if row.number("ep") > 1 and device.family != "neuron":
        ranks, replicas = row.number("chips_used", ranks), 1
    clients = row.number("concurrency")
    slots = int(row.number("batch")) or math.ceil(clients / replicas)
    if framework in OLD_TABLES and row.text("app_type").lower().startswith("real"):
        slots = 1  # the tables repeat the batch of the throughput run beside a real-time latency
    load, active, waiting, rate = _load(row, slots, clients, replicas)
    window = row.number("seq_len")
    prompt = row.number("input_len") or min(window or DEFAULT_INPUT, DEFAULT_INPUT)
    output = row.number("output_len") or DEFAULT_OUTPUT
    weights = dtype_class(row.text("weights_dtype") or row.text("model_dtype") or "bf16")
    return Serving(row, shape, core_slice(row, device, ranks), framework, weights, replicas,
                   max(slots, 1), prompt, output, window, load, active, waiting, rate,
                   _accepted(row.text("spec_decode")), 1.0 if load == "clients" and not clients
                   else clients, dtype_class(row.text("kv_dtype") or "bf16"),
                   min(row.number("prefix_hit"), 1.0))  # fmt: skip


def _fit(shape: Shape, core_bytes: float) -> int:
    """The smallest power of two of cores that hold twice the weights in 16 bit."""
    need = shape.params * BF16_BYTES * 1.25 / core_bytes
    return int(2 ** math.ceil(math.log2(max(need, 1.0))))


def _load(row: Row, slots: int, clients: float, replicas: int) -> tuple[str, float, float, float]:
    """(kind of load, requests decoding in a replica, waiting for a slot, arrivals per second)."""
    mode = row.text("run_mode").lower()
    slots = max(slots, 1)
    arrivals = re.search(r"@\s*([\d.]+)\s*req", mode)
    if arrivals:
        return "open", float(slots), 0.0, float(arrivals.group(1)) / replicas
    if row.text("concurrency").lower() == "max" or re.search(SATURATED, mode):
        return "saturated", float(slots), float(slots), 0.0
    if clients:
        each = max(clients / replicas, 1.0)
        return "clients", min(each, slots), max(each - slots, 0.0), 0.0
    if "synchronous" in mode:
        return "clients", 1.0, 0.0, 0.0
    return "batch", float(slots), 0.0, 0.0


def _accepted(text: str) -> float:
    """Mean tokens that a step yields: 1 without speculative decoding."""
    if not text.strip():
        return 1.0
    stated = SPECULATED.search(text)
    if stated:
        return max(float(stated.group(1)), 1.0)
    drafted = DRAFTED.search(text)
    return 1 + ACCEPTED_PER_DRAFT * (float(drafted.group(1)) if drafted else 3.0)


def _products_dtype(s: Serving) -> str:
    """Rivals multiply in 8 bit where the weights are; AWS software keeps 16-bit products."""
    narrow = s.weights in ("fp8", "fp4") and s.cores.accelerator.family != "neuron"
    return "fp8" if narrow else "bf16"


def decode(s: Serving, metric: str = "step") -> Estimate:
    """One decode step of the compiled batch."""
    shape, cores = s.shape, s.cores
    unpacked = s.weights == "int8" and cores.accelerator.family == "neuron"  # at run time
    width = BF16_BYTES if unpacked else BYTES[s.weights]
    compute = _products_dtype(s)
    copies = max(cores.ranks / shape.kv_heads, 1.0)  # heads are repeated when ranks outnumber them
    parts = {
        "weights": cores.memory_s(shape.touched(s.slots) * width),
        "cache": cores.memory_s(s.slots * s.context * shape.kv_values * BYTES[s.kv] * copies),
        "compute": cores.compute_s(MULTIPLY_ADD * shape.active * s.slots, compute),
        f"layers{s.side}": shape.layers * LAYER_S,
        f"step{s.side}": STEP_S,
    }
    if cores.ranks > 1:
        hops = COLLECTIVES_PER_LAYER * shape.layers * HOP_S * math.log2(cores.ranks)
        parts[f"collectives{s.side}"] = hops
    if "eager" in s.row.text("framework").lower():
        parts["eager"] = shape.layers * EAGER_S
    features = {**s.common, **slope("ln_batch", s.slots)}
    return Estimate(metric, "decode_step", parts, features, phase="decode", width=s.framework,
                    assumed=shape.assumed)  # fmt: skip


def prefill(s: Serving, requests: float, metric: str = "prefill") -> Estimate:
    """One prefill of ``requests`` prompts together."""
    shape, cores, tokens = s.shape, s.cores, s.bucket
    compute = _products_dtype(s)
    work = requests * tokens
    parts = {
        "compute": cores.compute_s(MULTIPLY_ADD * shape.active * work, compute),
        "attention": cores.compute_s(requests * shape.attention_flops(tokens, tokens)),
        "weights": cores.memory_s(shape.touched(work) * BYTES[s.weights]),
        f"layers{s.side}": shape.layers * LAYER_S,
        f"step{s.side}": STEP_S,
    }
    if shape.state_space and cores.accelerator.family == "neuron":
        parts["scan"] = shape.layers * work * SCAN_S  # recurrences run token by token
    if shape.experts and cores.accelerator.family == "neuron":
        # every expert computes every token: what the published mixture prefills look like
        spare = MULTIPLY_ADD * (shape.params - shape.active) * work
        parts["experts"] = EXPERTS_SHARE * cores.compute_s(spare, compute)
    if cores.ranks > 1:
        sent = COLLECTIVES_PER_LAYER * shape.layers * work * shape.hidden * BF16_BYTES
        parts["collective_bytes"] = 2 * cores.link_s(sent * (cores.ranks - 1) / cores.ranks**2)
        hops = COLLECTIVES_PER_LAYER * shape.layers * HOP_S * math.log2(cores.ranks)
        parts[f"collectives{s.side}"] = hops
    features = {**s.common, **slope("ln_tokens", work, 1024.0)}
    return Estimate(metric, "prefill", parts, features, phase="prefill", width=s.framework,
                    assumed=shape.assumed)  # fmt: skip


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Every metric of a serving row."""
    s = serving_of(row)
    if s.load == "saturated" and s.cores.accelerator.family != "neuron":
        return _saturated(s, solve)
    if s.framework == "contrib-profile":
        return _reprefill(s, solve)
    return _served(s, solve)


@dataclass(frozen=True)
class Client:
    """What a client sees, in seconds: time to first token, between tokens, whole request."""

    first: float
    between: float
    total: float
    wait: float
    busy: float  # requests being served in a replica


def client_of(s: Serving, step: float, fill: float) -> Client:
    """Prefills interleave with decoding, so a token waits for the others' prompts.

    A closed loop of clients beyond the slots waits for one; arrivals at a rate stretch decoding by
    the share of time that prefills take.
    """
    step = step / s.accepted
    steps = max(s.output - 1, 1.0)
    told_whole = "llmperf" in s.row.text("framework").lower()
    if s.load == "batch":
        return Client(fill, step, fill + steps * step, 0.0, s.slots)
    if s.load == "open":
        taken = min(s.rate * fill, 0.9)
        crowded = step + (s.slots - 1) * fill / max(s.output, 1.0)
        between = min(step / (1 - taken), crowded)
        full = fill + steps * between
        busy = min(s.rate * full, float(s.slots))
        return Client(fill / (1 - taken / 2), between, full, 0.0, max(busy, 1.0))
    others = max(s.active - 1, 0.0)
    between = step + others * fill / max(s.output, 1.0)
    total = fill + steps * between
    wait = s.waiting * total / max(s.active, 1.0)
    if told_whole:  # this client divides the whole request by its tokens
        between = (total + wait) / max(s.output, 1.0)
    return Client(fill + wait, between, total + wait, wait, s.active)


def _served(s: Serving, solve: Solve) -> list[Estimate]:
    together = s.slots if s.framework in TOGETHER else 1
    step_estimate, fill_estimate = decode(s), prefill(s, together)
    step, fill = solve(step_estimate), solve(fill_estimate)
    seen = client_of(s, step, fill)
    found: list[Estimate] = []
    quiet = s.load == "batch" or (s.load == "clients" and s.active <= 1 and not s.waiting)
    for name in STATISTICS:
        stat = conditions(statistic=name)
        if quiet:
            found.append(_as(fill_estimate, f"ttft_ms_{name}", stat))
            found.append(_as(step_estimate, f"tpot_ms_{name}", stat, 1 / s.accepted))
        else:
            found.append(_load_estimate(s, f"ttft_ms_{name}", "first_token", seen.first, stat,
                                        "prefill", MS))  # fmt: skip
            found.append(_load_estimate(s, f"tpot_ms_{name}", "between_tokens", seen.between, stat,
                                        "decode", MS))  # fmt: skip
    return [*found, *_throughput(s, seen)]


def _as(estimate: Estimate, metric: str, stat: dict[str, float], share: float = 1.0) -> Estimate:
    return Estimate(metric, estimate.quantity, estimate.parts, {**estimate.features, **stat},
                    scale=MS * share, phase=estimate.phase, width=estimate.width,
                    assumed=estimate.assumed)  # fmt: skip


def _load_estimate(
    s: Serving, metric: str, quantity: str, seconds: float, stat: dict[str, float], phase: str,
    scale: float, rate: bool = False,
) -> Estimate:  # fmt: skip
    """A client's figure from calibrated steps, with a factor for how it was driven."""
    features = {**conditions(load=s.load, framework=s.framework), **stat}
    if s.accepted > 1:
        features |= {"flag=speculative": 1.0}
    if s.load in ("clients", "open"):
        features |= slope("ln_clients", (s.active + s.waiting) * s.replicas, 1.0)
    if s.waiting:
        features |= {"flag=queued": 1.0}
    return Estimate(metric, quantity, {"model": seconds}, features, scale=scale, rate=rate,
                    phase=phase, width=s.framework, assumed=s.shape.assumed)  # fmt: skip


def _throughput(s: Serving, seen: Client) -> list[Estimate]:
    scope = s.row.text("tok_s_scope").lower()
    replicas = s.replicas
    served = seen.total - seen.wait  # the next request takes the slot at once
    busy = min(seen.busy * replicas, s.clients) if s.clients else seen.busy * replicas
    if scope.startswith(("decode rate", "system (decode")):
        seconds, made = seen.between, float(s.slots * replicas)
    elif scope.startswith("per request"):
        seconds, made = seen.total, s.output
    else:
        seconds, made = served, busy * s.output
    kind = next((k for k in ("decode rate", "per request") if k in scope), "system")
    kind = kind.replace(" ", "-")
    unit = conditions(scope=kind)
    per_gpu = s.cores.chips * replicas if "per gpu" in scope or "per chip" in scope else 1.0
    make = _load_estimate
    return [
        make(s, "output_tok_s", "output_rate", seconds, unit, "serving", made / per_gpu, True),
        make(s, "total_tok_s", "old_rate", seen.between, {}, "decode", float(s.slots), True),
        *(make(s, f"latency_per_token_ms_{n}", "old_latency", seen.between,
               conditions(statistic=n), "decode", MS) for n in ("p50", "p99")),
        make(s, "e2e_latency_ms", "request", seen.total, {}, "serving", MS),
        make(s, "req_s", "request_rate", served, {}, "serving", busy, True),
    ]  # fmt: skip


def _reprefill(s: Serving, solve: Solve) -> list[Estimate]:
    """A harness that runs context encoding for every token: its rate is one over a prefill."""
    fill = prefill(s, 1)
    step = decode(s)
    every = Estimate("output_tok_s", "reprefill", fill.parts, fill.features, 1.0, True, "prefill",
                     s.framework, s.shape.assumed)  # fmt: skip
    found = [every]
    for name in STATISTICS:
        stat = conditions(statistic=name)
        found.append(_as(every, f"ttft_ms_{name}", stat))
        found.append(_as(step, f"tpot_ms_{name}", stat))
    return found


def _saturated(s: Serving, solve: Solve) -> list[Estimate]:
    """As many requests in flight as memory holds: cost of a token at that batch."""
    shape, cores = s.shape, s.cores
    width = BYTES[s.weights]
    kv_width = MIXED_KV.get(s.weights, BF16_BYTES)
    compute = s.weights if s.weights in ("fp8", "fp4") else "bf16"
    mean = s.prompt + s.output / 2
    free = max(cores.hbm_bytes * FREE_MEMORY - shape.params * width, cores.hbm_bytes * 0.05)
    most = MAX_BATCH if cores.ranks <= 1 else 2 * MAX_BATCH
    batch = min(free / (mean * shape.kv_values * kv_width), most)
    batch = max(min(batch, s.slots if s.slots > 1 else batch), 1.0)
    share = s.prompt / s.output
    attention = shape.attention_flops(s.prompt, s.prompt) / 2 / s.output
    parts = {
        "prefill_compute": cores.compute_s(MULTIPLY_ADD * shape.active * share, compute),
        "prefill_attention": cores.compute_s(attention),
        "decode_compute": cores.compute_s(MULTIPLY_ADD * shape.active, compute),
        "weights": cores.memory_s(shape.touched(batch) * width) / batch,
        "cache": cores.memory_s(mean * shape.kv_values * kv_width),
        "layers": shape.layers * LAYER_S / batch,
    }
    if cores.ranks > 1:
        sent = COLLECTIVES_PER_LAYER * shape.layers * (1 + share) * shape.hidden * BF16_BYTES
        parts["collective_bytes"] = 2 * cores.link_s(sent * (cores.ranks - 1) / cores.ranks)
    features = {**s.common, **conditions(flag="expert_parallel" if s.row.number("ep") > 1 else "")}
    scope = s.row.text("tok_s_scope").lower()
    per_gpu = cores.chips if "per gpu" in scope or "per chip" in scope else 1.0
    rate = Estimate("output_tok_s", "saturated", parts, features, s.replicas / per_gpu, True,
                    "serving", s.framework, shape.assumed)  # fmt: skip
    seconds = solve(rate)
    whole = s.replicas / seconds
    step = batch * seconds
    make = _load_estimate
    return [
        rate,
        make(s, "req_s", "request_rate", s.output / whole, {}, "serving", 1.0, True),
        make(s, "total_tok_s", "old_rate", 1 / (whole * (1 + share)), {}, "serving", 1.0, True),
        *(make(s, f"tpot_ms_{n}", "between_tokens", step, conditions(statistic=n), "decode", MS)
          for n in STATISTICS),
    ]  # fmt: skip


__all__ = ["decode", "estimates", "number", "prefill", "serving_of"]
