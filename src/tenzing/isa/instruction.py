"""What an instruction is: operands with limits, meaning, cost and doc, declared once per class.

A subclass of :class:`Instruction` is the single place where one ``nki.isa`` operation lives. Its
fields are declared in the published order of parameters; the function in ``tenzing.nki.isa``, the
stub, the reference page and the law tests are derived from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, SupportsFloat, SupportsIndex

from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.operand import Array, DType, Layout, Space
from tenzing.units import cycles_to_ps

EngineState = MutableMapping[str, Array]


class FastEnum(Enum):
    """An Enum hashed by identity: template keys are hashed once per instruction."""

    __hash__ = object.__hash__


class Engine(FastEnum):
    """The engines of a NeuronCore, with the published values of ``nki.isa.engine``."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6


class Exactness(FastEnum):
    """How much of the silicon's result is documented."""

    exact = "exact"  # the documented meaning fixes every bit
    bounded = "bounded"  # a bound on the difference is stated
    modelled = "modelled"  # the documentation leaves the bits open; ours are one choice


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a DMA instruction asks of rings, engines and HBM.

    ``engines`` work in parallel, each busy for ``service_ps``; ``fixed_ps`` is the latency before
    and after the data phase; ``hbm_bytes`` is the traffic the shared HBM server sees.
    """

    payload_bytes: int
    hbm_bytes: int
    engines: int
    service_ps: int
    fixed_ps: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of one instruction on its engine, in picoseconds.

    ``issue_ps``: the engine is busy and takes no other instruction. ``latency_ps``: dispatch to
    result visible. ``chained_ps``: dispatch to the dispatch of an instruction of the same engine
    that needs the result, None where that is the latency. ``load_ps``: TensorE stationary load,
    hidden under the previous multiply. ``table``: activation table the Scalar engine must hold
    first.
    """

    issue_ps: int
    latency_ps: int
    chained_ps: int | None = None
    load_ps: int = 0
    table: str | None = None
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True)
class OperandSpec:
    """One tensor parameter: role, memories, dtypes and the facts that limit its size."""

    role: str  # "reads", "writes", "updates"
    spaces: tuple[Space, ...]
    dtypes: tuple[str, ...] = ()  # names; empty means every dtype
    scalar: bool = False  # a Python number is accepted as well
    optional: bool = False
    default: Any = None
    has_default: bool = False
    partitions_fact: str = "core.partitions"
    free_fact: str = "sbuf.free_size_limit"

    def broken(self, name: str, layout: Layout, chip: Chip) -> Iterator[str]:
        """Rules of this operand that ``layout`` breaks on ``chip``."""
        if layout.space not in self.spaces:
            allowed = " or ".join(space.name for space in self.spaces)
            yield f"{name} is in {layout.space.name}; allowed: {allowed}"
        dtype = numerics.name(layout.dtype)
        if self.dtypes and dtype not in self.dtypes:
            yield f"{name} has dtype {dtype}; allowed: {', '.join(self.dtypes)}"
        if not layout.space.on_chip:
            return
        limit = chip.integer(self.partitions_fact)
        if layout.partitions > limit:
            yield (f"{name} has {layout.partitions} partitions; {chip.name} allows {limit} "
                   f"({self.partitions_fact})")  # fmt: skip
        limit = chip.integer(self.free_fact)
        if layout.free > limit:
            yield (f"{name} has {layout.free} free elements; {chip.name} allows {limit} "
                   f"({self.free_fact})")  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttrSpec:
    """One compile-time parameter."""

    default: Any = None
    has_default: bool = False
    convert: Callable[[Any], Any] | None = None


ON_CHIP: Final = (Space.SBUF, Space.PSUM)
ANYWHERE: Final = (Space.HBM, Space.SBUF, Space.PSUM)
_MISSING: Final = object()


def _operand(role: str, spaces: tuple[Space, ...], options: Mapping[str, Any]) -> Any:
    default = options.get("default", _MISSING)
    rest = {key: value for key, value in options.items() if key != "default"}
    has_default = default is not _MISSING or bool(rest.get("optional"))
    return OperandSpec(role, spaces or ON_CHIP, default=None if default is _MISSING else default,
                       has_default=has_default, **rest)  # fmt: skip


