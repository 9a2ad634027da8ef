"""Training on the simulated chip: one program for loss, gradients and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tenzing import facts
from tenzing.compiler import reference
from tenzing.compiler.artifact import check_modes, split_example
from tenzing.compiler.execution import run_graph
from tenzing.compiler.frontends import torch_training
from tenzing.compiler.frontends.interface import check_type
from tenzing.compiler.frontends.torch_interface import flat_tensors
from tenzing.compiler.frontends.torch_values import from_numpy, to_numpy
from tenzing.compiler.graph import Array, Graph
from tenzing.compiler.lowering import Progress
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.printer import to_text
from tenzing.compiler.timing import GraphTime, time_graph
from tenzing.errors import UsageError


@dataclass(repr=False)
class Training:
    """A model that learns on the simulated chip.

    Each call runs one step on a batch and returns the loss. Weights, optimizer state and buffers
    live here; ``copy_to`` writes them into a module.
    """

    traced: torch_training.TrainingGraph
    target: str
    numerics: str = "instruction"
    autocast: str = "none"
    autocast_dtype: str = "bf16"
    steps_done: int = 0
    frozen: Mapping[str, Array] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """Name, chip, weights and steps in a line."""
        count = len(self.traced.names)
        return (f"Training({self.traced.graph.name} on {self.target}: {count} weights; "
                f"{self.steps_done} steps done, autocast={self.autocast})")  # fmt: skip

    @property
    def state(self) -> dict[str, Array]:
        """Parameters, optimizer slots and buffers by name."""
        return self.traced.state

    @cached_property
    def graph(self) -> Graph:
        """The step after the passes; gradients stay inside."""
        return self._optimise(self._without_gradients())

    def _optimise(self, graph: Graph) -> Graph:
        return default_pipeline(self.autocast, self.autocast_dtype).run(graph)

    def _without_gradients(self) -> Graph:
        whole = self.traced.graph
        count = len(self.traced.names)
        aliases = tuple(replace(a, output=a.output - count) for a in whole.aliases)
        outputs = (whole.outputs[0], *whole.outputs[1 + count :])
        return replace(whole, outputs=outputs, aliases=aliases)

    @cached_property
    def _gradient_graph(self) -> Graph:
        whole = self.traced.graph
        outputs = whole.outputs[: 1 + len(self.traced.names)]
        return self._optimise(replace(whole, outputs=outputs, aliases=()))

    def __call__(self, *inputs: Any, progress: Progress | None = None, **keywords: Any) -> float:
        """One training step: forward, backward, update. Returns the loss before the update."""
        arrays = self._arrays(inputs, keywords)
        loss, *fresh = self._run(self.graph, arrays, progress)
        self.steps_done += 1
        for name, array in zip(self.state, fresh, strict=True):
            self.state[name] = array
        return float(np.asarray(loss).reshape(()))

    def gradients(self, *inputs: Any, **keywords: Any) -> dict[str, Any]:
        """Gradients of all parameters on a batch, as tensors by name; nothing is updated."""
        _, *found = self._run(self._gradient_graph, self._arrays(inputs, keywords), None)
        return {n: from_numpy(a) for n, a in zip(self.traced.names, found, strict=True)}

    def _arrays(self, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        host = self.traced.rule.schedule(self.steps_done + 1)
        scalars = [np.float32(number) for number in host]
        user = [to_numpy(t) for t in flat_tensors((tuple(inputs), dict(keywords)))]
        given = [*self.state.values(), *map(np.asarray, scalars), *self.frozen.values(), *user]
        values = self.traced.graph.inputs
        if len(given) != len(values):
            expected = len(values) - len(given) + len(user)
            raise UsageError("number of inputs differs from the compiled ones", got=len(user),
                             allowed=expected)  # fmt: skip
        for value, array in zip(values, given, strict=True):
            check_type(array, value)
        return given

    def _run(
        self, graph: Graph, arrays: Sequence[Array], progress: Progress | None
    ) -> Sequence[Array]:
        weights = reference.prepare(graph, {})
        if self.numerics == "graph":
            return reference.run_prepared(graph, arrays, weights)
        return run_graph(graph, arrays, weights, self.target, progress)[0]

    @property
    def time(self) -> GraphTime:
        """Time and work of one step on the device."""
        return time_graph(self._without_gradients(), self.target, autocast=self.autocast,
                          autocast_dtype=self.autocast_dtype)  # fmt: skip

    @property
    def latency_us(self) -> float:
        """One step on the device, launch included, in microseconds."""
        return self.time.latency_us

    def copy_to(self, module: Any) -> None:
        """Write the learnt parameters and buffers into a module of the same architecture."""
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for name in (*self.traced.names, *self.traced.buffers):
            if name in own:
                own[name].data.copy_(from_numpy(self.state[name]))

    def text(self) -> str:
        """The optimised step as text."""
        return to_text(self.graph)


def compile_training(
    module: Any,
    example_inputs: Any = (),
    example_keywords: Mapping[str, Any] | None = None,
    *,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = "adamw",
    target: str = "trn2",
    numerics: str = "instruction",
    autocast: str = "none",
    autocast_dtype: str = "bf16",
    seed: int | None = None,
) -> Training:
    """Compile loss, all gradients and the optimizer's update of a module as one program.

    ``loss``: a function of what the module returns; without it the module returns its loss.
    ``optimizer``: "adamw", "sgd" or a ``torch.optim`` AdamW or SGD, whose state is taken
    over. With ``autocast="matmult"``
    matrices multiply in ``autocast_dtype`` while weights, gradients and sums stay float32.
    ``seed`` starts dropout and other random numbers, whose state moves on with every step; without
    it ``torch.initial_seed()`` does.
    """
    chip = facts.simulated_chip(target)
    check_modes(numerics, autocast, autocast_dtype)
    inputs, keywords = split_example(example_inputs, example_keywords)
    rule = torch_training.rule_of(optimizer)
    steps_done, slots = torch_training.resumed(optimizer, module)
    traced = torch_training.import_training(module, inputs, keywords, loss, rule, seed)
    frozen = {n: to_numpy(p).copy() for n, p in module.named_parameters() if not p.requires_grad}
    if slots is not None:
        names = [name for name in traced.state if ".slot" in name]
        traced.state.update(zip(names, slots, strict=True))
    return Training(traced, chip.name, numerics, autocast, autocast_dtype, steps_done, frozen)


__all__ = ["Training", "compile_training"]
