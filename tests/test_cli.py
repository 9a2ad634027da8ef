"""The command line when all goes well: every command on our own example kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenzing import __version__, cli, facts

Captured = pytest.CaptureFixture[str]
Run = Callable[..., tuple[str, str]]
KERNELS = Path(__file__).parents[1] / "examples" / "kernels"
COMMANDS = ("run", "check", "profile", "compare", "facts")
SMALL = KERNELS / "vector_add.py"


@pytest.fixture
def run(capsys: Captured) -> Run:
    """Runs a command that must succeed: standard output and standard error."""

    def call(*words: object) -> tuple[str, str]:
        code = cli.main([str(w) for w in words])
        told = capsys.readouterr()
        assert code == 0, told.err
        return told.out, told.err

    return call


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda p: p.stem)
@pytest.mark.parametrize("target", facts.chips())
def test_every_example_runs_on_every_chip(run: Run, path: Path, target: str) -> None:
    out, _ = run("run", path, "--target", target)
    assert "agrees with NumPy" in out
    assert "(simulated)" in out
    assert "finding" not in out


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda p: p.stem)
def test_nothing_is_found_in_the_examples(run: Run, path: Path) -> None:
    out, _ = run("check", path)
    assert f"{path} on trn2: nothing found in" in out


def test_run_as_json(run: Run) -> None:
    out, err = run("run", SMALL, "--json")
    plain = json.loads(out)
    assert plain["target"] == "trn2"
    (kernel,) = plain["kernels"]
    assert kernel["latency_ps"] > kernel["cores"][0]["program_ps"] > 0
    assert kernel["where"].startswith("vector_add.py:")
    assert "agrees with NumPy" in err, "what the script prints goes to standard error"


def test_check_as_json(run: Run) -> None:
    plain = json.loads(run("check", SMALL, "--json")[0])
    assert (plain["findings"], plain["kernels_checked"]) == ([], 1)


def test_compare(run: Run) -> None:
    out, err = run("compare", SMALL, "--on", "trn1,trn2")
    rows = [line.split() for line in out.splitlines() if line.startswith("vector_add ")]
    chips = [row[1] for row in rows if row[1] != "agrees"]  # what the script itself prints
    assert chips == ["trn1", "trn2"]
    assert "running on trn1" in err


def test_compare_as_json(run: Run) -> None:
    plain = json.loads(run("compare", SMALL, "--json")[0])
    assert list(plain["targets"]) == cli.comparison.ALL_CHIPS.split(",")
    assert all("kernels" in result for result in plain["targets"].values())


REFUSED_BY_TRN1 = """
import nki, numpy as np
import nki.isa as nisa
import nki.language as nl

@nki.jit
def kernel(x):
    tile = nl.load(x)
    nisa.tensor_copy(dst=tile, src=tile, engine=nisa.scalar_engine)

