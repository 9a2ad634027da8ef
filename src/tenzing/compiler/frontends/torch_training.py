"""A whole PyTorch training step as one graph: loss, gradients, optimizer, updated state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenzing.compiler.frontends.aten.random import draws
from tenzing.compiler.frontends.torch import (
    GraphReader,
    math_attention,
    training_decompositions,
)
from tenzing.compiler.frontends.torch_attention import functionalized, keep_attention
from tenzing.compiler.frontends.torch_export import quiet, static_experts, trace_error, traced
from tenzing.compiler.frontends.torch_values import (
    require_torch,
    tensor_type,
    to_numpy,
)
from tenzing.compiler.graph import Alias, Array, Graph, Value
from tenzing.compiler.ops import Constant
from tenzing.compiler.ops.random import STATE
from tenzing.compiler.verify import verify
from tenzing.errors import TenzingError, UsageError
from tenzing.isa import numerics

Loss = Callable[..., Any]
SLOTS: Final = {"AdamW": ("exp_avg", "exp_avg_sq"), "SGD": ("momentum_buffer",)}
SCHEDULE: Final = ("keep", "rate", "root")  # what the host tells each step, see Rule


@dataclass(frozen=True)
class Rule:
    """An optimizer: AdamW (decoupled weight decay), or plain and momentum SGD.

    Each step gets three numbers: ``keep`` is the factor of weight decay, ``rate`` the step size
    with bias correction, ``root`` the correction of the second moment's root.
    """

    kind: str = "adamw"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    momentum: float = 0.0

    @property
    def slots(self) -> int:
        """State tensors per parameter."""
        return 2 if self.kind == "adamw" else int(self.momentum > 0)

    def schedule(self, step: int) -> tuple[float, float, float]:
        """keep, rate and root of a step counted from 1."""
        if self.kind != "adamw":
            return 1.0, self.learning_rate, 1.0
        keep = 1.0 - self.learning_rate * self.weight_decay
        first, second = self.betas
        rate = self.learning_rate / (1.0 - first**step)
        return keep, rate, (1.0 - second**step) ** -0.5

    def update(self, torch: Any, p: Any, grad: Any, slots: Sequence[Any], host: Any) -> list[Any]:
        """The new parameter, then its new state."""
        keep, rate, root = host
        if self.kind == "adamw":
            first, second = self.betas
            mean = slots[0] * first + grad * (1.0 - first)
            square = slots[1] * second + grad * grad * (1.0 - second)
            size = torch.sqrt(square) * root + self.epsilon
            return [p * keep - rate * (mean / size), mean, square]
        if self.weight_decay:  # of SGD: part of the gradient, before momentum
            grad = grad + p * self.weight_decay
        if self.momentum:
            velocity = slots[0] * self.momentum + grad
            return [p * keep - rate * velocity, velocity]
        return [p * keep - rate * grad]


def rule_of(optimizer: Any) -> Rule:
    """The rule of a ``torch.optim`` instance, a Rule, or a name ("adamw", "sgd").

    Raises UsageError for an optimizer without a rule, or with options that the rule lacks.
    """
    if isinstance(optimizer, Rule):
        return optimizer
    if optimizer in ("adamw", "sgd"):
        return Rule(optimizer, weight_decay=0.01 if optimizer == "adamw" else 0.0)
    name = type(optimizer).__name__
    groups = getattr(optimizer, "param_groups", None)
    if name not in ("AdamW", "SGD") or not groups:
        raise UsageError("no rule for this optimizer", got=name if groups else repr(optimizer),
                         allowed='torch.optim.AdamW or SGD instances, "adamw", "sgd"')  # fmt: skip
    if len(groups) > 1:
        raise UsageError("optimizer with several parameter groups", got=len(groups), allowed=1)
    options = groups[0]
    odd = [k for k in ("amsgrad", "maximize", "nesterov", "dampening") if options.get(k)]
    if odd:
        raise UsageError(f"optimizer option {odd[0]}", got=options[odd[0]], allowed="off")
    common = float(options["lr"]), float(options["weight_decay"])
    if name == "SGD":
        return Rule("sgd", common[0], weight_decay=common[1], momentum=float(options["momentum"]))
    return Rule("adamw", common[0], tuple(options["betas"]), options["eps"], common[1])


def resumed(optimizer: Any, module: Any) -> tuple[int, list[Array] | None]:
    """Steps that an optimizer has done, and its slots in the order of the module's parameters.

    Raises UsageError when it was built over other parameters than those the module trains.
    """
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        return 0, None
    held, every = groups[0]["params"], list(module.parameters())
    _check_shared(held, every)
    trained = [p for p in every if p.requires_grad]
    if [p.shape for p in held] == [p.shape for p in every]:  # frozen ones never get a gradient
        held = [p for p, own in zip(held, every, strict=True) if own.requires_grad]
    if [p.shape for p in held] != [p.shape for p in trained]:
        raise UsageError(
            "the optimizer holds other parameters than the module trains",
            got=f"{len(held)} in the optimizer", allowed=f"the {len(trained)} with requires_grad",
            next_step="build it over module.parameters(), and set requires_grad to False on those "
            "that stay",
        )  # fmt: skip
    states = [optimizer.state.get(p) or {} for p in held]
    if not any(states):
        return 0, None
    slots = SLOTS[type(optimizer).__name__]
    torch = require_torch()
    found = [state.get(slot, torch.zeros_like(p)) for p, state in zip(held, states, strict=True)
             for slot in slots if slot in states[0]]  # fmt: skip
    return max(int(state.get("step", 0)) for state in states), [to_numpy(t).copy() for t in found]


def _check_shared(held: Sequence[Any], every: Sequence[Any]) -> None:
    """Equal shapes are not enough: the slots of another module's optimizer say nothing here."""
    if {id(p) for p in held}.isdisjoint(id(p) for p in every):
        raise UsageError(
            "the optimizer was built over another module",
            got=f"{len(held)} parameters, none of this module's",
            allowed=f"the {len(every)} parameters of the module that is compiled",
            next_step="build it over module.parameters(), and give another's state to its "
            "load_state_dict()",
        )  # fmt: skip


