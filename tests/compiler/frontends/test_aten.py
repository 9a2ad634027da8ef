"""Our graph of a small PyTorch function gives what PyTorch gives, over drawn shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from tenzing.compiler.frontends.torch import import_module, to_numpy  # noqa: E402
from tenzing.compiler.reference import run  # noqa: E402

pytestmark = pytest.mark.torch
Function = Callable[..., Any]


class Wrapped(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: Any) -> Any:
        return {name: function(*inputs) for name, function in self.functions.items()}


def agree(functions: dict[str, Function], *inputs: Any, tolerance: float = 2e-6) -> None:
    """Our outputs equal PyTorch's in type and, within tolerance, in value: one export for all."""
    graph, weights = import_module(Wrapped(functions).eval(), inputs)[:2]
    got = iter(run(graph, [to_numpy(x) for x in inputs], weights))
    for name, function in functions.items():
        expected = function(*inputs)
        for theirs in expected if isinstance(expected, tuple | list) else (expected,):
            ours, reference = next(got), to_numpy(theirs)
            assert (name, ours.dtype, ours.shape) == (name, reference.dtype, reference.shape)
            np.testing.assert_allclose(
                ours.astype(np.float64),
                reference.astype(np.float64),
                rtol=tolerance,
                atol=tolerance,
                err_msg=name,
            )


def draw(*shape: int, low: float = -3.0, high: float = 3.0, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) * (high - low) + low


