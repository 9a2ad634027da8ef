"""The device ``neuron`` of PyTorch: operations, gradients, optimizers, and what it refuses."""

import copy
import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import tenzing  # noqa: E402
from tenzing.compiler.frontends import torch_device  # noqa: E402
from tenzing.errors import UnsupportedOp, UsageError  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _device() -> None:
    tenzing.torch.enable_device(numerics="graph")


def numbers(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("numerics", ["instruction", "graph"])
def test_operations_run_on_the_chip_and_take_time(numerics: str) -> None:
    tenzing.torch.enable_device(numerics=numerics)
    x, w = numbers(3, 5), numbers(4, 5, seed=1)
    before = tenzing.torch.device_time_us()
    y = torch.nn.functional.linear(x.to("neuron"), w.to("neuron")).relu()
    assert y.device == torch.device("neuron", 0)
    torch.testing.assert_close(y.cpu(), torch.nn.functional.linear(x, w).relu())
    assert tenzing.torch.device_time_us() > before == 0.0


def test_the_same_call_costs_the_same_time_again() -> None:
    x = numbers(8, 8).to("neuron")
    x.exp()
    once = tenzing.torch.device_time_us()
    x.exp()
    assert tenzing.torch.device_time_us() == 2 * once > 0
    x.view(4, 16).t()
    assert tenzing.torch.device_time_us() == 2 * once  # views cost nothing
    tenzing.torch.reset_device_time()
    assert tenzing.torch.device_time_us() == 0.0


def test_gradients_equal_those_of_the_host() -> None:
    x, w = numbers(3, 5), numbers(5, 4, seed=1)
    grads = []
    for device in ("cpu", "neuron"):
        a = x.to(device, copy=True).requires_grad_()
        torch.softmax(a @ w.to(device), -1).square().sum().backward()
        assert a.grad.device.type == device
        grads.append(a.grad.cpu())
    torch.testing.assert_close(*grads)


def test_views_and_writes_reach_the_base() -> None:
    x = torch.zeros(4, 3, device="neuron")
    x[1:3] = 2
    x[0] = torch.ones(3)
    x.t()[1].add_(5)
    x[:, 2].mul_(x[:, 2])
    expected = [[1.0, 6.0, 1.0], [2.0, 7.0, 4.0], [2.0, 7.0, 4.0], [0.0, 5.0, 0.0]]
    assert x.tolist() == expected
    out = torch.empty(4, 3, device="neuron")
    assert torch.add(x, 1, out=out) is out
    torch.testing.assert_close(out.cpu(), torch.tensor(expected) + 1)


def test_a_write_into_a_view_has_its_gradient() -> None:
    x = torch.ones(2, 2, device="neuron", requires_grad=True)
    y = x * 3
    y[0] *= 2
    y.sum().backward()
    assert x.grad.tolist() == [[6.0, 6.0], [3.0, 3.0]]


def test_reading_printing_and_formatting() -> None:
    x = torch.tensor([1.5, 2.5], device="neuron")
    assert repr(x) == "tensor([1.5000, 2.5000], device='neuron:0')"
    assert repr(x.requires_grad_()).endswith("device='neuron:0', requires_grad=True)")
    assert "grad_fn=<SumBackward" in repr(x.sum())
    assert repr(nn.Parameter(x)).startswith("Parameter containing:\ntensor(")
    assert (x.sum().item(), x.tolist(), f"{x.detach().sum():.2f}") == (4.0, [1.5, 2.5], "4.00")
    assert torch.equal(x, x)
    assert bool(x.detach()[0] > 1)
    with pytest.raises(TypeError, match=r"\.cpu\(\)"):
        x.numpy()


def test_random_numbers_are_those_of_the_host() -> None:
    drawn = []
    for device in ("cpu", "neuron"):
        torch.manual_seed(3)
        drawn.append(torch.randn(4, device=device).cpu())
    assert torch.equal(*drawn)
    torch.manual_seed(0)
    x = torch.ones(1000, device="neuron", requires_grad=True)
    kept = torch.nn.functional.dropout(x, 0.25)
    kept.sum().backward()
    assert sorted(set(kept.tolist())) == pytest.approx([0.0, 4 / 3])
    assert 0.7 < (kept.cpu() > 0).float().mean() < 0.8
    assert torch.equal(x.grad.cpu(), kept.detach().cpu())


def test_a_module_moves_copies_saves_and_loads() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    device = copy.deepcopy(model).to("neuron")
    assert {p.device.type for p in copy.deepcopy(device).parameters()} == {"neuron"}
    file = io.BytesIO()
    torch.save(device.state_dict(), file)
    for place, expected in ((None, "neuron"), ("cpu", "cpu")):
        file.seek(0)
        state = torch.load(file, map_location=place)
        assert {t.device.type for t in state.values()} == {expected}
        model.load_state_dict(state)
        device.load_state_dict(state)
    for one, other in zip(model.parameters(), device.parameters(), strict=True):
        assert torch.equal(one, other.cpu())


def test_batch_norm_writes_its_running_statistics() -> None:
    norms = [nn.BatchNorm1d(3), nn.BatchNorm1d(3).to("neuron")]
    x = numbers(6, 3)
    y = [norm(x.to(d)).detach().cpu() for norm, d in zip(norms, ("cpu", "neuron"), strict=True)]
    torch.testing.assert_close(*y)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var.cpu())
    assert norms[1].num_batches_tracked.item() == 1


