"""The graph of a model: SSA values with static shapes, nodes, and the operation interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Final, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tenzing.errors import Loc, TenzingError
from tenzing.isa import numerics

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
RuleT = TypeVar("RuleT", bound=Callable[..., Any])

SHORT_NAMES: Final[Mapping[str, str]] = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "float8_e4m3": "f8e4m3",
    "float8_e4m3fn": "f8e4m3fn",
    "float8_e5m2": "f8e5m2",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint64": "u64",
    "uint32": "u32",
    "uint16": "u16",
    "uint8": "u8",
    "bool": "bool",
}
BF16: Final = np.dtype(ml_dtypes.bfloat16)
F32: Final = np.dtype(np.float32)
BOOL: Final = np.dtype(np.bool_)
TF32: Final = numerics.dtype("tfloat32")  # four bytes, ten bits of mantissa


class GraphError(TenzingError):
    """A graph, or one operation of it, breaks a rule of the graph IR."""

    rule = "graph"


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Short name used in printed graphs, such as ``bf16``."""
    return "tf32" if dtype == TF32 else SHORT_NAMES.get(dtype.name, dtype.name)


def is_float(dtype: np.dtype[Any]) -> bool:
    """True for IEEE and ml_dtypes floating-point dtypes and tf32."""
    return dtype.kind == "f" or dtype == TF32 or dtype.name.startswith(("bfloat", "float"))


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """True for floats of less precision than the float32 that engines compute in."""
    return is_float(dtype) and (dtype.itemsize < F32.itemsize or dtype == TF32)


def is_narrow_integer(dtype: np.dtype[Any]) -> bool:
    """True for integers of 8 and 16 bits, whose arithmetic needs more room than they have."""
    return dtype.kind in "iu" and dtype.itemsize < np.dtype(np.int32).itemsize


def registering(table: dict[str, Any], what: str, names: Sequence[str]) -> Callable[[RuleT], RuleT]:
    """A decorator that enters a rule into a table under names; GraphError for a name taken."""

    def register(rule: RuleT) -> RuleT:
        for name in names:
            if name in table:
                raise GraphError(f"{what} registered twice", got=name)
            table[name] = rule
        return rule

    return register


