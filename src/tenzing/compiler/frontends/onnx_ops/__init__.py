"""Meaning of ONNX's operations in our graph IR; needs no framework to be installed."""

from tenzing.compiler.frontends.onnx_ops import (  # noqa: F401  (importing fills the table)
    activation,
    attention,
    contraction,
    control,
    elementwise,
    indexing,
    movement,
    normalisation,
    quantisation,
    recurrence,
    reduction,
    resizing,
    window,
)
from tenzing.compiler.frontends.onnx_ops.translator import (
    RULES,
    SEQUENCES,
    FollowingBuilder,
    Item,
    Knowledge,
    Known,
    Region,
    Translator,
    find_rule,
)

__all__ = [
    "RULES", "SEQUENCES", "FollowingBuilder", "Item", "Knowledge", "Known", "Region", "Translator",
    "find_rule",
]  # fmt: skip