@dataclass
class TrainingGraph:
    """One step as a graph.

    Inputs in order: parameters, optimizer slots, buffers, the random state where random numbers are
    drawn, the schedule's numbers, the user's tensors. Outputs: the loss, a gradient per parameter,
    then the new state, which aliases its inputs.
    """

    graph: Graph
    names: tuple[str, ...]
    buffers: tuple[str, ...]
    rule: Rule
    state: dict[str, Array] = field(repr=False)


def import_training(
    module: Any, example_inputs: Sequence[Any], keywords: Mapping[str, Any], loss: Loss | None,
    rule: Rule, seed: int | None = None,
) -> TrainingGraph:  # fmt: skip
    """Trace loss, gradients and optimizer of ``module`` at the shapes of its example inputs.

    ``loss`` gets what the module returns and yields a scalar; without it the module's own result,
    or its ``loss``, is the loss. ``seed`` starts the random state; without it PyTorch's initial
    seed does. Raises UsageError when there is nothing to train or no scalar.
    """
    torch = require_torch()
    with quiet(), math_attention(torch), static_experts(module):
        step = _Step(torch, module, example_inputs, keywords, loss, rule)
        flat = step.example()
        traced_step = _trace(torch, module, step, flat)
        first = torch.initial_seed() if seed is None else seed
        return _Reader(torch, traced_step.graph, type(module).__name__).read(step, first)


def _trace(torch: Any, module: Any, step: _Step, flat: Sequence[Any]) -> Any:
    from torch._dispatch.python import enable_python_dispatcher
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        function = torch.func.functionalize(step, remove="mutations_and_views")
        # with Python's dispatcher a batch norm says which buffers it writes
        with enable_python_dispatcher(), functionalized(torch):
            return make_fx(function, training_decompositions(torch), tracing_mode="fake")(*flat)
    except TenzingError:
        raise
    except Exception as error:
        raise trace_error(module, error) from error


