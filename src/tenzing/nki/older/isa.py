"""``neuronxcc.nki.isa``: the same instructions, as calls that return their tile.

Every function is made from the instruction class: the parameters without ``dst``, plus ``dtype``.
The tile has the sizes the instruction writes and, unless given, the dtype of its first operand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from tenzing.errors import KernelError, close_names
from tenzing.isa import REGISTRY, Engine, Instruction, numerics
from tenzing.isa.enums import (
    dge_mode,
    dma_engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)  # fmt: skip
from tenzing.isa.operand import DType, Space
from tenzing.machine import active_core
from tenzing.nki import isa as current
from tenzing.nki.emit import hidden_operands
from tenzing.nki.indexing import AffineIndex
from tenzing.nki.older.masks import masked
from tenzing.nki.tensor import NkiTensor
from tenzing.nki.values import (
    FLOAT32,
    as_number,
    emit,
    given_dtype,
    new_tile,
    promoted,
    returned,
)  # fmt: skip

__tenzing_internal__ = True

engine = Engine
tensor_engine: Final = Engine.tensor
vector_engine: Final = Engine.vector
scalar_engine: Final = Engine.scalar
gpsimd_engine: Final = Engine.gpsimd
unknown_engine: Final = Engine.unknown
get_nc_version = current.get_nc_version

Arguments = dict[str, Any]
Result = tuple[tuple[int, ...], DType, Space]

MAX8: Final = 8  # values that max8 and nc_find_index8 return per partition
STATISTICS: Final = 6  # numbers that bn_stats returns per piece
MOMENTS: Final = 2  # mean and variance
# They write into a tile the caller gives, also in the older language.
IN_PLACE: Final = ("dma_copy", "tensor_copy_predicated", "set_rng_seed", "rand_set_state")


# -- what a call returns ---------------------------------------------------------------------------


def _like(name: str) -> Callable[[Arguments], Result]:
    def rule(a: Arguments) -> Result:
        tile = _tile(a, name)
        return tile.shape, tile.dtype, Space.SBUF

    return rule


def _like_both(first: str, second: str) -> Callable[[Arguments], Result]:
    def rule(a: Arguments) -> Result:
        x, y = _tile(a, first), _tile(a, second)
        return x.shape, promoted(x.dtype, y.dtype), Space.SBUF

    return rule


def _columns(name: str, count: int, dtype: DType | None = None) -> Callable[[Arguments], Result]:
    def rule(a: Arguments) -> Result:
        tile = _tile(a, name)
        return (tile.layout.partitions, count), dtype or tile.dtype, Space.SBUF

    return rule


def _product(a: Arguments) -> Result:
    stationary, moving = _tile(a, "stationary"), _tile(a, "moving")
    dtype = stationary.dtype if a.get("is_transpose") else FLOAT32
    return (stationary.layout.free, *moving.shape[1:]), dtype, Space.PSUM


def _transposed(a: Arguments) -> Result:
    data = _tile(a, "data")
    space = Space.SBUF if a.get("engine") is Engine.vector else Space.PSUM
    return (data.layout.free, data.layout.partitions), data.dtype, space


def _dma_transposed(a: Arguments) -> Result:
    src = _tile(a, "src")
    return src.shape[::-1], src.dtype, Space.SBUF


def _reduced(a: Arguments) -> Result:
    data, axis = _tile(a, "data"), a["axis"]
    axes = {x % data.ndim for x in ((axis,) if isinstance(axis, int) else axis)}
    keep = a.pop("keepdims", False)
    shape = tuple(1 if d in axes else n for d, n in enumerate(data.shape) if keep or d not in axes)
    return shape, data.dtype, Space.SBUF


def _one_partition(a: Arguments) -> Result:
    data = _tile(a, "data")
    return (1, *data.shape[1:]), data.dtype, Space.SBUF


UINT32: Final = numerics.dtype("uint32")
RESULTS: Final[dict[str, Callable[[Arguments], Result]]] = {
    "nc_matmul": _product,
    "nc_transpose": _transposed,
    "dma_transpose": _dma_transposed,
    "tensor_reduce": _reduced,
    "tensor_partition_reduce": _one_partition,
    "tensor_tensor": _like_both("data1", "data2"),
    "tensor_tensor_scan": _like_both("data0", "data1"),
    "scalar_tensor_tensor": _like_both("data", "operand1"),
    "tensor_copy": _like("src"),
    "nc_stream_shuffle": _like("src"),
    "affine_select": _like("on_true_tile"),
    "range_select": _like("on_true_tile"),
    "select_reduce": _like("on_true"),
    "nc_n_gather": _like("indices"),
    "bn_stats": _columns("data", STATISTICS, FLOAT32),
    "bn_aggr": _columns("data", MOMENTS),
    "max8": _columns("src", MAX8),
    "nc_find_index8": _columns("data", MAX8, UINT32),
}


def _tile(a: Arguments, name: str) -> NkiTensor:
    value = a.get(name)
    if isinstance(value, NkiTensor):
        return value
    raise KernelError(f"{name} must be a tile", got=type(value).__name__,
                      where=active_core().here())  # fmt: skip


def result(kind: type[Instruction], arguments: Arguments, dtype: Any) -> NkiTensor:
    """The tile a call returns, allocated."""
    rule = RESULTS.get(kind.nki) or _like("data")
    shape, default, space = rule(arguments)
    return new_tile(shape, given_dtype(dtype, default), space)


# -- functions -------------------------------------------------------------------------------------


def value_function(kind: type[Instruction]) -> Callable[..., NkiTensor]:
    """The function of ``kind`` that returns its tile instead of taking ``dst``."""
    signature, required = _signature(kind)
    positional = tuple(n for n, p in signature.parameters.items() if p.kind is not p.KEYWORD_ONLY)
    allowed = frozenset(signature.parameters)

    def function(*args: Any, **kwargs: Any) -> NkiTensor:
        arguments = dict(zip(positional, args, strict=False))
        if (
            len(args) > len(positional)
            or not allowed.issuperset(kwargs)
            or not arguments.keys().isdisjoint(kwargs)
            or any(n not in arguments and n not in kwargs for n in required)
        ):
            _refuse(kind.nki, signature, args, kwargs)
        arguments.update(kwargs)
        arguments.pop("name", None)
        tile = result(kind, arguments, arguments.pop("dtype", None))
        if "accumulate" in kind.specs:
            arguments["accumulate"] = False
        return returned(kind.nki, tile, **{k: _plain(v) for k, v in arguments.items()})

    function.__name__ = function.__qualname__ = kind.nki
    function.__doc__ = kind.__doc__
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _signature(kind: type[Instruction]) -> tuple[inspect.Signature, list[str]]:
    """The published parameters without ``dst``, and those that must be given."""
    hidden = (*hidden_operands(kind), "dst", "accumulate")
    names = [n for n in kind.specs if n not in hidden]
    optional = [n for n in names if kind.specs[n].has_default]
    if kind.nki == "tensor_reduce" and "keepdims" not in names:
        optional.append("keepdims")
    required = [n for n in names if n not in optional]
    parameters = [
        inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=_default(kind, n))
        for n in _order(names, required, optional)
    ]
    keyword = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None)
        for n in ("dtype", "name")
        if n not in names
    ]
    return inspect.Signature([*parameters, *keyword]), required


def _order(names: list[str], required: list[str], optional: list[str]) -> list[str]:
    """Published order; where an optional one stands before a required one, it moves back."""
    extra = [n for n in optional if n not in names]
    in_order = [n for n in names if n in required] + [n for n in names if n in optional]
    return [*in_order, *extra]


def _default(kind: type[Instruction], name: str) -> Any:
    spec = kind.specs.get(name)
    if spec is None:
        return False
    return spec.default if spec.has_default else inspect.Parameter.empty


def _refuse(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Arguments
) -> None:
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise KernelError(f"nki.isa.{name}: {error}", allowed=str(signature),
                          where=active_core().here()) from None  # fmt: skip


def _plain(value: Any) -> Any:
    number = as_number(value) if not isinstance(value, bool) else None
    return value if number is None else number


def statement_function(kind: type[Instruction]) -> Callable[..., None]:
    """The function of a kind that writes into tiles its caller gives, by keyword."""
    names = [n for n in kind.specs if n not in hidden_operands(kind)]

    def function(*args: Any, **kwargs: Any) -> None:
        kwargs.pop("dtype", None)
        kwargs.pop("name", None)
        emit(kind.nki, **dict(zip(names, args, strict=False)), **kwargs)

    function.__name__ = function.__qualname__ = kind.nki
    function.__doc__ = kind.__doc__
    return function


def _function_of(kind: type[Instruction]) -> Callable[..., Any]:
    in_place = kind.nki in IN_PLACE or "dst" not in kind.operands
    return statement_function(kind) if in_place else value_function(kind)


def _functions() -> dict[str, Callable[..., Any]]:
    return {nki: masked(f"nki.isa.{nki}", _function_of(kind)) for nki, kind in REGISTRY.items()}


FUNCTIONS: Final = _functions()
globals().update(FUNCTIONS)


# -- calls whose older parameters differ -----------------------------------------------------------


def memset(shape: Any, value: float, dtype: Any, *, engine: Any = Engine.unknown) -> NkiTensor:
    """A new tile with one number everywhere."""
    return returned("memset", new_tile(shape, numerics.dtype(dtype)), value=value, engine=engine)


def iota(expr: AffineIndex, dtype: Any) -> NkiTensor:
    """A tile holding the values of an index expression over its grid."""
    if not isinstance(expr, AffineIndex):
        raise KernelError("iota takes an index expression", got=type(expr).__name__,
                          allowed="nl.arange(...) and its sums and products",
                          where=active_core().here())  # fmt: skip
    pattern = [[c, n] for c, n in zip(expr.coefficients[1:], expr.shape[1:], strict=True)]
    tile = new_tile(expr.shape, numerics.dtype(dtype))
    return returned("iota", tile, pattern=pattern or [[0, 1]], offset=expr.constant,
                    channel_multiplier=expr.coefficients[0])  # fmt: skip


def nc_stream_shuffle(src: NkiTensor, dst: NkiTensor, shuffle_mask: Any, **_: Any) -> None:
    """Permute partitions within groups of 32, into a given tile."""
    emit("nc_stream_shuffle", dst=dst, src=src, shuffle_mask=shuffle_mask)


def __getattr__(name: str) -> Any:
    known = close_names(name, sorted(FUNCTIONS)) or ", ".join(sorted(FUNCTIONS))
    raise AttributeError(f"neuronxcc.nki.isa has no '{name}' in tenzing; it knows {known}")


__all__ = [
    *FUNCTIONS, "dge_mode", "dma_engine", "engine", "get_nc_version", "gpsimd_engine",
    "matmul_perf_mode", "nc_version", "oob_mode", "reduce_cmd", "scalar_engine", "tensor_engine",
    "unknown_engine", "vector_engine",
]  # fmt: skip
