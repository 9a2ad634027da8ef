"""Scripts, files and words on the command line that are wrong: exit code 2 and a message."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bad_input.scripts import HEADER, KERNEL

from tenzing import cli, commands, facts
from tenzing.facts import sheet

Captured = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, str, str]]
GOOD = HEADER + KERNEL.format(body="    pass")


@pytest.fixture
def run(capsys: Captured) -> Run:
    """Runs one command: exit code, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        assert "this is a bug" not in told.err
        return code, told.out, told.err

    return call


def refused(run: Run, *words: str) -> str:
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    return err


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    return path


# -- files ---------------------------------------------------------------------------------------


def test_a_missing_file(run: Run, tmp_path: Path) -> None:
    told = refused(run, "run", str(tmp_path / "none.py"))
    assert f"usage: {tmp_path / 'none.py'} is not a file" in told
    assert "next: give a Python file" in told


def test_a_folder_instead_of_a_file(run: Run, tmp_path: Path) -> None:
    assert "this is no model that can be compiled" in refused(run, "run", str(tmp_path))


def test_an_empty_attribute(run: Run, good: Path) -> None:
    assert "is not a file" in refused(run, "run", f"{good}:")


def test_a_syntax_error_has_its_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\nkernel(((\n")
    told = refused(run, "run", str(path))
    assert "broken.py is not Python: '(' was never closed" in told
    assert f"at {path}:2\n    kernel(((\n    ^" in told


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"\xff\xfe\xfa", b"PK\x03\x04\x00"])
def test_bytes_that_are_no_text(run: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.py"
    path.write_bytes(content)
    assert "is not Python" in refused(run, "run", str(path))


def test_an_unreadable_file(run: Run, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot read the script" in refused(run, "run", str(good))


def test_an_empty_script_has_no_kernel(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("")
    for command in ("run", "check"):
        code, out, _ = run(command, str(path))
        assert code == 0
        assert "no NKI kernel was launched" in out


def test_what_is_found_decides_the_exit_code_of_every_command(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "unset.py"
    body = "    t = nl.ndarray((128, 4), nl.float32)\n    nisa.tensor_copy(dst=t, src=t)"
    path.write_text(HEADER + KERNEL.format(body=body))
    for words in (["run"], ["check"], ["profile", "--out", str(tmp_path / "p")]):
        code, out, err = run(words[0], str(path), *words[1:])
        assert (code, "1 finding" in out) == (2, True), words
        assert "recorded 3 instructions" in err, "no command is silent"
    assert (tmp_path / "p" / "report.html").exists()


def test_an_import_that_is_missing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "imports.py"
    path.write_text("import nothing_of_this_name\n")
    told = refused(run, "run", str(path))
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in told
    assert f"at {path}:1" in told


@pytest.mark.parametrize(("words", "code"), [("3", "3"), ("'no input'", "1"), ("True", "True")])
def test_a_script_that_exits(run: Run, tmp_path: Path, words: str, code: str) -> None:
    path = tmp_path / "exits.py"
    path.write_text(f"import sys\nsys.exit({words})\n")
    assert f"exits.py ended with exit code {code}" in refused(run, "run", str(path))


@pytest.mark.parametrize("words", ["0", "None", ""])
def test_a_script_that_exits_well(run: Run, tmp_path: Path, words: str) -> None:
    path = tmp_path / "exits.py"
    path.write_text(f"{GOOD}\nimport sys\nsys.exit({words})\n")
    assert run("run", str(path))[0] == 0


def test_an_interrupt(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "stopped.py"
    path.write_text("raise KeyboardInterrupt\n")
    code, out, err = run("run", str(path))
    assert (code, out, err) == (130, "", "interrupted\n")


def test_an_error_in_a_module_the_script_imports(run: Run, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("def fail():\n    return [][1]\n")
    path = tmp_path / "main.py"
    path.write_text("import neighbour\nneighbour.fail()\n")
    told = refused(run, "run", str(path))
    assert "IndexError" in told
    assert f"at {tmp_path / 'neighbour.py'}:2" in told
    assert f'File "{path}", line 2' in told


# -- files to write ------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--html", "--perfetto"])
def test_a_folder_that_is_missing(run: Run, good: Path, tmp_path: Path, option: str) -> None:
    told = refused(run, "run", str(good), option, str(tmp_path / "none" / "out"))
    assert "cannot write" in told
    assert "is no folder that exists and is writable" in told
    assert "recorded" not in told, "said before the work begins"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.py"]


def test_a_file_where_the_profile_should_go(run: Run, good: Path, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("")
    told = refused(run, "profile", str(good), "--out", str(tmp_path / "profile"))
    assert f"{tmp_path / 'profile'} is a file; name a folder to write into" in told
    assert "recorded" not in told


@pytest.mark.parametrize("option", ["--html", "--perfetto"])
def test_a_folder_where_a_file_should_go(run: Run, good: Path, option: str) -> None:
    assert "it is a folder" in refused(run, "run", str(good), option, ".")


def test_no_folder_at_all(run: Run, good: Path) -> None:
    told = refused(run, "profile", str(good), "--against", str(good.parent))
    assert "next:" in told


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check", "profile"])
def test_an_unknown_chip(run: Run, good: Path, command: str) -> None:
    told = refused(run, command, str(good), "--target", "trn9")
    assert "facts: no chip is named 'trn9'" in told
    assert "trn2 (" in told
    assert "next: run `tenzing facts`" in told


def test_an_unknown_chip_in_a_comparison(run: Run, good: Path) -> None:
    assert "trn9" in refused(run, "compare", str(good), "--on", "trn2,trn9")


def test_a_comparison_on_nothing(run: Run, good: Path) -> None:
    assert "--on names no chip" in refused(run, "compare", str(good), "--on", ",")


def test_a_chip_that_runs_no_kernels(run: Run, good: Path) -> None:
    others = set(facts.all_chips()) - set(facts.chips())
    for name in sorted(others):
        told = refused(run, "run", str(good), "--target", name)
        assert f"usage: {name} runs no NKI" in told
        assert "allowed: trn1, inf2, trn2, trn3" in told
        assert "has no fact" not in told


def test_an_instance_where_a_chip_should_be(run: Run, good: Path) -> None:
    for words in (["run", str(good), "--target"], ["compare", str(good), "--on"]):
        told = refused(run, *words, "trn2.48xlarge")
        assert "trn2.48xlarge is an instance" in told
        assert "next: give trn2" in told


@pytest.mark.parametrize(
    "words", [["--size", "batch=2"], ["--autocast", "all"], ["--numerics", "graph"], ["--per-op"]]
)
def test_options_of_models_are_refused_for_scripts(run: Run, good: Path, words: list[str]) -> None:
    told = refused(run, "run", str(good), *words)
    assert "this option is for models" in told
    assert "next: leave it out" in told


def test_words_for_a_script_are_refused_for_models(run: Run) -> None:
    assert "words after -- are for scripts" in refused(run, "run", "llama-3.1-8b", "--", "--fast")


def test_a_kernel_asked_for_as_a_model(run: Run, good: Path) -> None:
    told = refused(run, "run", f"{good}:kernel")
    assert "it is a script with kernels, not a model" in told
    assert f"next: give the whole file: {good}" in told


def test_a_mistyped_instruction_offers_the_nearest(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "typo.py"
    path.write_text("import nki.isa as nisa\nnisa.tensor_tenser\n")
    told = refused(run, "run", str(path))
    assert "nki.isa has no 'tensor_tenser' in tenzing; it knows tensor_tensor" in told
    assert "nc_matmul" not in told


def test_a_mistyped_model_offers_the_nearest_names(run: Run) -> None:
    told = refused(run, "run", "lama-3.1-8b")
    assert "llama-3.1-8b" in told
    assert "mixtral" not in told
    assert "`tenzing facts`" in told


def test_a_mistyped_instance_offers_the_nearest_names(run: Run) -> None:
    told = refused(run, "regions", "trn2.48xlarg", "--users", "London")
    assert "trn2.48xlarge" in told
    assert "c7g" not in told


def test_a_shape_made_up_from_a_size_is_said_to_be(run: Run) -> None:
    _, out, _ = run("compare", "lama-9b", "--no-simulate", "--on", "g6.xlarge")
    assert "no such model is known, its shape is assumed: like Llama of this size" in out


def test_an_unknown_region(run: Run) -> None:
    for words in (["economics", "p5.48xlarge"], ["compare", "llama-3.1-8b", "--no-simulate"]):
        told = refused(run, *words, "--region", "us-east-11")
        assert "no such region; got 'us-east-11'; allowed: us-east-1" in told


def test_a_price_for_another_term_is_named(run: Run) -> None:
    _, out, _ = run("compare", "llama-3.1-8b", "--no-simulate", "--on", "trn2.48xlarge",
                    "--term", "one_year")  # fmt: skip
    assert "trn2.48xlarge unknown (known: " in out
    assert "spot in us-east-2" in out


def test_unknown_facts(run: Run) -> None:
    assert "trn9" in refused(run, "facts", "trn9")


@pytest.mark.parametrize(
    "words",
    [["fly"], ["run"], ["run", "a.py", "--speed", "9"], ["run", "a.py", "--autocast", "fp4"]],
)
def test_words_the_parser_refuses(run: Run, words: list[str]) -> None:
    told = refused(run, *words)
    assert told.startswith("usage: ")
    assert "next: see tenzing" in told
    code, out, _ = run(*words, "--json")
    assert code == 2
    assert json.loads(out)["error"]["rule"] == "usage"


def test_a_mistyped_option_offers_the_nearest(run: Run) -> None:
    told = refused(run, "run", "a.py", "--targt", "trn2")
    assert "got --targt trn2; allowed: --target" in told
    assert "next: see tenzing run --help" in told


def test_no_words_print_the_help(run: Run) -> None:
    code, out, _ = run()
    assert code == 2
    assert "tenzing" in out
    assert "compare" in out


# -- facts files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "toml"),
        ('name = "trn2"\n[sbuf]\nbytes = 3\n', "trn2.toml"),
    ],
)
def test_a_corrupt_facts_file(
    run: Run, good: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    chip = importlib.import_module("tenzing.facts.chip")

    monkeypatch.setattr(sheet, "files_in", lambda _: [("chips/trn2.toml", text)])
    chip._records.cache_clear()
    try:
        told = refused(run, "run", str(good))
    finally:
        monkeypatch.undo()
        chip._records.cache_clear()
    assert told.startswith("facts: ")
    assert says in told.lower()


# -- the same as JSON, and as a process ----------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["run", "none.py"], ["check", "none.py"], ["profile", "none.py"], ["compare", "none.py"],
     ["facts", "trn9"]],
)  # fmt: skip
def test_errors_as_json(run: Run, words: list[str]) -> None:
    code, out, err = run(*words, "--json")
    assert (code, err) == (2, "")
    error = json.loads(out)["error"]
    assert error["rule"] in ("usage", "facts")
    assert error["message"]
    assert error["next_step"]


def process(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tenzing.cli", *words],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False,
    )  # fmt: skip


def test_a_refusal_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(GOOD.replace("nl.load(x)", "nl.load(x[0:200])"))
    done = process("run", "bad.py", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("bounds: ")
    assert "bad.py:12" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["facts"], ["facts", "trn2", "--json"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away(words: list[str], unbuffered: str) -> None:
    """``tenzing ... | head -1`` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tenzing.cli", *words], stdout=writer, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_crash_of_ours_is_called_one(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(commands, "run", crash)
    assert cli.main(["run", str(good)]) == 70
    told = capsys.readouterr().err
    assert "planted" in told
    assert "this is a bug in tenzing" in told
