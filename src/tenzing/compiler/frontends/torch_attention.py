"""Attention that stays one operation through autograd, so that training computes scores twice.

PyTorch's mathematical form keeps the whole matrix of probabilities for the backward pass, and its
flash form decomposes into wrong gradients. Two operations of our own take its place in a traced
module: the reader maps them to ``attention`` and ``attention_backward``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tenzing import facts
from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.translator import Translator, aten
from tenzing.compiler.graph import Value

NAMESPACE: Final = "tenzing_attention"
RANK: Final = 4
_LIBRARIES: Final[list[Any]] = []  # definitions live as long as their library
MOST_KEYS: Final = 4096  # scores of a row, their slopes and rounded copies share SBUF


def fewest_scores() -> float:
    """Scores of a head below which the matrix is kept: that is sooner done than computed again."""
    return facts.software("training.fewest_scores")


@functools.cache
def operation(torch: Any) -> Any:
    """A function of q, k, v, mask, causal and scale: one operation, and one for its gradient."""
    kinds = "Tensor q, Tensor k, Tensor v"
    more = "Tensor? mask, bool causal, float scale"
    # plain definitions: those of custom_op bring an autograd rule that functorch refuses
    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    library.define(f"forward({kinds}, {more}) -> Tensor")
    library.define(f"backward({kinds}, Tensor grad, {more}) -> (Tensor, Tensor, Tensor)")
    library.impl("forward", _eager, "CompositeExplicitAutograd")
    library.impl("backward", _eager_backward, "CompositeExplicitAutograd")
    shapes = f"{NAMESPACE}::forward", f"{NAMESPACE}::backward"
    torch.library.register_fake(
        shapes[0], lambda q, k, v, *_: q.new_empty((*q.shape[:-1], v.shape[-1])), lib=library
    )
    torch.library.register_fake(
        shapes[1], lambda q, k, v, *_: tuple(map(torch.empty_like, (q, k, v))), lib=library
    )
    _LIBRARIES.append(library)
    made = getattr(torch.ops, NAMESPACE)
    forward, backward = made.forward.default, made.backward.default

    class Kept(torch.autograd.Function):
        """The pair of operations as functorch differentiates them."""

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return forward(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            q, k, v, mask, ctx.causal, ctx.scale = inputs
            ctx.save_for_backward(q, k, v, *(() if mask is None else (mask,)))

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            q, k, v, *mask = ctx.saved_tensors
            found = backward(q, k, v, grad, mask[0] if mask else None, ctx.causal, ctx.scale)
            return (*found, None, None, None)

    def kept_attention(*arguments: Any) -> Any:
        return Kept.apply(*arguments)

    return kept_attention


@contextmanager
def functionalized(torch: Any) -> Iterator[None]:
    """Let functorch's functionalization step through an autograd function.

    PyTorch has no rule for it. Ours runs its forward: gradients are the business of the level
    above, and what the forward calls writes nothing.
    """
    from torch._C._functorch import TransformType
    from torch._functorch.autograd_function import custom_function_call

    rules = custom_function_call.functorch_table
    before = rules[TransformType.Functionalize]
    rules[TransformType.Functionalize] = lambda _, function, *given: function.forward(*given)
    try:
        yield
    finally:
        rules[TransformType.Functionalize] = before


def _eager(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> Any:
    import torch

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        ).clone()


def _eager_backward(
    q: Any, k: Any, v: Any, grad: Any, mask: Any, causal: bool, scale: float
) -> Any:
    import torch

    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        out = _eager(leaves[0], leaves[1], leaves[2], mask, causal, scale)
    return torch.autograd.grad(out, leaves, grad)


def keep_attention(torch: Any, program: Any) -> None:
    """Replace attention in a traced module where a kernel of ours has its gradient.

    Left as they are: dropout, masks of numbers (which may be trained), other ranks, long rows, and
    so few scores that keeping them is faster.
    """
    whole = operation(torch)
    plain = torch.ops.aten.scaled_dot_product_attention.default
    for node in list(program.graph.nodes):
        if node.op != "call_function" or node.target is not plain:
            continue
        given = _arguments(node)
        if given is None:
            continue
        with program.graph.inserting_before(node):
            fresh = program.graph.call_function(whole, given)
        fresh.meta = dict(node.meta)
        node.replace_all_uses_with(fresh)
        program.graph.erase_node(node)
    program.recompile()


def _arguments(node: Any) -> tuple[Any, ...] | None:
    """q, k, v, mask, causal, scale of a call; None where it has to stay."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    operands = [given[name] for name in names[:3]]
    shapes = [tuple(x.meta["val"].shape) for x in operands]
    mask = given.get("attn_mask")
    kept = (
        given.get("dropout_p", 0.0)
        or any(len(s) != RANK for s in shapes)
        or shapes[1][2] > MOST_KEYS
        or shapes[0][2] * shapes[1][2] < fewest_scores()
        or not all(x.meta["val"].dtype.is_floating_point for x in operands)
        or (mask is not None and str(mask.meta["val"].dtype) != "torch.bool")
        or (mask is not None and len(mask.meta["val"].shape) != RANK)
    )
    if kept:
        return None
    scale = given.get("scale")
    factor = float(scale) if scale is not None else 1.0 / math.sqrt(shapes[0][-1])
    return (*operands, mask, bool(given.get("is_causal", False)), factor)


@aten("tenzing_attention.forward.default")
def _forward(
    t: Translator, q: Value, k: Value, v: Value, mask: Value | None, causal: bool, scale: float
) -> Value:
    op = ops.Attention(scale, q.shape[1], k.shape[1], causal)
    return t.emit(op, q, k, v, *([] if mask is None else [mask]))


@aten("tenzing_attention.backward.default")
def _backward(
    t: Translator, q: Value, k: Value, v: Value, grad: Value, mask: Value | None, causal: bool,
    scale: float,
) -> tuple[Value, ...]:  # fmt: skip
    op = ops.AttentionBackward(scale, q.shape[1], k.shape[1], causal)
    return tuple(t.builder.emit(op, q, k, v, grad, *([] if mask is None else [mask])))


__all__ = ["NAMESPACE", "functionalized", "keep_attention", "operation"]
