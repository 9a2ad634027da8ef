"""Train a small GPT on the simulated chip beside PyTorch, and compare the loss curves.

    python examples/train_gpt.py --steps 200

Bytes of the Python manual's topics are the text. The chip multiplies in bf16 and keeps weights,
gradients and optimizer state in fp32; PyTorch computes everything in fp32. Both see the same
batches and start from the same weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import nn

import tenzing

VOCABULARY, WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 256, 64, 4, 2, 32, 8


class Block(nn.Module):
    """Causal attention and an MLP, each behind a layer norm and added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(self.first(x)).chunk(3, -1)
        q, k, v = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.second(x))


class GPT(nn.Module):
    """Predicts every next byte; returns the mean cross entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.tokens(ids) + self.places)
        logits = self.head(self.norm(x))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def batches(steps: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random stretches of the text, and the same one byte later."""
    text = torch.tensor(list("\n".join(topics.values()).encode()), dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(text) - CONTEXT - 1, (steps, BATCH), generator=generator)
    index = starts[:, :, None] + torch.arange(CONTEXT)
    return [(text[i], text[i + 1]) for i in index]


def train(steps: int, target: str, quiet: bool = False) -> dict[str, Any]:
    """Both loss curves, their largest relative difference, and the time of a step."""
    torch.manual_seed(0)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = batches(steps)
    chip = tenzing.compile_training(  # takes copies: PyTorch then trains the module itself
        model, data[0], optimizer=optimizer, target=target, autocast="matmult"
    )
    on_chip, in_torch, started = [], [], time.perf_counter()
    for step, (ids, targets) in enumerate(data):
        on_chip.append(chip(ids, targets))
        optimizer.zero_grad()
        loss = model(ids, targets)
        loss.backward()
        optimizer.step()
        in_torch.append(float(loss.detach()))
        if not quiet and (step % 10 == 0 or step == steps - 1):
            print(f"step {step:4d}  chip {on_chip[-1]:.4f}  torch {in_torch[-1]:.4f}"
                  f"  {time.perf_counter() - started:6.1f} s", file=sys.stderr)  # fmt: skip
    worst = max(abs(a - b) / b for a, b in zip(on_chip, in_torch, strict=True))
    return {"target": target, "chip": on_chip, "torch": in_torch, "largest_difference": worst,
            "step_us": chip.latency_us, "seconds": time.perf_counter() - started}  # fmt: skip


def main() -> None:
    """Parse options, train, say how far the curves are apart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--target", default="trn2")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps is {options.steps}; train for 1 step or more")
    result = train(options.steps, options.target)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.steps} steps on {result['target']}: loss {result['chip'][0]:.3f} to "
          f"{result['chip'][-1]:.3f}, PyTorch {result['torch'][-1]:.3f}; largest difference "
          f"{result['largest_difference']:.2%}; one step {result['step_us']:.0f} us (simulated)",
          )  # fmt: skip


if __name__ == "__main__":
    main()
