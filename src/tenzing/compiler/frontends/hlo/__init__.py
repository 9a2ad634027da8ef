"""StableHLO to graphs: one file knows MLIR, the others are tables of rules by family."""

from tenzing.compiler.frontends.hlo import elementwise, reduction, shape
from tenzing.compiler.frontends.hlo.reader import RULES, Reader, hlo, read_module, read_parsed

__all__ = [
    "RULES", "Reader", "elementwise", "hlo", "read_module", "read_parsed", "reduction", "shape",
]  # fmt: skip
