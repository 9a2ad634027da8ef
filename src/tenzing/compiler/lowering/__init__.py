"""From graph to program: every node becomes calls of NKI kernels.

The meaning of an operation stands with its class in ``compiler.ops`` and knows no kernel; this
package is the one place that chooses kernels (docs/decisions/0007).
"""

from tenzing.compiler.lowering.nodes import lower_graph

__all__ = ["lower_graph"]
