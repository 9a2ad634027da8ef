"""MLIR as jaxlib's bindings show it: parsing, types, attributes and places; no other file knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np

from tenzing.compiler.frontends.interface import needs
from tenzing.compiler.graph import Array, TensorType
from tenzing.compiler.ops.elementwise import narrow
from tenzing.errors import Loc, UnsupportedOp, UsageError, is_user_code

PORTABLE: Final = b"ML\xefR"  # how MLIR bytecode and portable artifacts begin
PLACE: Final = re.compile(r'"(?P<file>[^"]+)":(?P<line>\d+):\d+')
NAME: Final = re.compile(r'^loc\("(?P<name>[^"]*)"[(\s)]')
ELEMENT: Final = {
    "i1": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "ui8": "uint8",
    "ui16": "uint16", "ui32": "uint32", "ui64": "uint64", "f16": "float16", "f32": "float32",
    "f64": "float64", "bf16": "bfloat16", "f8E4M3": "float8_e4m3", "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
}  # fmt: skip
NUMBER: Final = re.compile(r"0x[0-9A-Fa-f]+|-?\d[\d.]*(?:[eE][-+]?\d+)?")
HEX: Final = re.compile(r'^dense<"0x([0-9A-F]*)">')


def require_mlir() -> Any:
    """jaxlib's MLIR bindings; UsageError names what to install when they are missing."""
    with needs("reading StableHLO", "jaxlib", "stablehlo"):
        from jaxlib.mlir import ir
    return ir


def context() -> Any:
    """A context that knows every dialect JAX and TensorFlow write."""
    ir = require_mlir()
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext
    from jaxlib.mlir.dialects import chlo, mhlo, sdy, stablehlo

    found, registry = ir.Context(), ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    found.append_dialect_registry(registry)
    found.load_all_available_dialects()
    for dialect in (stablehlo, chlo, sdy):
        dialect.register_dialect(found)
    mhlo.register_mhlo_dialect(found)
    return found


def parse(source: str | bytes, name: str = "module") -> Any:
    """The module behind MLIR text, MLIR bytecode or a portable StableHLO artifact."""
    ir, ctx = require_mlir(), context()
    from jaxlib.mlir.dialects import stablehlo

    try:
        if isinstance(source, bytes) and source.startswith(PORTABLE):
            try:
                return stablehlo.deserialize_portable_artifact(ctx, source)
            except ir.MLIRError:
                return ir.Module.parse(source, ctx)
        text = source if isinstance(source, str) else source.decode()
        return ir.Module.parse(text, ctx)
    except (ir.MLIRError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith("error:")), lines[0])
        raise UsageError(f"{name} is not a StableHLO module", got=said) from None


def functions(module: Any) -> dict[str, Any]:
    """The functions of a module by name."""
    found = {}
    for op in module.body.operations:
        if op.operation.name == "func.func":
            found[op.operation.attributes["sym_name"].value] = op.operation
    return found


def tensor_type(kind: Any, place: Loc | None = None) -> TensorType:
    """Shape and dtype of a ranked tensor; UnsupportedOp for what no graph holds."""
    text = str(kind)
    if not text.startswith("tensor<"):
        raise UnsupportedOp("a value that is no tensor", got=text, where=place)
    shaped = kind if hasattr(kind, "shape") else require_mlir().ShapedType(kind)
    if not shaped.has_static_shape:
        raise UnsupportedOp("a dynamic shape: the chip runs programs of static shapes", got=text,
                            where=place, next_step="lower with static shapes, once per bucket",
                            )  # fmt: skip
    return TensorType(tuple(shaped.shape), dtype_of(shaped.element_type, place))


def dtype_of(element: Any, place: Loc | None = None) -> np.dtype[Any]:
    """NumPy's or ml_dtypes' dtype of an MLIR element type."""
    name = ELEMENT.get(str(element))
    if name is None:
        complex_one = str(element).startswith("complex")
        raise UnsupportedOp(
            "this dtype has no place in a graph", got=str(element), where=place,
            next_step="keep real and imaginary parts apart" if complex_one else
            "convert to a dtype that the chip has",
        )  # fmt: skip
    return np.dtype(getattr(ml_dtypes, name, name))


