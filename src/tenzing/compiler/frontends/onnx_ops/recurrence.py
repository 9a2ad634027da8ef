"""ONNX recurrent layers, every step written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.onnx_ops.translator import RULES, Item, Translator, onnx
from tenzing.compiler.graph import Value

GRU_GATES: Final = 3
LSTM_GATES: Final = 4
State = tuple[Value, ...]
Function = Callable[[Value], Value]


class _Layer:
    """One layer in one direction: its weights, and the functions of its gates."""

    def __init__(
        self, t: Translator, parts: Sequence[Value | None], functions: Sequence[Function],
        clip: float | None, hidden: int,
    ) -> None:  # fmt: skip
        self.t = t
        weight, recurrent, bias, self.peephole = parts
        assert weight is not None
        assert recurrent is not None
        self.weight, self.recurrent = weight, recurrent
        self.bias = None if bias is None else self._halves(bias)
        self.functions, self.clip, self.hidden = functions, clip, hidden

    def _halves(self, bias: Value) -> tuple[Value, Value]:
        half = bias.shape[0] // 2
        return cut(self.t, bias, 0, 0, half), cut(self.t, bias, 0, half, 2 * half)

    def gate(self, x: Value, number: int) -> Value:
        """One gate of values that hold all gates side by side."""
        return cut(self.t, x, len(x.shape) - 1, number * self.hidden, (number + 1) * self.hidden)

    def inputs(self, x: Value) -> Value:
        """x W^T + bias for one step."""
        total = self.t.emit(ops.Linear("nk"), x, self.weight)
        return total if self.bias is None else self.add(total, self.bias[0])

    def states(self, h: Value, first: int = 0, last: int | None = None) -> Value:
        """h R^T + bias for gates from ``first`` to before ``last``."""
        t = self.t
        end = self.recurrent.shape[0] if last is None else last * self.hidden
        rows = cut(t, self.recurrent, 0, first * self.hidden, end)
        total = t.emit(ops.Linear("nk"), h, rows)
        if self.bias is None:
            return total
        return self.add(total, cut(t, self.bias[1], 0, first * self.hidden, end))

    def run(self, number: int, x: Value) -> Value:
        """The activation of that number, of values held within the clip."""
        if self.clip is not None:
            x = self.t.apply(ops.Clamp(), -self.clip, x, self.clip)
        return self.functions[number](x)

    def add(self, x: Value, y: Value) -> Value:
        """x + y, stretched."""
        return self.t.apply(ops.Add(), x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """x * y, stretched."""
        return self.t.apply(ops.Multiply(), x, y)

    def peep(self, number: int, cell: Value) -> Value | None:
        """A gate's look at the cell."""
        if self.peephole is None:
            return None
        row = cut(self.t, self.peephole, 0, number * self.hidden, (number + 1) * self.hidden)
        return self.mul(cell, row)


def _rnn_step(layer: _Layer, x: Value, state: State) -> State:
    return (layer.run(0, layer.add(layer.inputs(x), layer.states(state[0]))),)


def _gru_step(layer: _Layer, x: Value, state: State, before: bool) -> State:
    """Update z, reset r, candidate; ``before``: the reset acts before the recurrent product."""
    t, (h,) = layer.t, state
    given = layer.inputs(x)
    both = layer.states(h, 0, 2)
    z, r = (layer.run(0, layer.add(layer.gate(given, i), layer.gate(both, i))) for i in range(2))
    last = GRU_GATES - 1
    if before:
        own = layer.states(layer.mul(r, h), last, GRU_GATES)
    else:
        own = layer.mul(r, layer.states(h, last, GRU_GATES))
    fresh = layer.run(1, layer.add(layer.gate(given, last), own))
    kept = layer.mul(z, h)
    return (layer.add(layer.mul(t.apply(ops.Subtract(), 1.0, z), fresh), kept),)


def _lstm_step(layer: _Layer, x: Value, state: State, coupled: bool) -> State:
    """Gates in ONNX's order: input, output, forget, cell."""
    h, cell = state
    total = layer.add(layer.inputs(x), layer.states(h))
    i, o, f, c = (layer.gate(total, number) for number in range(LSTM_GATES))

    def opened(gate: Value, look: Value | None) -> Value:
        return layer.run(0, gate if look is None else layer.add(gate, look))

    into = opened(i, layer.peep(0, cell))
    forget = layer.t.apply(ops.Subtract(), 1.0, into) if coupled else opened(f, layer.peep(2, cell))
    cell = layer.add(layer.mul(forget, cell), layer.mul(into, layer.run(1, c)))
    out = opened(o, layer.peep(1, cell))
    return layer.mul(out, layer.functions[2](cell)), cell


def _functions(
    t: Translator, names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Function]:
    """Activations by name; alpha and beta go to those that take them, in order."""
    left, right = list(alphas), list(betas)
    found: list[Function] = []
    for name in names:
        wanted = {"Affine": ("alpha", "beta"), "HardSigmoid": ("alpha", "beta"),
                  "LeakyRelu": ("alpha",), "Elu": ("alpha",)}.get(name, ())  # fmt: skip
        named = {k: (left if k == "alpha" else right).pop(0) for k in wanted
                 if (left if k == "alpha" else right)}  # fmt: skip
        found.append(_function(t, name, named))
    return found


