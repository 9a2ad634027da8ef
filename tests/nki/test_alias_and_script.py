"""Aliases come and go without a trace; unmodified scripts run; their errors name lines."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tenzing import nki
from tenzing.errors import KernelError, TenzingError, UsageError
from tenzing.nki import alias, language

KERNEL = """\
import sys
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl
import neighbour

@nki.jit
def double(x):
    tile = nl.load(x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, tile)
    return out

if __name__ == "__main__":
    x = np.ones((4, 8), np.float32)
    assert (double(x) == 2).all()
    print(sys.argv[1], neighbour.WORD)
"""


@pytest.fixture(autouse=True)
def _no_alias_left() -> Iterator[None]:
    alias.uninstall()
    yield
    alias.uninstall()
    assert "nki" not in sys.modules


def test_names_of_both_surfaces_are_importable() -> None:
    alias.install()
    for name in alias.ALIASES:
        importlib.import_module(name)
    nl: Any = importlib.import_module("nki.language")
    assert nl.add is vars(language)["add"]
    assert nl.tile_size.pmax == 128
    older: Any = importlib.import_module("neuronxcc.nki")
    assert older.language.par_dim(3) == 3
    assert callable(older.benchmark)
    isa: Any = importlib.import_module("nki.isa")
    with pytest.raises(AttributeError, match="no 'nothing_here'"):
        _ = isa.nothing_here


def test_install_is_idempotent_and_undone() -> None:
    before = list(sys.meta_path)
    alias.install()
    alias.install()
    assert len(sys.meta_path) == len(before) + 1
    alias.uninstall()
    assert sys.meta_path == before
    with pytest.raises(ImportError):
        importlib.import_module("nki.language")


def test_an_installed_package_is_replaced_only_when_asked() -> None:
    real = ModuleType("nki")
    real.marker = "real"  # type: ignore[attr-defined]
    sys.modules["nki"] = real
    try:
        alias.install(shadow=False)
        assert importlib.import_module("nki") is real
        alias.uninstall()
        sys.modules["nki"] = real
        alias.install()
        assert importlib.import_module("nki") is not real
        alias.uninstall()
        assert sys.modules["nki"] is real
    finally:
        sys.modules.pop("nki", None)


def write(folder: Path, text: str, name: str = "script.py") -> Path:
    (folder / "neighbour.py").write_text("WORD = 'there'\n")
    path = folder / name
    path.write_text(text)
    return path


def test_an_unmodified_script_runs_as_main(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, argv, modules = list(sys.path), list(sys.argv), sys.modules["__main__"]
    session = nki.Session("trn3")
    assert nki.run_script(write(tmp_path, KERNEL), ["hello"], session) == 0
    assert capsys.readouterr().out == "hello there\n"
    assert [launch.name for launch in session.launches] == ["double"]
    assert session.launches[0].programs[0].chip.name == "trn3"
    assert (sys.path, sys.argv, sys.modules["__main__"]) == (path, argv, modules)
    assert "neighbour" not in sys.modules


@pytest.mark.parametrize(
    ("text", "code"),
    [("raise SystemExit", 0), ("import sys; sys.exit(3)", 3), ("raise SystemExit('bad')", 1)],
)
def test_exit_codes_are_honoured(tmp_path: Path, text: str, code: int) -> None:
    assert nki.run_script(write(tmp_path, text)) == code


def test_a_kernel_error_points_at_the_script(tmp_path: Path) -> None:
    broken = KERNEL.replace("operand0=2.0)", "operand0=x)")
    with pytest.raises(KernelError) as caught:
        nki.run_script(write(tmp_path, broken), ["hello"])
    loc = caught.value.loc
    assert loc is not None
    assert (Path(loc.file).name, loc.line, loc.function) == ("script.py", 11, "double")
    assert "^" in caught.value.render()


def test_an_error_of_the_script_keeps_only_its_own_frames(tmp_path: Path) -> None:
    broken = KERNEL.replace("tile = nl.load(x)", "tile = nl.load(x); tile.nothing")
    with pytest.raises(UsageError) as caught:
        nki.run_script(write(tmp_path, broken), ["hello"])
    text = caught.value.render()
    assert "script.py stopped: AttributeError" in text
    assert "line 18, in <module>" in text
    assert "in double" in text
    assert "kernel.py" not in text
    assert caught.value.loc is not None
    assert caught.value.loc.line == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [("def broken(:\n", "is not Python"), ("x = '\0'\n", "is not Python")],
)
def test_a_file_that_is_not_python(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nki.run_script(write(tmp_path, text))


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TenzingError, match="cannot read the script"):
        nki.run_script(tmp_path / "absent.py")
    with pytest.raises(TenzingError, match="cannot read the script"):
        nki.run_script(tmp_path)
