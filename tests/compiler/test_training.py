"""A training step on the chip: gradients, optimizers, buffers, and a loss curve like PyTorch's."""

from __future__ import annotations

import copy
import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenzing import compiler
from tenzing.errors import UsageError

from . import zoo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
NOISE = 1e-7  # gradients below it are rounding: a bias of keys has none
EXAMPLE = Path(__file__).parents[2] / "examples" / "train_gpt.py"
FAST = ("gpt2", "resnet")  # tied weights; convolutions


def first(found: Any) -> Any:
    leaves = torch.utils._pytree.tree_flatten(found)[0]
    return next(x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point())


def squares(found: Any) -> Any:
    return (first(found) ** 2).mean()


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
@pytest.mark.parametrize("name", [
    pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in zoo.HF_20
])  # fmt: skip
def test_gradients_of_transformers_models(name: str, numerics: str) -> None:
    pytest.importorskip("transformers")
    module, inputs = zoo.HF_20[name]()
    loss = squares(module(*inputs))
    loss.backward()
    step = compiler.compile_training(module, inputs, loss=squares, numerics=numerics)
    found = step.gradients(*inputs)
    seen = 0
    for path, parameter in module.named_parameters():
        scale = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        if scale < NOISE:
            continue
        seen += 1
        error = float((found[path] - parameter.grad).abs().max())
        assert error / scale < 1e-4 or true_size(name, path) < NOISE, path
    assert seen > 5


@functools.cache
def true_gradients(name: str) -> dict[str, Any]:
    """The gradients of a model of the zoo in float64."""
    module, inputs = zoo.HF_20[name]()
    doubles = [x.double() if x.is_floating_point() else x for x in inputs]
    squares(module.double()(*doubles)).backward()
    return {path: parameter.grad for path, parameter in module.named_parameters()}


def true_size(name: str, path: str) -> float:
    """The largest element of a gradient without PyTorch's own rounding in float32.

    A softmax does not see the bias of its keys: their gradient is zero, and in float32 what is
    left of numbers as large as the loss makes them.
    """
    return float(true_gradients(name)[path].abs().max())


def test_a_gradient_that_is_zero_is_rounding_alone() -> None:
    pytest.importorskip("transformers")
    assert true_size("bert", "bert.encoder.layer.0.attention.self.key.bias") < 1e-3 * NOISE
    assert true_size("bert", "bert.encoder.layer.0.attention.self.value.bias") > NOISE


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 12, bias=False), torch.nn.BatchNorm1d(12), torch.nn.Tanh(),
            torch.nn.Linear(12, 3),
        )  # fmt: skip

    def forward(self, x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(self.layers(x), y)


def batch(seed: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, 6, generator=generator), torch.randint(0, 3, (9,), generator=generator)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd_decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_follow_torch(name: str) -> None:
    module = Mlp().train()
    twin = copy.deepcopy(module)
    optimizer = OPTIMIZERS[name](twin.parameters())
    own = OPTIMIZERS[name](module.parameters())
    step = compiler.compile_training(module, batch(0), optimizer=own)
    for number in range(4):
        x, y = batch(number)
        got = step(x, y)
        optimizer.zero_grad()
        loss = twin(x, y)
        loss.backward()
        optimizer.step()
        assert got == pytest.approx(float(loss.detach()), rel=1e-5)
    assert step.steps_done == 4
    step.copy_to(module)
    for (path, mine), theirs in zip(module.state_dict().items(), twin.state_dict().values(),
                                    strict=True):  # fmt: skip
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=path)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_where_it_was(name: str) -> None:
    module = Mlp().train()
    optimizer = OPTIMIZERS[name](module.parameters())
    for number in range(3):
        optimizer.zero_grad()
        module(*batch(number)).backward()
        optimizer.step()
    step = compiler.compile_training(module, batch(0), optimizer=optimizer, numerics="graph")
    optimizer.zero_grad()
    module(*batch(3)).backward()
    optimizer.step()
    step(*batch(3))
    for path, theirs in module.named_parameters():
        mine = torch.from_numpy(step.state[path])
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-5, msg=path)


