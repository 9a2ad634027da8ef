"""Norms in training: one forward operation with its statistics, one backward; PyTorch's numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tenzing import compiler

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
BOTH = pytest.mark.parametrize("numerics", ["graph", "instruction"])


class Scaled(torch.nn.Module):
    """A norm without a weight, then a row that looks like one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width, elementwise_affine=False)
        self.row = torch.nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        return self.norm(x) * self.row


NORMS = {
    "plain": lambda n: torch.nn.LayerNorm(n),
    "no_bias": lambda n: torch.nn.LayerNorm(n, bias=False),
    "bare": lambda n: torch.nn.LayerNorm(n, elementwise_affine=False),
    "scaled": Scaled,
}


class Net(torch.nn.Module):
    """A residual around a norm and a product, of odd sizes."""

    def __init__(self, norm: Any, width: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.into, self.norm = torch.nn.Linear(7, width), norm(width)
        self.out = torch.nn.Linear(width, width)
        for parameter in self.norm.parameters():
            torch.nn.init.normal_(parameter, 1.0, 0.3)

    def forward(self, x: Any) -> Any:
        x = self.into(x)
        return ((x + self.out(self.norm(x))) ** 2).mean()


def gradients_agree(module: Any, x: Any, numerics: str, tolerance: float) -> dict[str, int]:
    module(x).backward()
    step = compiler.compile_training(module, (x,), numerics=numerics)
    found = step.gradients(x)
    for path, parameter in module.named_parameters():
        scale = float(parameter.grad.abs().max())
        assert found[path].dtype == parameter.dtype
        apart = float((found[path] - parameter.grad).abs().max())
        assert apart <= tolerance * scale, path
    ops = [node.op for node in compiler_graph(step).nodes]
    inner = [n.op for op in ops if op.name == "fused" for n in op.body.nodes]
    return dict(Counter(op.name for op in (*ops, *inner)))


def compiler_graph(step: Any) -> Any:
    return step._gradient_graph


@BOTH
@pytest.mark.parametrize("name", NORMS)
def test_layer_norms(name: str, numerics: str) -> None:
    x = torch.randn(3, 47, 7, generator=torch.Generator().manual_seed(0))
    counts = gradients_agree(Net(NORMS[name], 45), x, numerics, 1e-5)
    assert counts["norm_backward"] == 1
    assert counts["layer_norm"] == 1  # the statistics are not computed again
    assert "rsqrt" not in counts


@BOTH
def test_layer_norms_in_bf16(numerics: str) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    counts = gradients_agree(Net(NORMS["plain"], 45).bfloat16(), x, numerics, 0.03)
    assert counts["norm_backward"] == 1
