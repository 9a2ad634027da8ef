"""Walks an ONNX graph: nodes in order, functions inlined, subgraphs as regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.interface import check_integers, needs
from tenzing.compiler.frontends.onnx_ops import (
    SEQUENCES,
    FollowingBuilder,
    Item,
    Knowledge,
    Known,
    Region,
    Translator,
    find_rule,
)
from tenzing.compiler.graph import Array, TensorType, Value, is_float
from tenzing.compiler.ops import Constant
from tenzing.errors import TenzingError, UnsupportedOp, UsageError

DEFAULT_DOMAINS: Final = ("", "ai.onnx")
LITERAL_ELEMENTS: Final = 1024  # integer tensors up to this size are part of the graph
WIDENED: Final = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
Environment = dict[str, Item]


def require_onnx() -> Any:
    """The onnx package; UsageError names what to install when it is missing."""
    with needs("compiling an ONNX model", "the onnx package", "onnx"):
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    return onnx


@dataclass
class Source:
    """The model that graphs belong to: operation sets, local functions, where its data lies."""

    onnx: Any
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str], Any]
    folder: Path | None
    weights: dict[str, Array] = field(default_factory=dict)

    def dtype(self, kind: int, what: str) -> np.dtype[Any]:
        """NumPy's dtype of an ONNX element type; UnsupportedOp when a graph cannot hold it."""
        names = self.onnx.TensorProto.DataType
        try:
            found = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(kind))
        except (KeyError, TypeError):
            raise UsageError(f"{what} has no valid element type", got=kind) from None
        if found.kind in "OUSc":
            raise UnsupportedOp(
                f"{what} holds {names.Name(kind).lower()}s, which the chip has no registers for",
                next_step="keep this part of the model outside the compiled graph",
            )  # fmt: skip
        return found

    def array(self, tensor: Any, what: str) -> Array:
        """The content of a TensorProto, read from its file if it is external."""
        dtype = self.dtype(tensor.data_type, what)
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            found = self._external(tensor, dtype, what)
        else:
            try:
                found = self.onnx.numpy_helper.to_array(tensor)
            except (ValueError, TypeError) as error:
                raise UsageError(f"{what} is malformed: {error}") from None
        wide = WIDENED.get(dtype.name)
        return found.astype(wide) if wide else found.astype(dtype, copy=False)

    def _external(self, tensor: Any, dtype: np.dtype[Any], what: str) -> Array:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        place = PurePosixPath(entries.get("location", ""))
        if self.folder is None:
            raise UsageError(f"{what} lies in file {place}, and the model has no folder",
                             next_step="compile the path of the model, not its content",
                             )  # fmt: skip
        path = self.folder / place
        if place.is_absolute() or ".." in place.parts or not path.is_file():
            raise UsageError(f"the file with the data of {what} is missing", got=str(path),
                             allowed=f"a file inside {self.folder}",
                             next_step="copy it beside the model")  # fmt: skip
        count = int(np.prod(tensor.dims, dtype=np.int64))
        offset = int(entries.get("offset", 0))
        if path.stat().st_size < offset + count * dtype.itemsize:
            raise UsageError(f"the file with the data of {what} is too short", got=str(path),
                             allowed=f"{offset + count * dtype.itemsize} bytes")  # fmt: skip
        with path.open("rb") as file:
            file.seek(offset)
            return np.fromfile(file, dtype, count).reshape(tuple(tensor.dims))


