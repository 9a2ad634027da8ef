"""Kernels: products, attention, rows of elements, scans, copies and whole compiled programs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.facts import Accelerator
from tenzing.fleet.estimate import Estimate, Solve, conditions, slope
from tenzing.fleet.estimators import llm
from tenzing.fleet.estimators.device import BYTES, TERA, Slice, device_of, dtype_class
from tenzing.fleet.estimators.serving import serving_of
from tenzing.fleet.rows import CONFIGURATION, Row
from tenzing.fleet.workload import MULTIPLY_ADD

US: Final = 1e6
NS_PER_US: Final = 1e3
PERCENT: Final = 100.0
GB: Final = 1e9
MICRO: Final = "hardware-microbenchmark"
OLDEST_WITH_CLOCK: Final = "trn1"
LANES: Final = 128  # of a NeuronCore: the partitions of its SBUF
DEFAULT_ELEMENTS: Final = 2.0**20
ROOT_DIM: Final = 128.0
_PAIR: Final = re.compile(r"\b([A-Za-z]+)\s*=\s*(\d+(?:\.\d+)?)")
_BRACKETS: Final = re.compile(r"\[(\d+)\s*,\s*(\d+)\]")
_PRODUCT: Final = re.compile(r"(?<![\d=])(\d+)\s*x\s*(\d+)(?:\s*x\s*(\d+))?(?:\s*x\s*(\d+))?")
_BYTES: Final = re.compile(r"([\d.]+)\s*(bytes|kib|kb|mib|mb|gib|gb)\b", re.I)
_SCALE: Final = {"bytes": 1.0, "kb": 1e3, "kib": 1024.0, "mb": 1e6, "mib": 2.0**20, "gb": 1e9,
                 "gib": 2.0**30}  # fmt: skip
_TENSOR_PARALLEL: Final = re.compile(r"TP\s*(\d+)", re.I)
# kernel words -> (class, passes over HBM of its elements, vector operations an element)
_CLASSES: Final = (
    ("launch|null|overhead|nrtpy|loop iteration|fixed", "launch", 0.0, 0.0),
    ("pairformer|triang|evoformer", "pair", 0.0, 0.0),
    ("dma", "copy", 2.0, 0.0),
    ("moe|expert", "moe", 0.0, 0.0),
    ("mamba|scan|ssm", "scan", 0.0, 0.0),
    ("attention|flash|gqa|sdpa|mla", "attention", 0.0, 0.0),
    ("conv", "convolution", 0.0, 0.0),
    ("(norm|rope|softmax|add|lora|silu|swiglu).*(matmul|gemm|linear|projection)|"
     "gemm|matmul|bmm|mlp|linear|projection|tensor engine|lora|swiglu", "product", 0.0, 0.0),
    ("adam", "elementwise", 7.0, 6.0),
    ("dma|copy|transfer|stream|gather", "copy", 2.0, 0.0),
    ("rope|rotary", "elementwise", 2.0, 4.0),
    ("softmax|norm", "elementwise", 2.0, 4.0),
    ("transpose", "elementwise", 2.0, 1.0),
    ("", "elementwise", 2.0, 2.0),
)  # fmt: skip
_ENGINES: Final = ("scalar_active_pct", "vector_active_pct", "gpsimd_active_pct")


@dataclass(frozen=True)
class Work:
    """A kernel's products, memory traffic and lane operations."""

    kind: str
    flops: float = 0.0
    read: float = 0.0
    written: float = 0.0
    lanes: float = 0.0
    serial: float = 0.0


def class_of(kernel: str) -> tuple[str, float, float]:
    """(class, passes over memory, operations an element) of a kernel's name."""
    lower = kernel.lower()
    return next((k, p, o) for words, k, p, o in _CLASSES if re.search(words, lower))


def dims_of(row: Row) -> dict[str, float]:
    """Named sizes of a kernel: columns first, then ``NAME=number`` in its shape."""
    text = f"{row.text('shape')} {row.text('variant')}"
    found = {k: float(v) for k, v in _PAIR.findall(text)}
    for name in ("M", "N", "K", "batch", "heads", "kv_heads", "head_dim", "seq_q", "seq_kv"):
        if row.number(name):
            found[name] = row.number(name)
    return found


def _elements(row: Row, dims: dict[str, float]) -> float:
    boxed = _BRACKETS.search(row.text("shape"))
    if boxed:
        return float(boxed.group(1)) * float(boxed.group(2))
    named = [v for k, v in dims.items() if k in ("M", "N", "B", "H", "D", "S", "C", "W")]
    plain = _PRODUCT.search(row.text("shape"))
    if named:
        return math.prod(named)
    if plain:
        return math.prod(float(x) for x in plain.groups() if x)
    return DEFAULT_ELEMENTS


