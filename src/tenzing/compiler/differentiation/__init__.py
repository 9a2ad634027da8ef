"""Gradients of graphs: what a training step adds to a forward pass, rank by rank."""

from tenzing.compiler.differentiation.backward import GRADIENT, Backward, Seed, with_gradients
from tenzing.compiler.differentiation.losses import cross_entropy
from tenzing.compiler.differentiation.rules import RULES, Step

__all__ = ["GRADIENT", "RULES", "Backward", "Seed", "Step", "cross_entropy", "with_gradients"]