def test_an_optimizer_over_a_part_of_the_module_is_refused() -> None:
    module = Mlp().eval()
    part = torch.optim.AdamW(module.layers[0].parameters())
    with pytest.raises(UsageError, match="other parameters than the module trains"):
        compiler.compile_training(module, batch(0), optimizer=part)
    for layer in list(module.layers)[1:]:
        layer.requires_grad_(False)
    step = compiler.compile_training(module, batch(0), optimizer=part, numerics="graph")
    assert set(step.gradients(*batch(0))) == {"layers.0.weight"}
    whole = torch.optim.AdamW(module.parameters())
    assert compiler.compile_training(module, batch(0), optimizer=whole).steps_done == 0


def test_an_optimizer_over_another_module_is_refused() -> None:
    module, other = Mlp().eval(), Mlp().eval()
    foreign = torch.optim.AdamW(other.parameters())
    with pytest.raises(UsageError, match=r"built over another module.*none of this module's"):
        compiler.compile_training(module, batch(0), optimizer=foreign)
    assert compiler.compile_training(other, batch(0), optimizer=foreign).steps_done == 0


def test_parameters_that_the_loss_does_not_reach_stay() -> None:
    module = Mlp().train()
    module.spare = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.5)
    step = compiler.compile_training(module, batch(0), optimizer=optimizer)
    step(*batch(0))
    before = module.spare.weight.detach().numpy()
    np.testing.assert_array_equal(step.state["spare.weight"], before)
    assert not np.array_equal(step.state["layers.3.bias"], module.layers[3].bias.detach().numpy())


def test_frozen_parameters_stay() -> None:
    module = Mlp().eval()
    module.layers[0].weight.requires_grad_(False)
    before = module.layers[0].weight.clone()
    step = compiler.compile_training(module, batch(0), numerics="graph")
    assert "layers.0.weight" not in step.gradients(*batch(0))
    step(*batch(0))
    step.copy_to(module)
    torch.testing.assert_close(module.layers[0].weight, before)


def test_a_step_is_one_program_with_state_in_place() -> None:
    step = compiler.compile_training(Mlp().eval(), batch(0), autocast="matmult")
    count = len(step.state)
    assert len(step.graph.aliases) == count
    assert step.latency_us > 0
    assert "all" not in step.autocast
    assert step.text().startswith("graph Mlp(")
    assert (
        repr(step) == f"Training(Mlp on trn2: {len(list(Mlp().parameters()))} weights; "
        "0 steps done, autocast=matmult)"
    )


@pytest.mark.parametrize(("change", "message"), [
    ({"loss": lambda found: found.reshape(1).repeat(2)}, "not one number"),
    ({"optimizer": "lion"}, "optimizer"),
    ({"optimizer": torch.optim.Adagrad(Mlp().parameters())}, "Adagrad"),
    ({"optimizer": torch.optim.AdamW(Mlp().parameters(), amsgrad=True)}, "amsgrad"),
    ({"numerics": "quick"}, "numerics"),
])  # fmt: skip
def test_what_cannot_train_is_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compiler.compile_training(Mlp().eval(), batch(0), **change)


def test_wrong_batches_and_nothing_to_train() -> None:
    step = compiler.compile_training(Mlp().eval(), batch(0), numerics="graph")
    x, y = batch(0)
    with pytest.raises(UsageError, match="number of inputs"):
        step(x)
    with pytest.raises(UsageError, match="another shape"):
        step(x[:4], y[:4])
    assert step.steps_done == 0  # a refused batch is no step
    with pytest.raises(UsageError, match="no parameters"):
        compiler.compile_training(torch.nn.Tanh(), (x,))


def example() -> Any:
    spec = importlib.util.spec_from_file_location("train_gpt", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("steps", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_a_gpt_on_real_text_learns_as_in_torch(steps: int) -> None:
    found = example().train(steps, "trn2", quiet=True)
    assert found["largest_difference"] < 0.02
    assert found["chip"][-1] < found["chip"][0]
