"""From graph to program: every node becomes calls of NKI kernels.

The meaning of an operation stands with its class in ``compiler.ops`` and knows no kernel; this
package is the one place that chooses kernels (docs/decisions/0007). One file per family; importing
it registers its rules.
"""

from tenzing.compiler.lowering import (
    arithmetic,
    collectives,
    control,
    experts,
    gradients,
    groups,
    indexing,
    movement,
    ordering,
    products,
    random,
    rowwise,
    scans,
    windows,
)
from tenzing.compiler.lowering.program import Progress, lower_graph
from tenzing.compiler.lowering.registry import RULES, device_dtype, lowers, unsupported
from tenzing.compiler.lowering.reuse import RECORDINGS, Recordings

__all__ = [
    "RECORDINGS",
    "RULES",
    "Progress",
    "Recordings",
    "arithmetic",
    "collectives",
    "control",
    "device_dtype",
    "experts",
    "gradients",
    "groups",
    "indexing",
    "lower_graph",
    "lowers",
    "movement",
    "ordering",
    "products",
    "random",
    "rowwise",
    "scans",
    "unsupported",
    "windows",
]
