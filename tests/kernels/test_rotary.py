"""Rotary position embedding equals NumPy in either layout, and is found when written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
    expected = x * cos[:, :, None] + np.concatenate([-second, first], -1) * sin[:, :, None]
    for heads_first in (False, True):
        with session("trn2"):
            got = kernels.rotary(x, cos, sin, heads_first)
        got = got.transpose(0, 2, 1, 3) if heads_first else got
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


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
