"""Buffers and inputs that a model writes hold after a call what PyTorch would leave in them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tenzing import compiler

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


class Cache(torch.nn.Module):
    """A key cache: writes one row at a position, then reads all rows; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(1, 2, 8, 4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.project = torch.nn.Linear(4, 4)

    def forward(self, x: Any, position: Any) -> Any:
        self.rows.index_copy_(2, position, self.project(x))
        self.calls.add_(1)
        return self.rows.sum(2) * self.calls


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
def test_a_cache_is_filled_call_by_call(numerics: str) -> None:
    torch.manual_seed(0)
    module = Cache().eval()
    expected = copy.deepcopy(module)
    x = torch.randn(1, 2, 1, 4)
    compiled = compiler.compile(module, (x, torch.tensor([0])), numerics=numerics)
    for step in range(3):
        position, row = torch.tensor([step]), x * (step + 1)
        with torch.no_grad():
            wanted = expected(row, position)
        torch.testing.assert_close(compiled(row, position), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(module.rows, expected.rows, rtol=1e-5, atol=1e-5)
    assert int(module.calls) == 3


def test_an_input_that_is_written_is_written() -> None:
    class Double(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            x.mul_(2)
            return x + 1

    x = torch.ones(3, 4)
    compiled = compiler.compile(Double().eval(), (torch.ones(3, 4),), numerics="graph")
    torch.testing.assert_close(compiled(x), torch.full((3, 4), 3.0))
    assert float(x[0, 0]) == 2.0


def test_what_state_decides_is_not_prepared_once() -> None:
    class Running(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(4))

        def forward(self, x: Any) -> Any:
            inverse = 1 / (self.scale + 1)
            self.scale.mul_(3)
            return x * inverse

    x = torch.ones(2, 4)
    compiled = compiler.compile(Running().eval(), (x,), numerics="graph")
    assert float(compiled(x)[0, 0]) == 0.5
    assert float(compiled(x)[0, 0]) == 0.25


def test_static_cache_decoding_equals_pytorch_token_by_token() -> None:
    pytest.importorskip("transformers")
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.integrations.executorch import TorchExportableModuleForDecoderOnlyLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16, pad_token_id=0,
        cache_implementation="static", use_cache=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    exportable = TorchExportableModuleForDecoderOnlyLM(
        model, batch_size=1, max_cache_len=8, device=torch.device("cpu")
    )
    token, position = torch.tensor([[5]]), torch.tensor([0])
    program = exportable.export(input_ids=token, cache_position=position)
    compiled = compiler.compile(program, {"input_ids": token, "cache_position": position})
    tokens = [5]
    for step in range(4):
        logits = compiled(input_ids=torch.tensor([[tokens[-1]]]),
                          cache_position=torch.tensor([step]))  # fmt: skip
        with torch.no_grad():
            wanted = model(torch.tensor([tokens]), use_cache=False).logits[:, -1]
        torch.testing.assert_close(logits[:, -1], wanted, rtol=1e-4, atol=1e-4)
        tokens.append(int(logits[0, -1].argmax()))
    assert len(set(tokens)) > 1


class Halving(torch.nn.Module):
    """Writes its own parameter in a call, as some recurrent models rescale theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), 8.0), requires_grad=False)

    def forward(self, x: Any) -> Any:
        self.weight.mul_(0.5)
        return x + self.weight


def test_a_parameter_that_a_call_writes_is_not_an_answer() -> None:
    module = Halving().eval()
    expected = copy.deepcopy(module)
    x = torch.ones(4)
    compiled = compiler.compile(module, (x,), numerics="graph")
    for _ in range(2):
        torch.testing.assert_close(compiled(x), expected(x))
        torch.testing.assert_close(module.weight, expected.weight)
