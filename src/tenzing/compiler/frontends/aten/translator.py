"""The table of ATen rules and the object they use to emit nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import (
    F32,
    GraphBuilder,
    Op,
    RuleT,
    Shape,
    TensorType,
    Value,
    registering,
)
from tenzing.compiler.graph import is_float as is_float_dtype
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Constant,
    Convert,
    RandomBits,
    Reshape,
    Transpose,
)
from tenzing.errors import UnsupportedOp

Number = bool | int | float


@dataclass(frozen=True)
class Complex:
    """A complex tensor: the graph has real values only."""

    real: Value
    imaginary: Value


Argument = Any  # Value, number, dtype, string, None, or a list of these
Result = Value | tuple[Value | None, ...] | Complex | None
Rule = Callable[..., Result]

SCALAR: Final = TensorType((), F32)
RULES: Final[dict[str, Rule]] = {}
COMPLEX_RULES: Final[dict[str, Rule]] = {}  # where an argument is complex

# Arguments that say where or how a tensor lies in memory, which a graph does not.
IGNORED_ARGUMENTS: Final = frozenset(
    {"device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "requires_grad"}
)


def aten(*overloads: str) -> Callable[[RuleT], RuleT]:
    """Register a rule for overloads named without the ``aten.`` prefix."""

    return registering(RULES, "ATen rule", overloads)


def complex_rule(*overloads: str) -> Callable[[RuleT], RuleT]:
    """Register a rule for calls of overloads with a complex argument, tensor or number."""

    return registering(COMPLEX_RULES, "complex rule", overloads)


@dataclass
class Translator:
    """Emits nodes for one ATen call at a time.

    ``result`` is the type PyTorch predicts for the call's first output, ``used`` the indices of
    the outputs that somebody reads.
    """

    builder: GraphBuilder
    overload: str = ""
    result: TensorType = SCALAR
    used: frozenset[int] = frozenset({0})
    hint: str = ""
    state: Callable[[], Value] | None = None  # of random numbers
    draws: int = 0

    def random_bits(self, shape: Shape) -> Value:
        """Random words that no other call of this graph draws; UnsupportedOp without a state."""
        if self.state is None:
            raise self.unsupported("random numbers inside a branch or loop")
        self.draws += 1
        return self.emit(RandomBits(shape, self.draws - 1), self.state())

    def state_afterwards(self) -> Value:
        """The random state once everything so far is drawn."""
        assert self.state is not None
        state = self.state()
        return self.emit(Add(), state, self.splat(self.draws, state.type))

    def call(self, overload: str, arguments: Sequence[Argument], named: dict[str, Any]) -> Result:
        """Apply the rule of ``overload``; UnsupportedOp names it when there is none."""
        self.overload = overload
        rule = self._rule(overload, arguments)
        kept = {k: v for k, v in named.items() if k not in IGNORED_ARGUMENTS}
        try:
            return rule(self, *arguments, **kept)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise self.unsupported(
                f"aten.{overload} is called in an unknown way: {error}"
            ) from None

    def _rule(self, overload: str, arguments: Sequence[Argument]) -> Rule:
        flat = [i for a in arguments for i in (a if isinstance(a, list) else [a])]
        if any(isinstance(a, Complex | complex) for a in flat):
            rule, kind = COMPLEX_RULES.get(overload), " of complex numbers"
        else:
            rule, kind = RULES.get(overload), ""
        if rule is None:
            raise self.unsupported(f"PyTorch operation aten.{overload}{kind} has no rule")
        return rule

    def unsupported(self, what: str, *, got: object = None, next_step: str = "") -> UnsupportedOp:
        """An error that names the overload's module path and source line."""
        scope = self.builder.scope
        return UnsupportedOp(
            what + (f" (in module {scope})" if scope else ""),
            got=got,
            where=self.builder.loc,
            next_step=next_step
            or "rewrite that line with other operations, or add a rule in "
            "tenzing/compiler/frontends/aten",
        )

    def emit(self, op: Op, *inputs: Value) -> Value:
        """Append an op with one output."""
        return self.builder.add(op, *inputs)

    def emit_all(self, op: Op, *inputs: Value) -> tuple[Value, ...]:
        """Append an op with several outputs."""
        return self.builder.emit(op, *inputs)

    def splat(self, number: Number, like: TensorType) -> Value:
        """A constant filled with one number."""
        return self.emit(Constant.splat(number, like.shape, like.dtype))

    def convert(self, value: Value, dtype: np.dtype[Any]) -> Value:
        """The value in another dtype, unchanged when it has it already."""
        return value if value.dtype == dtype else self.emit(Convert(dtype), value)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The value with another shape; one -1 stands for what remains."""
        wanted = tuple(shape)
        if -1 in wanted:
            known = int(np.prod([n for n in wanted if n != -1]))
            rest = value.type.elements // max(known, 1)
            wanted = tuple(rest if n == -1 else n for n in wanted)
        return value if value.shape == wanted else self.emit(Reshape(wanted), value)

    def transpose(self, value: Value, permutation: Sequence[int]) -> Value:
        """The value with permuted dims."""
        order = tuple(dim % len(value.shape) for dim in permutation)
        if order == tuple(range(len(order))):
            return value
        return self.emit(Transpose(order), value)

    def broadcast(self, value: Value, shape: Sequence[int]) -> Value:
        """The value stretched to ``shape`` as PyTorch does: dims align at the end."""
        wanted = tuple(shape)
        if value.shape == wanted:
            return value
        skipped = len(wanted) - len(value.shape)
        dims = tuple(range(skipped, len(wanted)))
        return self.emit(BroadcastInDim(wanted, dims), value)

    def tensor(self, x: Value | Number, shape: Sequence[int], dtype: np.dtype[Any]) -> Value:
        """A tensor of exactly this type from a number or from a tensor that broadcasts to it."""
        if isinstance(x, Value):
            return self.broadcast(self.convert(x, dtype), shape)
        return self.splat(x, TensorType(tuple(shape), dtype))

    def apply(self, op: Op, *values: Value | Number) -> Value:
        """``op`` of values and numbers, stretched to one shape; numbers take the values' dtype."""
        given = [v for v in values if isinstance(v, Value)]
        shape = np.broadcast_shapes(*(v.shape for v in given))
        dtype = given[0].dtype
        full = [self.broadcast(v, shape) if isinstance(v, Value)
                else self.splat(v, TensorType(shape, dtype)) for v in values]  # fmt: skip
        return self.emit(op, *full)

    def dim(self, dim: int, rank: int) -> int:
        """A dim counted from the start."""
        return dim + max(rank, 1) if dim < 0 else dim

    def dims(self, dims: Sequence[int] | int | None, rank: int) -> Shape:
        """Sorted dims counted from the start; None or an empty list means all."""
        if dims is None or (not isinstance(dims, int) and not dims):
            return tuple(range(rank))
        chosen = [dims] if isinstance(dims, int) else dims
        return tuple(sorted(self.dim(dim, rank) for dim in chosen))