def work_of(row: Row) -> Work:
    """What a kernel has to do, from its name and sizes."""
    kind, passes, operations = class_of(row.text("kernel"))
    dims, width = dims_of(row), BYTES[dtype_class(row.text("dtype") or "bf16")]
    if kind == "product":
        return _product(row, dims, width)
    if kind == "attention":
        return _attention(row, dims, width)
    if kind == "scan":
        return _scan(dims, width)
    if kind == "moe":
        return _experts(row, dims, width)
    if kind == "launch":
        return Work(kind, serial=_overhead_us(row))
    if kind == "pair":
        return _pair(dims, width)
    sized = _BYTES.search(row.text("shape"))
    if sized:
        moved = float(sized.group(1)) * _SCALE[sized.group(2).lower()]
        return Work(kind, read=moved, written=moved)
    elements = _elements(row, dims)
    if kind == "convolution":
        taps = dims.get("filter", dims.get("K", 9.0))
        return Work(kind, 0.0, elements * width, elements * width, elements * taps)
    return Work(kind, 0.0, elements * width * passes / 2, elements * width * passes / 2,
                elements * operations)  # fmt: skip


def _overhead_us(row: Row) -> float:
    """A fixed cost by what it is the cost of, from the chip's facts where it has them."""
    chip = device_of(row)
    if chip.family != "neuron":
        return facts.software("kernels.rival_overhead_us")
    found = facts.chip(chip.name)
    text = f"{row.text('kernel')} {row.text('variant')}".lower()
    paths = (("graph|torch|null", "launch.host_ns"), ("dma", "dma.load_fixed_ns"),
             ("instruction|vector", "vector.wait_ns"),
             ("", "launch.overhead_ns"))  # fmt: skip
    if "loop" in text:
        return facts.software("kernels.loop_us")
    path = next(p for words, p in paths if re.search(words, text))
    return found.number(path) / NS_PER_US if found.known(path) else 1.0


def _pair(dims: dict[str, float], width: float) -> Work:
    """A layer on every pair of N residues: projections, and products over triangles."""
    n = dims.get("N", 256.0)
    flops = 24 * MULTIPLY_ADD * n**2 * ROOT_DIM**2 + 8 * n**3 * ROOT_DIM
    moved = 40 * n**2 * ROOT_DIM * width
    return Work("pair", flops, moved, moved, 24 * n**2 * ROOT_DIM)


def _product(row: Row, dims: dict[str, float], width: float) -> Work:
    m, n, k = (dims.get(x) for x in ("M", "N", "K"))
    boxes = _BRACKETS.findall(row.text("shape"))
    if not (m and n and k):
        plain = _PRODUCT.search(row.text("shape"))
        if len(boxes) > 1:
            k, m, n = float(boxes[0][0]), float(boxes[0][1]), float(boxes[1][1])
        elif plain:
            sides = [float(x) for x in plain.groups() if x]
            m, n, k = sides[0], sides[1], sides[2] if len(sides) > 2 else sides[0]  # noqa: PLR2004
        else:
            m, n, k = m or 128.0, n or m or 512.0, k or 128.0
    count = dims.get("B", dims.get("batch", 1.0))
    return Work("product", MULTIPLY_ADD * count * m * n * k, count * (m * k + k * n) * width,
                count * m * n * width)  # fmt: skip


def _attention(row: Row, dims: dict[str, float], width: float) -> Work:
    plain = _PRODUCT.search(row.text("shape"))
    sides = [float(x) for x in plain.groups() if x] if plain else []
    queries = (
        dims.get("seq_q") or dims.get("S") or dims.get("seq") or (sides[0] if sides else 4096.0)
    )
    keys = dims.get("seq_kv") or dims.get("KVlen") or queries
    size = (
        dims.get("head_dim")
        or dims.get("D")
        or dims.get("d")
        or (sides[1] if len(sides) > 1 else ROOT_DIM)
    )
    heads = dims.get("heads") or dims.get("H") or 1.0
    shared = dims.get("kv_heads") or dims.get("KV") or heads
    batch = dims.get("batch") or dims.get("B") or 1.0
    if "decode" in row.text("kernel").lower() or "token" in row.text("variant").lower():
        queries = 1.0
    causal = 0.5 if "causal" in row.text("kernel").lower() and queries > 1 else 1.0
    flops = causal * 2 * MULTIPLY_ADD * batch * heads * queries * keys * size
    cache = batch * shared * keys * size * 2 * width
    mine = batch * heads * queries * size * width
    return Work("attention", flops, cache + mine, mine, causal * batch * heads * queries * keys)


