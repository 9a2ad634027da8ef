"""Collectives: steps of a latency and bytes over a link, by operation and machine."""

from __future__ import annotations

import math
import re
from typing import Final

from tenzing.facts import software
from tenzing.fleet.estimate import Estimate, Solve, conditions, slope
from tenzing.fleet.estimators.device import GB, Slice, device_of, framework_class
from tenzing.fleet.rows import Row

US: Final = 1e6
GIB: Final = 1.073741824
FALLBACK: Final = "trainium1"
_REPEATS: Final = re.compile(r"x\s?(\d+)")
_OPS: Final = (
    ("all-?reduce", "all_reduce"), ("all-?gather", "all_gather"),
    ("reduce-?scatter", "reduce_scatter"), ("all-?to-?all", "all_to_all"),
    ("permute|send|recv|p2p|point|hop|rdma", "point_to_point"), ("broadcast", "broadcast"),
    ("null|launch", "null"),
)  # fmt: skip


def op_of(text: str) -> str:
    """The collective that a row's words mean."""
    lower = text.lower()
    return next((name for pattern, name in _OPS if re.search(pattern, lower)), "all_reduce")


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Latency percentiles and bandwidths of one collective."""
    named = row.text("accelerator").lower()
    known = named if named and "not stated" not in named else FALLBACK
    stated = Row(row.kind, {**row.cells, "accelerator": known}, row.line)
    device = device_of(stated)
    op = op_of(row.text("op"))
    ranks = max(row.number("ranks", 2.0), 2.0)
    nodes = max(row.number("nodes", 1.0), 1.0)
    size = row.number("size_bytes")
    share = (ranks - 1) / ranks
    sent = size * share * (2 if op == "all_reduce" else 1)
    framework = _framework(row)
    per_chip = device.cores / (2 if device.cores > 2 else 1) if device.family == "neuron" else 1  # noqa: PLR2004
    one = Slice(device, 1 / per_chip, 1)
    repeats = _REPEATS.search(row.text("op"))
    count = float(repeats.group(1)) if repeats else 1.0
    wired = "_pcie" if "pcie" in row.text("instance").lower() or device.link_domain == 1 else ""
    wired += "_many" if wired and ranks > software("collectives.pcie_pair") else ""
    hop = software("collectives.hop_s") * count
    parts = {f"launch_{framework}": software("collectives.launch_s"),
             "hops": hop * math.log2(ranks), f"ring_{framework}": hop * ranks}  # fmt: skip
    if op not in ("null",):
        parts[f"bytes{wired}"] = one.link_s(sent * count)
        parts["memory"] = one.memory_s(2 * size * count)
    if nodes > 1:
        parts["network"] = sent / (software("collectives.network_gb_s") * GB)
        parts["node_hops"] = software("collectives.node_hop_s") * math.log2(nodes) * ranks / nodes
    if framework == "graph" and op != "null":
        parts["graph"] = software("collectives.graph_s") * math.log2(ranks) ** 2 / 4
    features = {
        **conditions(accelerator=device.name, op=op),
        **slope("ln_ranks", ranks, 8.0),
    }  # fmt: skip
    base = {"quantity": "collective", "parts": parts, "phase": op, "width": device.family}
    unit = GIB if "gib" in row.text("bw_unit").lower() or framework == "nccom" else 1.0
    bus = share * (2 if op == "all_reduce" else 1)

    def made(metric: str, scale: float, statistic: str, rate: bool = False) -> Estimate:
        return Estimate(metric, "collective", parts,
                        {**features, **conditions(statistic=statistic)}, scale, rate, op,
                        str(base["width"]))  # fmt: skip

    found = [
        made("latency_us", US, "p50"),
        made("latency_us_p50", US, "p50"),
        made("latency_us_p99", US, "p99"),
    ]
    if size:
        found.append(made("algbw_gbps", size / GB / unit, "p50", True))
        found.append(made("busbw_gbps", size * bus / GB / unit, "p50", True))
    return found


def _framework(row: Row) -> str:
    text = row.text("framework").lower()
    for mark, name in (("nccl", "nccl"), ("nccom", "nccom"), ("custom allreduce", "trtllm-custom"),
                       ("xla graph", "graph"), ("docs", "documentation"),
                       ("profile", "profile")):  # fmt: skip
        if mark in text:
            return name
    return framework_class(text)


__all__ = ["estimates", "op_of"]
