"""An encoder of one layer as text: as imported, and at the end of the pipeline."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tenzing.compiler.frontends.torch import import_module  # noqa: E402
from tenzing.compiler.graph import Graph  # noqa: E402
from tenzing.compiler.parser import parse  # noqa: E402
from tenzing.compiler.passes import Step, default_pipeline  # noqa: E402
from tenzing.compiler.printer import to_text  # noqa: E402

pytestmark = pytest.mark.torch
EXAMPLE = Path(__file__).parents[3] / "examples" / "minilm"


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import model

    sizes = model.Config(50, positions=16, width=8, layers=1, heads=2, inner=16)
    ids = torch.zeros(2, 4, dtype=torch.int64)
    encoder = model.SentenceEncoder(sizes).eval()
    graph: Graph = import_module(encoder, (ids, ids), name="block").graph
    return graph


def test_imported(block: Graph, golden: Any) -> None:
    golden(to_text(block, scopes=True))


@pytest.mark.parametrize("autocast", ["none", "matmult", "all"])
def test_final(block: Graph, autocast: str, golden: Any) -> None:
    golden(to_text(default_pipeline(autocast).run(block)))


@pytest.mark.parametrize("autocast", ["none", "all"])
def test_text_of_a_whole_model_reads_back(block: Graph, autocast: str) -> None:
    for graph in (block, default_pipeline(autocast).run(block)):
        assert parse(to_text(graph, payloads=True)) == graph


def test_steps_tell_what_each_pass_did(block: Graph) -> None:
    steps: list[Step] = []
    final = default_pipeline().run(block, steps)
    assert steps[0].before == block.count()
    assert steps[-1].after == final.count()
    fused = next(step for step in steps if step.name == "FuseRows")
    assert "layer_norm" in fused.before
    assert "layer_norm" not in fused.after
