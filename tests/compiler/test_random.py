"""Random numbers and dropout: distributions, seeds, and one mask for forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tenzing import compiler
from tenzing.compiler import ops, reference
from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import F32, Graph, GraphBuilder, Value
from tenzing.compiler.passes import default_pipeline
from tenzing.errors import UnsupportedOp

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
NUMERICS = ["graph", "instruction"]


class Draw(torch.nn.Module):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


SQUARE = math.sqrt(1 / 12)
DRAWS = {  # what is drawn like 120 x 90 ones: mean, deviation, bounds
    "rand": (lambda x: torch.rand(120, 90), 0.5, SQUARE, 0, 1),
    "rand_like": (lambda x: torch.rand_like(x, dtype=torch.bfloat16), 0.5, SQUARE, 0, 1),
    "randn": (lambda x: torch.randn(120, 90), 0, 1, -6, 6),
    "uniform": (lambda x: torch.empty_like(x).uniform_(-1, 3), 1, 4 * SQUARE, -1, 3),
    "normal": (lambda x: torch.empty_like(x).normal_(2, 0.5), 2, 0.5, -1, 5),
    "exponential": (lambda x: torch.empty_like(x).exponential_(2.0), 0.5, 0.5, 0, 9),
    "randint": (lambda x: torch.randint(3, 9, (120, 90)), 5.5, math.sqrt(35 / 12), 3, 8),
    "bernoulli": (lambda x: torch.bernoulli(x * 0.3), 0.3, math.sqrt(0.21), 0, 1),
    "bernoulli_p": (lambda x: torch.empty_like(x).bernoulli_(0.8), 0.8, 0.4, 0, 1),
    "dropout": (lambda x: torch.nn.functional.dropout(x, 0.2), 1, 0.5, 0, 1.25),
    "dropout2d": (lambda x: torch.nn.functional.dropout2d(x[:, :, None, None], 0.2), 1, 0.5, 0,
                  1.25),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_draws_have_the_distribution_of_pytorch(name: str) -> None:
    function, mean, deviation, low, high = DRAWS[name]
    ones = torch.ones(120, 90)
    found = []
    for numerics in NUMERICS:
        torch.manual_seed(5)
        compiled = compiler.compile(Draw(function).eval(), (ones,), numerics=numerics)
        found.append([compiled(ones) for _ in range(2)])
    (first, second), on_chip = found
    assert first.dtype == function(ones).dtype
    for one, other in zip((first, second), on_chip, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not torch.equal(first, second)
    drawn = torch.stack([first, second]).double()
    error = deviation / math.sqrt(drawn.numel())
    assert abs(float(drawn.mean()) - mean) < 4 * error
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.05)
    assert low <= float(drawn.min()) <= float(drawn.max()) <= high


def test_draws_of_one_call_are_apart() -> None:
    compiled = compiler.compile(
        Draw(lambda x: (torch.rand(500), torch.rand(500))).eval(), (torch.ones(1),)
    )
    one, other = compiled(torch.ones(1))
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.2


class Net(torch.nn.Module):
    def __init__(self, probability: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.up, self.down = torch.nn.Linear(12, 40), torch.nn.Linear(40, 5)
        self.drop = torch.nn.Dropout(probability)

    def forward(self, x: Any, y: Any) -> Any:
        inner = self.drop(torch.relu(self.up(x)))
        return torch.nn.functional.cross_entropy(self.drop(self.down(inner)), y)


def batch() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(9, 12, generator=generator), torch.randint(0, 5, (9,), generator=generator)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_gradients_are_those_of_pytorch_under_the_same_masks(
    numerics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = compiler.compile_training(Net(0.3).train(), batch(), seed=11, numerics=numerics)
    state = step.state["random_state"]

    def masks() -> Iterator[Any]:
        for offset, shape in enumerate([(9, 40), (9, 5)]):
            words = ops.RandomBits(shape, offset).reference(state)[0]
            yield torch.from_numpy((words >> 8) * 2.0**-24 < np.float32(0.7))

    gradients = step.gradients(*batch())
    loss = step(*batch())
    drawn = masks()
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p, *_: x * next(drawn) / (1 - p))
    net = Net(0.3).train()
    expected = net(*batch())
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for path, parameter in net.named_parameters():
        torch.testing.assert_close(gradients[path], parameter.grad, rtol=1e-4, atol=1e-6)


def losses(seed: int | None, numerics: str = "graph", steps: int = 3) -> list[float]:
    step = compiler.compile_training(
        Net().train(), batch(), optimizer="sgd", seed=seed, numerics=numerics
    )
    return [step(*batch()) for _ in range(steps)]


def test_a_seed_reproduces_and_steps_differ() -> None:
    one = losses(3)
    assert one == losses(3)
    assert one == pytest.approx(losses(3, "instruction"), rel=1e-5)
    assert one != losses(4)
    assert len(set(one)) == 3
    assert losses(None) == losses(2)  # the seed of torch.manual_seed, which Net calls


def test_every_element_is_dropped_at_times() -> None:
    class Weight(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(50, 40))

        def forward(self) -> Any:
            return torch.nn.functional.dropout(self.weight, 0.1).sum()

    step = compiler.compile_training(Weight().train(), (), optimizer="sgd", numerics="graph")
    kept = torch.zeros(50, 40)
    for _ in range(60):
        gradient = step.gradients()["weight"]
        assert set(gradient.unique().tolist()) == {0.0, float(np.float32(1 / 0.9))}
        kept += gradient > 0
        step()
    share = kept / 60
    assert abs(float(share.mean()) - 0.9) < 4 * 0.3 / math.sqrt(share.numel() * 60)
    assert float(share.min()) > 0.6
    assert float(share.max()) <= 1


def test_torch_compile_draws_from_pytorchs_generator() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5)).train()
    # a second shape of some other Sequential would make Dynamo want this one's sizes open
    compiled = torch.compile(module, backend="tenzing", dynamic=False)
    x = torch.randn(20, 8, requires_grad=True)
    torch.manual_seed(1)
    first = compiled(x)
    first.sum().backward()
    kept = (first.detach() != 0).float() * 2
    torch.testing.assert_close(x.grad, kept @ module[0].weight.detach(), rtol=1e-4, atol=1e-5)
    torch.manual_seed(1)
    assert torch.equal(compiled(x), first)
    assert not torch.equal(compiled(x), first)


def kept_at_random(b: GraphBuilder, x: Value, state: Value, offset: int, shape: Any) -> Value:
    """x where a word of its own is below a half, else zero."""
    words = b.add(ops.RandomBits(shape, offset), state)
    high = b.add(ops.ShiftRightLogical(), words, b.add(ops.Constant.splat(8, shape, words.dtype)))
    number = b.add(ops.Convert(F32), high)
    half = b.add(ops.Constant.splat(2.0**23, shape, F32))
    kept = b.add(ops.Compare("lt"), number, half)
    if shape != x.shape:
        kept = b.add(ops.BroadcastInDim(x.shape, tuple(range(len(shape)))), kept)
    return b.add(ops.Select(), kept, x, b.add(ops.Constant.splat(0.0, x.shape, F32)))


def same_on_chip(graph: Graph) -> Graph:
    """The graph after the passes, whose words on the chip are those of the reference."""
    final = default_pipeline().run(graph)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(graph.inputs[0].shape).astype(np.float32)
    given = [x, np.array([2**31 - 3], np.int32)]
    found = run_graph(final, given, {}, "trn2")[0]
    for one, other in zip(found, reference.run(graph, given, {}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
    return final


@pytest.mark.parametrize("shape", [(130, 9), (3, 5000), (1, 7), (300, 2), (2, 3, 30000)])
@pytest.mark.parametrize("summed", [True, False], ids=["summed", "plain"])
def test_a_group_draws_its_own_words(shape: tuple[int, ...], summed: bool) -> None:
    """No word goes through memory, and each belongs to its element, however rows are cut."""
    b = GraphBuilder("g")
    x, state = b.input("x", shape, F32), b.input("state", (1,), np.int32)
    outputs = [kept_at_random(b, x, state, 5, shape)]
    if summed:
        outputs.append(b.add(ops.Reduce("add", (len(shape) - 1,)), outputs[0]))
    final = same_on_chip(b.build(outputs))
    assert final.count() == {"fused": 1}


def test_one_word_for_a_whole_row() -> None:
    b = GraphBuilder("g")
    x, state = b.input("x", (200, 6), F32), b.input("state", (1,), np.int32)
    assert "random_bits" not in same_on_chip(
        b.build([kept_at_random(b, x, state, 0, (200, 1))])
    ).count()  # fmt: skip


def test_draws_after_one_another_stay_in_groups_of_their_own() -> None:
    b = GraphBuilder("g")
    x, state = b.input("x", (200, 6), F32), b.input("state", (1,), np.int32)
    first = kept_at_random(b, x, state, 0, (200, 6))
    final = same_on_chip(b.build([kept_at_random(b, first, state, 1, (200, 6))]))
    assert final.count() == {"fused": 2}


def test_dropout_joins_the_norm_and_the_sum_beside_it() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.norm = torch.nn.Linear(12, 12), torch.nn.LayerNorm(12)

        def forward(self, x: Any) -> Any:
            return self.norm(x + torch.nn.functional.dropout(self.up(x), 0.1)).square().mean()

    x = torch.randn(9, 12)
    step = compiler.compile_training(Block().train(), (x,), seed=3)
    group = next(n.op.body for n in step.graph.nodes
                 if n.op.name == "fused" and "random_bits" in n.op.body.count())  # fmt: skip
    assert {"random_bits", "layer_norm", "add"} <= group.count().keys()
    assert "random_bits" not in step.graph.count()


def test_what_cannot_be_drawn_is_named() -> None:
    large = Draw(lambda x: torch.randint(0, 2**30, (4,)))
    with pytest.raises(UnsupportedOp, match="more than 24 bits"):
        compiler.compile(large.eval(), (torch.ones(1),))
    branch = Draw(lambda x: torch.cond(x.sum() > 0, lambda x: x + torch.rand(3), torch.sin, (x,)))
    with pytest.raises(UnsupportedOp, match="random numbers inside a branch"):
        compiler.compile(branch.eval(), (torch.ones(3),))
