"""Model to program: graph IR, operations, frontends, passes and lowering to kernels."""

from tenzing.compiler.artifact import (
    Compiled,
    agreement,
    compile,
    install_torch_backend,
    record_graph,
    run_graph,
)

__all__ = [
    "Compiled", "agreement", "compile", "install_torch_backend", "record_graph", "run_graph",
]  # fmt: skip
