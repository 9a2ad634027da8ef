"""A model's time by module and operation: everything is counted once, and the slow one leads."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenzing import commands, compiler, report
from tenzing.compiler.attribution import attribute, grouped
from tenzing.compiler.graph import F32, GraphBuilder
from tenzing.compiler.ops import Linear
from tenzing.errors import UsageError

pytestmark = pytest.mark.torch

MODEL = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(128)
        self.up = nn.Linear(128, width)
        self.down = nn.Linear(width, 128)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = Block(128)
        self.wide = Block(width)

    def forward(self, x):
        return self.wide(self.first(x))


def net(width=2048):
    torch.manual_seed(0)
    return Net(width).eval(), (torch.randn(512, 128),)


def narrow():
    return net(256)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    found = tmp_path_factory.mktemp("model")
    (found / "model.py").write_text(MODEL)
    return found


@pytest.fixture(scope="module")
def tiny(folder: Path) -> str:
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text(json.dumps({
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 256, "vocab_size": 512,
        "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 512,
        "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 128,
        "torch_dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-6,
    }))  # fmt: skip
    return str(folder / "tiny")


@pytest.fixture(scope="module")
def profiled(folder: Path) -> commands.RunResult:
    return commands.profile(f"{folder}/model.py:net", target="trn2")


def test_shares_of_operations_add_up(profiled: commands.RunResult) -> None:
    (kernel,) = profiled.kernels
    assert kernel.model is not None
    nodes = kernel.model.nodes
    assert sum(n.critical_ps for n in nodes) == kernel.slowest.total_ps
    assert sum(n.instructions for n in nodes) == kernel.slowest.instructions
    assert sum(n.hbm_bytes for n in nodes) == (
        kernel.slowest.hbm_read_bytes + kernel.slowest.hbm_write_bytes
    )
    for engine in ("Tensor", "Vector", "Scalar"):
        found = sum(n.busy_ps.get(engine, 0) for n in nodes)
        assert 0 <= kernel.slowest.busy_ps[engine] - found < 10**7  # function tables are no node's


def test_the_slow_module_is_named_first(profiled: commands.RunResult, tmp_path: Path) -> None:
    text = report.profile_text(profiled, tmp_path)
    first = next(line for line in text.splitlines() if line.startswith("bottleneck:"))
    assert "linear in wide." in first
    page = report.write_run_html(profiled, tmp_path / "r.html", profiled=True).read_text()
    assert page.index("wide.") < page.index("<h2>Timeline")
    assert page.index("Modules and operations") < page.index("Critical path</h2>")


def test_a_change_that_was_tried_gains_what_it_says(
    profiled: commands.RunResult, folder: Path
) -> None:
    model = profiled.kernels[0].model
    assert model is not None
    tried = {c.what.split(":")[0]: c for c in model.changes if c.gain is not None}
    change = tried["--autocast matmult"]
    again = commands.profile(f"{folder}/model.py:net", target="trn2", autocast="matmult")
    assert again.kernels[0].slowest.total_ps == change.after_ps
    assert change.before_ps == profiled.kernels[0].slowest.total_ps
    repeated = again.kernels[0].model
    assert repeated is not None
    assert not any("autocast" in c.what for c in repeated.changes)


def test_a_kernel_may_replace_what_the_model_calls(profiled: commands.RunResult) -> None:
    model = profiled.kernels[0].model
    assert model is not None
    kinds = {c.what.split("'")[1]: c for c in model.changes if c.kind == "kernel"}
    assert {"linear", "layer_norm"} <= set(kinds)
    assert kinds["linear"].gain is None  # nobody tried: it is not known
    about = sum(n.critical_ps for n in model.nodes if n.operation == "linear")
    assert kinds["linear"].before_ps == about


def test_two_profiles_of_a_model_are_compared_by_module(
    profiled: commands.RunResult, folder: Path, tmp_path: Path
) -> None:
    before = tmp_path / "before.json"
    before.write_text(json.dumps(report.profile_json(profiled)))
    after = commands.profile(f"{folder}/model.py:narrow", target="trn2")
    text = report.difference_text(report.read_profile(before), report.profile_json(after))
    rows = text[text.index("operation") :].splitlines()[2:]
    assert rows[0].startswith("wide.")
    assert not any(row.startswith("first.norm") and "new" in row for row in rows)


def test_a_saved_program_is_profiled_alike(
    profiled: commands.RunResult, folder: Path, tmp_path: Path
) -> None:
    commands.compile_file(f"{folder}/model.py:net", tmp_path / "m.tz", target="trn2")
    found = commands.profile(str(tmp_path / "m.tz"))
    one, other = profiled.kernels[0].model, found.kernels[0].model
    assert one is not None
    assert other is not None

    def key(n: Any) -> tuple[Any, ...]:
        return n.module, n.operation, n.name, n.critical_ps

    assert [key(n) for n in other.nodes] == [key(n) for n in one.nodes]
    assert not any(c.kind == "dtype" for c in other.changes)  # it is settled in the file


def test_equal_layers_are_shown_together() -> None:
    build = GraphBuilder("layers")
    value = build.input("x", (128, 128), F32)
    for number in range(3):
        weight = build.parameter(f"layers.{number}.up.weight", (128, 128), F32)
        build.scope = f"layers.{number}"
        value = build.add(Linear(), value, weight)
    graph = build.build([value])
    analysis, nodes, owner = attribute(graph, "trn2")
    assert [int(n) for n in np.bincount(owner)] == [
        n.instructions for n in sorted(nodes, key=lambda n: n.number)
    ]
    assert {n.module for n in nodes} == {f"layers.{k}.up" for k in range(3)}
    (group,) = grouped(nodes)
    assert (group.module, group.number) == ("layers.*.up", 3)
    assert group.critical_ps == analysis.total_ps
    assert group.flops == 3 * 2 * 128**3
    assert group.weight_bytes == 3 * 128 * 128 * 4


def test_a_batch_that_the_command_chose_is_tried(tiny: str) -> None:
    found = commands.profile(tiny, sizes={"batch": 1, "length": 32})
    model = found.kernels[0].model
    assert model is not None
    change = next(c for c in model.changes if c.kind == "batch" and c.gain is not None)
    assert change.what.startswith("--size batch=2")
    twice = compiler.compile(tiny, (), {"batch": 2, "length": 32})
    assert change.after_ps == twice.time.total_ps // 2


def test_what_is_too_large_is_refused(monkeypatch: Any, folder: Path) -> None:
    monkeypatch.setattr("tenzing.commands.profiling.MOST", 3)
    with pytest.raises(UsageError, match="too many to look at one by one"):
        commands.profile(f"{folder}/model.py:net")


def test_weights_that_are_waited_for_are_seen(tiny: str) -> None:
    found = commands.profile(tiny, sizes={"batch": 1, "length": 32})
    model = found.kernels[0].model
    assert model is not None
    waiting = [n for n in model.nodes if n.waits_for_weights]
    assert waiting
    assert all(n.weight_bytes > 0 for n in waiting)
    assert np.all([n.engine == "DMA" for n in waiting])


def test_operations_have_a_track_of_their_own(profiled: commands.RunResult, tmp_path: Path) -> None:
    (kernel,) = profiled.kernels
    assert kernel.model is not None
    path = report.write_run_perfetto(profiled, tmp_path / "t.json")
    events = json.loads(path.read_text())["traceEvents"]
    threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = [e for e in events if e["ph"] == "X" and threads[e["tid"]].startswith("Model")]
    ran = [n for n in kernel.model.nodes if n.instructions]
    assert len(spans) == len(ran)
    assert {e["args"].get("line", "") for e in spans} == {n.module for n in ran}
    for node in ran:
        assert 0 <= node.start_ps < node.end_ps <= kernel.slowest.total_ps
    page = report.write_run_html(profiled, tmp_path / "r.html", profiled=True).read_text()
    assert page.index(">Model</text>") < page.index(">Tensor</text>")


def test_instructions_name_their_layer_in_the_tables(
    profiled: commands.RunResult, tmp_path: Path
) -> None:
    report.write_run_explorer(profiled, tmp_path, "csv")
    with (tmp_path / "Instruction.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    model = profiled.kernels[0].model
    assert model is not None
    counted = Counter((row["layer"], row["hlo_name"]) for row in rows)
    expected: Counter[tuple[str, str]] = Counter()
    for n in model.nodes:
        expected[n.module, n.name if n.operation == "fused" else n.operation] += n.instructions
    assert counted == +expected
