"""Models of vision, sound, time series and a wider draw agree with PyTorch, or are refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tenzing.compiler import compile  # noqa: E402
from tenzing.compiler.execution import run_graph  # noqa: E402
from tenzing.compiler.frontends.aten import RULES  # noqa: E402
from tenzing.compiler.frontends.torch import import_module  # noqa: E402
from tenzing.compiler.frontends.torch_values import to_numpy  # noqa: E402
from tenzing.compiler.graph import Array  # noqa: E402
from tenzing.compiler.passes import default_pipeline  # noqa: E402
from tenzing.compiler.reference import prepare, run_prepared  # noqa: E402
from tenzing.errors import TenzingError, UnsupportedOp  # noqa: E402

from .zoo_vision import OTHERS_VISION  # noqa: E402
from .zoo_vision import REFUSED as REFUSED_FIRST  # noqa: E402
from .zoo_wider import REFUSED_TOO, TIED, WIDER  # noqa: E402

pytestmark = pytest.mark.torch
RELATIVE = 1e-4  # largest difference over largest value, in float32
FAST = ("data2vec_vision", "patchtst", "vit_msn", "ast")
ON_CHIP = (
    "ast", "beit", "clipseg", "convnextv2", "data2vec_vision", "dinov2", "dinov3_vit", "dpr",
    "flava", "focalnet", "hubert", "ijepa", "imagegpt", "levit", "musicgen_decoder",
    "patchtsmixer", "patchtst", "poolformer", "qwen2_audio_encoder", "regnet", "siglip_vision",
    "speech_to_text", "swin", "textnet", "timesfm", "timesformer", "videomae", "visual_bert",
    "vit_msn", "vitpose_backbone", "vivit", "wav2vec2", "yolos",
)  # fmt: skip
MAKERS = {**OTHERS_VISION, **WIDER}
REFUSED = {**REFUSED_FIRST, **REFUSED_TOO}
LEDGER = Path(__file__).parents[2] / "conformance" / "architectures.toml"


def relative(got: Array, expected: Array) -> float:
    """Largest difference over the largest value; of whole numbers, any difference counts."""
    if expected.dtype.kind in "biu":
        return float((got != expected).any())
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    largest = np.abs(expected).max(initial=0.0)
    return float(difference.max(initial=0.0) / (largest or 1.0))


def check(name: str, on_chip: bool) -> None:
    """Every output of a model against PyTorch's, after all passes."""
    model, inputs = MAKERS[name]()
    imported = import_module(model, inputs)
    interface = imported.interface
    expected = interface.results(interface.eager(inputs, {}))
    assert any(np.abs(x.astype(np.float64)).max(initial=0.0) > 0 for x in expected)
    graph = default_pipeline("none").run(imported.graph)
    arrays, weights = [to_numpy(x) for x in inputs], prepare(graph, imported.weights)
    if on_chip:
        outputs: Any = run_graph(graph, arrays, weights, "trn2")[0]
    else:
        outputs = run_prepared(graph, arrays, weights)
    for got, wanted in zip(outputs, expected, strict=True):
        assert relative(got, wanted) <= RELATIVE


def _marked(name: str) -> Any:
    return pytest.param(name, marks=() if name in FAST else pytest.mark.slow)


@pytest.mark.parametrize("name", [_marked(name) for name in MAKERS])
def test_architecture_agrees_op_by_op(name: str) -> None:
    check(name, on_chip=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_CHIP)
def test_architecture_agrees_instruction_by_instruction(name: str) -> None:
    check(name, on_chip=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIED)
def test_what_differs_by_a_choice_between_equals_is_explained(name: str) -> None:
    model, inputs = TIED[name]()
    found = compile(model, inputs, numerics="graph").compare(*inputs)
    assert found.agrees or found.explained


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_listed_with_its_reason(name: str) -> None:
    entry = tomllib.loads(LEDGER.read_text())[name]
    model, inputs = REFUSED[name]()
    with pytest.raises(TenzingError, match=entry["says"]):
        import_module(model, inputs)


def test_the_ledger_lists_refused_architectures_alone() -> None:
    assert sorted(tomllib.loads(LEDGER.read_text())) == sorted(REFUSED)
    assert not set(REFUSED) & set(MAKERS)


def test_an_operation_without_a_rule_is_refused_with_the_module_that_uses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(RULES, "gelu.default")
    model, inputs = OTHERS_VISION["vit_msn"]()
    with pytest.raises(UnsupportedOp) as caught:
        import_module(model, inputs)
    text = str(caught.value)
    assert "aten.gelu.default has no rule" in text
    assert "(in module model.layers.0.mlp.activation_fn)" in text
    assert "activations.py:" in caught.value.render()
