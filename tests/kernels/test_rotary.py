"""Rotary position embedding equals NumPy in either layout, and is found when written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tenzing
from tenzing import kernels
from tenzing.compiler import ops
from tenzing.compiler.graph import F32, GraphBuilder
from tenzing.compiler.passes import DeadCode, PackHeads, Pipeline, RecogniseRotary, Simplify
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run as evaluate
from tenzing.nki import session

from .running import normal


@pytest.mark.parametrize(("batch", "length", "heads", "width"), [(2, 150, 3, 16), (1, 7, 40, 128)])
@pytest.mark.parametrize("shared", [True, False])
def test_kernel(batch: int, length: int, heads: int, width: int, shared: bool) -> None:
    x = normal(batch, length, heads, width)
    cos, sin = (normal(1 if shared else batch, length, width, seed=n) for n in (1, 2))
    first, second = np.split(x, 2, -1)
    halves = np.concatenate([-second, first], -1)
    neighbours = np.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
    for interleaved, turned in ((False, halves), (True, neighbours)):
        expected = x * cos[:, :, None] + turned * sin[:, :, None]
        for heads_first in (False, True):
            with session("trn2"):
                got = kernels.rotary(x, cos, sin, heads_first, interleaved)
            got = got.transpose(0, 2, 1, 3) if heads_first else got
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


FORMS = ("halves", "neighbours", "halves apart", "neighbours apart", "complex")


def _turned(torch: Any, form: str, x: Any, angles: Any) -> Any:
    """The rotary embedding as one family or another of models writes it."""
    cos, sin = angles.cos(), angles.sin()
    if form == "complex":
        whole = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(whole * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    if form == "halves":
        cos, sin = (torch.cat([t, t], -1) for t in (cos, sin))
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin
    if form == "neighbours":
        cos, sin = (torch.repeat_interleave(t, 2, -1) for t in (cos, sin))
        return x * cos + torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * sin
    first, second = x.chunk(2, -1) if form == "halves apart" else (x[..., ::2], x[..., 1::2])
    both = first * cos - second * sin, second * cos + first * sin
    return torch.cat(both, -1) if form == "halves apart" else torch.stack(both, -1).flatten(-2)


@pytest.mark.torch
@pytest.mark.parametrize("heads_first", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_found_in_every_form_that_pytorch_models_write(form: str, heads_first: bool) -> None:
    torch = pytest.importorskip("torch")

    class Turned(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any, angles: Any) -> Any:
            x = x.view(2, 6, 3, 8)
            x, angles = (x.transpose(1, 2), angles[:, None]) if heads_first else (
                x, angles[:, :, None])  # fmt: skip
            out = _turned(torch, form, x, angles)
            return (out.transpose(1, 2) if heads_first else out).reshape(2, 6, 24)

    torch.manual_seed(0)
    inputs = torch.randn(2, 6, 24), torch.randn(2, 6, 4)
    compiled = tenzing.compile(Turned().eval(), inputs, numerics="graph")
    (found,) = [n.op for n in compiled.graph.nodes if isinstance(n.op, ops.Rotary)]
    assert found.interleaved == (not form.startswith("halves"))
    assert compiled.compare(*inputs, per_op=True).first is None


def test_recognised_and_packed_with_its_attention(golden: Any) -> None:
    builder = GraphBuilder("rotary")
    q, k, v = (builder.input(n, (2, 6, 16), F32) for n in "qkv")
    tables = [builder.input(n, (1, 6, 8), F32) for n in ("cos", "sin")]
    heads = []
    for x in (q, k, v):
        split = builder.add(ops.Reshape((2, 6, 2, 8)), x)
        heads.append(builder.add(ops.Transpose((0, 2, 1, 3)), split))
    for number, x in enumerate(heads[:2]):
        heads[number] = ops.Rotary().decompose(builder, x, *tables)[0]
    mixed = builder.add(ops.Attention(0.3, 2, 2), *heads)
    joined = builder.add(ops.Transpose((0, 2, 1, 3)), mixed)
    graph = builder.build([builder.add(ops.Reshape((2, 6, 16)), joined)])
    tidy = (Simplify(), DeadCode())
    passes = (*tidy, RecogniseRotary(), DeadCode(), PackHeads(), DeadCode(), *tidy)
    final = Pipeline(passes).run(graph)
    arrays = [normal(*value.shape, seed=n) for n, value in enumerate(graph.inputs)]
    np.testing.assert_allclose(
        evaluate(graph, arrays, {})[0], evaluate(final, arrays, {})[0], rtol=1e-5, atol=1e-6
    )
    golden(to_text(final))


@pytest.mark.parametrize("cached", [False, True])
def test_norms_of_heads_pack_unless_a_cache_reads_them(cached: bool) -> None:
    builder = GraphBuilder("norms")
    scale = builder.parameter("scale", (8,), F32)
    heads = []
    for name in "qkv":
        x = builder.input(name, (2, 6, 16), F32)
        split = builder.add(ops.Reshape((2, 6, 2, 8)), x)
        heads.append(builder.add(ops.Transpose((0, 2, 1, 3)), split))
    heads[:2] = [builder.add(ops.RmsNorm(1e-6), x, scale) for x in heads[:2]]
    mixed = builder.add(ops.Transpose((0, 2, 1, 3)), builder.add(ops.Attention(0.3, 2, 2), *heads))
    outputs = [builder.add(ops.Reshape((2, 6, 16)), mixed), *(heads[1:2] if cached else [])]
    graph = builder.build(outputs)
    final = Pipeline((PackHeads(), DeadCode(), Simplify(), DeadCode())).run(graph)
    assert final.count()["rms_norm"] == 2
    assert final.count().get("transpose", 0) == (4 if cached else 0)
    arrays = [normal(2, 6, 16, seed=n) for n in range(3)]
    weights = {"scale": normal(8, seed=4)}
    for got, wanted in zip(
        evaluate(final, arrays, weights), evaluate(graph, arrays, weights), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