def common_dtype(*operands: Value | Number) -> np.dtype[Any]:
    """PyTorch's promotion: category first, tensors with dims before scalars and numbers."""
    ranked = sorted((_priority(x) for x in operands), key=lambda item: item[:2])
    top_category = ranked[-1][0]
    same = [item for item in ranked if item[0] == top_category]
    weight = max(item[1] for item in same)
    dtypes = [item[2] for item in same if item[1] == weight]
    result = dtypes[0]
    for dtype in dtypes[1:]:
        result = _wider(result, dtype)
    return result


def _priority(x: Value | Number) -> tuple[int, int, np.dtype[Any]]:
    if isinstance(x, Value):
        category = 2 if is_float_dtype(x.dtype) else int(x.dtype.kind != "b")
        return category, 2 if x.shape else 1, x.dtype
    if isinstance(x, bool):
        return 0, 0, np.dtype(np.bool_)
    if isinstance(x, int):
        return 1, 0, np.dtype(np.int64)
    return 2, 0, F32


def _wider(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    if one == other:
        return one
    if is_float_dtype(one) and one.itemsize == other.itemsize:
        return F32  # bfloat16 with float16
    if not is_float_dtype(one):
        return np.promote_types(one, other)
    return one if one.itemsize > other.itemsize else other
