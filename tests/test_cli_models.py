"""The command line on models: numerics, comparison, graph and passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenzing import cli

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
MODEL = """
import torch

def net():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))
    return module.eval(), (torch.randn(4, 8),)
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    return f"{tmp_path / 'model.py'}:net"


def test_graph_and_passes_are_printed(model: str, capsys: Any) -> None:
    assert cli.main(["run", model, "--graph", "--passes"]) == 0
    out = capsys.readouterr().out
    assert "activation=gelu" in out
    assert "MatmulEpilogue" in out
    assert cli.main(["run", model, "--passes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passes"][0]["before"] > 0


def test_comparison_per_operation(model: str, capsys: Any) -> None:
    assert cli.main(["run", model, "--per-op", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["comparison"]
    assert [d["operation"] for d in found["operations"]] == ["linear", "linear"]
    assert cli.main(["run", model, "--compare", "--numerics", "graph"]) == 0
    assert "output: max abs" in capsys.readouterr().out


def test_refusals_name_what_is_allowed(model: str, capsys: Any, tmp_path: Path) -> None:
    assert cli.main(["run", model, "--autocast-dtype", "f4"]) == 2
    assert "unknown autocast dtype; got f4" in capsys.readouterr().err
    script = tmp_path / "kernel.py"
    script.write_text("", encoding="utf-8")
    assert cli.main(["run", str(script), "--graph"]) == 2
    assert "only a model has a graph" in capsys.readouterr().err
