"""Walks the operations of a StableHLO module and emits our nodes by a table of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.hlo.mlir import Operation, dense, functions, parse, tensor_type
from tenzing.compiler.graph import Array, Graph, GraphBuilder, GraphError, Op, Value, registering
from tenzing.compiler.ops import BroadcastInDim, Constant, Convert, Reshape, Transpose
from tenzing.compiler.reference import evaluate
from tenzing.compiler.verify import verify
from tenzing.errors import TenzingError, UnsupportedOp, UsageError
from tenzing.fabric import Mesh

Found = Value | tuple[Value, ...] | list[Value]
Rule = Callable[..., Found]  # (reader, operation, *operands)

RULES: Final[dict[str, Rule]] = {}
COPIED_BYTES: Final = 1024  # constants up to this size stand in the regions that read them
RETURNS: Final = ("func.return", "stablehlo.return", "sdy.return", "mhlo.return")


def hlo(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations named with their dialect."""
    return registering(RULES, "StableHLO rule", names)


class Reader:
    """Emits the operations of one function or region into a builder.

    ``mesh`` holds the ranks when the program is written per rank.
    """

    def __init__(
        self, builder: GraphBuilder, table: Mapping[str, Any], mesh: Mesh | None = None
    ) -> None:
        self.builder = builder
        self.functions = table
        self.mesh = mesh
        self.known: dict[Any, Value] = {}

    def block(self, block: Any, arguments: Sequence[Value]) -> tuple[Value, ...]:
        """Emit a block; the values it returns."""
        self.known.update(zip(block.arguments, arguments, strict=True))
        for raw in block.operations:
            operation = Operation(raw.operation)
            if operation.name in RETURNS:
                return tuple(self.known[value] for value in operation.operands)
            self._operation(operation)
        return ()

    def call(self, name: str, arguments: Sequence[Value]) -> tuple[Value, ...]:
        """Emit the body of a function in place of its call."""
        if name not in self.functions:
            known = ", ".join(self.functions)
            raise UsageError(f"the module has no function {name}", allowed=known)
        inner = Reader(self.builder, self.functions, self.mesh)
        return inner.block(self.functions[name].regions[0].blocks[0], arguments)

    def _operation(self, operation: Operation) -> None:
        caller = self.builder.loc, self.builder.scope
        own = operation.loc or caller[0], operation.scope or caller[1]
        self.builder.loc, self.builder.scope = own
        rule = RULES.get(operation.name)
        if rule is None:
            raise self.unsupported(operation)
        try:
            found = rule(self, operation, *(self.known[value] for value in operation.operands))
        except TenzingError as error:
            raise error.at(own[0]) from None
        self.builder.loc, self.builder.scope = caller
        values = (found,) if isinstance(found, Value) else tuple(found)
        for result, value in zip(operation.results, values, strict=True):
            wanted = tensor_type(result.type, operation.loc)
            if value.type != wanted:
                raise GraphError(f"{operation.name} was read as another type", got=value.type,
                                 allowed=wanted, where=operation.loc)  # fmt: skip
            self.known[result] = value

    def unsupported(self, operation: Operation, why: str = "") -> UnsupportedOp:
        """The error for an operation, or a form of one, without a rule."""
        scope = f" in {operation.scope}" if operation.scope else ""
        return UnsupportedOp(
            f"{operation.name}{scope}{': ' if why else ''}{why}", where=self.builder.loc,
            got=str(operation.raw.results[0].type) if operation.results else "",
            next_step="run this part outside the compiled function",
        )  # fmt: skip

    # -- emitting ------------------------------------------------------------------------------

    def add(self, op: Op, *inputs: Value) -> Value:
        """One node with one output."""
        return self.builder.add(op, *inputs)

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant of an array."""
        return self.add(Constant.of(np.asarray(array, dtype)))

    def splat(self, number: float, like: Value) -> Value:
        """A constant of another value's type."""
        return self.add(Constant.splat(number, like.shape, like.dtype))

    def reshape(self, value: Value, shape: Iterable[int]) -> Value:
        """The value in another shape; itself when it has it."""
        wanted = tuple(shape)
        return value if value.shape == wanted else self.add(Reshape(wanted), value)

    def transpose(self, value: Value, permutation: Iterable[int]) -> Value:
        """The value with its dims in another order; itself when that is the old one."""
        order = tuple(permutation)
        same = order == tuple(range(len(order)))
        return value if same else self.add(Transpose(order), value)

    def broadcast(self, value: Value, shape: Iterable[int], dims: Iterable[int] = ()) -> Value:
        """The value repeated."""
        return self.add(BroadcastInDim(tuple(shape), tuple(dims)), value)

    def convert(self, value: Value, dtype: Any) -> Value:
        """The value in another dtype; itself when it has it."""
        wanted = np.dtype(dtype)
        return value if value.dtype == wanted else self.add(Convert(wanted), value)

    def number(self, value: Value) -> float | None:
        """The element of a splat constant, whatever its shape; None for other values."""
        maker = self.builder.maker(value)
        while maker is not None and isinstance(maker.op, BroadcastInDim | Reshape | Convert):
            maker = self.builder.maker(maker.inputs[0])
        if maker is None or not isinstance(maker.op, Constant) or not maker.op.is_splat:
            return None
        return maker.op.number

    # -- regions -------------------------------------------------------------------------------

    def region(self, name: str, block: Any) -> Graph:
        """A region that reads nothing from outside, as a graph."""
        graphs, free = self.regions(name, [block])
        if free:
            raise GraphError(f"the region of {name} reads values from outside", got=len(free))
        return graphs[0]

    def regions(self, name: str, blocks: Sequence[Any]) -> tuple[list[Graph], list[Value]]:
        """Regions as graphs of (block arguments..., values from outside...), and the latter."""
        outside = list(dict.fromkeys(v for block in blocks for v in _free(block, set())))
        copied = {v: c for v in outside if (c := self._constant(v)) is not None}
        free = [v for v in outside if v not in copied]
        graphs = [self._region(name, block, free, copied) for block in blocks]
        return graphs, [self.known[v] for v in free]

    def _constant(self, value: Any) -> Constant | None:
        maker = self.builder.maker(self.known[value])
        if maker is None or not isinstance(maker.op, Constant):
            return None
        small = len(maker.op.data) <= COPIED_BYTES
        return maker.op if small else None

    def _region(
        self, name: str, block: Any, free: Sequence[Any], copied: Mapping[Any, Constant]
    ) -> Graph:
        inner = Reader(GraphBuilder(name), self.functions, self.mesh)
        arguments = [_input(inner.builder, f"x{k}", v) for k, v in enumerate(block.arguments)]
        for number, value in enumerate(free):
            inner.known[value] = _input(inner.builder, f"fixed{number}", value)
        for value, constant in copied.items():
            inner.known[value] = inner.builder.add(constant)
        return inner.builder.build(inner.block(block, arguments))

    def try_out(self, graph: Graph, *numbers: float) -> list[Any]:
        """What a region of scalars makes of numbers: shows which of the usual ones it is."""
        pairs = zip(graph.inputs, numbers, strict=True)
        bound: dict[Value, Array] = {v: np.array(n).astype(v.dtype) for v, n in pairs}
        return [array.item() for array in evaluate(graph, bound)]


