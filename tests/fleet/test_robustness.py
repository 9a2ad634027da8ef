"""Any row is predicted, or left empty with a reason: never a traceback, never an absurd number."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing import facts, fleet
from tenzing.fleet.rows import CONFIGURATION, Row

ROWS = {
    "inference_llm": {
        "model": "Llama-3.1-8B", "params_b": "8", "accelerator": "trainium2", "tp": "4",
        "batch": "4", "concurrency": "8", "input_len": "512", "output_len": "128",
        "seq_len": "2048", "weights_dtype": "bf16", "framework": "vllm-neuron",
        "run_mode": "load @ 2 req/s", "spec_decode": "k=4",
    },
    "inference_encoder_vision": {
        "model": "stable-diffusion-xl", "category": "diffusion", "accelerator": "inferentia2",
        "instance": "inf2.xlarge", "cores_used": "2", "batch": "1", "resolution": "1024x1024",
        "steps": "50", "run_mode": "30 s audio", "framework": "PyTorch 2.1",
    },
    "training": {
        "model": "llama-2-7b", "accelerator": "trainium1", "accelerators": "64", "nodes": "4",
        "topology": "8xNC(TP) 4(PP)", "global_batch": "1024", "seq_len": "4096", "dtype": "bf16",
        "framework": "NeuronX Distributed",
    },
    "kernels": {
        "kernel": "matmul", "category": "gemm", "shape": "M=4096 N=4096 K=4096", "M": "4096",
        "N": "4096", "K": "4096", "dtype": "bf16", "accelerator": "trainium1",
        "hardware_scope": "one core", "framework": "NKI",
    },
    "collectives": {
        "op": "all-reduce", "size_bytes": "1048576", "ranks": "32", "nodes": "1",
        "accelerator": "trainium1", "instance": "trn1.32xlarge", "framework": "nccom-test",
    },
}  # fmt: skip
ODD = (
    "", " ", "0", "-1", "-5e9", "nan", "inf", "1e308", "1e-300", "1e400", "abc", "max", "~", "x12",
    "1,024", "7-3", "1500±150", "10**9", "é∞", "TP=0", "[0, 0]", "0x0", "0 frames", "0s audio",
    "@ 0 req/s", "k=0", "accepted length 0.0", "0p", "9" * 40, "absent/config.json", "top-0",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> Row:
    kind = draw(st.sampled_from(sorted(ROWS)))
    cells = dict(ROWS[kind])
    for name in draw(st.lists(st.sampled_from(CONFIGURATION[kind]), max_size=6)):
        cells[name] = draw(st.sampled_from(ODD) | st.text(max_size=12))
    return Row(kind, cells)


@settings(max_examples=60)
@given(mutated())
def test_every_row_is_predicted_or_has_a_reason(row: Row) -> None:
    answer = fleet.predict_row(row)
    assert answer.predictions or answer.reason
    for made in answer.predictions.values():
        assert 0 < made.low <= made.value <= made.high
        assert math.isfinite(made.high)


@pytest.mark.parametrize("cell", ["-4", "1e308", "1e400", "1e-300"])
def test_impossible_sizes_are_named(cell: str) -> None:
    answer = fleet.predict_row(Row("training", ROWS["training"] | {"accelerators": cell}))
    assert not answer.predictions
    assert f"accelerators {cell} is not a size" in answer.reason


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_every_accelerator_with_facts_is_predicted(kind: str) -> None:
    for name in facts.accelerators():
        answer = fleet.predict_row(Row(kind, ROWS[kind] | {"accelerator": name}))
        assert answer.predictions, f"{name}: {answer.reason}"


def test_columns_nobody_knows_stay_and_others_may_be_absent(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text(
        "model,mood,accelerator,input_len,output_len,spec_decode\n"
        "llama-3.1-8b,cheerful,trn2,512,128,\nnobody/knows-this,,trn2,,,\n,,,,,\n,,trn2,,,\n"
    )
    assert fleet.predict_file(source, out) == (3, 3)  # lines without a cell are no rows
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert rows[0]["mood"] == "cheerful"
    assert all(row["predicted_output_tok_s"] for row in rows)
    assert rows[1]["predict_assumed"] == "parameters; prompt length; shape"


def llama(path: Path, **changes: object) -> str:
    config = {
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "vocab_size": 128256,
    }  # fmt: skip
    path.write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))
    return str(path)


def test_a_config_is_a_model(tmp_path: Path) -> None:
    shape = fleet.shape_of(llama(tmp_path / "config.json"))
    named = fleet.shape_of("llama-3.1-8b")
    assert (shape.params, shape.kv_heads, shape.assumed) == (named.params, 8, ())
    novel = fleet.shape_of(llama(tmp_path / "new.json", model_type="brand-new"))
    assert novel.assumed == ("gated decoder",)
    seeing = tmp_path / "seeing.json"
    seeing.write_text(json.dumps({"model_type": "seer", "text_config": json.loads(
        (tmp_path / "config.json").read_text())}))  # fmt: skip
    assert fleet.shape_of(str(seeing)).params == named.params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_attention_heads": 0}, "does not describe a model"),
        ({"hidden_size": "wide"}, "does not describe a model"),
        ({"num_hidden_layers": -3}, "above zero"),
    ],
)
def test_broken_configs_are_reasons(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = llama(tmp_path / "config.json", **changes)
    answer = fleet.predict_row(Row("inference_llm", ROWS["inference_llm"] | {"model": path}))
    assert not answer.predictions
    assert message in answer.reason


def test_files_that_are_no_config_are_reasons(tmp_path: Path) -> None:
    for name, text in (("words.json", "hello"), ("list.json", "[1]"), ("absent.json", None)):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        answer = fleet.predict_row(Row("training", ROWS["training"] | {"model": str(path)}))
        assert name in answer.reason