class GraphReader:
    """Reads the nodes of one graph, function or subgraph into a builder."""

    def __init__(
        self, source: Source, builder: FollowingBuilder, names: Environment,
        opsets: Mapping[str, int] | None = None, parameters: bool = False, path: str = "",
    ) -> None:  # fmt: skip
        self.source = source
        self.builder = builder
        self.names = names
        self.opsets = opsets if opsets is not None else source.opsets
        self.parameters = parameters  # large constants become parameters
        self.path = path
        self.translator = Translator(builder, source.dtype)

    def nodes(self, nodes: Iterable[Any], attributes: Mapping[str, Any] | None = None) -> None:
        """Translate nodes in order; ``attributes`` are those of the function they belong to."""
        for index, node in enumerate(nodes):
            self._node(node, index, attributes or {})

    def _node(self, node: Any, index: int, given: Mapping[str, Any]) -> None:
        domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
        kind = f"{domain}.{node.op_type}" if domain else node.op_type
        label = node.name or node.output[0] if node.output else f"number {index}"
        place = f"node {self.path}{label} ({kind})"
        inputs = [self._input(name, place) for name in node.input]
        self.builder.scope = f"{self.path}{label}"
        translator = self.translator
        translator.place, translator.opset = place, self.opsets.get(domain, 1)
        translator.outputs = sum(1 for name in node.output if name)
        results = self._results(node, domain, inputs, given, place)
        for name, result in zip(node.output, results, strict=False):
            if name and result is not None:
                self.names[name] = result

    def _input(self, name: str, place: str) -> Item:
        if not name:
            return None
        if name not in self.names:
            raise UsageError(f"{place} reads {name}, which nothing defines",
                             next_step="the file is damaged or its nodes are out of order",
                             )  # fmt: skip
        return self.names[name]

    def _results(
        self, node: Any, domain: str, inputs: list[Item], given: Mapping[str, Any], place: str
    ) -> tuple[Item, ...]:
        local = self.source.functions.get((node.domain, node.op_type))
        rule = find_rule(domain, node.op_type, self.translator.opset)
        if local is not None:
            return self._function(local, node, inputs, given, {})
        if node.op_type == "Constant" and not domain:
            return (self._constant(node, given, place),)
        if rule is None:
            body, defaults = self._body(node, domain, inputs, given, place)
            return self._function(body, node, inputs, given, defaults)
        attributes = self._attributes(node, given, place)
        try:
            result = rule(self.translator, *inputs, **attributes)
        except TenzingError as error:
            if place in str(error):
                raise
            raise UsageError(f"{place}: {error}", next_step=error.finding.next_step) from None
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError) as bad:
            raise UsageError(
                f"{place} has inputs or attributes that its operation does not take",
                got=", ".join(str(getattr(v, "type", v)) for v in inputs),
                next_step=f"the reader said: {bad}",
            ) from bad  # fmt: skip
        if result is NotImplemented:
            body, defaults = self._body(node, domain, inputs, given, place)
            return self._function(body, node, inputs, given, defaults)
        return result if isinstance(result, tuple) and not _is_sequence(node) else (result,)

    # -- attributes --------------------------------------------------------------------------------

    def _attributes(self, node: Any, given: Mapping[str, Any], place: str) -> dict[str, Any]:
        found = {a.name: self._resolved(a, given) for a in node.attribute}
        return {k: self._attribute(a, place) for k, a in found.items() if a is not None}

    def _resolved(self, attribute: Any, given: Mapping[str, Any]) -> Any:
        """The attribute itself or the one of the function call that it stands for."""
        if attribute.ref_attr_name:
            return given.get(attribute.ref_attr_name)
        return attribute

    def _attribute(self, attribute: Any, place: str) -> Any:
        kinds = self.source.onnx.AttributeProto
        kind, name = attribute.type, attribute.name
        if kind == kinds.GRAPH:
            return Subgraph(self, attribute.g)
        if kind == kinds.TENSOR:
            return self.source.array(attribute.t, f"attribute {name} of {place}")
        if kind not in (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS,
                        kinds.STRINGS):  # fmt: skip
            raise UnsupportedOp(f"attribute {name} of {place}", got=kinds.AttributeType.Name(kind),
                                allowed="numbers, strings, dense tensors, graphs")  # fmt: skip
        value = self.source.onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if kind == kinds.STRINGS:
            return tuple(item.decode(errors="replace") for item in value)
        return tuple(value) if isinstance(value, Sequence) else value

    def _constant(self, node: Any, given: Mapping[str, Any], place: str) -> Value:
        attributes = self._attributes(node, given, place)
        if len(attributes) != 1:
            raise UsageError(f"{place} needs one value", got=sorted(attributes))
        ((name, value),) = attributes.items()
        if "string" in name:
            raise UnsupportedOp(f"{place} holds strings")
        default = np.float32 if "float" in name else np.int64
        array = value if isinstance(value, np.ndarray) else np.asarray(value, default)
        return self.literal(node.output[0], array)

    def literal(self, name: str, array: Array) -> Value:
        """A small integer tensor or number as a constant, anything larger as a parameter."""
        most = 1 if is_float(array.dtype) else LITERAL_ELEMENTS
        if array.size <= most or not self.parameters:
            return self.builder.add(Constant.of(array), hint=name)
        check_integers(f"tensor {name} of the model", array)
        value = self.builder.parameter(name, array.shape, array.dtype)
        self.source.weights[value.name] = array
        self.builder.knowledge.values[value] = Known(array)
        return value

    # -- functions ---------------------------------------------------------------------------------

    def _body(
        self, node: Any, domain: str, inputs: Sequence[Item], given: Mapping[str, Any], place: str
    ) -> tuple[Any, dict[str, Any]]:
        """The function that the standard defines an operation by, and its attributes' defaults."""
        onnx = self.source.onnx
        version = self.translator.opset
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            schema = None
        text = b""
        if schema is not None and schema.has_function:
            text = schema.get_function_with_opset_version(
                _nearest(schema.function_opset_versions, version)
            )
        if schema is not None and not text and schema.has_context_dependent_function:
            types = [self._type_proto(item) for item in inputs]
            text = schema.get_context_dependent_function_with_opset_version(
                _nearest(schema.context_dependent_function_opset_versions, version),
                self._resolved_node(node, given).SerializeToString(), types,
            )  # fmt: skip
        if not text:
            raise UnsupportedOp(
                f"ONNX operation {place} of operation set {version} has no rule",
                next_step="change the model where it is exported, or add a rule in "
                "tenzing/compiler/frontends/onnx_ops",
            )  # fmt: skip
        found = onnx.FunctionProto()
        found.ParseFromString(text)
        defaults = {name: a.default_value for name, a in schema.attributes.items()}
        return found, {k: a for k, a in defaults.items() if a.type}

    def _resolved_node(self, node: Any, given: Mapping[str, Any]) -> Any:
        """The node with the attributes of the function call that its own stand for."""
        if not any(a.ref_attr_name for a in node.attribute):
            return node
        found = self.source.onnx.NodeProto()
        found.CopyFrom(node)
        del found.attribute[:]
        for attribute in node.attribute:
            value = self._resolved(attribute, given)
            if value is not None:
                found.attribute.add().CopyFrom(value)
                found.attribute[-1].name = attribute.name
        return found

    def _type_proto(self, item: Item) -> bytes:
        onnx = self.source.onnx
        if not isinstance(item, Value):
            return onnx.TypeProto().SerializeToString()
        kind = onnx.helper.np_dtype_to_tensor_dtype(item.dtype)
        return onnx.helper.make_tensor_type_proto(kind, item.shape).SerializeToString()

    def _function(
        self, function: Any, node: Any, inputs: Sequence[Item], given: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> tuple[Item, ...]:  # fmt: skip
        attributes = {**defaults, **{a.name: a for a in function.attribute_proto}}
        attributes |= {a.name: self._resolved(a, given) for a in node.attribute}
        names: Environment = dict.fromkeys(function.input)
        names.update(zip(function.input, inputs, strict=False))
        names[""] = None
        opsets = {("" if o.domain in DEFAULT_DOMAINS else o.domain): o.version
                  for o in function.opset_import}  # fmt: skip
        inner = GraphReader(self.source, self.builder, names, opsets or self.opsets,
                            False, f"{self.builder.scope}/")  # fmt: skip
        scope = self.builder.scope
        inner.nodes(function.node, attributes)
        self.builder.scope = scope
        return tuple(names.get(name) for name in function.output)

    # -- subgraphs ---------------------------------------------------------------------------------

    def inner(self, builder: FollowingBuilder, names: Environment) -> GraphReader:
        """A reader of a subgraph of this graph."""
        return GraphReader(self.source, builder, names, self.opsets, False, self.path)

    def read(self, graph: Any) -> list[Item]:
        """Translate a graph whose inputs have values; return those of its outputs."""
        self.initialisers(graph)
        self.nodes(graph.node)
        return [self._input(value.name, "the end of the graph") for value in graph.output]

    def initialisers(self, graph: Any) -> None:
        """Give the initialisers of a graph their values."""
        if graph.sparse_initializer:
            raise UnsupportedOp("sparse initialisers", got=len(graph.sparse_initializer),
                                next_step="store them dense")  # fmt: skip
        for tensor in graph.initializer:
            if tensor.name not in self.names:
                array = self.source.array(tensor, f"initialiser {tensor.name}")
                self.names[tensor.name] = self.literal(tensor.name, array)

    def captured(self, graph: Any) -> list[str]:
        """Names of values outside a subgraph that it, or a subgraph of it, reads."""
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        found: dict[str, None] = {}
        for node in graph.node:
            read = [*node.input]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    read += self.captured(attribute.g)
            found.update(dict.fromkeys(n for n in read if n and n not in own))
            own.update(node.output)
        found.update(dict.fromkeys(v.name for v in graph.output if v.name not in own))
        return [name for name in found if isinstance(self.names.get(name), Value)]


@dataclass(frozen=True)
class Subgraph(Region):
    """A subgraph, and the reader of the graph around it."""

    reader: GraphReader
    graph: Any

    @property
    def inputs(self) -> int:
        """See the base."""
        return len(self.graph.input)

    @property
    def outputs(self) -> int:
        """See the base."""
        return len(self.graph.output)

    def inline(self, inputs: Sequence[Item]) -> list[Item]:
        """See the base."""
        names = dict(self.reader.names)
        names.update(zip((value.name for value in self.graph.input), inputs, strict=True))
        return self.reader.inner(self.reader.builder, names).read(self.graph)

    def captured(self) -> dict[str, Value]:
        """See the base."""
        return {name: self.reader.names[name] for name in self.reader.captured(self.graph)}

    def apart(
        self, own: Sequence[TensorType], captured: Mapping[str, Value]
    ) -> tuple[FollowingBuilder, list[Item]]:
        """See the base."""
        builder = FollowingBuilder(self.graph.name or "subgraph", Knowledge())
        outer, inner = self.reader.builder.knowledge, builder.knowledge
        names: Environment = {}
        for value, kind in zip(self.graph.input, own, strict=True):
            names[value.name] = builder.input(value.name, kind.shape, kind.dtype)
        for name, value in captured.items():
            names[name] = builder.input(name, value.shape, value.dtype)
            if value in outer.values:
                inner.values[names[name]] = outer.values[value]
        outputs = self.reader.inner(builder, names).read(self.graph)
        outer.fixed |= inner.fixed
        return builder, outputs


def _nearest(versions: Sequence[int], version: int) -> int:
    """The newest version that is not newer than ``version``, or the oldest there is."""
    return max((v for v in versions if v <= version), default=min(versions))


def _is_sequence(node: Any) -> bool:
    """Whether the only output is a sequence of tensors, which is a tuple here."""
    return node.op_type in SEQUENCES
