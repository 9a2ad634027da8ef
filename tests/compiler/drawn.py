"""Random programs over the operations of the graph, written once and said in each framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

Shape = tuple[int, ...]
SIZES = st.integers(1, 5)
LIMIT = 3  # operands of an exponential or a power stay within it


@dataclass(frozen=True)
class Step:
    """One operation on values drawn before, by number, with its attributes."""

    name: str
    operands: tuple[int, ...]
    attributes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """A program: shapes of float32 inputs, steps, and the numbers of the values it returns."""

    inputs: tuple[Shape, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    seed: int

    def arrays(self) -> list[np.ndarray]:
        """Reproducible inputs."""
        random = np.random.default_rng(self.seed)
        return [random.standard_normal(s).astype(np.float32) for s in self.inputs]

    def run(self, language: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The program said in a language: an object with a method per operation."""
        values = list(inputs)
        for step in self.steps:
            method: Callable[..., Any] = getattr(language, step.name)
            values.append(method(*(values[k] for k in step.operands), *step.attributes))
        return tuple(values[k] for k in self.outputs)


UNARY = ("absolute", "negate", "tanh", "logistic", "sine", "exponential", "root", "bounded",
         "rounded", "narrowed", "relu", "gelu")  # fmt: skip
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "choose")


@st.composite
def programs(draw: st.DrawFn) -> Drawn:
    """Programs of 3 to 12 steps on one to three inputs of rank 1 to 4."""
    shapes: list[Shape] = [
        tuple(draw(st.lists(SIZES, min_size=1, max_size=4))) for _ in range(draw(st.integers(1, 3)))
    ]
    inputs, steps = tuple(shapes), []
    for _ in range(draw(st.integers(3, 12))):
        step, shape = draw(_step(shapes))
        steps.append(step)
        shapes.append(shape)
    last = len(shapes) - 1
    others = draw(st.lists(st.integers(len(inputs), last), max_size=2))
    outputs = tuple(dict.fromkeys([last, *others]))
    return Drawn(inputs, tuple(steps), outputs, draw(st.integers(0, 999)))


@st.composite
def _step(draw: st.DrawFn, shapes: list[Shape]) -> tuple[Step, Shape]:
    at = draw(st.integers(0, len(shapes) - 1))
    shape = shapes[at]
    kind = draw(st.sampled_from([
        "unary", "unary", "binary", "reduce", "move", "softmax", "norm", "matmul", "pick",
    ]))  # fmt: skip
    if kind == "unary":
        return Step(draw(st.sampled_from(UNARY)), (at,)), shape
    if kind == "binary":
        same = [k for k, s in enumerate(shapes) if s == shape]
        return Step(draw(st.sampled_from(BINARY)), (at, draw(st.sampled_from(same)))), shape
    if kind == "reduce":
        return _reduction(draw, at, shape)
    if kind == "move":
        return _movement(draw, at, shape)
    if kind == "matmul":
        width = draw(SIZES)
        weight = tuple(draw(st.lists(st.integers(-3, 3), min_size=shape[-1] * width,
                                     max_size=shape[-1] * width)))  # fmt: skip
        return Step("linear", (at,), (weight, width)), (*shape[:-1], width)
    if kind == "pick":
        rows = draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=4))
        return Step("rows", (at,), (tuple(rows),)), (len(rows), *shape[1:])
    return Step(kind, (at,)), shape


def _reduction(draw: st.DrawFn, at: int, shape: Shape) -> tuple[Step, Shape]:
    name, dim = (
        draw(st.sampled_from(["total", "largest", "running", "ordered"])),
        draw(st.integers(0, len(shape) - 1)),
    )
    if name in ("running", "ordered"):
        return Step(name, (at,), (dim,)), shape
    kept = tuple(1 if d == dim else n for d, n in enumerate(shape))
    return Step(name, (at,), (dim,)), kept


def _movement(draw: st.DrawFn, at: int, shape: Shape) -> tuple[Step, Shape]:
    name = draw(st.sampled_from(["transpose", "flatten", "slice", "pad", "stack", "reverse"]))
    dim = draw(st.integers(0, len(shape) - 1))
    if name == "transpose":
        order = tuple(draw(st.permutations(range(len(shape)))))
        return Step(name, (at,), (order,)), tuple(shape[d] for d in order)
    if name == "flatten":
        flat = (int(np.prod(shape[:-1])), shape[-1])
        return Step("reshape", (at,), (flat,)), flat
    if name == "slice":
        low = draw(st.integers(0, shape[dim] - 1))
        return Step(name, (at,), (dim, low)), _with(shape, dim, shape[dim] - low)
    if name == "pad":
        low, high = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        return Step(name, (at,), (dim, low, high)), _with(shape, dim, shape[dim] + low + high)
    if name == "stack":
        return Step(name, (at, at), (dim,)), _with(shape, dim, 2 * shape[dim])
    return Step(name, (at,), (dim,)), shape


def _with(shape: Shape, dim: int, size: int) -> Shape:
    return tuple(size if d == dim else n for d, n in enumerate(shape))


class Operators:
    """The operations that Python's own operators and methods say in every framework."""

    def negate(self, x: Any) -> Any:
        return -x

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def subtract(self, x: Any, y: Any) -> Any:
        return x - y

    def multiply(self, x: Any, y: Any) -> Any:
        return self.bounded(x) * y

    def reshape(self, x: Any, shape: Shape) -> Any:
        return x.reshape(shape)


