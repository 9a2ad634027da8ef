"""The command line on traffic: advice, given buckets, time of a model, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenzing import cli
from tenzing.compiler import Traffic, sampled_cost, tokens


@pytest.fixture
def traffic(tmp_path: Path) -> str:
    path = tmp_path / "traffic.csv"
    path.write_text("length,count\n" + "".join(f"{n},{n % 7 + 1}\n" for n in range(1, 200)))
    return str(path)


def test_advice_and_given_buckets(traffic: str, capsys: Any) -> None:
    assert cli.main(["buckets", traffic, "--waste", "20%", "--given", "64,128"]) == 0
    out = capsys.readouterr().out
    assert "requests fit none of them; the largest is 199" in out
    assert "the fewest there can be" in out
    assert cli.main(["buckets", traffic, "--waste", "0.2", "--multiple", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact"]
    assert found["reached"]
    assert found["advised"]["waste"] <= 0.2
    assert all(end % 8 == 0 for (end,) in found["buckets"])
    assert found["given"] is None


def test_a_target_out_of_reach_is_said(traffic: str, capsys: Any) -> None:
    assert cli.main(["buckets", traffic, "--waste", "1%", "--most", "2"]) == 2
    assert "they do not reach 1.0%" in capsys.readouterr().out


def test_two_dims(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "two.csv"
    path.write_text("batch,length\n1,10\n2,10\n8,300\n")
    assert cli.main(["buckets", str(path), "--given", "8x512,2x16"]) == 0
    out = capsys.readouterr().out
    assert "batch x length" in out
    assert "8x300" in out


def test_time_of_a_model(tmp_path: Path, capsys: Any) -> None:
    path, config = tmp_path / "traffic.csv", tmp_path / "config.json"
    path.write_text("16\n40\n64\n")
    config.write_text(json.dumps({
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
    }))  # fmt: skip
    words = ["buckets", str(path), "--model", str(config), "--waste", "30%", "--json"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counted_in"] == "us"
    assert found["advised"]["buckets"][0]["padded_cost"] > 10


def test_interpolated_costs() -> None:
    one = Traffic.of([4, 10, 100])
    asked: list[Any] = []

    def linear(size: tuple[int, ...]) -> float:
        asked.append(size)
        return 3 * size[-1] + 5.0

    cost = sampled_cost(linear, one)
    assert [cost((n,)) for n in (4, 10, 55, 100)] == pytest.approx([17, 35, 170, 305])
    assert cost((112,)) == pytest.approx(341)
    assert len(asked) <= 8
    two = sampled_cost(tokens, Traffic.of([(1, 4), (8, 100)], ("batch", "length")))
    assert two((3, 50)) == pytest.approx(150)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.csv"], "cannot read none.csv"),
        (["FILE", "--given", "1x8"], "a bucket; got 1x8"),
        (["FILE", "--model", "none-1b"], "no known model of that name"),
        (["FILE", "--model", "llama-3.1-8b", "--target", "trn9"], "trn9"),
    ],
)
def test_refusals(traffic: str, capsys: Any, words: list[str], says: str) -> None:
    assert cli.main(["buckets", *(traffic if w == "FILE" else w for w in words)]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""


@pytest.mark.parametrize("words", [["--waste", "ten"], ["--waste", "100%"], ["--most", "0"],
                                   ["--given", "8x"]])  # fmt: skip
def test_wrong_words_are_refused(traffic: str, capsys: Any, words: list[str]) -> None:
    assert cli.main(["buckets", traffic, *words]) == 2
    assert "usage: argument --" in capsys.readouterr().err