@dataclass(frozen=True)
class TensorType:
    """Static shape and dtype of a tensor."""

    shape: Shape
    dtype: np.dtype[Any]

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.elements * self.dtype.itemsize

    def with_shape(self, shape: Sequence[int]) -> TensorType:
        """The same dtype with another shape."""
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, dtype: np.dtype[Any]) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(self.shape, dtype)

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Value:
    """One SSA value: a name that is unique in its graph, and a type.

    ``origin`` is the value of the imported graph that it stands for, once ``with_origins`` marked
    that graph; empty for what a pass made in between.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    origin: str = field(default="", compare=False)

    @cached_property
    def type(self) -> TensorType:
        """Shape and dtype together."""
        return TensorType(self.shape, self.dtype)

    def __str__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True)
class Work:
    """What one execution of a node costs before any chip is chosen.

    A multiply-add counts as two matmul flops, an elementwise operation as one per element.
    """

    matmul_flops: int = 0
    vector_ops: int = 0
    transcendentals: int = 0
    read_bytes: int = 0
    write_bytes: int = 0

    @property
    def flops(self) -> int:
        """All arithmetic together."""
        return self.matmul_flops + self.vector_ops + self.transcendentals

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Work)))


OPS: dict[str, type[Op]] = {}


class Op(ABC):
    """An operation: its attributes are the fields of a frozen dataclass.

    A subclass states its name, its shape rule, its NumPy meaning and its arithmetic; composites
    also state how they decompose into simpler operations.
    """

    name: ClassVar[str]
    elementwise: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is None:
            return
        if name in OPS:
            raise GraphError("operation name registered twice", got=name)
        cls.name = name
        OPS[name] = cls

    @abstractmethod
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Types of the outputs; raises GraphError when the inputs are not allowed."""

    @abstractmethod
    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Values of the outputs, rounded to their dtypes."""

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Arithmetic of one execution without memory traffic; data movement has none."""
        return Work()

    def work(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Arithmetic plus each input read once and each output written once."""
        traffic = Work(
            read_bytes=sum(t.size_bytes for t in inputs),
            write_bytes=sum(t.size_bytes for t in outputs),
        )
        return self.arithmetic(inputs, outputs) + traffic

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...] | None:
        """Emit simpler nodes with the same meaning; None for a primitive."""
        return None

    @property
    def regions(self) -> tuple[Graph, ...]:
        """The graphs among the attributes, in declaration order."""
        found: list[Graph] = []
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            parts = value if isinstance(value, tuple) else (value,)
            found.extend(part for part in parts if isinstance(part, Graph))
        return tuple(found)

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes by name, in declaration order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Node:
    """One operation applied to values; ``scope`` is the path of the module it came from."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    loc: Loc | None = field(default=None, compare=False)
    scope: str = field(default="", compare=False)

    @property
    def output(self) -> Value:
        """The only output."""
        if len(self.outputs) != 1:
            raise GraphError(f"{self.op.name} has several outputs", got=len(self.outputs))
        return self.outputs[0]

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the operation by name."""
        return self.op.attrs

    @property
    def work(self) -> Work:
        """Work of one execution."""
        return self.op.work([v.type for v in self.inputs], [v.type for v in self.outputs])


@dataclass(frozen=True)
class Alias:
    """Output number ``output`` is the new content of the input or parameter ``target``."""

    output: int
    target: str


@dataclass(frozen=True, repr=False)
class Graph:
    """Nodes in execution order between inputs, parameters and outputs.

    ``preparation``, when present, computes the parameters from the raw weights once, at load time:
    its inputs are raw weights and its outputs carry the names of this graph's parameters.
    """

    name: str
    inputs: tuple[Value, ...]
    parameters: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    aliases: tuple[Alias, ...] = ()
    preparation: Graph | None = None

    def __repr__(self) -> str:
        return f"Graph({self.name}: {len(self.nodes)} nodes)"

    @property
    def work(self) -> Work:
        """Sum of the work of all nodes."""
        return sum((node.work for node in self.nodes), Work())

    def producers(self) -> dict[Value, Node]:
        """The node that defines each computed value."""
        return {value: node for node in self.nodes for value in node.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value; a graph output is not a user."""
        table: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                table.setdefault(value, []).append(node)
        return table

    def private(self) -> frozenset[Value]:
        """Values that one node alone reads, and that are no outputs."""
        returned = set(self.outputs)
        readers = self.users().items()
        return frozenset(v for v, nodes in readers if len(nodes) == 1 and v not in returned)

    def values(self) -> Iterator[Value]:
        """Every value defined in the graph, in order of definition."""
        yield from self.inputs
        yield from self.parameters
        for node in self.nodes:
            yield from node.outputs

    def count(self) -> dict[str, int]:
        """Number of nodes of each kind, most frequent first."""
        table: dict[str, int] = {}
        for node in self.nodes:
            table[node.op.name] = table.get(node.op.name, 0) + 1
        return dict(sorted(table.items(), key=lambda item: (-item[1], item[0])))


class GraphBuilder:
    """Appends nodes with inferred types and fresh names, then closes them into a Graph."""

    def __init__(self, name: str, reserved: Sequence[str] = ()) -> None:
        self.name = name
        self.loc: Loc | None = None
        self.scope = ""
        self.inputs: list[Value] = []
        self.parameters: list[Value] = []
        self.nodes: list[Node] = []
        self._taken = set(reserved)
        self._next: dict[str, int] = {}
        self._makers: dict[Value, Node] = {}

    def input(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Value:
        """Declare an input of the graph."""
        value = Value(self.fresh(name), tuple(shape), np.dtype(dtype))
        self.inputs.append(value)
        return value

    def parameter(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Value:
        """Declare a parameter, whose array is bound by name when the graph runs."""
        value = Value(self.fresh(name), tuple(shape), np.dtype(dtype))
        self.parameters.append(value)
        return value

    def adopt(self, node: Node) -> None:
        """Append an existing node unchanged."""
        self._taken.update(value.name for value in node.outputs)
        self._append(node)

    def maker(self, value: Value) -> Node | None:
        """The node appended so far that defines ``value``; None for inputs and parameters."""
        return self._makers.get(value)

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        self._makers.update((value, node) for value in node.outputs)

    def emit(self, op: Op, *inputs: Value, hint: str = "") -> tuple[Value, ...]:
        """Append ``op`` and return all its outputs; errors carry the current source line."""
        try:
            types = op.infer(*(value.type for value in inputs))
        except TenzingError as error:
            raise error.at(self.loc) from None
        outputs = tuple(Value(self.fresh(hint or op.name), t.shape, t.dtype) for t in types)
        self._append(Node(op, inputs, outputs, self.loc, self.scope))
        return outputs

    def add(self, op: Op, *inputs: Value, hint: str = "") -> Value:
        """Append an op with one output and return it."""
        (output,) = self.emit(op, *inputs, hint=hint)
        return output

    def fresh(self, name: str) -> str:
        """``name`` itself, or ``name_N`` when it is taken."""
        candidate = name
        while candidate in self._taken:
            self._next[name] = self._next.get(name, 0) + 1
            candidate = f"{name}_{self._next[name]}"
        self._taken.add(candidate)
        return candidate

    def build(self, outputs: Sequence[Value], aliases: Sequence[Alias] = ()) -> Graph:
        """Close the graph."""
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.parameters),
            tuple(self.nodes),
            tuple(outputs),
            tuple(aliases),
        )


NodeRewrite = Callable[[GraphBuilder, Node, tuple[Value, ...]], "tuple[Value, ...] | None"]


def rewrite(graph: Graph, rule: NodeRewrite) -> Graph:
    """Rebuild ``graph`` in order, offering each node with its new inputs to ``rule``.

    The rule emits replacements into the builder and returns their outputs, or returns None to keep
    the node.  The rule sees ``node`` as it was in ``graph``; its inputs' new makers are at
    ``builder.maker``.  When a replacement has another type, every later node infers its own again.
    """
    builder = GraphBuilder(graph.name, [value.name for value in graph.values()])
    builder.inputs = list(graph.inputs)
    builder.parameters = list(graph.parameters)
    renamed: dict[Value, Value] = {}
    origins: dict[Value, str] = {}
    for node in graph.nodes:
        builder.loc, builder.scope = node.loc, node.scope
        inputs = tuple(renamed.get(value, value) for value in node.inputs)
        outputs = rule(builder, node, inputs)
        if outputs is None:
            outputs = _keep(builder, node, inputs)
        else:
            replaced = zip(node.outputs, outputs, strict=True)
            origins.update((new, old.origin) for old, new in replaced if old.shape == new.shape)
        renamed.update(zip(node.outputs, outputs, strict=True))
    outputs = tuple(renamed.get(value, value) for value in graph.outputs)
    built = builder.build(outputs, graph.aliases)
    nodes = tuple(_standing_for(node, origins) for node in built.nodes)
    return replace(built, nodes=nodes, preparation=graph.preparation)


def _standing_for(node: Node, origins: Mapping[Value, str]) -> Node:
    """The node whose outputs know which value of the imported graph they replaced."""
    if not any(origins.get(value) for value in node.outputs):
        return node
    outputs = (
        replace(value, origin=value.origin or origins.get(value, "")) for value in node.outputs
    )
    return replace(node, outputs=tuple(outputs))


def with_origins(graph: Graph) -> Graph:
    """The graph whose computed values stand for themselves: passes carry that along."""
    nodes = (
        replace(node, outputs=tuple(replace(v, origin=v.name) for v in node.outputs))
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _keep(builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    if inputs == node.inputs:  # nothing that it depends on has changed
        builder.adopt(node)
        return node.outputs
    types = node.op.infer(*(value.type for value in inputs))
    outputs = tuple(
        replace(old, shape=t.shape, dtype=t.dtype)
        for old, t in zip(node.outputs, types, strict=True)
    )
    builder.adopt(replace(node, inputs=inputs, outputs=outputs))
    return outputs


def inline(builder: GraphBuilder, body: Graph, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """Emit the nodes of ``body`` with ``inputs`` in place of its inputs; return its outputs."""
    renamed = dict(zip(body.inputs, inputs, strict=True))
    for node in body.nodes:
        arguments = (renamed[value] for value in node.inputs)
        outputs = builder.emit(node.op, *arguments, hint=node.outputs[0].name)
        renamed.update(zip(node.outputs, outputs, strict=True))
    return tuple(renamed[value] for value in body.outputs)
