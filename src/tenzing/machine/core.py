"""One simulated NeuronCore: records every instruction and, when asked, executes it at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import numpy as np

from tenzing.errors import CapacityError, Finding, KernelError, LegalityError, Loc, TenzingError
from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.instruction import Instruction, OperandSpec
from tenzing.isa.operand import Array, DType, Layout, Space, Storage, View, resolve_loc
from tenzing.isa.program import Program, Row, Template, operand_places
from tenzing.machine.regions import Region, overlap, rectangle
from tenzing.units import format_bytes

ACTIVE: Final[ContextVar[Core]] = ContextVar("active core")
INTERNAL: Final = "__tenzing_internal__"  # modules whose frames are never the user's source
UNWRITTEN: Final = 0xFF  # byte pattern of fresh memory: NaN in every float format
_QUIET: Final = {"all": "ignore"}


@dataclass(frozen=True, slots=True)
class Options:
    """How a kernel is run.

    ``values``: execute instructions, not only record them. ``seed``: of the random generators.
    """

    values: bool = True
    seed: int = 0


class Core:
    """The state of one core while a kernel runs on it: memories, registers and the record."""

    def __init__(self, chip: Chip, options: Options | None = None, name: str = "") -> None:
        self.chip = chip
        self.options = options or Options()
        self.values = self.options.values
        self.program = Program(chip, name=name)
        self.templates: dict[tuple[Any, ...], Template] = {}
        self._psum_written: dict[int, set[tuple[int, Layout]]] = {}
        self.registers: dict[str, Array] = {"rng.seed": np.full(1, self.options.seed, np.uint32)}
        self._arenas: dict[Space, Array] = {}
        self._hbm_bytes = 0
        self._most_bytes = {
            Space.HBM: chip.integer("hbm.core_bytes"),
            Space.SBUF: chip.integer("sbuf.bytes_per_partition"),
            Space.PSUM: chip.integer("psum.bytes_per_partition"),
        }
        self.plans: dict[tuple[Any, ...], tuple[Storage, Layout]] = {}  # by memory, dtype, shape
        self.shared: dict[int, View] = {}  # shared HBM tensors of the launch, by order
        self.kept: dict[Any, View] = {}  # constant tiles the language makes once per core
        self._deferred: tuple[View, Callable[[View], None]] | None = None
        self._rows = self.program.rows
        self._storages = self.program.storages

    # -- memory -----------------------------------------------------------------------------

    def allocate(
        self,
        space: Space,
        dtype: DType,
        shape: tuple[int, ...],
        *,
        name: str = "",
        origin: str = "local",
        loc_key: tuple[Any, int] | None = None,
        contents: Array | None = None,
        address: tuple[int, int] | None = None,
    ) -> tuple[Storage, int, Layout, Array | None]:
        """Reserve memory for a tensor: storage, byte offset, layout and bytes.

        ``address`` = (partition, byte in partition) places it; otherwise the allocator does so
        when the program is complete.
        """
        if address is not None and space.on_chip:
            return self._allocate_fixed(space, dtype, shape, name, loc_key, address)
        layout = Layout.dense(space, dtype, shape)
        partitions = layout.partitions if space.on_chip else 1
        pitch = layout.pitch if space.on_chip else max(layout.nbytes, 1)
        storage = Storage(
            len(self._storages), space, dtype, shape, partitions, pitch, name, origin, loc_key
        )
        self._storages.append(storage)
        data: Array | None = None
        if self.values:
            data = (
                self._fresh(storage, max(layout.nbytes, 1))
                if contents is None
                else np.ascontiguousarray(contents).reshape(-1).view(np.uint8).copy()
            )
        return storage, 0, layout, data

    def allocate_like(
        self, model: Storage, layout: Layout, name: str, loc_key: tuple[Any, int]
    ) -> tuple[Storage, Array | None]:
        """One more storage like ``model``."""
        storages = self._storages
        storage = Storage(
            len(storages), model.space, model.dtype, model.shape, model.partitions, model.pitch,
            name, "local", loc_key,
        )  # fmt: skip
        storages.append(storage)
        if not self.values:
            return storage, None
        return storage, self._fresh(storage, layout.nbytes)

    def _fresh(self, storage: Storage, byte_count: int) -> Array:
        """Unwritten bytes; what the chip can never hold is refused before the host holds it."""
        space = storage.space
        need = byte_count // storage.partitions
        if not space.on_chip:
            self._hbm_bytes += need
            need = self._hbm_bytes
        if need > self._most_bytes[space]:
            fact = "hbm.core_bytes" if space is Space.HBM else f"{space.value}.bytes_per_partition"
            what = "HBM tensors" if space is Space.HBM else f"one {space.name} tensor"
            where = "" if space is Space.HBM else " per partition"
            raise CapacityError(
                f"{what} of {format_bytes(need)}{where}", where=resolve_loc(storage.loc_key),
                allowed=f"{format_bytes(self._most_bytes[space])}{where} ({fact} of "
                f"{self.chip.name})",
                next_step="use smaller tiles, a smaller dtype or more cores",
            )  # fmt: skip
        return np.full(byte_count, UNWRITTEN, np.uint8)

    def _allocate_fixed(
        self,
        space: Space,
        dtype: DType,
        shape: tuple[int, ...],
        name: str,
        loc_key: tuple[Any, int] | None,
        address: tuple[int, int],
    ) -> tuple[Storage, int, Layout, Array | None]:
        pitch = self.chip.integer(f"{space.value}.bytes_per_partition")
        partition, byte = address
        layout = Layout.dense(space, dtype, shape, pitch)
        partitions = self.chip.integer("core.partitions")
        for what, first, count, limit, fact in (
            ("partition", partition, layout.partitions, partitions, "core.partitions"),
            ("byte", byte, layout.free_bytes, pitch, f"{space.value}.bytes_per_partition"),
        ):
            if first < 0 or first + count > limit:
                raise KernelError(
                    f"{space.name} tensor {name or shape} at {what} {first} ends at "
                    f"{what} {first + count}",
                    allowed=f"{what} 0 to {limit} ({fact} of {self.chip.name})",
                    where=resolve_loc(loc_key), next_step="move it or make it smaller",
                )  # fmt: skip
        storage = Storage(
            len(self._storages), space, dtype, shape, layout.partitions, pitch, name,
            "local", loc_key, address=byte,
        )  # fmt: skip
        self._storages.append(storage)
        return storage, partition * pitch + byte, layout, self._arena(space)

    def _arena(self, space: Space) -> Array | None:
        if not self.values:
            return None
        if space not in self._arenas:
            size = self.chip.integer("core.partitions") * self.chip.integer(
                f"{space.value}.bytes_per_partition"
            )
            self._arenas[space] = np.full(size, UNWRITTEN, np.uint8)
        return self._arenas[space]

    # -- instructions -----------------------------------------------------------------------

    def make_template(
        self,
        key: tuple[Any, ...],
        kind: type[Instruction],
        arguments: dict[str, Any],
        loc_key: tuple[Any, int] | None,
    ) -> Template:
        """Validate a new combination of call site, layouts and attributes, and cost it."""
        fields = {k: v.layout if isinstance(v, View) else v for k, v in arguments.items()}
        try:
            instruction = kind(**fields)
        except TenzingError as error:
            raise error.at(resolve_loc(loc_key)) from None
        broken = instruction.broken_rules(self.chip)
        if broken:
            loc = resolve_loc(loc_key)
            raise LegalityError(
                [Finding("legality", f"nki.isa.{kind.nki}: {text}", loc,
                         f"see `tenzing facts {self.chip.name}` and the reference page of "
                         f"{kind.nki}") for text in broken]
            )  # fmt: skip
        names = tuple(n for n in kind.operands if isinstance(arguments.get(n), View))
        reads, writes = operand_places(instruction, names)
        constants = {
            n: getattr(instruction, n)
            for n, spec in kind.specs.items()
            if isinstance(spec, OperandSpec) and spec.role != "writes" and n not in names
        }
        template = Template(
            len(self.program.templates), instruction, instruction.engine_on(self.chip),
            instruction.cost(self.chip), names, tuple(arguments[n].layout for n in names),
            reads, writes, constants, loc_key,
        )  # fmt: skip
        self.program.templates.append(template)
        self.templates[key] = template
        return template

    def record(self, template: Template, views: tuple[View, ...]) -> None:
        """Append one instruction; execute it when values are wanted."""
        if self._deferred is not None:
            self.flush()
        number = template.number
        if len(views) == 2:  # noqa: PLR2004 - the common sizes without a loop
            a, b = views
            row: Row = (number, a.storage.id, a.offset, b.storage.id, b.offset)
        elif len(views) == 3:  # noqa: PLR2004
            a, b, c = views
            row = (number, a.storage.id, a.offset, b.storage.id, b.offset, c.storage.id, c.offset)
        else:
            row = (number, *[part for v in views for part in (v.storage.id, v.offset)])
        self._rows.append(row)
        for place in template.psum_writes:
            view = views[place]
            self._psum_written.setdefault(view.storage.id, set()).add((view.offset, view.layout))
        if self.values:
            self.execute(template, views)

    def psum_holds(self, view: View) -> bool:
        """Whether any part of a PSUM view was written before: a further matmul accumulates."""
        written = self._psum_written.get(view.storage.id)
        if not written:
            return False
        if (view.offset, view.layout) in written:
            return True
        wanted = _region(view.offset, view.layout)
        return any(overlap(wanted, _region(offset, layout)) for offset, layout in written)

    def execute(self, template: Template, views: tuple[View, ...]) -> None:
        """Compute one instruction on the memories."""
        instruction = template.instruction
        values = dict(template.constants)
        for place, name in enumerate(template.operands):
            if place in template.reads:
                values[name] = views[place].array()
            elif instruction.operands[name].role == "updates":
                values[name] = None
        try:
            with np.errstate(**_QUIET):  # type: ignore[arg-type]
                if instruction.stateful:
                    result = instruction.compute(self.registers, **values)
                else:
                    result = instruction.compute(**values)
                self._write(template, views, result)
        except KernelError as error:
            raise error.at(template.loc) from None

    def _write(self, template: Template, views: tuple[View, ...], result: Any) -> None:
        if result is None:
            return
        if not isinstance(result, dict):
            result = {template.operands[template.writes[0]]: result}
        for place in template.writes:
            value = result.get(template.operands[place])
            if value is not None:
                target = views[place].array()
                if isinstance(value, np.ndarray) and value.shape != target.shape:
                    value = value.reshape(target.shape)
                numerics.store(target, value)

    # -- value-returning calls ----------------------------------------------------------------

    def defer(self, tile: View, emit: Callable[[View], None]) -> None:
        """Hold back the instruction that fills ``tile`` until its destination is known.

        A call that returns a tile may be assigned to a tile the user already has; then it writes
        there at once, as the hardware would, and no copy is recorded.
        """
        self.flush()
        self._deferred = (tile, emit)

    def flush(self) -> None:
        """Issue the held-back instruction into its own tile."""
        if self._deferred is not None:
            tile, emit = self._deferred
            self._deferred = None
            emit(tile)

    def claim(self, tile: object) -> Callable[[View], None] | None:
        """The held-back instruction of ``tile``, for the caller to issue elsewhere."""
        if self._deferred is not None and self._deferred[0] is tile:
            emit = self._deferred[1]
            self._deferred = None
            return emit
        return None

    def user_frame(self, depth: int = 1) -> FrameType:
        """The nearest frame outside the language surface."""
        frame = sys._getframe(depth)
        while INTERNAL in frame.f_globals and frame.f_back is not None:
            frame = frame.f_back
        return frame

    def here(self) -> Loc | None:
        """The user's current source position."""
        frame = self.user_frame(2)
        return resolve_loc((frame.f_code, frame.f_lasti))


def _region(offset: int, layout: Layout) -> Region:
    return Region(offset, layout, rectangle(offset, layout, layout.pitch))


def active_core() -> Core:
    """The core the calling kernel runs on; an error outside a kernel."""
    core = ACTIVE.get(None)
    if core is None:
        raise KernelError(
            "an NKI operation was called outside a kernel",
            next_step="call it inside a function decorated with @nki.jit",
        )
    return core