UNARY = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "exp": torch.exp, "expm1": torch.expm1,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin, "cos": torch.cos,
    "erf": torch.erf, "relu": torch.relu, "silu": F.silu, "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "softplus": F.softplus,
    "softplus_beta": lambda x: F.softplus(x, 3.0, 2.0), "elu": F.elu, "selu": F.selu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2), "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "relu6": F.relu6, "mish": F.mish, "square": torch.square,
    "reciprocal": lambda x: torch.reciprocal(x + 4), "exp2": torch.exp2,
    "clamp": lambda x: x.clamp(-1, 1), "clamp_min": lambda x: x.clamp_min(0.5),
    "isnan": lambda x: torch.isnan(x / 0 * 0), "isinf": lambda x: torch.isinf(x / 0),
    "cube": lambda x: x**3, "two_to_the": lambda x: 2.0**x, "plus_int": lambda x: x + 1,
    "rsub": lambda x: 1 - x, "bool": lambda x: (x - x.round()).bool(), "to_int": lambda x: x.int(),
    "to_bf16": lambda x: x.bfloat16() * 1.5, "logical_not": lambda x: torch.logical_not(x > 0),
    "where_number": lambda x: torch.where(x > 0, x, -1.0),
}  # fmt: skip
POSITIVE = {
    "log": torch.log, "log2": torch.log2, "log1p": torch.log1p, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "pow_half": lambda x: x**0.5, "pow_minus_half": lambda x: x**-0.5,
}  # fmt: skip
BINARY = {
    "add": torch.add, "add_alpha": lambda x, y: torch.add(x, y, alpha=2), "sub": torch.sub,
    "mul": torch.mul, "div": lambda x, y: x / (y + 9), "maximum": torch.maximum,
    "minimum": torch.minimum, "fmod": lambda x, y: torch.fmod(x, y + 9),
    "remainder": lambda x, y: torch.remainder(x, y + 9),
    "floor_div": lambda x, y: torch.div(x, y + 9, rounding_mode="floor"),
    "trunc_div": lambda x, y: torch.div(x, y + 9, rounding_mode="trunc"),
    "lt": torch.lt, "ge": torch.ge, "ne": torch.ne, "where": lambda x, y: torch.where(x > y, x, y),
    "and": lambda x, y: (x > 0) & (y > 0), "xor": lambda x, y: (x > 0) ^ (y > 0),
    "logical_or": torch.logical_or, "masked_fill": lambda x, y: (x + y).masked_fill(y > 0, -7.0),
    "pow": lambda x, y: x.abs() ** y, "int_float": lambda x, y: (x * 5).int() + y,
}  # fmt: skip
MOVEMENT = {
    "view": lambda x: x.view(-1, 4), "permute": lambda x: x.permute(2, 0, 1),
    "mT": lambda x: x.mT, "squeeze": lambda x: x[:, :1].squeeze(1),
    "unsqueeze": lambda x: x.unsqueeze(-2), "expand": lambda x: x[:, :1].expand(2, 5, 4),
    "repeat": lambda x: x.repeat(2, 1, 3, 1), "slice": lambda x: x[:, 1:, ::2],
    "select": lambda x: x[:, -1], "cat": lambda x: torch.cat([x, x * 2], -1),
    "stack": lambda x: torch.stack([x, x + 1], 1), "split": lambda x: x.split(3, -1)[1],
    "chunk": lambda x: x.chunk(2, 1), "unbind": lambda x: x.unbind(0)[1],
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=3.0), "pad_cut": lambda x: F.pad(x, (-1, 1)),
    "flip": lambda x: x.flip(0, 2), "roll": lambda x: x.roll((1, -1), (1, 2)),
    "tril": lambda x: x.tril(), "triu": lambda x: x.triu(1), "flatten": lambda x: x.flatten(1),
    "index": lambda x: x[torch.tensor([1, -1, 0])],
    "index_two": lambda x: x[:, torch.tensor([0, -1]), torch.tensor([[2], [3]])],
    "index_select": lambda x: x.index_select(2, torch.tensor([3, 0])),
    "arange": lambda x: x + torch.arange(4), "arange_step": lambda x: torch.arange(3, 11, 2) * 1,
    "full_like": lambda x: torch.full_like(x, 2.0), "ones": lambda x: x + torch.ones(4),
    "eye": lambda x: x @ torch.eye(4), "new_zeros": lambda x: x.new_zeros(3, 2),
    "index_put": lambda x: x.clone().index_put((torch.tensor([0]),), torch.ones(3, 4)),
    "einsum": lambda x: torch.einsum("bij,bkj->bik", x, x),
}  # fmt: skip
ROWS = {
    "sum": lambda x: x.sum(), "sum_dim": lambda x: x.sum(1),
    "sum_keep": lambda x: x.sum((0, 2), True),
    "mean": lambda x: x.mean(-1), "amax": lambda x: x.amax((1, 2)), "amin": lambda x: x.amin(0),
    "max_dim": lambda x: x.max(1), "argmax": lambda x: x.argmax(-1, keepdim=True),
    "argmax_all": lambda x: x.argmax(), "var": lambda x: x.var(-1),
    "var_biased": lambda x: x.var(-1, unbiased=False, keepdim=True),
    "std": lambda x: x.std(1), "any": lambda x: (x > 2).any(1), "all": lambda x: (x > -2).all(),
    "cumsum": lambda x: x.cumsum(1), "prod": lambda x: x.prod(2), "norm": lambda x: x.norm(dim=-1),
    "norm_one": lambda x: torch.linalg.vector_norm(x, 1, -1),
    "norm_max": lambda x: torch.linalg.vector_norm(x, float("inf"), -1),
    "softmax": lambda x: x.softmax(-1), "softmax_mid": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(-1), "topk": lambda x: x.topk(2, -1),
    "logsumexp": lambda x: x.logsumexp(-1), "normalize": lambda x: F.normalize(x, dim=-1),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "layer_norm_two": lambda x: F.layer_norm(x, (3, 4), torch.ones(3, 4) * 2, torch.ones(3, 4)),
    "rms_norm": lambda x: F.rms_norm(x, (4,), torch.arange(4.0), 1e-6),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "count": lambda x: (x > 0).sum(-1), "int_mean": lambda x: x.int().float().mean(),
}  # fmt: skip

SHAPES = [(), (5,), (2, 3, 4)]
BROADCASTS = [((), ()), ((3, 4), (4,)), ((2, 1, 4), (3, 1)), ((5,), ())]
few = settings(max_examples=2)


