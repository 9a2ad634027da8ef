"""ONNX models to graphs: a path, bytes or a ModelProto; shapes from the example inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.interface import ArrayInterface, Imported
from tenzing.compiler.frontends.onnx_graph import (
    DEFAULT_DOMAINS,
    Environment,
    GraphReader,
    Source,
    require_onnx,
)
from tenzing.compiler.frontends.onnx_ops import FollowingBuilder, Knowledge, Known
from tenzing.compiler.graph import Array, Graph, TensorType, Value
from tenzing.compiler.ops import Constant
from tenzing.compiler.passes.cleanup import DeadCode
from tenzing.compiler.verify import verify
from tenzing.errors import UnsupportedOp, UsageError

PROTO: Final = "ModelProto"
SUFFIX: Final = ".onnx"
FIRST_FIELD: Final = b"\x08"  # a file begins with the number and kind of its first field
DECIDING_ELEMENTS: Final = 256  # larger example inputs do not decide shapes
SEED: Final = 0


def accepts(model: Any) -> bool:
    """Whether a model is ONNX's: a ModelProto, the path of an ``.onnx`` file, or its bytes."""
    if isinstance(model, bytes):
        return model.startswith(FIRST_FIELD)
    if isinstance(model, str | Path):
        return str(model).endswith(SUFFIX)
    kind = type(model)
    return kind.__name__ == PROTO and kind.__module__.startswith("onnx")


