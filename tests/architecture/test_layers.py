"""The layer contracts place every package, and the tool that enforces them really bites."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter comes with the check extra")

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tenzing"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def contract(kind: str) -> dict[str, object]:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    return next(c for c in contracts if c["type"] == kind)


def placed_modules() -> list[str]:
    layers = contract("layers")["layers"]
    assert isinstance(layers, list)
    return [name.strip().strip("()") for layer in layers for name in layer.split("|")]


def run_contracts(source: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Lint the package under ``source`` with the repository's own contracts."""
    start = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    config = tmp_path / "pyproject.toml"
    config.write_text(start[start.index("[tool.importlinter]") :], encoding="utf-8")
    program = (
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        "from importlinter.cli import lint_imports\n"
        f"sys.exit(lint_imports(config_filename={str(config)!r}, no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )


def plant(tmp_path: Path, files: dict[str, str]) -> Path:
    """A small package named tenzing with ``files``: module path to source."""
    source = tmp_path / "src"
    for module, text in {"__init__": "", **files}.items():
        path = source / "tenzing" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for parent in path.relative_to(source).parents:
            if parent != Path():
                (source / parent / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    return source


def test_every_module_is_placed_once() -> None:
    placed = placed_modules()
    assert len(placed) == len(set(placed))
    present = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or any(path.glob("**/*.py"))) and path.stem != "__init__"
    } - {"__pycache__"}
    assert present <= set(placed), f"not placed in the layers: {sorted(present - set(placed))}"


def test_contracts_hold(tmp_path: Path) -> None:
    result = run_contracts(ROOT / "src", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_allowed_imports_pass(tmp_path: Path) -> None:
    files = {
        "units": "",
        "isa/tensor": "from tenzing import units",
        "nki/isa": "from tenzing.isa import tensor",
        "compiler/frontends/torch": "import torch\nfrom tenzing import units",
        "cli": "from tenzing.compiler.frontends import torch",
    }
    result = run_contracts(plant(tmp_path, files), tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"nki/a": "", "isa/b": "import tenzing.nki.a"}, "isa is not allowed to import"),
        ({"machine/a": "", "fabric/b": "import tenzing.machine.a"}, "fabric is not allowed"),
        ({"nki/a": "", "isa/b": "def f():\n    import tenzing.nki.a"}, "isa is not allowed"),
        ({"utils/a": ""}, "utils"),
        ({"nki/a": "import torch"}, "tenzing.nki.a -> torch"),
        ({"compiler/passes/a": "from jax import jit"}, "tenzing.compiler.passes.a -> jax"),
    ],
    ids=["upward", "sibling", "hidden-in-function", "unplaced", "framework", "framework-in-pass"],
)
def test_planted_violation_is_caught(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    result = run_contracts(plant(tmp_path, files), tmp_path)
    assert result.returncode != 0
    assert complaint in result.stdout + result.stderr
