"""Programs by bucket: requests of any size give what the model gives for them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tenzing
from tenzing.errors import UsageError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


class Pooled(torch.nn.Module):
    """Mixes positions by a masked attention, then pools those that the mask keeps."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(50, width)
        self.mix = torch.nn.Linear(width, width)

    def forward(self, ids: Any, mask: Any) -> Any:
        x = self.embed(ids)
        hidden = (1.0 - mask[:, None, :].float()) * torch.finfo(torch.float32).min
        scores = torch.softmax(self.mix(x) @ x.transpose(1, 2) + hidden, -1)
        y = scores @ x
        weight = mask[:, :, None].float()
        return {"tokens": y, "pooled": (y * weight).sum(1) / weight.sum(1)}


class Mean(torch.nn.Module):
    """Forgets that positions may be padding."""

    def forward(self, x: Any) -> Any:
        return x.mean(1)


class Causal(torch.nn.Module):
    """Sums of what came before: padding behind a request cannot matter."""

    def forward(self, x: Any) -> Any:
        return torch.cumsum(x, 1) * 2


def example(batch: int, length: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(batch * 100 + length)
    ids = torch.randint(0, 50, (batch, length), generator=generator)
    return {"ids": ids, "mask": torch.ones(batch, length, dtype=torch.int64)}


def rows(batch: int, length: int) -> tuple[Any]:
    generator = torch.Generator().manual_seed(batch * 100 + length)
    return (torch.randn(batch, length, 4, generator=generator),)


@pytest.fixture(scope="module")
def pooled() -> Any:
    return tenzing.compile_buckets(
        Pooled().eval(), example, buckets=[(1, 8), (2, 8), (4, 16)], pad={"ids": 7},
        numerics="graph",
    )  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (2, 5), (3, 3), (1, 9), (4, 16), (3, 16)])
def test_results_are_those_of_the_request_alone(pooled: Any, size: tuple[int, int]) -> None:
    given = example(*size)
    found, wanted = pooled(**given), Pooled().eval()(**given)
    assert list(found) == ["tokens", "pooled"]
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_requests_with_masks_of_their_own(pooled: Any) -> None:
    given = example(3, 7)
    given["mask"][1, 4:] = 0
    wanted = Pooled().eval()(**given)
    torch.testing.assert_close(pooled(**given)["pooled"], wanted["pooled"], rtol=1e-4, atol=1e-5)


def test_every_instruction_of_a_padded_request() -> None:
    found = tenzing.compile_buckets(Pooled().eval(), example, buckets=[(2, 8)])
    given = example(1, 5)
    wanted = Pooled().eval()(**given)["pooled"]
    torch.testing.assert_close(found(**given)["pooled"], wanted, rtol=1e-3, atol=1e-4)
    assert found.latency_us(1, 5) == found.programs[2, 8].latency_us
    assert "on trn2" in found.programs[2, 8].report()


def test_dispatch_is_to_the_smallest_that_fits(pooled: Any) -> None:
    assert pooled.dims == ("batch", "length")
    assert pooled.bucket_for((1, 3)) == (1, 8)
    assert pooled.bucket_for((2, 3)) == (2, 8)
    assert pooled.bucket_for((3, 3)) == (4, 16)
    says = "fits no bucket; got batch 1, length 17; allowed: batch 1, length 8; batch 2"
    with pytest.raises(UsageError, match=says) as caught:
        pooled(**example(1, 17))
    assert "tenzing buckets" in caught.value.finding.next_step


def test_buckets_share_their_weights(pooled: Any) -> None:
    for size in pooled.programs:
        pooled(**example(*size))
    first, *others = (program.weights for program in pooled.programs.values())
    for weights in others:
        assert all(weights[name] is array for name, array in first.items())


def test_waste_of_a_sample(pooled: Any) -> None:
    waste = pooled.waste([(1, 8), (1, 4), (3, 16)])
    assert waste.waste == pytest.approx(1 - (8 + 4 + 48) / (8 + 8 + 64))
    with pytest.raises(UsageError, match="other dims"):
        pooled.waste(tenzing.compiler.Traffic.of([5]))