def _scan(dims: dict[str, float], width: float) -> Work:
    length = dims.get("seq_q") or dims.get("seq") or dims.get("M") or dims.get("L") or 512.0
    channels = dims.get("channels") or dims.get("C") or 256.0
    states = dims.get("state") or dims.get("S") or 16.0
    batch = dims.get("batch") or dims.get("B") or 1.0
    elements = batch * length * channels
    return Work("scan", 0.0, 3 * elements * width, elements * width, elements * states)


def _experts(row: Row, dims: dict[str, float], width: float) -> Work:
    tokens = dims.get("batch") or dims.get("B") or dims.get("C") or 1.0
    lanes = re.search(r"(\d+) lanes", row.text("shape"))
    if lanes:  # one expert's products over lanes of tokens
        inner = {k: float(v) for k, v in _PAIR.findall(row.text("kernel"))}
        hidden, wide = inner.get("H", 4096.0), inner.get("I", 2048.0)
        return Work("product", 3 * MULTIPLY_ADD * float(lanes.group(1)) * hidden * wide,
                    3 * hidden * wide * width, 0.0)  # fmt: skip
    found = re.search(r"(\d+)\s*experts", row.text("shape"))
    experts = float(found.group(1)) if found else 256.0
    hidden = dims.get("H", 4096.0)
    chosen = re.search(r"top-?(\d+)", row.text("shape"))
    top = float(chosen.group(1)) if chosen else 8.0
    rows = re.search(r"(\d+)(?:/(\d+))?\s*(?:rows|-row)", row.text("shape"))
    wide = sum(float(g) for g in rows.groups() if g) if rows else 192.0
    touched = experts * (1 - (1 - top / experts) ** tokens)
    if "xla" in row.text("variant").lower():  # a gather of weights for each token's experts
        touched *= facts.software("kernels.gather_cost") * max(tokens * top / touched, 1.0)
    return Work("moe", MULTIPLY_ADD * tokens * top * hidden * wide,
                touched * hidden * wide * width, tokens * hidden * width, 0.0, touched)  # fmt: skip


def estimates(row: Row, solve: Solve) -> list[Estimate]:
    """Every metric of a kernel row."""
    if row.text("category") == "neff_profile":
        return _program(row, solve)
    if "speedup" in row.text("category") or row.text("category") in ("summary", "custom-op"):
        raise UsageError("a speed-up over another program, which the row does not describe")
    device = device_of(row)
    whole = device.family != "neuron" or re.search(
        "trn2.*lnc|chip", row.text("hardware_scope"), re.I
    )
    cores = Slice(device, 1.0 if whole else 1 / device.cores, 1)
    work = work_of(row)
    dtype = dtype_class(f"{row.text('dtype')} {row.text('variant')}" if device.family != "neuron"
                        else row.text("dtype") or "bf16")  # fmt: skip
    dtype = "int8" if "int8" in row.text("variant") else dtype
    speed = _lanes_per_s(device, cores.chips)
    parts = {
        "tensor": cores.compute_s(work.flops, "bf16" if dtype == "int8" else dtype),
        "memory": cores.memory_s(work.read + work.written),
        "lanes": work.lanes / speed,
        "serial": work.serial * 1e-6,
        "fixed": facts.software("kernels.instruction_s")
        if row.text("category") == MICRO
        else facts.software("kernels.fixed_s"),
    }
    if work.kind == "launch":
        parts = {"launch": work.serial * 1e-6}
    kind = work.kind
    features = {
        **conditions(family=device.family, accelerator=device.name, kernel=kind, dtype=dtype,
                     category=row.text("category"), variant=_variant(row)),
        **(slope("ln_rows", row.number("M") or 1024.0, 1024.0) if kind == "product" else {}),
    }  # fmt: skip
    quantity = _quantity(row, kind, device.family)
    base = Estimate("latency_us", quantity, parts, features, US, phase=row.text("category"),
                    width=kind)  # fmt: skip
    return [*_rates(base, work, cores), *_latencies(base), *_counters(base, work)]


def _lanes_per_s(device: Accelerator, chips: float) -> float:
    """Elements a second that the Vector engines, or a rival's lanes, work on."""
    if device.family != "neuron":
        return facts.software("kernels.rival_lanes_s")
    chip = facts.chip(device.name)
    known = chip if chip.known("vector.clock_ghz") else facts.chip(OLDEST_WITH_CLOCK)
    return LANES * known.number("vector.clock_ghz") * GB * device.cores * chips


