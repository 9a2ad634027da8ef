"""Kernels with one mistake: a message with its place and next step, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.bad_input.scripts import FOUND_AFTERWARDS, REFUSED_AT_ONCE, Bad

from tenzing import cli

ALL = (*REFUSED_AT_ONCE, *FOUND_AFTERWARDS)
Captured = pytest.CaptureFixture[str]


def by_name(bad: Bad) -> str:
    return bad.name


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("bad", ALL, ids=by_name)
def test_the_message(bad: Bad, command: str, tmp_path: Path, capsys: Captured) -> None:
    path = bad.write(tmp_path)
    code = cli.main([command, str(path), "--target", bad.target])
    told = capsys.readouterr()
    text = told.out + told.err
    assert code == 2, text
    assert "Traceback" not in text
    assert "this is a bug" not in text
    for words in bad.says:
        assert words in text, text
    if bad.line:
        assert f"at {path}:{bad.line}" in text, text
        blamed = bad.source.splitlines()[bad.line - 1].strip()
        assert f"    {blamed}\n    " in text, text
        assert "^" in text


@pytest.mark.parametrize("bad", REFUSED_AT_ONCE, ids=by_name)
def test_a_refusal_is_one_message_on_stderr(bad: Bad, tmp_path: Path, capsys: Captured) -> None:
    cli.main(["run", str(bad.write(tmp_path)), "--target", bad.target])
    told = capsys.readouterr()
    assert told.out == ""
    kinds = ("legality: ", "kernel: ", "bounds: ", "usage: ", "capacity: ")
    lines = [x for x in told.err.splitlines() if not x.startswith("  ")]
    assert lines
    assert all(line.startswith(kinds) for line in lines), told.err


@pytest.mark.parametrize("bad", ALL, ids=by_name)
def test_the_message_as_json(bad: Bad, tmp_path: Path, capsys: Captured) -> None:
    path = bad.write(tmp_path)
    code = cli.main(["check", str(path), "--target", bad.target, "--json"])
    told = capsys.readouterr()
    assert code == 2
    plain = json.loads(told.out)
    found = plain["findings"] if "findings" in plain else [plain["error"]]
    assert found
    assert all(f["message"] and f["rule"] for f in found)
    if bad.line:
        assert (found[0]["where"]["file"], found[0]["where"]["line"]) == (str(path), bad.line)


def test_the_whole_text_of_one(tmp_path: Path, capsys: Captured) -> None:
    bad = next(b for b in ALL if b.name == "moving_too_wide")
    path = bad.write(tmp_path)
    cli.main(["run", str(path)])
    assert capsys.readouterr().err.splitlines() == [
        "legality: nki.isa.nc_matmul: moving has 640 free elements; trn2 allows 512 for a float32 "
        "dst (tensor.moving_free_max)",
        f"  at {path}:{bad.line}",
        "    nisa.nc_matmul(dst=bank, stationary=left, moving=right)  # HERE",
        "    " + "^" * len("nisa.nc_matmul(dst=bank, stationary=left, moving=right)"),
        "  next: see `tenzing facts trn2` and the reference page of nc_matmul",
    ]
