"""Prediction of published rows: only configurations are read, laws hold, errors speak."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from tenzing import cli, fleet
from tenzing.errors import UsageError
from tenzing.fleet.estimators.llm import prefill
from tenzing.fleet.estimators.serving import serving_of
from tenzing.fleet.rows import CONFIGURATION, RESULTS, Row, number
from tenzing.fleet.workload import shape_of

LLM = {
    "row_id": "X-1", "model": "Meta-Llama-3.1-8B-Instruct", "params_b": "8.03", "arch": "dense",
    "accelerator": "trainium2", "cores_used": "4", "lnc": "2", "tp": "4", "dp": "1",
    "batch": "1", "input_len": "512", "output_len": "128", "seq_len": "2048",
    "weights_dtype": "bf16", "framework": "vllm-neuron", "tok_s_scope": "system",
    "spec_decode": "", "ttft_ms_p50": "50", "tpot_ms_p50": "9", "output_tok_s": "90",
    "quality": "A", "eval_group": "one",
}  # fmt: skip


def llm(**cells: str) -> Row:
    values = {k: v for k, v in LLM.items() if k in CONFIGURATION["inference_llm"]}
    return Row("inference_llm", {**values, **cells})


def value(row: Row, metric: str) -> float:
    return fleet.predict_row(row).predictions[metric].value


def write(path: Path, records: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


def test_results_are_never_read(tmp_path: Path) -> None:
    blank = {k: "" if k in RESULTS["inference_llm"] else v for k, v in LLM.items()}
    outputs = []
    for name, record in (("full", LLM), ("blank", blank)):
        out = tmp_path / f"{name}.out.csv"
        fleet.predict_file(write(tmp_path / f"{name}.csv", [record]), out)
        rows = list(csv.DictReader(out.read_text().splitlines()))
        outputs.append({k: v for k, v in rows[0].items() if k.startswith("predict")})
    assert outputs[0] == outputs[1]
    assert outputs[0]["predicted_tpot_ms_p50"]


def test_a_row_refuses_to_tell_its_results() -> None:
    with pytest.raises(KeyError, match="not a configuration column"):
        llm().text("tpot_ms_p50")


def test_larger_work_takes_longer() -> None:
    assert value(llm(input_len="1024"), "ttft_ms_p50") > value(llm(), "ttft_ms_p50")
    assert value(llm(batch="16"), "tpot_ms_p50") > value(llm(), "tpot_ms_p50")
    big = llm(model="Llama-3.1-70B", params_b="70.6")
    assert value(big, "tpot_ms_p50") > value(llm(), "tpot_ms_p50")


def test_intervals_hold_the_value_and_widen_for_unknown_devices() -> None:
    known = fleet.predict_row(llm()).predictions["tpot_ms_p50"]
    unseen = fleet.predict_row(llm(accelerator="trainium3")).predictions["tpot_ms_p50"]
    assert known.low < known.value < known.high
    assert unseen.high / unseen.low > known.high / known.low


def test_unknown_accelerators_are_said() -> None:
    answer = fleet.predict_row(llm(accelerator="abacus"))
    assert not answer.predictions
    assert "abacus" in answer.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~200", 200),
        ("1500±150", 1500),
        ("224-230", 227),
        ("max", None),
        ("", None),
        ("1,024", 1024),
    ],
)
def test_numbers_as_people_write_them(text: str, expected: float | None) -> None:
    assert number(text) == expected


def test_names_find_published_shapes() -> None:
    named = shape_of("Meta-Llama-3.1-8B-Instruct")
    assert (named.layers, named.kv_heads, named.assumed) == (32, 8, ())
    assert abs(named.params / 8.03e9 - 1) < 0.01
    assert shape_of("GPT3-46B pre-training").params == 46e9
    assert "shape" in shape_of("GPT3-46B pre-training").assumed
    assert shape_of("gpt-oss-120b", 117).active == pytest.approx(5.1e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("opt-13b", 13), ("EleutherAI/pythia-2.8b", 2.8), ("falcon-7b", 7), ("DeepSeek-V3", 671),
     ("gemma-2-9b-it", 9.2), ("Qwen3-30B-A3B", 30.5), ("bert-large-uncased", 0.335),
     ("vit-large", 0.304), ("bloom-1b1", 1.1)],
)  # fmt: skip
def test_parameters_are_what_the_name_says(name: str, billions: float) -> None:
    assert shape_of(name).params / 1e9 == pytest.approx(billions, rel=0.12)


def test_experts_are_read_as_tokens_reach_them() -> None:
    shape = shape_of("gpt-oss-120b")
    assert shape.touched(1) == pytest.approx(shape.active, rel=0.01)
    assert shape.touched(1) < shape.touched(8) < shape.touched(10_000) <= shape.params * 1.001


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "empty"), ("a,b\n1,2\n", "no known schema"), ("op,op\n1,2\n", "columns twice")],
)
def test_broken_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        fleet.read_table(path)


def test_ragged_lines_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [LLM])
    path.write_text(path.read_text() + "1,2\n")
    with pytest.raises(UsageError, match="line 3 has 2 cells"):
        fleet.read_table(path)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "rows.csv", [LLM]), tmp_path / "out.csv"
    assert cli.main(["predict", str(source), "-o", str(out)]) == 0
    header = out.read_text().splitlines()[0].split(",")
    assert header[: len(LLM)] == list(LLM)
    assert "serving.layer_s 2e-05 s" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["predict", str(source), "-o", str(out), "--json"]) == 0
    leaned = json.loads(capsys.readouterr().out)["assumed_facts"]
    assert {"fact": "serving.step_s", "value": 0.001, "unit": "s",
            "source": "starting-points"} in leaned  # fmt: skip
    assert cli.main(["score", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    wanted = {"median_abs_ln_ratio", "p90_abs_ln_ratio", "signed_median", "coverage_80", "ordering",
              "predicted_share", "groups"}  # fmt: skip
    assert set(told["overall"]) == wanted
    assert {"file:inference_llm", "accelerator:trainium2", "phase:decode"} <= set(told["strata"])
    assert cli.main(["predict", str(source), "-o", str(source)]) == 2
    assert cli.main(["score", str(source)]) == 2
    assert "tenzing predict" in capsys.readouterr().err


@pytest.mark.slow
def test_a_large_file_takes_seconds(tmp_path: Path) -> None:
    records = [{**LLM, "row_id": str(n), "batch": str(n % 64 + 1)} for n in range(2400)]
    source = write(tmp_path / "rows.csv", records)
    start = time.perf_counter()
    assert fleet.predict_file(source, tmp_path / "out.csv") == (2400, 2400)
    assert time.perf_counter() - start < 60


def test_the_first_releases_that_ran_decoders_are_slower() -> None:
    old = {"framework": "Transformers Neuron", "app_type": "Real Time"}
    first, next_, later = (value(llm(**old, version=f"Neuron 2.{n}.0"), "latency_per_token_ms_p50")
                           for n in (10, 11, 14))  # fmt: skip
    assert first > 1.5 * later > next_ > later
    rival = {"accelerator": "gpu-h100", "framework": "vLLM"}
    assert value(llm(**rival, version="2.10"), "tpot_ms_p50") == value(llm(**rival), "tpot_ms_p50")


def test_ranks_of_a_ring_each_send_the_whole_of_a_sum() -> None:
    """An all-reduce sends 2 (n - 1) / n of its bytes from every rank, however many there are."""

    def bytes_of(tp: int) -> float:
        served = serving_of(llm(tp=str(tp), cores_used=str(tp), input_len="2048"))
        return prefill(served, 1).parts["collective_bytes"]

    assert bytes_of(16) / bytes_of(8) == pytest.approx((15 / 16) / (7 / 8))
