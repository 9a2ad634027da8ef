"""Backward forms as kernel calls."""

from __future__ import annotations

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import as_rows, lowers
from tenzing.compiler.ops import NormBackward
from tenzing.kernels.norm_backward import norm_backward
from tenzing.nki import NkiTensor


@lowers("norm_backward")
def _norm_backward(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, NormBackward)
    given = op.parts(inputs)
    count = given.rstd.size
    found = norm_backward(
        as_rows(given.grad), as_rows(given.x),
        None if given.mean is None else given.mean.reshape((count,)),
        given.rstd.reshape((count,)), given.weight, op.biased,
        None if given.residual is None else as_rows(given.residual),
    )  # fmt: skip
    return list(found)