class _Step:
    """The step as a function of flat tensors."""

    def __init__(
        self, torch: Any, module: Any, inputs: Sequence[Any], keywords: Mapping[str, Any],
        loss: Loss | None, rule: Rule,
    ) -> None:  # fmt: skip
        self.torch, self.loss, self.rule = torch, loss, rule
        self.program = traced(torch, module, inputs, keywords).module()
        keep_attention(torch, self.program)
        leaves, self.tree = torch.utils._pytree.tree_flatten((tuple(inputs), dict(keywords)))
        self.tensors = [k for k, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.leaves = leaves
        self.groups = _tied(module)
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise UsageError("the module has no parameters to train",
                             next_step="set requires_grad on those that learn")  # fmt: skip
        wrong = [n for n, p in trained.items() if not p.dtype.is_floating_point]
        if wrong:
            raise UsageError(f"parameter {wrong[0]} is not floating point", got=trained[wrong[0]])
        self.params = trained
        self.frozen = {n: p for n, p in module.named_parameters() if not p.requires_grad}
        self.buffers = dict(self.program.named_buffers())

    def example(self) -> list[Any]:
        """Tensors for every argument."""
        torch = self.torch
        params = [p.detach() for p in self.params.values()]
        slots = [torch.zeros_like(p) for p in params for _ in range(self.rule.slots)]
        buffers = [b.detach() for b in self.buffers.values()]
        host = [torch.zeros(()) for _ in SCHEDULE]
        frozen = [p.detach() for p in self.frozen.values()]
        user = [self.leaves[k] for k in self.tensors]
        return [*params, *slots, *buffers, *host, *frozen, *user]

    def __call__(self, *flat: Any) -> list[Any]:
        torch, take = self.torch, iter(flat)
        params = {name: next(take) for name in self.params}
        slots = [[next(take) for _ in range(self.rule.slots)] for _ in params]
        buffers = {name: next(take) for name in self.buffers}
        host = [next(take) for _ in SCHEDULE]
        frozen = {name: next(take) for name in self.frozen}
        leaves = list(self.leaves)
        for place in self.tensors:
            leaves[place] = next(take)

        def objective(trained: dict[str, Any]) -> Any:
            # the module writes its buffers: a copy made in here, handed out beside the loss
            written = {name: buffer.clone() for name, buffer in buffers.items()}
            return self._loss(trained, frozen, written, leaves), list(written.values())

        grads, (value, written) = torch.func.grad_and_value(objective, has_aux=True)(params)
        updated = [
            self.rule.update(torch, p, grads[name], own, host)
            for (name, p), own in zip(params.items(), slots, strict=True)
        ]
        fresh = [new[0] for new in updated]
        kept = [slot for new in updated for slot in new[1:]]
        return [value, *grads.values(), *fresh, *kept, *written]

    def _loss(
        self, trained: dict[str, Any], frozen: dict[str, Any], buffers: dict[str, Any],
        leaves: list[Any],
    ) -> Any:  # fmt: skip
        torch = self.torch
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self.tree)
        known = {**trained, **frozen}
        weights = {name: known[self.groups[name]] for name in self.groups}
        present = dict(self.program.named_parameters(remove_duplicate=False))
        given = {**{n: w for n, w in weights.items() if n in present}, **buffers}
        found = torch.func.functional_call(self.program, given, args, kwargs, tie_weights=False)
        return _scalar(torch, self.loss(found) if self.loss is not None else _own_loss(found))


def _tied(module: Any) -> dict[str, str]:
    """For every name of a parameter the first name of the same tensor."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(p), name)
        for name, p in module.named_parameters(remove_duplicate=False)
    }


def _own_loss(found: Any) -> Any:
    if isinstance(found, Mapping):
        found = found.get("loss", found)
    loss = getattr(found, "loss", None)
    return found if loss is None else loss


def _scalar(torch: Any, value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value)
        raise UsageError("the loss is not one number", got=got,
                         next_step="give loss=, a function of what the module returns",
                         )  # fmt: skip
    return value.reshape(())


class _Reader(GraphReader):
    """Reads the traced step: every placeholder is an input, the last outputs alias the first."""

    def read(self, step: _Step, seed: int) -> TrainingGraph:
        names = self._names(step)
        random = any(draws(node.target) for node in self.fx_graph.nodes)
        for node, name in zip(
            (n for n in self.fx_graph.nodes if n.op == "placeholder"), names, strict=True
        ):
            if random and name == SCHEDULE[0]:
                self.translator.state = self.random_input
                self.random_input()
            kind = tensor_type(node.meta["val"])
            self.known[node] = self.builder.input(name, kind.shape, kind.dtype)
        outputs = [self.known[node] for node in self.calls()]
        if random:
            outputs.append(self.translator.state_afterwards())
        count, updated = len(step.params), len(outputs) - 1 - len(step.params)
        self._leave_idle(step, outputs)
        # parameters, slots and buffers come first among the inputs, in the order of the results
        aliases = [Alias(1 + count + k, self.builder.inputs[k].name) for k in range(updated)]
        graph = verify(self.builder.build(outputs, aliases))
        arrays = [to_numpy(t).copy() for t in step.example()[: updated - random]]
        if random:
            arrays.append(numerics.Rng(seed).bits(STATE.shape).view(STATE.dtype))
        state = {v.name: a for v, a in zip(graph.inputs, arrays, strict=False)}
        return TrainingGraph(graph, tuple(step.params), tuple(step.buffers), step.rule, state)

    def _leave_idle(self, step: _Step, outputs: list[Value]) -> None:
        """A parameter that the loss does not reach has no gradient: PyTorch's step leaves it."""
        count, slots, inputs = len(step.params), step.rule.slots, self.builder.inputs
        for place, grad in enumerate(outputs[1 : 1 + count]):
            maker = self.builder.maker(grad)
            if maker is None or not isinstance(maker.op, Constant):
                continue
            outputs[1 + count + place] = inputs[place]
            for slot in range(count + place * slots, count + (place + 1) * slots):
                outputs[1 + count + slot] = inputs[slot]

    def _names(self, step: _Step) -> list[str]:
        slots = [f"{n}.slot{k}" for n in step.params for k in range(step.rule.slots)]
        user = [f"input{k}" for k in range(len(step.tensors))]
        return [*step.params, *slots, *step.buffers, *SCHEDULE, *step.frozen, *user]


__all__ = ["SCHEDULE", "Rule", "TrainingGraph", "import_training", "resumed", "rule_of"]