def _input(builder: GraphBuilder, name: str, value: Any) -> Value:
    kind = tensor_type(value.type)
    return builder.input(name, kind.shape, kind.dtype)


def _free(block: Any, inside: set[Any]) -> Iterable[Any]:
    """Values a block reads that are defined around it."""
    inside = inside | set(block.arguments)
    for raw in block.operations:
        for value in raw.operation.operands:
            if value not in inside:
                yield value
        for region in raw.operation.regions:
            for inner in region.blocks:
                yield from _free(inner, inside)
        inside.update(raw.operation.results)


def read_module(
    source: str | bytes, name: str = "", names: Sequence[str] = (), what: str = "module"
) -> Graph:
    """The graph of a module's ``main`` function: its arguments are the inputs, in order.

    ``source``: MLIR text, bytecode or a portable artifact; ``names``: names of the inputs. Raises
    UsageError for what is no such module, UnsupportedOp for an operation without a rule.
    """
    module = parse(source, what)
    return read_parsed(module, name or "main", names)


def read_parsed(module: Any, name: str, names: Sequence[str] = ()) -> Graph:
    """The same for a module of jaxlib's bindings."""
    table = functions(module)
    if not table:
        raise UsageError("the module has no function", next_step="lower a function with jax.jit")
    main = table.get("main") or next(iter(table.values()))
    block = main.regions[0].blocks[0]
    builder = GraphBuilder(name)
    reader = Reader(builder, table)
    given = list(names) or [f"arg{k}" for k in range(len(block.arguments))]
    arguments = [_input(builder, n, v) for n, v in zip(given, block.arguments, strict=True)]
    return verify(builder.build(reader.block(block, arguments)))


@hlo("stablehlo.constant", "mhlo.constant")
def _constant(reader: Reader, operation: Operation) -> Value:
    kind = operation.type
    content = dense(operation.attribute("value"), kind)
    return reader.add(Constant.of(content))


@hlo("func.call", "call")
def _call(reader: Reader, operation: Operation, *operands: Value) -> tuple[Value, ...]:
    return reader.call(operation.text("callee"), operands)


@hlo("stablehlo.composite")
def _composite(reader: Reader, operation: Operation, *operands: Value) -> tuple[Value, ...]:
    return reader.call(operation.text("decomposition"), operands)


__all__ = ["RULES", "Reader", "hlo", "read_module", "read_parsed"]