def test_a_number_that_changes_each_step_needs_no_new_program() -> None:
    x, y = torch.ones(3, device="neuron"), torch.ones(3, device="neuron")
    programs = torch_device._device().launcher.programs
    before = len(programs)
    for step in range(1, 4):
        x.addcdiv_(y, y, value=-1 / step)
        x.add_(y, alpha=1 / step).mul_(step / 2)
    assert len(programs) == before + 3
    assert x.tolist() == pytest.approx([0.75] * 3)


def test_the_device_of_a_context_and_of_host_scalars() -> None:
    with torch.device("neuron"):
        x = nn.Linear(2, 2)(torch.ones(1, 2))
    assert x.device.type == "neuron"
    assert (torch.ones(2, device="neuron") + torch.tensor(2.0)).tolist() == [3.0, 3.0]
    assert torch.zeros(0, 4, device="neuron").exp().shape == (0, 4)
    assert torch.zeros_like(x, device="cpu").device.type == "cpu"


def refused(call: Any) -> str:
    with pytest.raises((UnsupportedOp, UsageError)) as caught:
        call(torch.ones(2, 2, device="neuron"))
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__
    return str(caught.value.render())


def test_refusals_name_the_operation_the_line_and_a_next_step() -> None:
    assert "aten.erfinv" in refused(lambda x: torch.erfinv(x))
    assert 'move it with .to("neuron")' in refused(lambda x: x + torch.ones(2))
    assert ".cpu()" in refused(lambda x: x[x > 0])
    assert "aten.nonzero" in refused(lambda x: x.nonzero())
    assert "in place" in refused(lambda x: x.t_())
    assert "complex" in refused(lambda x: x.to(torch.complex64))


def test_pytorchs_own_errors_stay_its_own() -> None:
    x = torch.ones(2, 3, device="neuron")
    with pytest.raises(RuntimeError, match="reduction dim"):
        x @ x


def test_the_device_has_to_be_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="instruction, graph"):
        tenzing.torch.enable_device(numerics="exact")
    monkeypatch.setattr(torch_device, "_ENABLED", {})
    with pytest.raises(UsageError, match="not enabled"):
        tenzing.torch.device_time_us()
    with pytest.raises(UsageError, match="another extension has taken"):
        torch_device._register(_Taken)


class _Taken:
    class utils:
        class backend_registration:
            @staticmethod
            def _setup_privateuseone_for_python_backend(*_: Any, **__: Any) -> None:
                raise RuntimeError("backend has already been renamed to npu")


class Tiny(nn.Module):  # type: ignore[misc]
    """One block of a GPT."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(16, 8), nn.Embedding(4, 8)
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, ids: Any) -> Any:
        x = self.table(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + mixed.transpose(1, 2).flatten(2)
        x = x + self.narrow(nn.functional.gelu(self.wide(x)))
        return x @ self.table.weight.t()


@pytest.mark.slow
@pytest.mark.parametrize(("numerics", "optimizer"), [("instruction", "AdamW"), ("graph", "SGD")])
def test_a_small_gpt_trains_as_on_the_host(numerics: str, optimizer: str) -> None:
    tenzing.torch.enable_device(numerics=numerics)
    torch.manual_seed(0)
    host = Tiny()
    models = {"cpu": host, "neuron": copy.deepcopy(host).to("neuron")}
    ids = torch.randint(0, 16, (2, 5), generator=torch.Generator().manual_seed(1))
    seen: dict[str, list[float]] = {}
    for device, model in models.items():
        steps = getattr(torch.optim, optimizer)(model.parameters(), lr=1e-2)
        batch = ids.to(device)
        for _ in range(2):
            steps.zero_grad()
            logits = model(batch[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            steps.step()
            seen.setdefault(device, []).append(loss.item())
    assert seen["neuron"] == pytest.approx(seen["cpu"], rel=1e-5)
    assert seen["cpu"][1] < seen["cpu"][0]
    for one, other in zip(*(m.parameters() for m in models.values()), strict=True):
        # the gradients of the last step: AdamW's first updates are signs, which rounding turns
        torch.testing.assert_close(one.grad, other.grad.cpu(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_hugging_face_llama_runs_on_the_device() -> None:
    transformers = pytest.importorskip("transformers")
    tenzing.torch.enable_device(numerics="instruction")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 32, (2, 6))
    with torch.no_grad():
        expected = model(ids).logits
        got = model.to("neuron")(ids.to("neuron")).logits
    assert got.device.type == "neuron"
    assert (got.cpu() - expected).abs().max() <= 1e-5 * expected.abs().max()