def reads(*spaces: Space, **options: Any) -> Any:
    """Declare a tensor parameter the instruction reads; options are OperandSpec's fields."""
    return _operand("reads", spaces, options)


def writes(*spaces: Space, **options: Any) -> Any:
    """Declare a tensor parameter the instruction overwrites."""
    return _operand("writes", spaces, options)


def updates(*spaces: Space, **options: Any) -> Any:
    """Declare a tensor parameter the instruction may read and then writes."""
    return _operand("updates", spaces, options)


def attr(default: Any = _MISSING, *, convert: Callable[[Any], Any] | None = None) -> Any:
    """Declare a compile-time parameter; ``convert`` maps what the user gave to our own object."""
    if default is _MISSING:
        return AttrSpec(convert=convert)
    return AttrSpec(default, has_default=True, convert=convert)


class Instruction:
    """One operation of an engine. Subclasses declare fields and define meaning and cost.

    An instance is a *template*: operand fields hold a :class:`Layout` (or a number, or ``None``),
    attribute fields hold compile-time values. It knows nothing of addresses or contents.
    """

    nki: ClassVar[str] = ""
    engines: ClassVar[tuple[Engine, ...]] = ()
    exactness: ClassVar[Exactness] = Exactness.exact
    since: ClassVar[int] = 2  # first NeuronCore generation that has it
    partial: bool = False  # leaves part of its destination as it was, without reading it
    stateful: ClassVar[bool] = False  # compute() takes the engine's registers as first argument
    specs: ClassVar[dict[str, OperandSpec | AttrSpec]] = {}
    operands: ClassVar[dict[str, OperandSpec]] = {}
    engine: Engine = Engine.unknown

    def __init_subclass__(
        cls,
        nki: str = "",
        engines: tuple[Engine, ...] = (),
        exactness: Exactness = Exactness.exact,
        since: int = 2,
        stateful: bool = False,
    ) -> None:
        super().__init_subclass__()
        if not nki:
            return
        declared = {
            name: value
            for base in reversed(cls.__mro__)
            for name, value in vars(base).items()
            if isinstance(value, OperandSpec | AttrSpec)
        }
        cls.nki, cls.engines, cls.exactness, cls.since = nki, engines, exactness, since
        cls.stateful = stateful
        cls.specs = declared
        cls.operands = {n: s for n, s in declared.items() if isinstance(s, OperandSpec)}
        REGISTRY[nki] = cls

    def __init__(self, **fields: Any) -> None:
        for name, spec in self.specs.items():
            value = fields.pop(name, spec.default)
            if isinstance(spec, AttrSpec) and spec.convert is not None and value is not None:
                value = spec.convert(value)
            setattr(self, name, value)
        if fields:
            raise TypeError(f"{self.nki} has no parameter {', '.join(fields)}")

    # -- what subclasses define -------------------------------------------------------------

    def limits(self, chip: Chip) -> Iterator[str]:
        """Rules across operands that this template breaks on ``chip``, one sentence each."""
        yield from ()

    def default_engine(self, chip: Chip) -> Engine:
        """The engine taken when the user named none."""
        return self.engines[0]

    def compute(self, *registers: EngineState, **values: Any) -> Any:
        """The meaning: typed arrays of the read operands in, values of the written ones out.

        Keyword arguments are the names of read and updated operands (arrays, or the number the
        user gave; ``None`` when absent), preceded by the engine's registers when ``stateful``.
        Returns one array, or a dict of arrays by operand name when several are written. A result
        of another dtype than the destination is rounded on write.
        """
        raise NotImplementedError(self.nki)

    def cost(self, chip: Chip) -> Cost:
        """Issue interval and latency on ``chip``."""
        raise NotImplementedError(self.nki)

    def flops(self) -> int:
        """Multiply and add operations of a matrix product, zero elsewhere."""
        return 0

    # -- what everything gets ---------------------------------------------------------------

    def engine_on(self, chip: Chip) -> Engine:
        """The engine that runs this template on ``chip``."""
        chosen = self.engine
        return self.default_engine(chip) if chosen in (None, Engine.unknown) else chosen

    def layouts(self) -> Iterator[tuple[str, OperandSpec, Layout]]:
        """The tensor operands that are present."""
        for name, spec in self.operands.items():
            value = getattr(self, name)
            if isinstance(value, Layout):
                yield name, spec, value

    def broken_rules(self, chip: Chip) -> list[str]:
        """Every rule this template breaks on ``chip``; empty when the chip accepts it."""
        if chip.generation < self.since:
            return [f"{chip.name} has no {self.nki}; it needs NeuronCore-v{self.since} or newer"]
        broken: list[str] = []
        for name, spec in self.operands.items():
            value = getattr(self, name)
            if isinstance(value, Layout):
                broken.extend(spec.broken(name, value, chip))
            elif value is None and not spec.optional and not spec.has_default:
                broken.append(f"{name} is missing; give a tile")
            elif value is not None and not spec.scalar:
                broken.append(f"{name} is {value!r}; a tile is needed")
            elif not isinstance(value, Layout | SupportsFloat | SupportsIndex | None):
                broken.append(f"{name} is {value!r}; a tile or a number is needed")
        if broken:
            return broken  # the rules below read every operand
        engine = self.engine_on(chip)
        if engine not in self.engines:
            names = ", ".join(e.name for e in self.engines)
            return [f"engine {engine.name} cannot run it; allowed: {names}"]
        return list(self.limits(chip))

    def __repr__(self) -> str:
        parts = []
        for name, spec in self.specs.items():
            value = getattr(self, name)
            if value is not None and value != spec.default:
                parts.append(f"{name}={_show(value)}")
        return f"{self.nki}({', '.join(parts)})"


