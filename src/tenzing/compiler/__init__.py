"""Model to program: graph IR, operations, frontends, passes and lowering to kernels."""

from tenzing.compiler.advice import Advice, advise, sampled_cost
from tenzing.compiler.artifact import Compiled, compile, install_torch_backend, split_example
from tenzing.compiler.buckets import Bucketed, compile_buckets
from tenzing.compiler.comparison import Comparison
from tenzing.compiler.execution import record_graph, run_graph
from tenzing.compiler.frontends.interface import NoFramework
from tenzing.compiler.saved import Loaded, SavedFile, inspect, is_saved, load
from tenzing.compiler.saving import save
from tenzing.compiler.traffic import Cost, Size, Traffic, Waste, read_traffic, tokens, waste_of
from tenzing.compiler.training import Training, compile_training

__all__ = [
    "Advice", "Bucketed", "Compiled", "Comparison", "Cost", "Loaded", "NoFramework", "SavedFile",
    "Size", "Traffic", "Training", "Waste", "advise", "compile", "compile_buckets",
    "compile_training", "inspect", "install_torch_backend", "is_saved", "load", "read_traffic",
    "record_graph", "run_graph", "sampled_cost", "save", "split_example", "tokens", "waste_of",
]  # fmt: skip
