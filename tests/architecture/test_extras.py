"""Each frontend works with its own extra alone, and tenzing itself with none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

FRAMEWORKS = ("torch", "transformers", "jax", "jaxlib", "tensorflow", "keras", "onnx",
              "onnxruntime", "onnxscript")  # fmt: skip
# Every other framework's import fails, as where it is not installed.
ALONE = """
import sys
class Absent:
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)
sys.meta_path[:] = [Absent(list(sys.meta_path))]
import numpy as np
import tenzing
"""
PROGRAMS = {
    (): """
step = tenzing.compile("llama-3.1-8b", {"cached": 128}, target="trn2")
assert step.latency_us > 0
loaded = set(sys.modules) & {"torch", "jax", "jaxlib", "tensorflow", "onnx", "transformers"}
assert not loaded, loaded
""",
    ("torch",): """
import torch
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU()).eval()
x = torch.ones(2, 4)
compiled = tenzing.compile(net, (x,))
assert torch.allclose(compiled(x), net(x), atol=1e-5)
""",
    ("jaxlib",): """
text = '''func.func @main(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
    %y = stablehlo.tanh %x : tensor<2x4xf32>
    return %y : tensor<2x4xf32> }'''
x = np.ones((2, 4), np.float32)
assert np.allclose(tenzing.compile(text, (x,))(x), np.tanh(x), atol=1e-6)
""",
    ("jax", "jaxlib"): """
import jax.numpy as jnp
x = jnp.ones((2, 4))
assert np.allclose(tenzing.compile(jnp.tanh, (x,))(x), np.tanh(x), atol=1e-6)
""",
    ("onnx",): """
from onnx import TensorProto, helper
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4]) for n in "xy"]
nodes = [helper.make_node("Tanh", ["x"], ["y"])]
model = helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:]))
x = np.ones((2, 4), np.float32)
assert np.allclose(tenzing.compile(model, (x,))(x), np.tanh(x), atol=1e-6)
""",
    ("tensorflow", "keras", "jaxlib"): """
import tensorflow as tf
x = tf.ones((2, 4))
assert np.allclose(tenzing.compile(tf.function(tf.tanh), (x,))(x), np.tanh(x), atol=1e-6)
""",
}


def run(needed: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    absent = sorted(set(FRAMEWORKS) - set(needed))
    script = ALONE.format(absent=set(absent)) + program
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("needed", PROGRAMS, ids=lambda needed: "+".join(needed) or "none")
def test_a_frontend_needs_its_own_framework_only(needed: tuple[str, ...]) -> None:
    if any(importlib.util.find_spec(name) is None for name in needed):
        pytest.skip(f"{', '.join(needed)} is not installed")
    result = run(needed, PROGRAMS[needed])
    assert result.returncode == 0, result.stderr


MISSING = {
    "tenzing[torch]": "tenzing.compile_training(object(), ())",
    "tenzing[stablehlo]": "tenzing.compile('stablehlo.tanh')",
}


@pytest.mark.parametrize("extra", MISSING)
def test_an_absent_framework_is_named_with_its_extra(extra: str) -> None:
    result = run((), MISSING[extra])
    assert result.returncode == 1
    assert "UsageError" in result.stderr
    assert extra in (
        run(
            (),
            f"""
try:
    {MISSING[extra]}
except tenzing.errors.UsageError as error:
    print(error.render())
""",
        ).stdout
    )
