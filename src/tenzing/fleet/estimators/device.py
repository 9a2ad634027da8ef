"""The part of a machine that a row uses: accelerators, their share, formats, framework."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tenzing import facts
from tenzing.facts import Accelerator
from tenzing.fleet.rows import Row

BYTES: Final = {"fp4": 0.53, "fp8": 1.0, "int8": 1.0, "bf16": 2.0, "fp32": 4.0}
TERA: Final = 1e12
GB: Final = 1e9
BF16_BYTES: Final = 2.0
_FRAMEWORKS: Final = (
    ("optimum-neuron (tgi|vllm)", "optimum-client"),
    ("optimum-neuron", "optimum-static"),
    ("neuronx-distributed-inference contrib", "contrib-profile"),
    ("vllm.*(nxd|neuron)", "vllm-neuron"),
    ("nxd inference contrib", "nxdi-contrib"),
    ("transformers neuronx", "transformers-neuronx"),
    ("transformers neuron", "transformers-neuron"),
    ("neuronx? distributed", "nxd"),
    ("kiln", "kiln"),
    ("nkipy", "nkipy"),
    ("traced blocks", "traced-blocks"),
    ("tensorrt-llm|trt", "trtllm"),
    ("jetstream", "jetstream"),
    ("vllm", "vllm-gpu"),
    ("sglang", "vllm-gpu"),
    ("^pytorch 1", "sdk-old"),
    ("pytorch|torch|diffusers|transformers", "pytorch"),
)  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """``chips`` (a fraction where single cores are used) of one accelerator, in ``ranks``."""

    accelerator: Accelerator
    chips: float
    ranks: int

    def compute_s(self, flops: float, dtype: str = "bf16") -> float:
        """Seconds at the dense peak of a format."""
        return flops / (self.accelerator.tflops(dtype) * TERA * self.chips)

    def memory_s(self, nbytes: float) -> float:
        """Seconds at the peak memory bandwidth."""
        return nbytes / (self.accelerator.hbm_gb_s * GB * self.chips)

    def link_s(self, nbytes: float) -> float:
        """Seconds to send bytes from each device over half its links' total."""
        per_rank = self.accelerator.link_gb_s * min(self.chips / max(self.ranks, 1), 1.0) / 2
        return nbytes / (max(per_rank, 1e-3) * GB)

    @property
    def hbm_bytes(self) -> float:
        """Device memory of the slice."""
        return self.accelerator.hbm_bytes * self.chips


def device_of(row: Row) -> Accelerator:
    """The accelerator a row names; FactsError for an unknown one."""
    return facts.accelerator(row.text("accelerator"))


def ranks_of(device: Accelerator) -> int:
    """Ranks of one device: logical cores of AWS silicon; 1 for others."""
    if device.family != "neuron":
        return 1
    chip = facts.chip(device.name)
    known = chip.known("chip.logical_core_cores")
    return device.cores // (chip.integer("chip.logical_core_cores") if known else 1)


def linked_chips(row: Row, device: Accelerator) -> float:
    """Devices that reach each other over links: of a whole UltraServer where a row names one."""
    if device.family != "neuron":
        return device.link_domain
    named = facts.instances().get(row.text("instance").lower())
    if named is not None and named.known("hosts"):
        return named.chips
    return facts.software("training.neuron_domain")


def core_slice(row: Row, accelerator: Accelerator, ranks: float) -> Slice:
    """``ranks`` logical cores of AWS silicon (LNC counted), or that many whole devices."""
    count = max(int(ranks), 1)
    if accelerator.family != "neuron":
        return Slice(accelerator, count, count)
    lnc = row.number("lnc") or (2 if accelerator.cores > 2 else 1)  # noqa: PLR2004 - LNC default
    return Slice(accelerator, count * lnc / accelerator.cores, count)


def dtype_class(text: str) -> str:
    """fp4, fp8, int8, bf16 or fp32 of however a row spells its format."""
    lower = text.lower()
    for name, marks in (("fp4", "fp4|mxfp4|int4|w4"), ("fp8", "fp8|e4m3|e5m2"),
                        ("int8", "int8|w8"), ("bf16", "bf16|fp16|bfloat|half|float16"),
                        ("fp32", "fp32|float32|tf32")):  # fmt: skip
        if re.search(marks, lower):
            return name
    return "bf16"


def framework_class(text: str) -> str:
    """The software stack of a row in a few words."""
    lower = text.lower()
    return next((name for pattern, name in _FRAMEWORKS if re.search(pattern, lower)), "other")


__all__ = ["BF16_BYTES", "BYTES", "Slice", "core_slice", "device_of", "dtype_class",
           "framework_class", "linked_chips", "ranks_of"]  # fmt: skip
