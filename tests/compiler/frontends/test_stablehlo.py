"""StableHLO files, texts and bytes are models of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.frontends.jax_programs import lowered, normal

import tenzing
from tenzing.errors import UnsupportedOp, UsageError

jax = pytest.importorskip("jax")
WEIGHT, X = normal(24, 16), normal(3, 24)


def dense(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    hidden = jax.numpy.tanh(x @ WEIGHT)
    return hidden, hidden.sum(0)


def program(kind: str, folder: Path) -> object:
    text = lowered(dense, (X,))
    if kind == "text":
        return text
    if kind == "artifact":
        return bytes(jax.export.export(jax.jit(dense))(X).mlir_module_serialized)
    (folder / "dense.mlir").write_text(text)
    return str(folder / "dense.mlir") if kind == "file" else folder / "dense.mlir"


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
@pytest.mark.parametrize("kind", ["text", "artifact", "file", "path"])
def test_every_form_of_a_program_runs(kind: str, numerics: str, tmp_path: Path) -> None:
    compiled = tenzing.compile(program(kind, tmp_path), (X,), numerics=numerics)
    assert [p.shape for p in compiled.imported.graph.parameters] == [WEIGHT.shape]
    for got, wanted in zip(compiled(X), dense(X), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_program_needs_no_example_inputs(tmp_path: Path) -> None:
    compiled = tenzing.compile(program("file", tmp_path))
    assert compiled.latency_us > 0
    assert compiled(*compiled.example[0])[0].shape == (3, 16)


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another shape"):
        tenzing.compile(program("file", tmp_path), (X[:2],))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        tenzing.compile(str(tmp_path / "none.mlir"))


def test_an_unknown_operation_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "triangle.mlir"
    path.write_text(
        """func.func @main(%a: tensor<2x2xf32>, %b: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %0 = "stablehlo.triangular_solve"(%a, %b) <{left_side = true, lower = true,
    transpose_a = #stablehlo<transpose NO_TRANSPOSE>, unit_diagonal = false}>
    : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %0 : tensor<2x2xf32> }"""
    )
    with pytest.raises(UnsupportedOp, match=r"stablehlo\.triangular_solve") as refused:
        tenzing.compile(path)
    assert refused.value.loc is not None
    assert refused.value.loc.line == 2


def test_reading_a_program_imports_no_jax(tmp_path: Path) -> None:
    code = (
        "import sys; from tenzing.compiler.frontends.stablehlo import import_program;"
        f"import_program({str(program('file', tmp_path))!r}); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
