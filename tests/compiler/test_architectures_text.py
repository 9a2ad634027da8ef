"""Text models of many architectures, instruction by instruction, agree with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tenzing.compiler.comparison import cosine
from tenzing.compiler.execution import run_graph
from tenzing.compiler.frontends.torch import import_module
from tenzing.compiler.frontends.torch_values import to_numpy
from tenzing.compiler.graph import Array
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import prepare

from .zoo import HF_20, OTHERS_TEXT

pytestmark = pytest.mark.torch
RELATIVE = 1e-4  # largest difference over largest value, in float32
COSINE = 0.999  # with matrix products in bfloat16
TEXT_OF_20 = (
    "llama", "qwen2", "qwen3", "mistral", "mixtral", "qwen3moe", "gemma3", "gpt2", "phi3", "bert",
    "distilbert", "t5", "mamba", "mamba2",
)  # fmt: skip
MAKERS = {**{name: HF_20[name] for name in TEXT_OF_20}, **OTHERS_TEXT}
FAST = ("gpt2", "t5", "mamba", "phimoe", "deepseek_v2")


def relative(got: Array, expected: Array) -> float:
    """Largest difference over the largest value."""
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    return float(difference.max() / np.abs(expected.astype(np.float64)).max())


def outputs_of(imported: Any, inputs: list[Array], autocast: str) -> list[Array]:
    """What the simulated core computes, instruction by instruction."""
    graph = default_pipeline(autocast).run(imported.graph)
    made = run_graph(graph, inputs, prepare(graph, imported.weights), "trn2")[0]
    return [made[place] for place in imported.interface.output_places()]  # not what it writes


def _marked(name: str) -> Any:
    return pytest.param(name, marks=() if name in FAST else pytest.mark.slow)


@pytest.mark.parametrize("name", [_marked(name) for name in MAKERS])
def test_architecture_agrees_in_both_precisions(name: str) -> None:
    model, inputs = MAKERS[name]()
    imported = import_module(model, inputs)
    interface = imported.interface
    expected = interface.results(interface.eager(inputs, {}))
    arrays = [to_numpy(x) for x in inputs]
    for got, wanted in zip(outputs_of(imported, arrays, "none"), expected, strict=True):
        assert relative(got, wanted) <= RELATIVE
    for got, wanted in zip(outputs_of(imported, arrays, "matmult"), expected, strict=True):
        assert cosine(got, wanted) >= COSINE
