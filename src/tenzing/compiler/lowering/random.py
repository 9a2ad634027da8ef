"""Random bits as kernel calls."""

from __future__ import annotations

import math

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import lowers
from tenzing.kernels.random import random_bits
from tenzing.nki import NkiTensor


@lowers("random_bits")
def _random_bits(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    shape = node.output.shape
    return [random_bits(inputs[0], math.prod(shape), node.attrs["offset"]).reshape(shape or (1,))]
