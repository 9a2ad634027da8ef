"""How much of each chip our kernels use: matrix products, norms and one decoder layer.

python benchmarks/kernels.py [--json] [--chips trn1,trn2] [--layer]

MFU is the share of a core's bf16 matrix peak, MBU of the HBM bandwidth one core can draw, DMA of
what its DMA engines can move (which is less). No measured time is involved: it is simulated time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from tenzing import facts, kernels
from tenzing.compiler import ops
from tenzing.compiler.artifact import record_graph
from tenzing.compiler.graph import BF16, F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import default_pipeline
from tenzing.machine import Analysis, Options, analyse
from tenzing.nki import Spec, session
from tenzing.nki import language as nl

CHIPS = ("trn1", "inf2", "trn2", "trn3")
FP8 = np.dtype(ml_dtypes.float8_e4m3)
F32_DTYPE = np.dtype(np.float32)
TIME_ONLY = Options(values=False)


def linear(rows: int, depth: int, columns: int, dtype: Any = BF16, **rest: Any) -> Any:
    """A launch of ``linear``."""
    return kernels.linear.launch(Spec((rows, depth), dtype), Spec((depth, columns), dtype), **rest)


def gated(rows: int, depth: int, columns: int) -> Any:
    """A launch of ``gated_linear`` with SiLU, as in SwiGLU."""
    weight = Spec((depth, columns), BF16)
    return kernels.gated_linear.launch(Spec((rows, depth), BF16), weight, weight, nl.silu)


def norm(kernel: Any, rows: int, columns: int, *vectors: Any) -> Any:
    """A launch of a norm in bf16."""
    row = Spec((columns,), BF16)
    return kernel.launch(Spec((rows, columns), BF16), *(row for _ in vectors), epsilon=1e-5)


CASES: dict[str, Callable[[], Any]] = {
    "linear 2048x2048x2048 bf16": lambda: linear(2048, 2048, 2048),
    "linear 2048x2048x2048 fp32": lambda: linear(2048, 2048, 2048, F32_DTYPE),
    "linear 2048x4096x14336 bf16": lambda: linear(2048, 4096, 14336),
    "linear 2048x14336x4096 bf16": lambda: linear(2048, 14336, 4096),
    "linear 1x4096x14336 bf16": lambda: linear(1, 4096, 14336),
    "linear 16x4096x14336 bf16": lambda: linear(16, 4096, 14336),
    "linear 1x4096x14336 fp8": lambda: linear(1, 4096, 14336, FP8),
    "linear 2048x2048x2048 fp8": lambda: linear(2048, 2048, 2048, FP8),
    "linear 1x4096x14336 fp32": lambda: linear(1, 4096, 14336, F32_DTYPE),
    "gated 2048x4096x14336 bf16": lambda: gated(2048, 4096, 14336),
    "gated 1x4096x14336 bf16": lambda: gated(1, 4096, 14336),
    "layer_norm 2048x4096 bf16": lambda: norm(kernels.layer_norm, 2048, 4096, 1, 1),
    "rms_norm 2048x4096 bf16": lambda: norm(kernels.rms_norm, 2048, 4096, 1),
}


def figures(a: Analysis, seconds: float) -> dict[str, Any]:
    """One row."""
    chip = a.chip
    engines_gb_s = chip.number("dma.engine_gb_s") * chip.integer("dma.engines")
    moved = a.hbm_read_bytes + a.hbm_write_bytes
    busiest = max(a.utilisation, key=a.utilisation.__getitem__)
    return {
        "chip": chip.name, "us": a.total_ps / 1e6, "mfu": a.mfu, "mbu": a.mbu,
        "dma": moved / (a.total_ps / 1e3) / engines_gb_s, "busiest": busiest,
        "busy": a.utilisation[busiest], "instructions": len(a.program),
        "seconds": seconds, "findings": [f.message for f in a.findings],
    }  # fmt: skip


def kernel_rows(chip: str) -> list[dict[str, Any]]:
    """Every kernel on a chip."""
    rows = []
    for name, make in CASES.items():
        started = time.perf_counter()
        with session(chip, TIME_ONLY):
            program = make().programs[0]
        row = figures(analyse(program), time.perf_counter() - started)
        rows.append({"case": name, **row})
    return rows


class Layer:
    """A Llama decoder layer spelled as Hugging Face does, of 8B size unless told otherwise."""

    def __init__(
        self, tokens: int, hidden: int = 4096, heads: int = 32, kv_heads: int = 8,
        inner: int = 14336, batch: int = 1,
    ) -> None:  # fmt: skip
        self.builder = GraphBuilder("layer")
        self.batch, self.tokens, self.heads, self.kv_heads = batch, tokens, heads, kv_heads
        self.hidden, self.inner, self.width = hidden, inner, hidden // heads

    def graph(self) -> Graph:
        """The layer as imported, before any pass."""
        b = self.builder
        x = b.input("x", (self.batch, self.tokens, self.hidden), BF16)
        flat = self.norm(x, "input_norm")
        q = self.rotated(self.split(self.project(flat, "q", self.hidden), self.heads))
        kv = self.kv_heads * self.width
        k = self.rotated(self.split(self.project(flat, "k", kv), self.kv_heads))
        v = self.split(self.project(flat, "v", kv), self.kv_heads)
        op = ops.Attention(self.width**-0.5, self.heads, self.kv_heads, causal=True)
        mixed = b.add(ops.Transpose((0, 2, 1, 3)), b.add(op, q, k, v))
        mixed = b.add(ops.Reshape(x.shape), mixed)
        x = b.add(ops.Add(), x, self.project(mixed, "o", self.hidden))
        flat = self.norm(x, "post_norm")
        gate = b.add(ops.Silu(), self.project(flat, "gate", self.inner))
        inner = b.add(ops.Multiply(), gate, self.project(flat, "up", self.inner))
        x = b.add(ops.Add(), x, self.project(inner, "down", self.hidden))
        return b.build([x])

    def project(self, x: Value, name: str, width: int) -> Value:
        """A linear without bias, weights as PyTorch stores them."""
        weight = self.builder.parameter(name, (width, x.shape[-1]), BF16)
        return self.builder.add(ops.Linear(), x, weight)

    def norm(self, x: Value, name: str) -> Value:
        """RMS norm in float32, its weight applied in bf16."""
        b = self.builder
        wide = b.add(ops.Convert(F32), x)
        squares = b.add(ops.Reduce("add", (2,)), b.add(ops.Multiply(), wide, wide))
        column = (*x.shape[:-1], 1)
        squares = b.add(ops.Reshape(column), squares)
        mean = b.add(ops.Multiply(), squares, self.splat(1 / self.hidden, column))
        scale = b.add(ops.Rsqrt(), b.add(ops.Add(), mean, self.splat(1e-5, column)))
        spread = b.add(ops.BroadcastInDim(x.shape, (0, 1, 2)), scale)
        narrow = b.add(ops.Convert(BF16), b.add(ops.Multiply(), wide, spread))
        weight = b.parameter(name, (self.hidden,), BF16)
        return b.add(ops.Multiply(), b.add(ops.BroadcastInDim(x.shape, (2,)), weight), narrow)

    def splat(self, number: float, shape: tuple[int, ...]) -> Value:
        """A constant."""
        return self.builder.add(ops.Constant.splat(number, shape, F32))

    def split(self, x: Value, heads: int) -> Value:
        """[batch, heads, tokens, width]."""
        b = self.builder
        apart = b.add(ops.Reshape((self.batch, self.tokens, heads, self.width)), x)
        return b.add(ops.Transpose((0, 2, 1, 3)), apart)

    def rotated(self, x: Value) -> Value:
        """Rotary positions: ``x * cos + rotate_half(x) * sin``."""
        b, half = self.builder, self.width // 2
        shape = x.shape
        first = b.add(ops.Slice((0, 0, 0, 0), (*shape[:3], half), (1, 1, 1, 1)), x)
        second = b.add(ops.Slice((0, 0, 0, half), shape, (1, 1, 1, 1)), x)
        turned = b.add(ops.Concatenate(3), b.add(ops.Negate(), second), first)
        table = [self.angles(name, shape) for name in ("cos", "sin")]
        straight = b.add(ops.Multiply(), x, table[0])
        return b.add(ops.Add(), straight, b.add(ops.Multiply(), turned, table[1]))

    def angles(self, name: str, shape: tuple[int, ...]) -> Value:
        """A table [tokens, width] repeated over batch and heads."""
        b = self.builder
        known = [v for v in b.inputs if v.name == name]
        table = known[0] if known else b.input(name, (self.tokens, self.width), BF16)
        return b.add(ops.BroadcastInDim(shape, (2, 3)), table)


def layer_row(chip: str, tokens: int, batch: int = 1) -> dict[str, Any]:
    """One decoder layer of an 8B model."""
    started = time.perf_counter()
    graph = default_pipeline().run(Layer(tokens, batch=batch).graph())
    row = figures(analyse(record_graph(graph, chip)), time.perf_counter() - started)
    return {"case": f"8B layer, {batch} x {tokens} tokens", **row}


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--chips", default=",".join(CHIPS))
    parser.add_argument("--layer", action="store_true", help="also one layer of an 8B model")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for chip in args.chips.split(","):
        name = facts.chip(chip).name
        rows += kernel_rows(name)
        if args.layer:
            rows.append(layer_row(name, 2048))
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['chip']:5} {row['case']:32} {row['us']:10.1f} us  MFU {row['mfu']:5.1%}  "
              f"MBU {row['mbu']:5.1%}  DMA {row['dma']:5.1%}  {row['busiest']} {row['busy']:4.0%}  "
              f"{row['instructions']} instructions in {row['seconds']:.2f} s"
              f"{'  FINDINGS' if row['findings'] else ''}")  # fmt: skip


if __name__ == "__main__":
    main()
