"""A serving row in the terms of a server: slots, prompts, load, the cores of a replica."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from tenzing.facts import software
from tenzing.fleet.estimate import conditions, slope
from tenzing.fleet.estimators.device import (
    BF16_BYTES,
    Slice,
    core_slice,
    device_of,
    dtype_class,
    framework_class,
)
from tenzing.fleet.rows import Row
from tenzing.fleet.workload import Shape, shape_of

SATURATED: Final = r"throughput|max load|through the server|sharegpt"
SPECULATED: Final = re.compile(r"(?:accepted(?: length)?|mean)\D{0,12}(\d+\.\d+)", re.I)
DRAFTED: Final = re.compile(r"\bk\s*=\s*(\d+)", re.I)
WHOLE_PROMPT: Final = ("optimum-static", "optimum-client", "nxdi-contrib", "contrib-profile")
PROMPT: Final = "prompt length"
OLDEST: Final = ("sdk-old", "transformers-neuron")
EARLY: Final = {"9": "serving.early_2_10", "10": "serving.early_2_10", "11": "serving.early_2_11"}
_RELEASE: Final = re.compile(r"neuron 2\.(\d+)", re.I)
OLD_TABLES: Final = (*OLDEST, "transformers-neuronx", "nxd")


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
    def prompt_assumed(self) -> tuple[str, ...]:
        """What a prefill had to assume: of the shape, and the prompt where no length is stated."""
        stated = self.row.number("input_len") or (self.window and not self.side)
        return self.shape.assumed if stated else (*self.shape.assumed, PROMPT)

    @property
    def era(self) -> str:
        """Products of the software of 2023 reached less: their part carries this ending."""
        return "_2023" if self.framework in OLDEST else ""

    @property
    def early(self) -> float:
        """What the first releases that ran decoders cost against later ones: a factor."""
        release = _RELEASE.search(self.row.text("version"))
        fact = EARLY.get(release.group(1), "") if release else ""
        return math.exp(software(fact)) if fact else 1.0

    @property
    def bucket(self) -> float:
        """Tokens that a prefill computes: the window, or what is new of the prompt, padded."""
        new = max(self.prompt * (1 - self.prefix_hit), 1.0)
        if self.cores.accelerator.family != "neuron":
            return new
        if self.framework in WHOLE_PROMPT and self.window:
            return self.window
        padded = 2 ** math.ceil(math.log2(max(new, software("serving.smallest_bucket"))))
        return float(min(padded, max(self.window, new)) if self.window else padded)

    @property
    def context(self) -> float:
        """Positions that a decode step reads: the compiled window, or the mean so far."""
        mean = self.prompt + self.output / 2
        if self.cores.accelerator.family == "neuron" and self.window:
            padded = 2.0 ** math.ceil(math.log2(max(mean, software("serving.smallest_bucket"))))
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
    prompt = row.number("input_len") or min(
        window or software("serving.default_input"), software("serving.default_input")
    )
    output = row.number("output_len") or software("serving.default_output")
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
    return 1 + software("serving.accepted_per_draft") * (
        float(drafted.group(1)) if drafted else 3.0
    )


__all__ = ["PROMPT", "Serving", "serving_of"]
