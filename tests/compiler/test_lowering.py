"""Compiled modules equal PyTorch, instruction by instruction; what has no kernel is named."""

from __future__ import annotations

import pytest

from tenzing import compiler
from tenzing.errors import TenzingError, UnsupportedOp, UsageError

from .modules import Wrap, normal

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch


CASES = {
    "add_row": (lambda x, y: x + y, [(130, 40), (40,)]),
    "add_column": (lambda x, y: x * y, [(130, 40), (130, 1)]),
    "scalar_chain": (lambda x: (2.0 - x) / 3.0 + 1.5, [(7, 5)]),
    "scalar_left": (lambda x: 1.0 / (x * x + 1.0), [(7, 5)]),
    "exp_log": (lambda x: torch.log(torch.exp(x) + 1.0), [(33, 9)]),
    "tanh_sigmoid": (lambda x: torch.tanh(x) * torch.sigmoid(x), [(33, 9)]),
    "gelu": (F.gelu, [(20, 30)]),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), [(20, 30)]),
    "silu_relu": (lambda x: F.silu(x) + F.relu(x), [(20, 30)]),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), [(20, 30)]),
    "where": (lambda x, y: torch.where(x > 0, x, y), [(20, 30), (20, 30)]),
    "maximum": (lambda x, y: torch.maximum(x, y) - torch.minimum(x, y), [(20, 30), (20, 30)]),
    "sum_last": (lambda x: x.sum(-1), [(20, 30)]),
    "amax_last": (lambda x: x.amax(-1, keepdim=True) - x, [(200, 30)]),
    "mean_var": (
        lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1),
        [(9, 30)],
    ),
    "softmax": (lambda x: F.softmax(x, -1), [(3, 50, 20)]),
    "layer_norm": (lambda x, g, b: F.layer_norm(x, (24,), g, b), [(3, 50, 24), (24,), (24,)]),
    "normalize": (lambda x: F.normalize(x, dim=1), [(9, 30)]),
    "matmul": (lambda x, y: x @ y, [(40, 150), (150, 70)]),
    "matmul_transposed": (lambda x, y: x @ y.T, [(40, 150), (70, 150)]),
    "bmm": (lambda x, y: x @ y, [(3, 40, 50), (3, 50, 20)]),
    "bmm_transposed": (lambda x, y: x @ y.transpose(1, 2), [(3, 40, 50), (3, 20, 50)]),
    "attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        [(2, 3, 40, 16)] * 3,
    ),
    "attention_causal_grouped": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        [(2, 4, 40, 24), (2, 2, 40, 24), (2, 2, 40, 24)],
    ),
    "attention_per_head_bias": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, scale=1.0),
        [(2, 3, 40, 16), (2, 3, 130, 16), (2, 3, 130, 16), (1, 3, 40, 130)],
    ),
    "attention_mask_of_query_and_key": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m > 0.3),
        [(2, 2, 20, 160), (2, 2, 30, 160), (2, 2, 30, 144), (2, 1, 20, 30)],
    ),
    "attention_written_out": (
        lambda q, k, v: (
            F.softmax(
                (q @ k.repeat_interleave(2, 1).transpose(2, 3) / 4.0).masked_fill(
                    ~torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(), -1e38
                ),
                -1,
            )
            @ v.repeat_interleave(2, 1)
        ),
        [(2, 4, 30, 16), (2, 2, 30, 16), (2, 2, 30, 16)],
    ),
    "transpose": (lambda x: x.transpose(0, 1) + 1.0, [(20, 30)]),
    "concatenate": (lambda x, y: torch.cat([x, y], 1) * 2.0, [(20, 30), (20, 5)]),
    "slice": (lambda x: x[2:9, ::3] + 1.0, [(20, 30)]),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_torch(name: str) -> None:
    function, shapes = CASES[name]
    inputs = [normal(*s, seed=k) for k, s in enumerate(shapes)]
    module = Wrap(function).eval()
    compiled = compiler.compile(module, inputs)
    result = compiled(*inputs)
    torch.testing.assert_close(result, module(*inputs), rtol=2e-4, atol=2e-4)
    assert [f.message for f in compiled.analysis.findings] == []
    assert compiled.latency_us > 0