def dense(attribute: Any, kind: TensorType) -> Array:
    """The content of a dense attribute."""
    try:
        return np.asarray(attribute).astype(kind.dtype, copy=False).reshape(kind.shape)
    except TypeError:  # the bindings show no bf16 and fp8
        pass
    if attribute.is_splat:
        number = attribute.get_splat_value().value
        return np.broadcast_to(narrow(np.array(number), kind.dtype), kind.shape)
    written = HEX.match(str(attribute))
    if written:
        return np.frombuffer(bytes.fromhex(written[1]), kind.dtype).reshape(kind.shape)
    content = str(attribute).partition(" : tensor")[0]
    bits = np.dtype(f"uint{8 * kind.dtype.itemsize}")
    numbers = [
        np.array(int(word, 16), bits).view(kind.dtype) if word.startswith("0x") else
        narrow(np.array(float(word)), kind.dtype) for word in NUMBER.findall(content)
    ]  # fmt: skip
    return np.array(numbers, kind.dtype).reshape(kind.shape)


def integers(attribute: Any) -> tuple[int, ...]:
    """A list of integers, in whichever of MLIR's forms."""
    if hasattr(attribute, "is_splat"):
        return tuple(int(n) for n in np.asarray(attribute).reshape(-1))
    return tuple(getattr(n, "value", n) for n in attribute)


class Operation:
    """One MLIR operation as the rules read it."""

    def __init__(self, operation: Any) -> None:
        self.raw = operation
        self.name: str = operation.name

    @property
    def operands(self) -> list[Any]:
        """MLIR values."""
        return list(self.raw.operands)

    @property
    def results(self) -> list[Any]:
        """MLIR values."""
        return list(self.raw.results)

    def types(self) -> list[TensorType]:
        """Types of the results."""
        return [tensor_type(value.type, self.loc) for value in self.raw.results]

    @property
    def type(self) -> TensorType:
        """Type of the only result."""
        (found,) = self.types()
        return found

    def has(self, name: str) -> bool:
        """Whether the attribute is there."""
        return name in self.raw.attributes

    def attribute(self, name: str) -> Any:
        """An attribute as MLIR shows it."""
        return self.raw.attributes[name]

    def integers(self, name: str, missing: Sequence[int] = ()) -> tuple[int, ...]:
        """An attribute that lists integers."""
        return integers(self.attribute(name)) if self.has(name) else tuple(missing)

    def integer(self, name: str, missing: int = 0) -> int:
        """An attribute that is an integer."""
        return int(self.attribute(name).value) if self.has(name) else missing

    def word(self, name: str) -> str:
        """The last word of an enumeration such as ``#stablehlo<comparison_direction GT>``."""
        found = re.search(r"(\w+)>?$", str(self.attribute(name)).strip('"'))
        return found[1] if found else ""

    def text(self, name: str) -> str:
        """A string or symbol attribute."""
        return str(getattr(self.attribute(name), "value", "")) if self.has(name) else ""

    def blocks(self) -> list[Any]:
        """The only block of each region."""
        return [region.blocks[0] for region in self.raw.regions]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.raw.operands)

    @property
    def loc(self) -> Loc | None:
        """The user's line that it came from, else the line of the module's text."""
        text = str(self.raw.location)
        places = [Loc(m["file"], int(m["line"])) for m in PLACE.finditer(text)]
        own = [place for place in places if is_user_code(place.file)]
        return next(iter(own or places), None)

    @property
    def scope(self) -> str:
        """What JAX calls the place: the path of functions and modules around the operation."""
        found = NAME.match(str(self.raw.location))
        return found["name"].rpartition("/")[0] if found else ""


__all__ = ["Operation", "dense", "functions", "integers", "parse", "require_mlir", "tensor_type"]
