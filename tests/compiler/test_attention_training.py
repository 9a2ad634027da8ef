"""Attention in training: one operation forward, one backward, gradients as PyTorch's."""

import importlib
from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.frontends import torch_attention
from tenzing.compiler.graph import BF16, F32, GraphBuilder, TensorType
from tenzing.compiler.timing import measure
from tenzing.compiler.training import compile_training
from tenzing.fabric import Mesh

attention_backward = importlib.import_module("tenzing.kernels.attention_backward")
torch = pytest.importorskip("torch", reason="trains PyTorch modules")


@pytest.fixture(autouse=True)
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sizes test the kernel as well."""
    monkeypatch.setattr(torch_attention, "fewest_scores", lambda: 0)


class Mixer(torch.nn.Module):  # type: ignore[misc]
    """Attention between two linear maps; ``how`` are the options of attention."""

    def __init__(self, heads: int, kv_heads: int, width: int, **how: Any) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.how = heads, kv_heads, how
        total = (heads + 2 * kv_heads) * width
        self.qkv, self.out = torch.nn.Linear(32, total), torch.nn.Linear(heads * width, 1)

    def forward(self, x: Any, mask: Any = None) -> Any:
        split = [self.heads, self.kv_heads, self.kv_heads]
        q, k, v = self.qkv(x).unflatten(-1, (sum(split), -1)).split(split, 2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, mask, enable_gqa=self.heads != self.kv_heads, **self.how
        )
        return self.out(mixed.transpose(1, 2).flatten(2)).square().mean()


def gradients(module: Any, inputs: tuple[Any, ...], **options: Any) -> tuple[list[Any], Any]:
    step = compile_training(module, inputs, optimizer="sgd", target="trn2", **options)
    return list(step.gradients(*inputs).values()), step


def kinds(step: Any) -> list[str]:
    return [node.op.name for node in step.graph.nodes]


@pytest.mark.parametrize("numerics", ["instruction", "graph"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "length", "how"),
    [(2, 2, 24, {}), (4, 2, 40, {"is_causal": True}), (2, 1, 24, {"scale": 0.7})],
)
def test_gradients_are_those_of_pytorch(
    heads: int, kv_heads: int, length: int, how: dict[str, Any], numerics: str
) -> None:
    torch.manual_seed(0)
    module, x = Mixer(heads, kv_heads, 8, **how), torch.randn(2, length, 32)
    found, step = gradients(module, (x,), numerics=numerics)
    assert kinds(step).count("attention") == kinds(step).count("attention_backward") == 1
    module(x).backward()
    for got, p in zip(found, module.parameters(), strict=True):
        scale = p.grad.abs().max()
        assert float((torch.as_tensor(np.asarray(got)) - p.grad).abs().max() / scale) < 1e-4


def test_a_boolean_mask_hides_keys() -> None:
    torch.manual_seed(0)
    module, x = Mixer(2, 2, 8), torch.randn(2, 12, 32)
    mask = torch.rand(2, 1, 12, 12) > 0.4
    found, step = gradients(module, (x, mask))
    assert "attention_backward" in kinds(step)
    module(x, mask).backward()
    for got, p in zip(found, module.parameters(), strict=True):
        assert float((torch.as_tensor(np.asarray(got)) - p.grad).abs().max()) < 1e-5


def test_a_mask_of_numbers_may_be_trained_and_stays_as_it_is() -> None:
    torch.manual_seed(0)
    module, x = Mixer(2, 2, 8), torch.randn(2, 12, 32)
    _, step = gradients(module, (x, torch.zeros(1, 1, 12, 12)))
    assert "attention_backward" not in kinds(step)


def test_few_scores_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    _, step = gradients(Mixer(2, 2, 8), (torch.randn(2, 12, 32),))
    assert "attention_backward" not in kinds(step)


def test_work_counts_five_products() -> None:
    q = ops.AttentionBackward(1.0, 2, 2)
    kind = TensorType((1, 2, 16, 8), F32)
    work = q.arithmetic([kind] * 4, [kind] * 3)
    assert work.matmul_flops == 5 * 2 * 2 * 16 * 16 * 8


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_queries_whose_sums_meet(causal: bool) -> None:
    """Six blocks: a group of four and one of two, the last with fewer rows; keys seen by some."""
    torch.manual_seed(0)
    module, x = Mixer(2, 1, 8, is_causal=causal), torch.randn(1, 700, 32)
    found, _ = gradients(module, (x,), numerics="instruction")
    module(x).backward()
    for got, p in zip(found, module.parameters(), strict=True):
        scale = p.grad.abs().max()
        assert float((torch.as_tensor(np.asarray(got)) - p.grad).abs().max() / scale) < 1e-4


def test_sums_that_meet_spare_the_vector_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def times() -> Any:
        builder = GraphBuilder("back")
        given = [builder.input(name, (1, 1, 1024, 64), BF16) for name in "qkvg"]
        out = builder.emit(ops.AttentionBackward(0.125, 1, 1, causal=True), *given)
        return measure(builder.build(out), "trn2", Mesh(()))

    together = times()
    monkeypatch.setattr(attention_backward, "MOST_TOGETHER", 1)
    alone = times()
    assert together.busy_ps["Vector"] < alone.busy_ps["Vector"]
    assert together.total_ps < alone.total_ps
