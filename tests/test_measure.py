"""Measuring on the machine at hand: a tiny model on the CPU, every task, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenzing import cli, commands
from tenzing.errors import TenzingError, UsageError
from tenzing.fleet import read_measurements

torch = pytest.importorskip("torch", reason="needs the hf extra")
transformers = pytest.importorskip("transformers", reason="needs the hf extra")
pytestmark = pytest.mark.torch

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 128,
}  # fmt: skip
BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "num_hidden_layers": 1, "hidden_size": 32,
    "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 128,
}  # fmt: skip
OWN = """
import torch
net = torch.nn.Linear(4, 4)
start = net.weight.detach().clone()
example_inputs = (torch.ones(3, 4),)
class Wrong(torch.nn.Module):
    def forward(self, x):
        return x @ torch.ones(7, 7)
wrong = Wrong()
"""
QUICK: dict[str, Any] = {"warmups": 1, "repeats": 3}


def config(tmp_path: Path, content: dict[str, Any], **changes: Any) -> str:
    path = tmp_path / f"{content['model_type']}{len(list(tmp_path.iterdir()))}.json"
    path.write_text(json.dumps({**content, **changes}))
    return str(path)


def test_every_task_of_a_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "measured.json"
    words = ["measure", config(tmp_path, LLAMA), "--task", "prefill,decode,encoder,training",
             "--length", "8", "--warmups", "1", "--repeats", "3"]  # fmt: skip
    assert cli.main([*words, "--batch", "1,2", "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert "measured on" in told.out
    assert "decode batch 2 length 8" in told.err
    found = read_measurements(out)
    assert [(m.task, m.batch) for m in found] == [
        (task, batch) for task in ("prefill", "decode", "encoder", "training") for batch in (1, 2)
    ]
    parameters = 2 * 128 * 32 + 32 * 3 + 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64
    for m in found:
        assert m.kind == "measured"
        assert (m.device, m.dtype, m.length, len(m.times_s)) == ("cpu", "fp32", 8, 3)
        assert m.parameters == parameters
        assert m.spread_s[0] <= m.median_s <= m.spread_s[1]
        assert m.machine["torch"] == torch.__version__
    assert cli.main([*words, "--json", "--dtype", "bf16"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {m["dtype"] for m in shown["measurements"]} == {"bf16"}


def test_the_usual_tasks(tmp_path: Path) -> None:
    decoder = commands.measure(config(tmp_path, LLAMA), lengths=(4,), **QUICK)
    encoder = commands.measure(config(tmp_path, BERT), lengths=(4,), **QUICK)
    assert [m.task for m in decoder] == ["prefill", "decode"]
    assert [m.task for m in encoder] == ["encoder"]


def test_transformers_is_silent_while_measuring_and_not_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.utils import logging

    level = logging.get_verbosity()
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    path = config(tmp_path, LLAMA, rope_scaling=rope)
    commands.measure(path, tasks=["prefill"], lengths=(4,), **QUICK)
    assert not caplog.records
    assert logging.get_verbosity() == level
    with pytest.raises(UsageError):
        commands.measure(path, tasks=["dance"], **QUICK)
    assert logging.get_verbosity() == level
    transformers.AutoConfig.for_model(**json.loads(Path(path).read_text()))
    assert "rope_parameters" in caplog.text


def test_progress_tells_of_slow_runs_and_spares_quick_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    for every in (0.0, 1e9):
        monkeypatch.setattr("tenzing.compiler.frontends.torch_measure.TOLD_EVERY_S", every)
        told.append("|")
        commands.measure(config(tmp_path, LLAMA), tasks=["decode"], lengths=(4,),
                         progress=told.append, **QUICK)  # fmt: skip
    slow, quick = "\n".join(told).split("|")[1:]
    assert "parameters in fp32 on cpu; warm-ups 1, timed runs 3" in slow
    assert "filling the cache with 4 positions" in slow
    assert "run 3 of 3: " in slow
    assert "run 3 of 3: " not in quick


def test_more_work_takes_longer(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 1024}
    times = [
        commands.measure(config(tmp_path, LLAMA, num_hidden_layers=layers, **sizes),
                         tasks=["prefill"], lengths=(64,), **QUICK)[0].median_s
        for layers in (1, 12)
    ]  # fmt: skip
    assert times[1] > 3 * times[0]


def test_training_changes_weights_and_a_forward_pass_does_not(tmp_path: Path) -> None:
    from tenzing.compiler.frontends.torch_measure import Bench, Setting

    net = torch.nn.Linear(4, 4)
    before = net.weight.detach().clone()
    sizes = {"batch": 0, "length": 0}
    with Bench(net, (torch.ones(3, 4),), Setting(**QUICK)) as bench:
        assert bench.own_batch == 3
        bench.run("encoder", sizes, lambda _: None)
        assert torch.equal(net.weight, before)
        bench.run("training", sizes, lambda _: None)
        assert not torch.equal(net.weight, before)


def test_the_users_own_module(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(OWN)
    found = commands.measure(f"{tmp_path}/model.py:net", tasks=["encoder", "training"], **QUICK)
    assert [(m.task, m.batch, m.tokens_per_s) for m in found] == [
        ("encoder", 3, None), ("training", 3, None),
    ]  # fmt: skip
    with pytest.raises(TenzingError, match=r"PyTorch cannot run encoder.*mat1 and mat2"):
        commands.measure(f"{tmp_path}/model.py:wrong", **QUICK)
    with pytest.raises(UsageError, match="decode needs a decoder"):
        commands.measure(f"{tmp_path}/model.py:net", tasks=["decode"], **QUICK)


def test_threads_are_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    (found,) = commands.measure(config(tmp_path, BERT), lengths=(4,), threads=before + 1, **QUICK)
    assert found.threads == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"device": "tpu"}, "unknown device"), ({"device": "cuda:99"}, "no such GPU"),
        ({"device": "cuda:x"}, "unknown device"), ({"dtype": "fp8"}, "unknown dtype"),
        ({"repeats": 0}, "repeats; got 0"), ({"batches": (0,)}, "batch; got 0"),
        ({"tasks": ["decode"]}, "decode needs a decoder"), ({"tasks": ["dance"]}, "unknown task"),
        ({"out": "/no/such/folder/m.json"}, "cannot be written"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        commands.measure(config(tmp_path, BERT), **{**QUICK, **changes})


def test_a_name_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["measure", "no-such-model"]) == 2
    assert "no known model of that name" in capsys.readouterr().err


PARSES = """#!/bin/sh
shift 2
[ "$2" = refused ] && exit 3
exec "{python}" -c "import sys; from tenzing.cli import build_parser
build_parser().parse_args(sys.argv[1:])" "$@"
"""


@pytest.mark.slow
def test_the_script_for_a_gpu_goes_on_after_a_failure(tmp_path: Path) -> None:
    """Its commands are ones that the parser takes, and one that fails stops none."""
    script = Path(__file__).parents[1] / "benchmarks" / "measure_gpu.sh"
    parser = tmp_path / "parser"
    parser.write_text(PARSES.format(python=sys.executable))
    parser.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(parser), "ENCODER": "refused"}
    done = subprocess.run([str(script), str(tmp_path / "m.json")], env=environment, check=False,
                          text=True, capture_output=True)  # fmt: skip
    assert done.stdout.count("== tenzing measure") == 6
    assert done.stdout.count("no result: exit status 3") == 1, done.stdout + done.stderr
    assert done.stdout.count("no result") == 1, done.stdout + done.stderr