def test_one_dim_and_plain_numbers() -> None:
    def alone(length: int) -> Any:
        return rows(2, length)[0]

    found = tenzing.compile_buckets(Causal().eval(), alone, buckets=[4, 16], numerics="graph")
    assert found.dims == ("length",)
    (x,) = rows(2, 5)
    torch.testing.assert_close(found(x), torch.cumsum(x, 1) * 2)
    with pytest.raises(UsageError, match="has another shape or dtype than it was compiled for"):
        found(rows(3, 5)[0])


def test_padding_that_would_change_results_is_refused() -> None:
    with pytest.raises(
        UsageError, match="padding changes output: batch 1, length 4 alone"
    ) as found:
        tenzing.compile_buckets(Mean().eval(), rows, buckets=[(2, 8)])
    assert "attention mask" in found.value.finding.next_step
    assert "%x: f32[2,8,4]" in found.value.finding.next_step
    tenzing.compile_buckets(Mean().eval(), rows, buckets=[(2, 8)], check=False)
    with pytest.raises(UsageError, match="padding changes"):
        tenzing.compile_buckets(Pooled().eval(), example, buckets=[(2, 8)], pad={"mask": 1})


class Flat(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x.reshape(-1)


class Counts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.calls.add_(1)
        return x * self.calls


@pytest.mark.parametrize(
    ("module", "options", "says"),
    [
        (Causal, {"buckets": []}, "no bucket is given"),
        (Causal, {"buckets": [8]}, "make_example takes other numbers than a bucket has"),
        (Causal, {"buckets": [(2, 0)]}, r"a bucket; got \(2, 0\)"),
        (Causal, {"buckets": [(2, 8), (2,)]}, r"a bucket; got \(2,\)"),
        (Causal, {"buckets": [(2, 8)], "pad": {"y": 0}}, "pad names no input of the model; got y"),
        (Causal, {"buckets": [(2, 8)], "pad": {"x": "zero"}}, "padding of input x; got zero"),
        (Causal, {"buckets": [(2, 8)], "target": "trn9"}, "trn9"),
        (Flat, {"buckets": [(2, 8)]}, "an axis of output follows no dim of the buckets"),
        (Counts, {"buckets": [(2, 8)]}, "a model that writes state cannot be padded"),
    ],
)
def test_wrong_calls_are_refused(module: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(tenzing.errors.TenzingError, match=says):
        tenzing.compile_buckets(module().eval(), rows, **options)


def test_inputs_that_disagree_are_refused(pooled: Any) -> None:
    given = example(2, 5)
    given["mask"] = given["mask"][:, :4]
    with pytest.raises(UsageError, match="inputs differ in length; got 5 in ids, 4 in mask"):
        pooled(**given)
    with pytest.raises(UsageError, match="has another shape or dtype"):
        pooled(ids=torch.ones(2, 5), mask=torch.ones(2, 5))
    big = torch.full((1, 4), 2**40)
    with pytest.raises(UsageError, match="do not fit the chip's 32-bit integers"):
        pooled(ids=big, mask=torch.ones(1, 4, dtype=torch.int64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_transformers_models(name: str) -> None:
    pytest.importorskip("transformers")
    from .zoo import HF_20

    module, _ = HF_20[name]()
    inner = next(iter(module.children())) if not hasattr(module, "config") else module

    def tokens(batch: int, length: int) -> dict[str, Any]:
        ids = torch.from_numpy(np.random.default_rng(length).integers(3, 90, (batch, length)))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    found = tenzing.compile_buckets(inner, tokens, buckets=[(2, 16)], numerics="graph")
    given = tokens(1, 11)
    with torch.no_grad():
        wanted = inner(**given)[0]
    torch.testing.assert_close(found(**given)[0], wanted, rtol=1e-4, atol=1e-4)