def _function(t: Translator, name: str, named: dict[str, float]) -> Function:
    versions = RULES.get(("", name))
    if versions is None:
        raise t.unsupported("an activation of a recurrent layer", got=name)
    rule = versions[max(versions)]
    return lambda x: rule(t, x, **named)


def _select(t: Translator, running: Value, new: Value, old: Value) -> Value:
    return t.emit(ops.Select(), t.emit(ops.BroadcastInDim(new.shape, (0,)), running), new, old)


def _direction(
    t: Translator, x: Value, lengths: Value | None, state: State, back: bool,
    step: Callable[[Value, State], State],
) -> tuple[list[Value], State]:  # fmt: skip
    """Results of every step in the order of time; rows that have ended keep their state."""
    results: list[Value] = []
    count = x.shape[0]
    for turn in range(count):
        at = count - 1 - turn if back else turn
        new = step(t.reshape(cut(t, x, 0, at, at + 1), x.shape[1:]), state)
        shown = new[0]
        if lengths is not None:
            running = t.apply(ops.Compare("gt"), lengths, at)
            new = tuple(_select(t, running, a, b) for a, b in zip(new, state, strict=True))
            shown = _select(t, running, shown, t.splat(0, shown.type))
        state = new
        results.append(shown)
    return (results[::-1] if back else results), state


def _layers(
    t: Translator, x: Value, parts: Sequence[Value | None], lengths: Value | None,
    starts: Sequence[Value | None], named: dict[str, Any], defaults: Sequence[str],
    step: Callable[..., State],
) -> Item:  # fmt: skip
    """All directions of a recurrent operation: [T, D, B, H], then each last state [D, B, H]."""
    if named.get("layout", 0):
        return _batch_first(t, x, parts, lengths, starts, named, defaults, step)
    hidden, way = named["hidden_size"], named.get("direction", "forward")
    count = 2 if way == "bidirectional" else 1
    names = named.get("activations") or list(defaults) * count
    functions = _functions(t, names, named.get("activation_alpha", ()),
                           named.get("activation_beta", ()))  # fmt: skip
    rows: list[list[Value]] = []
    ends: list[State] = []
    for d in range(count):

        def part(v: Value | None, d: int = d) -> Value | None:
            return None if v is None else t.reshape(cut(t, v, 0, d, d + 1), v.shape[1:])

        size = len(functions) // count
        layer = _Layer(t, [part(v) for v in parts], functions[d * size : (d + 1) * size],
                       named.get("clip"), hidden)  # fmt: skip
        zero = t.splat(0, x.type.with_shape((x.shape[1], hidden)))
        state = tuple(zero if (own := part(v)) is None else own for v in starts)
        back = way == "reverse" or d == 1
        results, end = _direction(t, x, lengths, state, back, partial(step, layer))
        rows.append(results)
        ends.append(end)
    whole = [[t.reshape(v, (1, 1, *v.shape)) for v in column] for column in zip(*rows, strict=True)]
    lines = [_joined(t, 1, column) for column in whole]
    last = [_joined(t, 0, [t.reshape(v, (1, *v.shape)) for v in column])
            for column in zip(*ends, strict=True)]  # fmt: skip
    return (_joined(t, 0, lines), *last)


def _joined(t: Translator, dim: int, parts: Sequence[Value]) -> Value:
    return t.emit(ops.Concatenate(dim), *parts) if len(parts) > 1 else parts[0]


def _batch_first(
    t: Translator, x: Value, parts: Sequence[Value | None], lengths: Value | None,
    starts: Sequence[Value | None], named: dict[str, Any], defaults: Sequence[str],
    step: Callable[..., State],
) -> Item:  # fmt: skip
    """Layout 1: the batch stands first everywhere."""
    turned = [None if v is None else t.transpose(v, (1, 0, 2)) for v in starts]
    plain = {**named, "layout": 0}
    whole, *last = _layers(
        t, t.transpose(x, (1, 0, 2)), parts, lengths, turned, plain, defaults, step
    )
    return (t.transpose(whole, (2, 0, 1, 3)), *(t.transpose(v, (1, 0, 2)) for v in last))


@onnx("RNN")
def _rnn(
    t: Translator, x: Value, w: Value, r: Value, b: Value | None = None,
    lengths: Value | None = None, h: Value | None = None, **named: Any,
) -> Item:  # fmt: skip
    return _layers(t, x, (w, r, b, None), lengths, (h,), named, ("Tanh",), _rnn_step)


@onnx("GRU")
def _gru(
    t: Translator, x: Value, w: Value, r: Value, b: Value | None = None,
    lengths: Value | None = None, h: Value | None = None, *, linear_before_reset: int = 0,
    **named: Any,
) -> Item:  # fmt: skip
    def step(layer: _Layer, value: Value, state: State) -> State:
        return _gru_step(layer, value, state, before=not linear_before_reset)

    return _layers(t, x, (w, r, b, None), lengths, (h,), named, ("Sigmoid", "Tanh"), step)


@onnx("LSTM")
def _lstm(
    t: Translator, x: Value, w: Value, r: Value, b: Value | None = None,
    lengths: Value | None = None, h: Value | None = None, c: Value | None = None,
    p: Value | None = None, *, input_forget: int = 0, **named: Any,
) -> Item:  # fmt: skip
    def step(layer: _Layer, value: Value, state: State) -> State:
        return _lstm_step(layer, value, state, coupled=bool(input_forget))

    return _layers(t, x, (w, r, b, p), lengths, (h, c), named, ("Sigmoid", "Tanh", "Tanh"), step)
