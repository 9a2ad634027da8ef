"""What PyTorch exports is checked against the module, and traces that fail say where."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tenzing  # noqa: E402
from tenzing.compiler.frontends import torch_fidelity  # noqa: E402
from tenzing.compiler.frontends.torch import import_module  # noqa: E402
from tenzing.compiler.reference import run  # noqa: E402
from tenzing.errors import ModelWarning, UsageError  # noqa: E402

pytestmark = pytest.mark.torch
X = torch.arange(6.0).reshape(2, 3)


class Masked(torch.nn.Module):
    """As some models do, leaves its mask out while it is traced."""

    def __init__(self, needed: bool) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((3,), 2.0))
        self.needed = needed

    def forward(self, x: Any) -> Any:
        mask = None if torch.compiler.is_compiling() else torch.ones(x.shape[0], 1)
        if mask is None and not self.needed:
            return x * self.scale + 1
        return x * mask[:, :1] * self.scale


class Stateful(torch.nn.Module):
    """Answers by values that a trace does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((3,), 2.0))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.calls.add_(1)
        if isinstance(x, torch._subclasses.FakeTensor):
            return x * self.scale + 1
        return x * self.scale


@pytest.mark.parametrize("needed", [True, False])
def test_a_model_is_traced_along_the_path_it_takes_untraced(needed: bool) -> None:
    imported = import_module(Masked(needed).eval(), (X,))
    (got,) = run(imported.graph, [X.numpy()], imported.weights)
    assert np.array_equal(got, (X * 2).numpy())
    assert not torch.compiler.is_compiling()


def test_a_program_that_answers_otherwise_is_told() -> None:
    module = Stateful().eval()
    with pytest.warns(ModelWarning, match="Stateful answers otherwise than the module itself"):
        compiled = tenzing.compile(module, (X,), numerics="graph")
    assert float(module.calls) == 0.0  # looking left no trace
    found = compiled.compare(X)
    assert not found.agrees
    assert "answers otherwise than the module itself" in str(found)
    assert float(module.calls) == 0.0


def test_large_models_are_checked_on_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_fidelity, "CHEAP_PARAMETERS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_module(Stateful().eval(), (X,))
    with pytest.warns(ModelWarning):
        import_module(Stateful().eval(), (X,), check=True)


class Inner(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


def test_a_trace_that_fails_names_the_submodule(capfd: pytest.CaptureFixture[str]) -> None:
    module = torch.nn.Sequential(torch.nn.Identity(), Inner()).eval()
    with pytest.raises(UsageError, match=r"\(in module 1\); got GuardOnDataDependent") as caught:
        import_module(module, (X,))
    assert "test_torch_fidelity.py" in caught.value.render()
    captured = capfd.readouterr()
    assert "def forward" not in captured.out + captured.err


class Settling(torch.nn.Module):
    """Converts a part of itself to the dtype that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        self.gate = self.gate.to(torch.float32)
        return self.gate(x)


def test_a_conversion_that_changes_nothing_is_traced() -> None:
    module = Settling().eval()
    found = tenzing.compile(module, (X,), numerics="graph").compare(X)
    assert found.agrees
