"""Model to program: graph IR, operations, frontends, passes and lowering to kernels."""

from tenzing.compiler.artifact import Compiled, compile, install_torch_backend, split_example
from tenzing.compiler.comparison import Comparison
from tenzing.compiler.execution import record_graph, run_graph
from tenzing.compiler.frontends.interface import NoFramework
from tenzing.compiler.saved import Loaded, SavedFile, inspect, is_saved, load
from tenzing.compiler.saving import save
from tenzing.compiler.training import Training, compile_training

__all__ = [
    "Compiled", "Comparison", "Loaded", "NoFramework", "SavedFile", "Training", "compile",
    "compile_training", "inspect", "install_torch_backend", "is_saved", "load", "record_graph",
    "run_graph", "save", "split_example",
]  # fmt: skip