class Block(torch.nn.Module):
    """Embedding, attention, norm and feed-forward of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(50, 32)
        self.q, self.k, self.v, self.o = (torch.nn.Linear(32, 32) for _ in range(4))
        self.norm = torch.nn.LayerNorm(32)
        self.up, self.down = torch.nn.Linear(32, 64), torch.nn.Linear(64, 32)

    def forward(self, ids, mask):
        x = self.table(ids)
        b, s, _ = x.shape
        q, k, v = (f(x).view(b, s, 4, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :].bool())
        x = self.norm(x + self.o(y.transpose(1, 2).reshape(b, s, 32)))
        return x + self.down(F.gelu(self.up(x))), mask


@pytest.fixture(scope="module")
def block():
    ids = torch.arange(24).reshape(2, 12)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    return Block().eval(), (ids, mask)


@pytest.mark.parametrize(
    ("autocast", "lowest"), [("none", 0.999999), ("matmult", 0.999), ("all", 0.999)]
)
def test_encoder_block_agrees_in_every_autocast_mode(block, autocast: str, lowest: float) -> None:
    module, inputs = block
    compiled = compiler.compile(module, inputs, autocast=autocast)
    outputs = compiled(*inputs)
    assert isinstance(outputs, tuple)
    assert torch.equal(outputs[1], inputs[1])
    assert compiled.agreement(outputs, *inputs)["cosine"] >= lowest


@pytest.mark.parametrize("target", ["trn1", "inf2", "trn2", "trn3"])
def test_block_is_legal_on_every_chip(block, target: str) -> None:
    module, inputs = block
    compiled = compiler.compile(module, inputs, target=target, autocast="matmult")
    assert [f.message for f in compiled.analysis.findings] == []


def test_time_needs_no_values_and_equals_the_executed_program(block) -> None:
    module, inputs = block
    compiled = compiler.compile(module, inputs)
    before = compiled.analysis.total_ps
    compiled(*inputs)
    assert compiler.record_graph(compiled.graph, "trn2").rows == compiled.program.rows
    assert compiled.analysis.total_ps == before


def test_other_shapes_are_refused_with_the_compiled_one(block) -> None:
    module, (ids, mask) = block
    compiled = compiler.compile(module, (ids, mask))
    with pytest.raises(UsageError, match=r"ids.*another shape.*2,12") as caught:
        compiled(ids[:, :5], mask[:, :5])
    assert "bucket" in caught.value.finding.next_step


def test_unsupported_operation_is_named() -> None:
    with pytest.raises(UnsupportedOp, match=r"linalg_svd|svd"):
        compiler.compile(Wrap(lambda x: torch.linalg.svd(x)[1]).eval(), [normal(4, 4)])


def test_unknown_autocast_and_target() -> None:
    module = Wrap(torch.exp).eval()
    with pytest.raises(UsageError, match="none, matmult, all"):
        compiler.compile(module, [normal(3, 3)], autocast="fp8")
    with pytest.raises(TenzingError, match="trn9"):
        compiler.compile(module, [normal(3, 3)], target="trn9")


def test_torch_compile_backend_runs_on_the_chip() -> None:
    compiler.install_torch_backend()
    module = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4))
    x = normal(10, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.compile(module, backend="tenzing")(x), module(x), rtol=1e-4, atol=1e-4
        )


def test_torch_compile_takes_batches_of_any_size() -> None:
    compiler.install_torch_backend()
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.GELU(), torch.nn.Linear(6, 4))
    compiled = torch.compile(module, backend="tenzing")
    for batch in (2, 3, 5, 3):  # PyTorch leaves the size open from the second one on
        x = normal(batch, 8).requires_grad_()
        leaves = (x, *module.parameters())
        got, wanted = (
            torch.autograd.grad(function(x).square().sum(), leaves)
            for function in (compiled, module)
        )
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), module(x), rtol=1e-4, atol=1e-5)


def test_fp8_linears_use_the_whole_range_of_the_format() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 32))
    with torch.no_grad():
        net[0].weight *= 1e-4  # far below the smallest normal number of the format
    x = normal(16, 64)
    compiled = compiler.compile(net.eval(), (x,), autocast="matmult", autocast_dtype="fp8_e4m3")
    got, expected = (f(x).detach().flatten().double() for f in (compiled, net))
    assert float(torch.nn.functional.cosine_similarity(got, expected, 0)) > 0.995
    kinds = {v.dtype.name for n in compiled.graph.nodes if n.op.name == "linear" for v in n.inputs}
    assert "float8_e4m3" in kinds


@pytest.mark.parametrize("batch", [1, 2])
def test_attention_with_a_bias_per_head(batch: int) -> None:
    bias = normal(3, 5, 5, seed=9)
    module = Wrap(lambda q, k, v: ((q @ k.transpose(-1, -2)) * 0.3 + bias).softmax(-1) @ v).eval()
    inputs = tuple(normal(batch, 3, 5, 8, seed=s) for s in range(3))
    compiled = compiler.compile(module, inputs)
    assert compiled.graph.count()["attention"] == 1
    torch.testing.assert_close(compiled(*inputs), module(*inputs), atol=1e-5, rtol=1e-5)