def _show(value: Any) -> str:
    if isinstance(value, FastEnum):
        return value.name
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or repr(value))


REGISTRY: Final[dict[str, type[Instruction]]] = {}


def elementwise_ps(
    chip: Chip, engine: str, cycles: float, *, extra_cycles: float = 0
) -> tuple[int, int, int]:
    """Issue interval, latency and chained latency of streaming on Vector, Scalar or GpSimd.

    Interval: ``max(minimum, cycles) + overhead``; the latencies add overheads of their own.
    """
    clock = chip.number(f"{engine}.clock_ghz")
    floor = chip.number(f"{engine}.min_interval_cycles")
    interval = max(floor, cycles) + extra_cycles + chip.number(f"{engine}.interval_overhead_cycles")
    latency = cycles + extra_cycles + chip.number(f"{engine}.latency_overhead_cycles")
    chained = cycles + extra_cycles + chip.number(f"{engine}.chained_overhead_cycles")
    return (
        cycles_to_ps(interval, clock),
        cycles_to_ps(max(interval, latency), clock),
        cycles_to_ps(max(interval, chained), clock),
    )


def stride_factor(chip: Chip, layouts: Sequence[Layout]) -> float:
    """Slow-down when the innermost stride of an on-chip operand reaches the documented limit."""
    limit = chip.integer("sbuf.stride_penalty_bytes")
    slow = any(x.space.on_chip and x.free > 1 and x.inner_stride >= limit for x in layouts)
    return chip.number("sbuf.stride_penalty_factor") if slow else 1.0


def same_free(a: Layout, b: Layout, names: str) -> Iterator[str]:
    """Rule: two operands agree in partitions and free elements."""
    first, second = names.split("/")
    if a.partitions != b.partitions:
        yield f"{first} has {a.partitions} partitions, {second} has {b.partitions}"
    if a.free != b.free:
        yield f"{first} has {a.free} free elements, {second} has {b.free}"


__all__ = [
    "ANYWHERE", "ON_CHIP", "REGISTRY", "Array", "AttrSpec", "Cost", "DType", "Engine",
    "EngineState", "Exactness", "FastEnum", "Instruction", "Layout", "OperandSpec", "Space",
    "Transfer", "attr", "elementwise_ps", "reads", "same_free", "stride_factor", "updates",
    "writes",
]  # fmt: skip
