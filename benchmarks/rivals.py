"""Steps of a bare decoder on this machine's GPU: what good software reaches, beside our estimate.

    python benchmarks/rivals.py --json measured.json      # needs PyTorch with CUDA, nothing of ours
    python benchmarks/rivals.py --against measured.json   # needs tenzing, no GPU

The decoder has the matrix products, norms, rotations and attention of a Llama of the given shape
with random weights; a step is one CUDA graph, so that no host time is in it. Sampling, scheduling
and paging of a real server come on top.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 32, 4096, 14336, 32, 8, 128, 128256
MODEL = "llama-3.1-8b"
DECODE = ((1, 1152), (8, 1152), (32, 1152), (64, 1152), (128, 1152), (64, 4096))  # batch, context
PREFILL = ((1, 512), (1, 1024), (1, 2048), (1, 8192), (4, 1024))  # requests, tokens
REPEATS = 20


@dataclass
class Layer:
    """Weights of a layer, products fused as servers fuse them."""

    qkv: Any
    out: Any
    gate_up: Any
    down: Any
    norms: Any


def build(torch: Any) -> tuple[list[Layer], Any, Any]:
    """Random weights in bf16: layers, table and head."""

    def random(*shape: int) -> Any:
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02

    width = (HEADS + 2 * KV_HEADS) * HEAD_DIM
    layers = [
        Layer(random(width, HIDDEN), random(HIDDEN, HEADS * HEAD_DIM), random(2 * FFN, HIDDEN),
              random(HIDDEN, FFN), torch.ones(2, HIDDEN, device="cuda", dtype=torch.bfloat16))
        for _ in range(LAYERS)
    ]  # fmt: skip
    return layers, random(VOCAB, HIDDEN), random(VOCAB, HIDDEN)


def block(torch: Any, layer: Layer, x: Any, cache: Any, rotation: Any) -> Any:
    """One layer; with a cache the new token attends to all of it, else the prompt to itself."""
    f = torch.nn.functional
    batch, length, _ = x.shape
    h = f.rms_norm(x, (HIDDEN,), layer.norms[0])
    qkv = f.linear(h, layer.qkv).view(batch, length, HEADS + 2 * KV_HEADS, HEAD_DIM)
    q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 2)
    q, k = (t * rotation[0] + t.roll(HEAD_DIM // 2, -1) * rotation[1] for t in (q, k))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if cache is not None:
        cache[0][:, :, -1:] = k
        cache[1][:, :, -1:] = v
        k, v = cache
        # queries of a group read the same keys: they are rows of one small product
        q = q.reshape(batch, KV_HEADS, HEADS // KV_HEADS, HEAD_DIM)
        mixed = f.scaled_dot_product_attention(q, k, v)
    else:
        mixed = f.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        mixed = mixed.transpose(1, 2)
    x = x + f.linear(mixed.reshape(batch, length, HEADS * HEAD_DIM), layer.out)
    h = f.rms_norm(x, (HIDDEN,), layer.norms[1])
    gate, up = f.linear(h, layer.gate_up).chunk(2, -1)
    return x + f.linear(f.silu(gate) * up, layer.down)


def timed_ms(torch: Any, step: Any) -> float:
    """Median time of a step as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    graph.replay()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def measure() -> dict[str, Any]:
    """Every step of the tables above, and the machine."""
    torch = import_module("torch")
    layers, table, head = build(torch)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__,
                             "decode": [], "prefill": []}  # fmt: skip
    with torch.no_grad():
        for batch, context in DECODE:
            caches = torch.randn(LAYERS, 2, batch, KV_HEADS, context, HEAD_DIM, device="cuda",
                                 dtype=torch.bfloat16)  # fmt: skip
            ms = timed_ms(torch, stepper(torch, layers, table, head, batch, 1, caches))
            found["decode"].append({"batch": batch, "context": context, "ms": ms})
            print(f"decode batch {batch} context {context}: {ms:.2f} ms", flush=True)
            del caches
        for batch, tokens in PREFILL:
            ms = timed_ms(torch, stepper(torch, layers, table, head, batch, tokens, None))
            found["prefill"].append({"batch": batch, "tokens": tokens, "ms": ms})
            print(f"prefill {batch} x {tokens}: {ms:.2f} ms", flush=True)
    return found


def stepper(
    torch: Any, layers: list[Layer], table: Any, head: Any, batch: int, length: int, caches: Any
) -> Any:
    """A whole step as a function of nothing: embed, layers, last logits, the likeliest token."""
    ids = torch.randint(0, VOCAB, (batch, length), device="cuda")
    rotation = torch.randn(2, 1, length, 1, HEAD_DIM, device="cuda", dtype=torch.bfloat16)

    def step() -> Any:
        x = torch.nn.functional.embedding(ids, table)
        for number, layer in enumerate(layers):
            x = block(torch, layer, x, None if caches is None else caches[number], rotation)
        return torch.nn.functional.linear(x[:, -1], head).argmax(-1)

    return step


def against(measured: dict[str, Any]) -> str:
    """Measured steps beside the estimates of the same configurations."""
    fleet = import_module("tenzing.fleet")
    name = next(n for n in ("h200", "h100", "a100", "l40s", "l4", "a10g", "b200")
                if n.upper() in measured["device"].upper())  # fmt: skip
    layout = fleet.Layout(name)
    lines = [f"{measured['device']}, PyTorch {measured['torch']}: {MODEL}, bf16"]
    for row in measured["decode"]:
        step = fleet.decode_step(MODEL, layout, batch=row["batch"], context=row["context"])
        lines.append(_line(f"decode batch {row['batch']} context {row['context']}", row, step))
    for row in measured["prefill"]:
        step = fleet.prefill(MODEL, layout, batch=row["batch"], tokens=row["tokens"])
        lines.append(_line(f"prefill {row['batch']} x {row['tokens']}", row, step))
    return "\n".join(lines)


def _line(what: str, row: dict[str, Any], step: Any) -> str:
    low, value, high = (1e3 * x for x in (step.calibrated.low, step.calibrated.value,
                                          step.calibrated.high))  # fmt: skip
    return (f"{what:34s} measured {row['ms']:8.2f} ms   estimate {value:8.2f} ms "
            f"({low:.1f} to {high:.1f})   ratio {value / row['ms']:.2f}")  # fmt: skip


def main() -> None:
    """Measure here, or compare an earlier measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", metavar="FILE", help="measure on this GPU, and write the times")
    parser.add_argument("--against", metavar="FILE", help="compare an earlier measurement")
    options = parser.parse_args()
    if options.against:
        print(against(json.loads(Path(options.against).read_text())))
        return
    found = measure()
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
