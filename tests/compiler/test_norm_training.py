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


class Rms(torch.nn.Module):
    """RMS norm as Hugging Face writes it: in float32, the weight last."""

    def __init__(self, width: int, dtype: Any = torch.float32) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))
        self.dtype = dtype

    def forward(self, x: Any) -> Any:
        wide = x.to(self.dtype)
        root = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * (wide * root).to(x.dtype)


class OnePlus(Rms):
    """Gemma's: the weight is one plus what is learnt, and all is float32."""

    def forward(self, x: Any) -> Any:
        wide = x.float()
        normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (normal * (1.0 + self.weight.float())).type_as(x)


class ByPower(Rms):
    """A root as a power, of products of two inputs: rows that are no single value."""

    def forward(self, x: Any) -> Any:
        rows = x * torch.sigmoid(x)
        mean = (rows * rows).mean(-1, keepdim=True)
        return rows * torch.pow(mean + 1e-5, -0.5) * self.weight


class SpeltOut(torch.nn.Module):
    """A layer norm by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))
        self.bias = torch.nn.Parameter(torch.zeros(width))

    def forward(self, x: Any) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        root = torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)
        return centred / root * self.weight + self.bias


SPELT_OUT = {
    "hugging_face": Rms,
    "torch": torch.nn.RMSNorm,
    "bare": lambda n: torch.nn.RMSNorm(n, elementwise_affine=False),
    "one_plus": OnePlus,
    "by_power": ByPower,
    "layer_norm": SpeltOut,
}


@BOTH
@pytest.mark.parametrize("name", SPELT_OUT)
def test_spelt_out_gradients_are_recognised(name: str, numerics: str) -> None:
    x = torch.randn(3, 47, 7, generator=torch.Generator().manual_seed(0))
    counts = gradients_agree(Net(SPELT_OUT[name], 45), x, numerics, 1e-5)
    assert counts["norm_backward"] == 1
    assert counts["rms_norm" if name != "layer_norm" else "layer_norm"] == 1
    assert not counts.keys() & {"rsqrt", "sqrt"}  # the statistics are not computed again


@BOTH
@pytest.mark.parametrize("name", ["hugging_face", "one_plus"])
def test_spelt_out_gradients_in_bf16(name: str, numerics: str) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    counts = gradients_agree(Net(SPELT_OUT[name], 45).bfloat16(), x, numerics, 0.03)
    assert counts["norm_backward"] == 1


class Apart(Rms):
    """Not the gradient of an RMS norm: the root learns nothing, or counts a column too many."""

    def __init__(self, width: int, detached: bool) -> None:
        super().__init__(width)
        self.detached = detached

    def forward(self, x: Any) -> Any:
        if self.detached:
            root = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6).detach()
        else:
            root = torch.rsqrt((x * x).sum(-1, keepdim=True) / (x.shape[-1] + 1) + 1e-6)
        return self.weight * (x * root)


@pytest.mark.parametrize("detached", [True, False])
def test_other_gradients_are_left_alone(detached: bool) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    counts = gradients_agree(Net(lambda n: Apart(n, detached), 45), x, "graph", 1e-5)
    assert "norm_backward" not in counts


def test_two_norms_of_the_same_rows_and_a_chain_of_them() -> None:
    """Each gets its own backward form, also where one norm reads another's result."""

    class Several(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.one, self.other = Rms(width), Rms(width)
            self.third = torch.nn.RMSNorm(width)

        def forward(self, x: Any) -> Any:
            return self.third(self.one(x) + torch.tanh(self.other(x)))

    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    counts = gradients_agree(Net(Several, 45), x, "graph", 1e-5)
    assert counts["norm_backward"] == 3


def test_compiled_backward() -> None:
    """``torch.compile`` hands over the backward pass as a graph of its own."""
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    module = Net(Rms, 45)
    module(x).backward()
    wanted = {path: p.grad.clone() for path, p in module.named_parameters()}
    module.zero_grad()
    graphs: list[Any] = []
    run = compiler.passes.Pipeline.run

    def watched(self: Any, graph: Any, steps: Any = None) -> Any:
        graphs.append(run(self, graph, steps))
        return graphs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler.passes.Pipeline, "run", watched)
        torch.compile(module, backend="tenzing")(x).backward()
    assert any("norm_backward" in graph.count() for graph in graphs)
    for path, parameter in module.named_parameters():
        apart = (parameter.grad - wanted[path]).abs().max()
        assert float(apart) <= 1e-5 * float(wanted[path].abs().max()), path


@BOTH
def test_layer_norms_in_bf16(numerics: str) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    counts = gradients_agree(Net(NORMS["plain"], 45).bfloat16(), x, numerics, 0.03)
    assert counts["norm_backward"] == 1
