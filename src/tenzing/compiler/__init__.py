"""Model to program: graph IR, operations, frontends, passes and lowering to kernels."""

from tenzing.compiler.artifact import Compiled, compile, install_torch_backend, split_example
from tenzing.compiler.comparison import Comparison
from tenzing.compiler.execution import record_graph, run_graph
from tenzing.compiler.training import Training, compile_training

__all__ = [
    "Compiled", "Comparison", "Training", "compile", "compile_training",
    "install_torch_backend", "record_graph", "run_graph", "split_example",
]  # fmt: skip
