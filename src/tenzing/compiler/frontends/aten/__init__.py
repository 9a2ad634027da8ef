"""Meaning of PyTorch's ATen overloads in our graph IR; needs no framework to be installed."""

from tenzing.compiler.frontends.aten import (  # noqa: F401  (importing fills the table)
    complex,
    contraction,
    creation,
    elementwise,
    indexing,
    movement,
    normalisation,
    ordering,
    random,
    reduction,
    resizing,
    sampling,
    trigonometry,
    window,
)
from tenzing.compiler.frontends.aten.translator import RULES, Argument, Translator

__all__ = ["RULES", "Argument", "Translator"]