kernel(np.ones((128, 64), np.float32))
"""


def test_compare_shows_a_chip_that_refuses_beside_those_that_do_not(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "new.py"
    path.write_text(REFUSED_BY_TRN1)
    out, _ = run("compare", path, "--on", "trn1,trn2")
    assert "trn1 refuses: legality:" in out
    assert "\nkernel" in out
    assert cli.main(["compare", str(path), "--on", "trn1"]) == 2


def test_a_script_can_tell_that_no_target_is_within_the_limits(capsys: Captured) -> None:
    words = ["compare", "llama-3.1-8b", "--on", "inf2.48xlarge", "--no-simulate", "--ttft"]
    assert cli.main([*words, "60s"]) == 0
    assert cli.main([*words, "1ms"]) == 2
    assert "inf2.48xlarge" in capsys.readouterr().out  # what it does reach is told all the same


def test_profile_writes_a_page_and_a_trace(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    out, _ = run("profile", SMALL, "--out", folder)
    assert sorted(p.name for p in folder.iterdir()) == ["profile.json", "report.html", "trace.json"]
    assert "vector_add.py" in out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") or page.startswith("<!doctype html>")
    trace = json.loads((folder / "trace.json").read_text(encoding="utf-8"))
    assert {e["name"] for e in trace["traceEvents"]} >= {"dma_copy", "tensor_tensor"}


def test_profile_as_json(run: Run, tmp_path: Path) -> None:
    plain = json.loads(run("profile", SMALL, "--out", tmp_path, "--json")[0])
    assert plain["kernels"][0]["cores"]


def test_files_are_replaced_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """A write that fails half-way leaves the old file, and nothing beside it."""
    page, trace = tmp_path / "page.html", tmp_path / "trace.json"
    run("run", SMALL, "--html", page, "--perfetto", trace)
    before = [page.read_bytes(), trace.read_bytes()]

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fail)
    for option, path in (("--html", page), ("--perfetto", trace)):
        assert cli.main(["run", str(SMALL), option, str(path)]) == 2
        assert "No space left on device" in capsys.readouterr().err
    assert [page.read_bytes(), trace.read_bytes()] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "trace.json"]


def test_two_runs_write_the_same_bytes(run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    for path in (first, second):
        run("run", SMALL, "--perfetto", path)
    assert first.read_bytes() == second.read_bytes()
    results = [json.loads(run("run", SMALL, "--json")[0]) for _ in range(2)]
    assert results[0] == results[1]


def test_words_after_two_dashes_are_the_scripts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "words.py"
    path.write_text("import sys\nprint(sys.argv[1:], __name__)\n")
    out, _ = run("run", path, "--", "--target", "7", "--", "x")
    assert "['--target', '7', '--', 'x'] __main__" in out


def test_the_callers_state_is_as_before(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "state.py"
    path.write_text("import sys, nki\nsys.path.append('x')\nsys.argv.append('y')\n")
    before: tuple[Any, ...] = (list(sys.argv), list(sys.path), sys.modules["__main__"], sys.stdout)
    run("run", path, "--json")
    assert (list(sys.argv), list(sys.path), sys.modules["__main__"], sys.stdout) == before
    assert "nki" not in sys.modules


@pytest.mark.parametrize("name", facts.all_chips())
def test_facts_of_a_chip(run: Run, name: str) -> None:
    out, _ = run("facts", name)
    assert name in out
    assert "published" in out
    plain = json.loads(run("facts", name, "--json")[0])
    assert plain


def test_facts_lists_chips_and_instances(run: Run) -> None:
    plain = json.loads(run("facts", "--json")[0])
    assert plain["chips"] == list(facts.all_chips())
    assert plain["instances"] == sorted(facts.instances())
    assert "h100" in plain["accelerators"]
    for kind in ("instances", "accelerators", "models"):
        out, _ = run("facts", plain[kind][0])
        assert plain[kind][0] in out


def test_facts_take_the_users_prices(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(facts.PRICES_VARIABLE, "")  # restored after the command has set it
    book = tmp_path / "prices.toml"
    book.write_text(
        'schema_version = 1\n[[price]]\ninstance = "trn3-gen1-ultraserver"\n'
        'term = "one_year"\nusd_per_hour = 321.5\nregions = ["us-east-1"]\ndate = 2026-11-01\n'
        'kind = "published"\nsource = "user"\n'
    )
    out, _ = run("facts", "trn3-gen1-ultraserver", "--prices", str(book))
    assert "321.5000 USD/h  one_year" in out


def test_facts_of_nothing(capsys: Captured) -> None:
    assert cli.main(["facts", "bogus"]) != 0
    assert "nothing is known by the name 'bogus'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: tenzing {command} " in capsys.readouterr().out


def test_help_and_version(capsys: Captured) -> None:
    for word in ("--help", "--version"):
        with pytest.raises(SystemExit) as stop:
            cli.main([word])
        assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)
    assert f"tenzing {__version__}" in out


@pytest.mark.parametrize("name", facts.all_chips())
def test_the_parser_knows_the_commands(name: str) -> None:
    options = cli.build_parser().parse_args(["run", "a.py", "--target", name])
    assert (options.path, options.target) == ("a.py", name)


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("tenzing")
    if not command.exists():
        pytest.skip("tenzing is not installed as a command here")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120,
                          check=True)  # fmt: skip
    assert done.stdout == f"tenzing {__version__}\n"