@dataclass(frozen=True)
class OnnxInterface(ArrayInterface):
    """NumPy arrays by position or name; ``fixed`` inputs decided shapes and must not change.

    ``tensors`` holds the model's names of its tensors by our names of the values they became.
    """

    fixed: dict[str, Array] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)

    def intermediates(
        self, names: Set[str], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> dict[str, Array]:
        """See the base: the tensors inside are made outputs of the model, which runs once more."""
        if not isinstance(self.reference, _Reference):
            return super().intermediates(names, arguments, keywords)
        wanted = sorted(names & self.tensors.keys())
        inside = [self.tensors[name] for name in wanted]
        found = self.reference.inside(self.arrays(arguments, keywords), inside)
        return dict(zip(wanted, found, strict=True))

    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the base; UsageError also for another value of a fixed input."""
        arrays = super().arrays(arguments, keywords)
        for value, array in zip(self.inputs, arrays, strict=True):
            wanted = self.fixed.get(value.name)
            if wanted is not None and not np.array_equal(array, wanted):
                raise UsageError(
                    f"input {value.name} decides shapes of the compiled model", got=array.tolist(),
                    allowed=wanted.tolist(),
                    next_step="compile the model once more with this value in the example inputs",
                )  # fmt: skip
        return arrays


def import_model(model: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Imported:
    """The graph of an ONNX model at the shapes of its example inputs.

    They may be left out when every shape is static. Raises UnsupportedOp for an operation without
    a rule, UsageError for a damaged file or inputs that do not fit.
    """
    onnx = require_onnx()
    proto, folder = _loaded(onnx, model)
    source = Source(onnx, _opsets(proto), _functions(proto), folder)
    inputs_of = _Inputs(source, proto, inputs, keywords)
    knowledge = Knowledge()
    builder = FollowingBuilder(proto.graph.name or "model", knowledge)
    names: Environment = {}
    for name, kind in inputs_of.types.items():
        names[name] = builder.input(name, kind.shape, kind.dtype)
        example = inputs_of.given.get(name)
        if example is not None and example.size <= DECIDING_ELEMENTS:
            knowledge.values[names[name]] = Known(example, frozenset({name}))
    results = GraphReader(source, builder, names, parameters=True).read(proto.graph)
    outputs = [_tensor(builder, v.name, item)
               for v, item in zip(proto.graph.output, results, strict=True)]  # fmt: skip
    graph = verify(DeadCode().apply(builder.build(outputs)))
    fixed = {name: inputs_of.given[name] for name in sorted(knowledge.fixed)}
    interface = OnnxInterface(
        graph.inputs, tuple(v.name for v in proto.graph.output),
        _Reference(proto, folder, tuple(inputs_of.types)), fixed=fixed,
        tensors=_tensors(proto, names),
    )  # fmt: skip
    return Imported(graph, _used(graph, source), interface, inputs_of.example)


def _tensors(proto: Any, names: Environment) -> dict[str, str]:
    """By the names of our values the first tensor, made by a node, that each stands for."""
    found: dict[str, str] = {}
    for name in (name for node in proto.graph.node for name in node.output):
        value = names.get(name)
        if isinstance(value, Value):
            found.setdefault(value.name, name)
    return found


def _used(graph: Graph, source: Source) -> dict[str, Array]:
    kept = {p.name for p in graph.parameters}
    return {name: array for name, array in source.weights.items() if name in kept}


def _loaded(onnx: Any, model: Any) -> tuple[Any, Path | None]:
    """The model's message, and the folder of its external data."""
    if not isinstance(model, str | Path | bytes):
        return _checked(model), None
    path = None if isinstance(model, bytes) else Path(model)
    try:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
    except OSError as error:
        raise UsageError(f"the ONNX file cannot be read: {error.strerror or error}",
                         got=str(path), next_step="give the path of an .onnx file",
                         ) from None  # fmt: skip
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception:  # the class of this error differs between protobuf's implementations
        raise UsageError("these bytes are no ONNX model", got=str(path or f"{len(content)} bytes"),
                         next_step="the file may be cut off, or a Git LFS pointer: open it",
                         ) from None  # fmt: skip
    return _checked(proto), path.parent if path else None


def _checked(proto: Any) -> Any:
    if not proto.HasField("graph") or not proto.graph.output:
        raise UsageError("the ONNX model has no graph with outputs",
                         got=f"{proto.ByteSize()} bytes")  # fmt: skip
    if not proto.opset_import:
        raise UsageError("the ONNX model names no operation set", allowed="at least one",
                         next_step="the file is damaged: export it again")  # fmt: skip
    return proto


def _opsets(proto: Any) -> dict[str, int]:
    named = ((o.domain, o.version) for o in proto.opset_import)
    return {"" if domain in DEFAULT_DOMAINS else domain: version for domain, version in named}


def _functions(proto: Any) -> dict[tuple[str, str], Any]:
    return {(f.domain, f.name): f for f in proto.functions}


def _empty(builder: FollowingBuilder, item: Value) -> Value:
    """Nothing has to be computed for a tensor without elements."""
    return builder.add(Constant(item.shape, item.dtype, b""))


def _tensor(builder: FollowingBuilder, name: str, item: Any) -> Value:
    if isinstance(item, Value):
        return item if item.type.elements else _empty(builder, item)
    kind = "a sequence" if isinstance(item, tuple) else "nothing"
    raise UnsupportedOp(f"output {name} of the model is {kind}", allowed="a tensor",
                        next_step="return the tensors one by one")  # fmt: skip


class _Inputs:
    """The model's inputs: their types at the shapes of the example, and the arrays given."""

    def __init__(
        self, source: Source, proto: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        stored = {t.name for t in proto.graph.initializer}
        declared = {v.name: v for v in proto.graph.input}
        order = [name for name in declared if name not in stored]
        self.given = _named(order, declared, inputs, keywords)
        wanted = [*order, *(name for name in declared if name in self.given and name in stored)]
        self.sizes: dict[str, int] = {}
        self.types = {name: self._type(source, declared[name]) for name in wanted}
        missing = [name for name in wanted if name not in self.given] if self.given else []
        if missing:
            raise UsageError("example inputs are missing", got=", ".join(self.given),
                             allowed=", ".join(wanted))  # fmt: skip
        made = {name: _made(kind) for name, kind in self.types.items()}
        self.example: tuple[tuple[Any, ...], dict[str, Any]] = (), {**made, **self.given}

    def _type(self, source: Source, declared: Any) -> TensorType:
        name, kind = declared.name, declared.type
        if not kind.HasField("tensor_type"):
            raise UnsupportedOp(f"input {name} is no tensor", got=kind.WhichOneof("value"),
                                allowed="a tensor")  # fmt: skip
        dtype = source.dtype(kind.tensor_type.elem_type, f"input {name}")
        dims = kind.tensor_type.shape.dim if kind.tensor_type.HasField("shape") else None
        given = self.given.get(name)
        if given is not None:
            self._check(name, dtype, dims, given)
            return TensorType(given.shape, dtype)
        if dims is None or any(not dim.HasField("dim_value") for dim in dims):
            shape = "any" if dims is None else [_size(dim) for dim in dims]
            raise UsageError(
                f"input {name} has symbolic sizes, and programs of the chip have static ones",
                got=shape, next_step="give example inputs: NumPy arrays of the sizes to serve",
            )  # fmt: skip
        return TensorType(tuple(dim.dim_value for dim in dims), dtype)

    def _check(self, name: str, dtype: np.dtype[Any], dims: Any, given: Array) -> None:
        if given.dtype != dtype:
            raise UsageError(f"example input {name} has another dtype than the model declares",
                             got=given.dtype.name, allowed=dtype.name,
                             next_step=f"convert it with .astype({dtype.name!r})")  # fmt: skip
        if dims is None:
            return
        fits = len(dims) == given.ndim
        for dim, size in zip(dims, given.shape, strict=False):
            known = dim.dim_value if dim.HasField("dim_value") else size
            if dim.dim_param:
                known = self.sizes.setdefault(dim.dim_param, size)
            fits = fits and known == size
        if not fits:
            bound = ", ".join(f"{k} = {n}" for k, n in self.sizes.items())
            raise UsageError(
                f"example input {name} has another shape than the model declares",
                got=list(given.shape),
                allowed=f"{[_size(dim) for dim in dims]}" + (f" with {bound}" if bound else ""),
            )  # fmt: skip


def _named(
    order: Sequence[str], declared: Mapping[str, Any], inputs: Sequence[Any],
    keywords: Mapping[str, Any],
) -> dict[str, Array]:  # fmt: skip
    """Example inputs by name, as arrays."""
    given = dict(zip(order, inputs, strict=False))
    strange = sorted(set(keywords) - set(declared) | set(given) & set(keywords))
    if len(inputs) > len(order) or strange:
        raise UsageError(
            "example inputs do not fit the inputs of the model",
            got=f"{len(inputs)} by position, {', '.join(keywords) or 'none'} by name",
            allowed=", ".join(order) or "no inputs",
        )  # fmt: skip
    return {name: _array(name, array) for name, array in {**given, **keywords}.items()}


def _array(name: str, given: Any) -> Array:
    try:
        found = np.asarray(given)
    except ValueError:
        found = np.asarray(None)
    if found.dtype.kind in "OUS":
        raise UsageError(f"example input {name} is no array of numbers", got=type(given).__name__,
                         allowed="a NumPy array")  # fmt: skip
    return found


def _size(dim: Any) -> int | str:
    return int(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"


def _made(kind: TensorType) -> Array:
    """An array to run a model with when nobody gave one: normal numbers, or zeros."""
    if kind.dtype.kind in "iub":
        return np.zeros(kind.shape, kind.dtype)
    return np.random.default_rng(SEED).standard_normal(kind.shape).astype(kind.dtype)


@dataclass(frozen=True)
class _Reference:
    """Runs the model itself: with onnxruntime where it is installed, else onnx's evaluator."""

    proto: Any
    folder: Path | None
    inputs: tuple[str, ...]

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        return self._run(self._whole(), None, arrays)

    def inside(self, arrays: Sequence[Array], names: Sequence[str]) -> list[Array]:
        """The named tensors inside the model."""
        onnx = require_onnx()
        proto = onnx.ModelProto()
        proto.CopyFrom(self._whole())
        shown = {value.name for value in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in shown)
        return self._run(proto, list(names), arrays)

    def _whole(self) -> Any:
        """The model with its external data."""
        if self.folder is None:
            return self.proto
        onnx = require_onnx()
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        onnx.load_external_data_for_model(proto, str(self.folder))
        return proto

    def _run(
        self, proto: Any, outputs: list[str] | None, arrays: Sequence[Array]
    ) -> list[Array]:  # fmt: skip
        feed = dict(zip(self.inputs, arrays, strict=True))
        if find_spec("onnxruntime") is None:
            from onnx.reference import ReferenceEvaluator

            found = ReferenceEvaluator(proto).run(outputs, feed)
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(
                proto.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            found = session.run(outputs, feed)
        return [np.asarray(array) for array in found]


__all__ = ["OnnxInterface", "accepts", "import_model"]