def _counters(base: Estimate, work: Work) -> list[Estimate]:
    """Device counters: bytes and FLOPs as counted, engines' shares by class of kernel."""
    counted = {"hbm_read_bytes": work.read, "hbm_write_bytes": work.written,
               "hardware_flops": work.flops,
               **dict.fromkeys(_ENGINES, facts.software("kernels.engine_share_pct"))}  # fmt: skip
    kept = {k: v for k, v in base.features.items() if k.startswith(("kernel=", "variant="))}
    return [
        Estimate(metric, f"counter_{metric}", {"count": value}, kept, phase=base.phase)
        for metric, value in counted.items() if value
    ]  # fmt: skip


def _variant(row: Row) -> str:
    text = row.text("variant").lower()
    for mark in ("baseline", "xla", "search", "reference", "skipped", "decode"):
        if mark in text:
            return mark
    return ""


def _quantity(row: Row, kind: str, family: str) -> str:
    if kind == "launch":
        return "launch"
    if family != "neuron":
        return f"gpu_{kind}" if kind in ("product", "attention") else "gpu_memory"
    special = {"copy": "neuron_copy", "pair": "neuron_layer"}
    return special.get(kind, "neuron_micro" if row.text("category") == MICRO else "neuron_kernel")


def _latencies(base: Estimate) -> list[Estimate]:
    return [base, replace(base, metric="latency_us_min"), replace(base, metric="latency_us_max")]


def _rates(base: Estimate, work: Work, cores: Slice) -> list[Estimate]:
    found = []
    peak = cores.accelerator.bf16_tflops * cores.chips
    if work.flops:
        made = work.flops / TERA
        found += [replace(base, metric="tflops", scale=made, rate=True)]
        found += [replace(base, metric=m, scale=PERCENT * made / peak, rate=True)
                  for m in ("pct_peak", "mfu_pct", "hfu_pct")]  # fmt: skip
    moved = work.read + work.written
    if moved:
        counted = moved if base.quantity == "gpu_memory" else max(work.read, work.written)
        found += [replace(base, metric="gbps", scale=counted / GB, rate=True)]
        peak = cores.accelerator.hbm_gb_s * GB * cores.chips
        found += [replace(base, metric="mbu_pct", rate=True, scale=PERCENT * moved / peak)]
    return found


def _program(row: Row, solve: Solve) -> list[Estimate]:
    """A compiled decoder program, profiled on one core: prefill or decode step of a rank."""
    name = re.split(r" (?:context|token)-", row.text("kernel"))[0]
    found = _TENSOR_PARALLEL.search(row.text("shape"))
    ranks = found.group(1) if found else "1"
    length = row.text("seq_kv") or row.text("seq_q")
    cells = dict.fromkeys(CONFIGURATION["inference_llm"], "")
    cells |= {
        "model": name, "accelerator": row.text("accelerator"), "tp": ranks, "dp": "1",
        "batch": row.text("batch") or "1", "seq_len": length, "input_len": length,
        "weights_dtype": row.text("dtype"), "lnc": "1", "framework": "neuron-profile",
    }  # fmt: skip
    s = serving_of(Row("inference_llm", cells, row.line))
    context = "context" in f"{row.text('variant')} {row.text('kernel')}"
    made = llm.prefill(s, 1) if context else llm.decode(s)
    quantity = "program_prefill" if context else "program_decode"
    base = replace(made, metric="latency_us", quantity=quantity, scale=US, phase="neff_profile",
                   width="")  # fmt: skip
    flops = MULTIPLY_ADD * s.shape.active * (length_of(length) if context else 1) / float(ranks)
    nbytes = s.shape.touched(length_of(length) if context else 1) * 2 / float(ranks)
    rates = _rates(base, Work("program", flops, nbytes, 0.0), Slice(s.cores.accelerator, 0.5, 1))
    fixed = [Estimate(metric, f"{quantity}_{metric}", {"bytes": nbytes}, {}, phase="neff_profile",
                      assumed=made.assumed)
             for metric in ("hbm_read_bytes", "hbm_write_bytes")]  # fmt: skip
    kept = [replace(r, quantity=f"{quantity}_{r.metric}") for r in rates if r.metric != "gbps"]
    return [base, *kept, *fixed]


def length_of(text: str) -> float:
    """A sequence length cell as a number, 128 when it is empty."""
    try:
        return float(text)
    except ValueError:
        return ROOT_DIM


__all__ = ["Work", "class_of", "dims_of", "estimates", "work_of"]
