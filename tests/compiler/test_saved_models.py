"""Models of PyTorch as files: the form of inputs and outputs, state, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tenzing
from tenzing import cli

from .test_surface import Nested
from .zoo import HF_20

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
MODEL = """
import torch

def net():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))
    return module.eval(), (torch.randn(4, 8),)
"""


def as_arrays(nested: Any) -> Any:
    """The same nest with arrays in place of tensors."""
    if isinstance(nested, torch.Tensor):
        return nested.numpy()
    if isinstance(nested, dict):
        return {name: as_arrays(part) for name, part in nested.items()}
    if isinstance(nested, list | tuple):
        return type(nested)(map(as_arrays, nested))
    return nested


def test_nested_inputs_and_outputs_keep_their_form(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 8)
    keywords = {"pair": {"left": x + 1, "right": x * 2}, "scaled": True}
    compiled = tenzing.compile(Nested().eval(), (x,), keywords)
    tenzing.save(compiled, tmp_path / "nested.tz")
    loaded = tenzing.load(tmp_path / "nested.tz")
    wanted, found = compiled(x, **keywords), loaded(x.numpy(), **as_arrays(keywords))
    assert list(found) == ["out", "nothing", "list"]
    np.testing.assert_array_equal(found["out"], wanted["out"].numpy())
    np.testing.assert_array_equal(found["list"][0], wanted["list"][0].numpy())
    arguments, named = loaded.example
    np.testing.assert_array_equal(loaded(*arguments, **named)["out"], found["out"])
    with pytest.raises(tenzing.errors.UsageError, match="scaled"):
        loaded(x.numpy(), pair=as_arrays(keywords["pair"]), scaled=False)
    assert loaded.report() == compiled.report()


def test_written_buffers_and_inputs(tmp_path: Path) -> None:
    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(8))

        def forward(self, x: Any, cache: Any) -> Any:
            self.mean.mul_(0.9).add_(0.1 * x.mean(0))
            cache.add_(x)
            return x - self.mean

    x, cache = torch.randn(4, 8), torch.zeros(4, 8)
    compiled = tenzing.compile(Norm().eval(), (x, cache.clone()))
    tenzing.save(compiled, tmp_path / "norm.tz")
    loaded = tenzing.load(tmp_path / "norm.tz")
    mine, theirs = cache.clone(), cache.numpy().copy()
    for _ in range(3):
        np.testing.assert_array_equal(loaded(x.numpy(), theirs), compiled(x, mine).numpy())
        np.testing.assert_array_equal(theirs, mine.numpy())


@pytest.mark.parametrize(
    "name",
    [n if n in ("bert", "llama") else pytest.param(n, marks=pytest.mark.slow) for n in HF_20],
)
def test_tiny_models_give_the_same_bits(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    module, inputs = HF_20[name]()
    compiled = tenzing.compile(module, inputs, numerics="graph")
    tenzing.save(compiled, tmp_path / "m.tz")
    loaded = tenzing.load(tmp_path / "m.tz")
    wanted = compiled.interface.results(compiled(*inputs))
    found = loaded.interface.results(loaded(*as_arrays(tuple(inputs))))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.program.text() == compiled.program.text()
    assert loaded.latency_us == compiled.latency_us


# -- the command line -----------------------------------------------------------------------------


def test_compile_inspect_and_run(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    model, path = f"{tmp_path / 'model.py'}:net", str(tmp_path / "net.tz")
    assert cli.main(["compile", model, "-o", path, "--autocast", "matmult"]) == 0
    assert "autocast matmult in bf16" in capsys.readouterr().out
    assert cli.main(["inspect", path, "--graph", "--memory", "--kernels", "--imported"]) == 0
    out = capsys.readouterr().out
    for words in ("input: f32[4,8]", "activation=gelu", "Regions on chip", "no kernel of the user"):
        assert words in out
    assert cli.main(["inspect", path, "--json", "--graph"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["time_is_current"]
    assert found["facts_are_current"]
    assert found["graph"].startswith("graph Sequential(")
    assert cli.main(["run", path]) == 0
    assert "20" in capsys.readouterr().out
    assert cli.main(["compare", path, "--on", "trn1,trn2"]) == 0
    assert "trn1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "PATH", "--autocast", "all"], "shapes and modes are settled; got autocast=all"),
        (["run", "PATH", "--size", "batch=2"], "shapes and modes are settled; got batch=2"),
        (["run", "PATH", "--compare"], "no framework to compare with"),
        (["run", "PATH", "--target", "trn9"], "trn9"),
        (["inspect", "FILE"], "is no saved program"),
        (["inspect", "none.tz"], "cannot read none.tz"),
        (["compile", "MODEL", "-o", "FOLDER"], "is a folder"),
        (["compile", "none.onnx", "-o", "PATH"], "no file or folder none.onnx"),
        (["compile", "MODEL", "-o", "FOLDER/none/net.tz"], "is no folder that exists"),
    ],
)
def test_refusals(tmp_path: Path, capsys: Any, words: list[str], says: str) -> None:
    file = tmp_path / "model.py"
    file.write_text(MODEL, encoding="utf-8")
    model, path = f"{file}:net", str(tmp_path / "net.tz")
    assert cli.main(["compile", model, "-o", path]) == 0
    capsys.readouterr()
    names = {"PATH": path, "MODEL": model, "FILE": str(file), "FOLDER": str(tmp_path)}
    given = [names.get(w, w.replace("FOLDER", str(tmp_path))) for w in words]
    assert cli.main(given) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""