@pytest.mark.parametrize("shape", SHAPES)
def test_unary(shape: tuple[int, ...]) -> None:
    agree(UNARY, draw(*shape), tolerance=1e-5)
    agree(POSITIVE, draw(*shape, low=0.01))


@pytest.mark.parametrize(("left", "right"), BROADCASTS)
def test_binary_with_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    agree(BINARY, draw(*left), draw(*right, seed=1), tolerance=1e-5)


def test_movement() -> None:
    agree(MOVEMENT, draw(2, 3, 4))


def test_rows() -> None:
    agree(ROWS, draw(2, 3, 4))


@few
@given(rows=st.integers(1, 4), depth=st.integers(1, 9), width=st.integers(1, 5))
def test_products(rows: int, depth: int, width: int) -> None:
    functions = {
        "linear": lambda x, w, b, _: F.linear(x, w, b),
        "two_dims": lambda x, w, b, _: x @ w.T,
        "bmm": lambda x, w, b, y: torch.bmm(x, y),
        "batched": lambda x, w, b, y: torch.matmul(x[:, None], y),
        "vector": lambda x, w, b, _: x @ w[0],
        "dot": lambda x, w, b, _: torch.dot(w[0], w[0]),
        "addmm": lambda x, w, b, _: torch.addmm(b, x[0], w.T, beta=0.5),
        "einsum": lambda x, w, b, _: torch.einsum("bij,kj->bki", x, w),
    }
    x, w, y = draw(2, rows, depth), draw(width, depth, seed=1), draw(2, depth, width)
    agree(functions, x, w, draw(width), y, tolerance=1e-5)


MASKS = {
    "none": None,
    "bool": draw(2, 1, 1, 6) > -2,
    "additive": draw(1, 4, 5, 6),
    "two_dims": draw(5, 6) > -2,
}


def attention_under(mask: Any) -> Function:
    def attend(q: Any, k: Any, v: Any) -> Any:
        grouped = {"enable_gqa": k.shape[1] < q.shape[1]}
        return F.scaled_dot_product_attention(q, k, v, mask, **grouped)

    return attend


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention(kv_heads: int) -> None:
    q, k, v = draw(2, 4, 5, 8), draw(2, kv_heads, 6, 8, seed=1), draw(2, kv_heads, 6, 3, seed=2)
    agree({name: attention_under(mask) for name, mask in MASKS.items()}, q, k, v)


def test_causal_attention_of_other_ranks() -> None:
    def causal(q: Any) -> Any:
        return F.scaled_dot_product_attention(q, q, q, is_causal=True, scale=0.4)

    three_dims, five_dims = draw(3, 5, 8), draw(2, 3, 2, 5, 8)
    agree({"three": lambda a, _: causal(a), "five": lambda _, b: causal(b)}, three_dims, five_dims)


def test_integers() -> None:
    ids = torch.tensor([[0, 3, 9], [9, 3, 1]])
    functions = {
        "embedding": lambda i, t: F.embedding(i, t),
        "take_along": lambda i, t: t[:2].gather(1, i % 4),
        "floor": lambda i, _: (i // 2, -i // 4),
        "modulo": lambda i, _: (i % 4, -i % 4),
        "true_divide": lambda i, _: i / 2,
        "bits": lambda i, _: (~i, i & 1, i | 4),
        "running": lambda i, _: i.cumsum(0),
        "promoted": lambda i, t: i[0] * t[0, :3] + i.bool()[0],
    }
    agree(functions, ids, draw(10, 4))


def test_bfloat16_rounds_like_pytorch() -> None:
    x, y = draw(16, 8).bfloat16(), draw(16, 8, seed=1).bfloat16()
    functions = {
        "arithmetic": lambda x, y: (x + y, x * y, x / y),
        "exp": lambda x, _: x.exp(),
        "sum": lambda x, _: x.sum(-1),
    }
    agree(functions, x, y, tolerance=0.0)
