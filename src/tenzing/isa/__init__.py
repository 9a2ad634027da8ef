"""What an instruction is: operands, limits, meaning and cost of every ``nki.isa`` operation."""

from tenzing.isa import (  # noqa: F401 - fills the registry
    dma,
    gpsimd,
    gpsimd_search,
    scalar,
    tensor,
    vector,
    vector_random,
    vector_reduce,
    vector_scan,
    vector_select,
)
from tenzing.isa.instruction import REGISTRY, Cost, Engine, Exactness, Instruction, Transfer
from tenzing.isa.operand import Layout, Space, Storage, View
from tenzing.isa.program import Program, Template

__all__ = [
    "REGISTRY", "Cost", "Engine", "Exactness", "Instruction", "Layout", "Program", "Space",
    "Storage", "Template", "Transfer", "View",
]  # fmt: skip