class Torch(Operators):
    """The operations in PyTorch."""

    def __init__(self) -> None:
        import torch

        self.t, self.f = torch, torch.nn.functional

    def absolute(self, x: Any) -> Any:
        return self.t.abs(x)

    def tanh(self, x: Any) -> Any:
        return self.t.tanh(x)

    def logistic(self, x: Any) -> Any:
        return self.t.sigmoid(x)

    def sine(self, x: Any) -> Any:
        return self.t.sin(self.bounded(x))

    def exponential(self, x: Any) -> Any:
        return self.t.exp(self.bounded(x))

    def root(self, x: Any) -> Any:
        return self.t.sqrt(self.t.abs(x) + 0.5)

    def bounded(self, x: Any) -> Any:
        return self.t.clamp(x, -LIMIT, LIMIT)

    def rounded(self, x: Any) -> Any:
        return self.t.round(self.bounded(x) * 4) / 4

    def narrowed(self, x: Any) -> Any:
        return x.to(self.t.bfloat16).to(self.t.float32)

    def relu(self, x: Any) -> Any:
        return self.f.relu(x)

    def gelu(self, x: Any) -> Any:
        return self.f.gelu(x)

    def divide(self, x: Any, y: Any) -> Any:
        return x / (self.t.abs(y) + 0.5)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.t.maximum(x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.t.minimum(x, y)

    def choose(self, x: Any, y: Any) -> Any:
        return self.t.where(x > y, x, y)

    def total(self, x: Any, dim: int) -> Any:
        return x.sum(dim, keepdim=True)

    def largest(self, x: Any, dim: int) -> Any:
        return self.t.amax(x, dim, keepdim=True)

    def running(self, x: Any, dim: int) -> Any:
        return self.t.cumsum(x, dim)

    def ordered(self, x: Any, dim: int) -> Any:
        return self.t.sort(x, dim).values

    def transpose(self, x: Any, order: Shape) -> Any:
        return x.permute(order)

    def slice(self, x: Any, dim: int, low: int) -> Any:
        return x.narrow(dim, low, x.shape[dim] - low)

    def stack(self, x: Any, y: Any, dim: int) -> Any:
        return self.t.cat([x, y], dim)

    def reverse(self, x: Any, dim: int) -> Any:
        return self.t.flip(x, [dim])

    def softmax(self, x: Any) -> Any:
        return self.t.softmax(x, -1)

    def norm(self, x: Any) -> Any:
        return self.f.layer_norm(x, x.shape[-1:])

    def rows(self, x: Any, rows: Shape) -> Any:
        return x[self.t.tensor(rows)]

    def pad(self, x: Any, dim: int, low: int, high: int) -> Any:
        edges = [0, 0] * (len(x.shape) - 1 - dim) + [low, high]
        return self.f.pad(x, edges, value=0.25)

    def linear(self, x: Any, weight: Shape, width: int) -> Any:
        return x @ (self.t.tensor(weight).reshape(-1, width).float() / 4)


class Jax(Operators):
    """The operations in JAX."""

    def __init__(self) -> None:
        import jax

        self.n, self.j = jax.numpy, jax

    def absolute(self, x: Any) -> Any:
        return self.n.abs(x)

    def tanh(self, x: Any) -> Any:
        return self.n.tanh(x)

    def logistic(self, x: Any) -> Any:
        return self.j.nn.sigmoid(x)

    def sine(self, x: Any) -> Any:
        return self.n.sin(self.bounded(x))

    def exponential(self, x: Any) -> Any:
        return self.n.exp(self.bounded(x))

    def root(self, x: Any) -> Any:
        return self.n.sqrt(self.n.abs(x) + 0.5)

    def bounded(self, x: Any) -> Any:
        return self.n.clip(x, -LIMIT, LIMIT)

    def rounded(self, x: Any) -> Any:
        return self.n.round(self.bounded(x) * 4) / 4

    def narrowed(self, x: Any) -> Any:
        return self.j.lax.reduce_precision(x, 8, 7)

    def relu(self, x: Any) -> Any:
        return self.j.nn.relu(x)

    def gelu(self, x: Any) -> Any:
        return self.j.nn.gelu(x, approximate=False)

    def divide(self, x: Any, y: Any) -> Any:
        return x / (self.n.abs(y) + 0.5)

    def maximum(self, x: Any, y: Any) -> Any:
        return self.n.maximum(x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.n.minimum(x, y)

    def choose(self, x: Any, y: Any) -> Any:
        return self.n.where(x > y, x, y)

    def total(self, x: Any, dim: int) -> Any:
        return x.sum(dim, keepdims=True)

    def largest(self, x: Any, dim: int) -> Any:
        return x.max(dim, keepdims=True)

    def running(self, x: Any, dim: int) -> Any:
        return self.n.cumsum(x, dim)

    def ordered(self, x: Any, dim: int) -> Any:
        return self.n.sort(x, dim)

    def transpose(self, x: Any, order: Shape) -> Any:
        return self.n.transpose(x, order)

    def slice(self, x: Any, dim: int, low: int) -> Any:
        return self.j.lax.slice_in_dim(x, low, None, axis=dim)

    def stack(self, x: Any, y: Any, dim: int) -> Any:
        return self.n.concatenate([x, y], dim)

    def reverse(self, x: Any, dim: int) -> Any:
        return self.n.flip(x, dim)

    def softmax(self, x: Any) -> Any:
        return self.j.nn.softmax(x, -1)

    def rows(self, x: Any, rows: Shape) -> Any:
        return x[self.n.array(rows)]

    def norm(self, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred / self.n.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    def pad(self, x: Any, dim: int, low: int, high: int) -> Any:
        edges = [(low, high) if d == dim else (0, 0) for d in range(x.ndim)]
        return self.n.pad(x, edges, constant_values=0.25)

    def linear(self, x: Any, weight: Shape, width: int) -> Any:
        return x @ (self.n.array(weight).reshape(-1, width).astype(self.n.float32) / 4)
