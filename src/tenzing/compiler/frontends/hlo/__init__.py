"""StableHLO to graphs: one file knows MLIR, the others are tables of rules by family."""

from tenzing.compiler.frontends.hlo import (
    collective,
    control,
    custom,
    elementwise,
    indexing,
    ordering,
    reduction,
    shape,
    special,
)
from tenzing.compiler.frontends.hlo.collective import read_sharded
from tenzing.compiler.frontends.hlo.reader import RULES, Reader, hlo, read_module, read_parsed

__all__ = [
    "RULES", "Reader", "collective", "control", "custom", "elementwise", "hlo", "indexing",
    "ordering", "read_module", "read_parsed", "read_sharded", "reduction", "shape", "special",
]  # fmt: skip
