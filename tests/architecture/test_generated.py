"""Derived files are current, and the stubs say what the modules really offer."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tenzing.isa import REGISTRY
from tenzing.nki import isa, language

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
STUBS = ROOT / "src" / "tenzing" / "nki"
ONLY_TO_REFUSE = {"mask"}  # accepted at run time to say that it is gone


@pytest.mark.parametrize("tool", ["stubs", "docs"])
def test_derived_files_are_current(tool: str) -> None:
    result = subprocess.run(
        [sys.executable, TOOLS / f"{tool}.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The writing half of the tools, on an empty folder."""
    monkeypatch.syspath_prepend(TOOLS)
    import generated

    monkeypatch.setattr(generated, "ROOT", tmp_path)
    return generated


def test_check_names_what_is_stale_and_writes_nothing(generated, tmp_path: Path, capsys) -> None:
    assert generated.publish({"a/b.md": "new\n"}, check=True) == 1
    assert "a/b.md is out of date; `make docs` writes it" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_written_page_is_current_and_an_orphan_is_removed(generated, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old.md").write_text("a chip that is gone\n")
    assert generated.publish({"a/b.md": "new\n"}, check=True, folders=("a",)) == 1
    assert generated.publish({"a/b.md": "new\n"}, check=False, folders=("a",)) == 0
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.md"]
    assert generated.publish({"a/b.md": "new\n"}, check=True, folders=("a",)) == 0


def stub_tree(name: str) -> ast.Module:
    return ast.parse((STUBS / f"{name}.pyi").read_text(encoding="utf-8"))


def declared(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_stub_has_one_function_per_instruction_with_its_doc() -> None:
    functions = declared(stub_tree("isa"))
    assert set(REGISTRY) <= set(functions)
    for nki, kind in REGISTRY.items():
        assert ast.get_docstring(functions[nki]) == inspect.cleandoc(kind.__doc__ or "")


@pytest.mark.parametrize("nki", sorted(REGISTRY))
def test_parameters_agree_with_the_running_function(nki: str) -> None:
    arguments = declared(stub_tree("isa"))[nki].args
    optional = len(arguments.defaults)
    names = [a.arg for a in arguments.args]
    parameters = list(inspect.signature(getattr(isa, nki)).parameters.values())
    kept = [p for p in parameters if p.name not in ONLY_TO_REFUSE]
    assert names == [p.name for p in kept]
    assert names[len(names) - optional :] == [p.name for p in kept if p.default is not p.empty]


@pytest.mark.parametrize("module", [isa, language], ids=["isa", "language"])
def test_every_public_name_is_in_the_stub(module) -> None:
    tree = stub_tree(module.__name__.rpartition(".")[2])
    (exported,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert sorted(module.__all__) == exported
    bound = {
        name
        for node in tree.body
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else [a.name for a in node.names] if isinstance(node, ast.ImportFrom)
            else [ast.unparse(node.target)] if isinstance(node, ast.AnnAssign)
            else [ast.unparse(t) for t in node.targets] if isinstance(node, ast.Assign)
            else []
        )
    }  # fmt: skip
    assert set(exported) <= bound
