"""Instructions of the DMA engines: copy, gather, scatter and transpose between HBM and SBUF."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from tenzing.errors import OutOfBounds
from tenzing.facts import Chip
from tenzing.isa import enums, numerics
from tenzing.isa.instruction import (
    Array,
    Cost,
    Engine,
    Instruction,
    Layout,
    Space,
    Transfer,
    attr,
    reads,
    updates,
)  # fmt: skip
from tenzing.units import PS_PER_NS, bytes_to_ps, ns_to_ps

MEMORIES: Final = (Space.HBM, Space.SBUF)
INDEX_DTYPES: Final = ("uint32", "int32")
HWDGE_QUEUES: Final = (Engine.sync, Engine.scalar)
QUEUES: Final = (Engine.sync, Engine.scalar, Engine.gpsimd, Engine.vector, Engine.tensor)
MATRIX: Final = 2  # dims
AXES: Final = {MATRIX: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}
STATIC: Final = enums.dge_mode.none
HARDWARE: Final = enums.dge_mode.hwdge
SOFTWARE: Final = enums.dge_mode.swdge
DEFAULT_MODES: Final = {"static": STATIC, "hwdge": HARDWARE, "swdge": SOFTWARE}


def transfer(
    chip: Chip, dst: Layout, src: Layout, *, table: Layout | None = None, factor: float = 1.0
) -> Transfer:
    """Work of moving ``dst``'s or ``src``'s elements, whichever is not the ``table`` of a gather.

    An element run is the shorter dense run of the two sides; a run longer than a descriptor is
    cut, and a copy of fewer runs than engines is spread over them. ``factor`` is the share of the
    copy rate that the operation reaches.
    """
    moved = src if table is dst else dst
    rows = moved.partitions if table is not None else 0
    elements = moved.size
    widest = max(dst.itemsize, src.itemsize)
    run = min(_run_elements(dst, table is dst), _run_elements(src, table is src), elements)
    limit = chip.integer("dma.descriptor_max_bytes")
    descriptors = math.ceil(elements / run) * math.ceil(run * widest / limit)
    partitions = _partitions(dst, src) or rows
    engines, share = _spread(chip, partitions, elements, descriptors)
    descriptors = max(descriptors, engines)
    payload = elements * widest
    busiest = chip.number("dma.descriptor_ns") * math.ceil(descriptors * share)
    service = busiest * PS_PER_NS + bytes_to_ps(math.ceil(payload * share),
                                                chip.number("dma.engine_gb_s"))  # fmt: skip
    key = "dma.load_fixed_ns" if src.space is Space.HBM else "dma.store_fixed_ns"
    hbm_bytes = sum(elements * x.itemsize for x in (dst, src) if x.space is Space.HBM)
    return Transfer(payload, hbm_bytes, engines, round(service / factor),
                    ns_to_ps(chip.number(key)), descriptors)  # fmt: skip


def _run_elements(layout: Layout, is_table: bool) -> int:
    """Elements of the dense run at the end of the view; at most one row of a gathered table."""
    run = layout.inner_run_bytes() // layout.itemsize
    return max(1, min(run, layout.free) if is_table else run)


def _partitions(dst: Layout, src: Layout) -> int:
    """Partitions of the on-chip side, zero when both are in HBM."""
    return max((x.partitions for x in (dst, src) if x.space.on_chip), default=0)


def _spread(chip: Chip, partitions: int, elements: int, descriptors: int) -> tuple[int, float]:
    """Engines used and the busiest one's share of the work."""
    engines = chip.integer("dma.engines")
    if partitions:
        engines = min(engines, math.ceil(partitions / chip.integer("dma.partitions_per_engine")))
        return engines, math.ceil(partitions / engines) / partitions
    engines = min(engines, elements)
    pieces = max(descriptors, engines)
    return engines, math.ceil(pieces / engines) / pieces


def trigger_ps(chip: Chip, mode: enums.dge_mode, rows: int) -> int:
    """How long the triggering queue is busy with one DMA of ``rows`` partition rows."""
    if mode is SOFTWARE:
        return ns_to_ps(chip.number("dma.swdge_fixed_ns"))
    if mode is STATIC:
        return ns_to_ps(chip.number("dma.trigger_ns"))
    return ns_to_ps(chip.number("dma.hwdge_fixed_ns")
                    + (rows - 1) * chip.number("dma.hwdge_descriptor_ns"))  # fmt: skip


def _cost(chip: Chip, mode: enums.dge_mode, work: Transfer, partitions: int) -> Cost:
    most = chip.integer("dma.engines") * chip.integer("dma.partitions_per_engine")
    rows = partitions or min(work.descriptors, most)
    issue = trigger_ps(chip, mode, rows)
    return Cost(issue, issue + work.fixed_ps + work.service_ps, transfer=work)


class _Triggered(Instruction):
    """A DMA that a queue triggers: descriptor mode, queue, priority and index rules."""

    dst: Layout
    src: Layout
    src_index: Layout | None
    dge_mode: enums.dge_mode
    priority: int | None

    def indices(self) -> Iterator[tuple[str, Layout, Layout]]:
        """Name, index tile and table of each indirect side."""
        if self.src_index is not None:
            yield "src", self.src_index, self.src

    def default_mode(self, chip: Chip) -> enums.dge_mode:
        """The mode taken when the user named none."""
        return DEFAULT_MODES[chip.text("dma.default_mode")]

    def mode_on(self, chip: Chip) -> enums.dge_mode:
        """The descriptor mode used on ``chip``."""
        if self.dge_mode is not enums.dge_mode.unknown:
            return self.dge_mode
        if {"dst", "src"} - {name for name, _, _ in self.layouts()}:
            return STATIC  # refused anyway
        return SOFTWARE if any(self.indices()) else self.default_mode(chip)

    def default_engine(self, chip: Chip) -> Engine:
        """GpSimd writes the descriptors of a software DMA; Sync triggers the others."""
        return Engine.gpsimd if self.mode_on(chip) is SOFTWARE else Engine.sync

    def queue_limits(self, chip: Chip) -> Iterator[str]:
        """Mode, queue, priority and index tiles."""
        mode, engine = self.mode_on(chip), self.engine_on(chip)
        if mode is HARDWARE:
            if not chip.flag("dma.hwdge"):
                yield f"{chip.name} has no hardware descriptor generation (dma.hwdge)"
            if self.dst.dtype != self.src.dtype:
                yield (f"src has dtype {numerics.name(self.src.dtype)}, dst has "
                       f"{numerics.name(self.dst.dtype)}; hwdge does not convert")  # fmt: skip
            if engine not in HWDGE_QUEUES:
                yield f"engine {engine.name} cannot trigger hwdge; allowed: sync, scalar"
        if mode is SOFTWARE and engine is not Engine.gpsimd:
            yield f"engine {engine.name} cannot run swdge; allowed: gpsimd"
        classes = chip.integer("dma.priority_classes")
        if self.priority is not None and not 0 <= self.priority < classes:
            yield (f"priority is {self.priority}; {chip.name} has {classes} classes "
                   "(dma.priority_classes)")  # fmt: skip
        for name, _, table in self.indices():
            if mode is not SOFTWARE:
                yield f"{name} is indirect; dge_mode {mode.name} cannot, use swdge or unknown"
            if table.space is not Space.HBM:
                yield f"{name} is indirect and in {table.space.name}; an indexed table is in HBM"

    def trigger_cost(self, chip: Chip, work: Transfer) -> Cost:
        """Cost of triggering ``work``."""
        return _cost(chip, self.mode_on(chip), work, _partitions(self.dst, self.src))


class DmaCopy(_Triggered, nki="dma_copy", engines=QUEUES):
    """Copy between HBM and SBUF: ``dst = src``, gather ``src[index]`` or scatter ``dst[index]``.

    Equal dtypes copy bits, others pass through float32. ``src_index`` and ``dst_index`` hold one
    row number per partition; the indexed operand is then the whole table, rows first. Of several
    rows scattered to one place the last stays, which the chip does not promise.
    """

    partial = True  # a scatter, or a gather that skips rows
    dst: Layout = updates(*MEMORIES)
    src: Layout = reads(*MEMORIES)
    priority: int | None = attr(None)
    oob_mode: enums.oob_mode = attr(enums.oob_mode.error)
    dge_mode: enums.dge_mode = attr(enums.dge_mode.unknown)
    engine: Engine = attr(Engine.unknown)
    src_index: Layout | None = reads(Space.SBUF, dtypes=INDEX_DTYPES, optional=True)
    dst_index: Layout | None = reads(Space.SBUF, dtypes=INDEX_DTYPES, optional=True)

    @property
    def accumulate(self) -> bool:
        """Whether part of ``dst`` keeps what it held, so that it counts as read."""
        skips = self.oob_mode is enums.oob_mode.skip and self.src_index is not None
        return self.dst_index is not None or skips

    def indices(self) -> Iterator[tuple[str, Layout, Layout]]:
        """Name, index tile and table of each indirect side."""
        yield from super().indices()
        if self.dst_index is not None:
            yield "dst", self.dst_index, self.dst

    def default_mode(self, chip: Chip) -> enums.dge_mode:
        """Prebuilt descriptors where hardware generation cannot convert or be triggered."""
        mode = super().default_mode(chip)
        queue = self.engine is Engine.unknown or self.engine in HWDGE_QUEUES
        if mode is HARDWARE and not (queue and self.dst.dtype == self.src.dtype):
            return STATIC
        return mode

    def limits(self, chip: Chip) -> Iterator[str]:
        """As many elements on both sides; modes and queues."""
        yield from self.queue_limits(chip)
        if self.src_index is not None and self.dst_index is not None:
            yield "src and dst are both indirect; only one side can be"
            return
        moved = [_moved(x, i) for x, i in ((self.src, self.src_index), (self.dst, self.dst_index))]
        if moved[0] != moved[1]:
            yield f"src has {moved[0]} elements, dst has {moved[1]}"

    def compute(  # type: ignore[override]
        self, dst: Array | None, src: Array, src_index: Array | None, dst_index: Array | None
    ) -> Array | None:
        """The bits of ``src``; a scatter writes its rows into ``dst`` in place."""
        if dst_index is not None and dst is not None:
            self._scatter(dst, src, dst_index)
            return None
        if src_index is not None:
            return self._gather(dst, src, src_index)
        return src if src.dtype == self.dst.dtype else numerics.f32(src)

    def _gather(self, dst: Array | None, src: Array, index: Array) -> Array:
        rows, inside = _checked(self.nki, index.reshape(-1), len(src), self.oob_mode)
        if inside is None or dst is None:
            taken = src[rows]
            return taken if src.dtype == self.dst.dtype else numerics.f32(taken)
        result = np.array(dst).reshape(len(rows), *src.shape[1:])
        result[inside] = _converted(src[rows[inside]], self.dst.dtype)
        return result

    def _scatter(self, dst: Array, src: Array, index: Array) -> None:
        rows, inside = _checked(self.nki, index.reshape(-1), len(dst), self.oob_mode)
        values = _converted(src.reshape(len(rows), *dst.shape[1:]), self.dst.dtype)
        if inside is not None:
            rows, values = rows[inside], values[inside]
        dst[rows] = values

    def cost(self, chip: Chip) -> Cost:
        """Trigger on the queue, then descriptors and bytes on the busiest engine."""
        table = None
        if any(self.indices()):
            table = self.src if self.src_index is not None else self.dst
        return self.trigger_cost(chip, transfer(chip, self.dst, self.src, table=table))


def _moved(layout: Layout, index: Layout | None) -> int:
    """Elements that move: the view, or the indexed rows of a table."""
    return layout.size if index is None else index.size * layout.free


def _converted(values: Array, dtype: np.dtype[np.generic]) -> Array:
    if values.dtype == dtype:
        return values
    result = np.empty(values.shape, dtype)
    numerics.store(result, numerics.f32(values))
    return result


def _checked(nki: str, index: Array, size: int, mode: enums.oob_mode) -> tuple[Array, Array | None]:
    """Row numbers and, when some are outside and skipped, which are inside."""
    rows = index.astype(np.int64)
    inside = (rows >= 0) & (rows < size)
    if inside.all():
        return rows, None
    if mode is enums.oob_mode.error:
        place = int(np.flatnonzero(~inside)[0])
        raise OutOfBounds(
            f"nki.isa.{nki}: index {int(rows[place])} at position {place} leaves the table",
            allowed=f"rows 0 to {size - 1}",
            next_step="correct the index tile, or pass oob_mode=oob_mode.skip",
        )
    return rows, inside


class DmaTranspose(_Triggered, nki="dma_transpose", engines=QUEUES):
    """Permute the dims while copying to SBUF: ``dst = transpose(src, axes)``, bit for bit.

    With an index tile, rows ``index.T.flatten()`` of the table are gathered first.
    """

    partial = True  # a gather may skip rows
    dst: Layout = updates(Space.SBUF)
    src: Layout = reads(*MEMORIES)
    axes: tuple[int, ...] | None = attr(None, convert=tuple)
    priority: int | None = attr(None)
    dge_mode: enums.dge_mode = attr(enums.dge_mode.unknown)
    oob_mode: enums.oob_mode = attr(enums.oob_mode.error)
    src_index: Layout | None = reads(Space.SBUF, dtypes=("uint32",), optional=True)

    ELEMENT_BYTES: Final = (2, 4)

    @property
    def accumulate(self) -> bool:
        """Whether skipped rows leave part of ``dst`` as it was."""
        return self.oob_mode is enums.oob_mode.skip and self.src_index is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that is transposed: of ``src``, or of the gathered rows."""
        if self.src_index is None:
            return self.src.shape
        return (self.dst.size // max(self.src.free, 1), *self.src.shape[1:])

    def default_mode(self, chip: Chip) -> enums.dge_mode:
        """Hardware generation where its shape rules allow it, prebuilt descriptors elsewhere."""
        mode = super().default_mode(chip)
        if mode is HARDWARE and (len(self.src.shape) not in AXES or any(self._hwdge_limits(chip))):
            return STATIC
        return mode

    def limits(self, chip: Chip) -> Iterator[str]:
        """Published permutations, equal dtypes, and the rules of the mode used."""
        rank = len(self.src.shape)
        if rank not in AXES:
            yield f"src has {rank} dims; allowed: 2, 3 or 4"
            return
        if self.axes is not None and self.axes != AXES[rank]:
            yield f"axes are {self.axes}; for {rank} dims only {AXES[rank]} is supported"
        if self.dst.dtype != self.src.dtype:
            yield (f"dst has dtype {numerics.name(self.dst.dtype)}, src has "
                   f"{numerics.name(self.src.dtype)}")  # fmt: skip
        if self.src.itemsize not in self.ELEMENT_BYTES:
            yield f"src has elements of {self.src.itemsize} bytes; allowed: 2 or 4"
        if self.dst.size != math.prod(self.shape) or self.dst.partitions != self.shape[-1]:
            wanted = tuple(self.shape[a] for a in AXES[rank])
            yield f"dst has shape {self.dst.shape}; the transpose of src is {wanted}"
        yield from self.queue_limits(chip)
        if self.src_index is not None:
            yield from self._gather_limits(chip, self.src_index)
        elif self.mode_on(chip) is HARDWARE:
            yield from self._hwdge_limits(chip)
        elif self.mode_on(chip) is SOFTWARE:
            yield "dge_mode swdge transposes indirect views only; use hwdge, none or unknown"

    def _hwdge_limits(self, chip: Chip) -> Iterator[str]:
        shape, rows = self.src.shape, chip.integer("dma.transpose_rows")
        if len(shape) == MATRIX:
            if shape[0] != rows:
                yield (f"src.shape[0] is {shape[0]}; a 2-dim hwdge transpose needs {rows} "
                       "(dma.transpose_rows)")  # fmt: skip
        elif shape[0] > rows or rows % shape[0] or shape[0] * shape[-2] % rows:
            yield (f"src.shape[0] is {shape[0]} and src.shape[-2] is {shape[-2]}; hwdge needs a "
                   f"divisor of {rows} and a product that is a multiple of it "
                   "(dma.transpose_rows)")  # fmt: skip
        yield from self._common_limits(chip)

    def _common_limits(self, chip: Chip) -> Iterator[str]:
        partitions = chip.integer("core.partitions")
        if self.src.shape[-1] > partitions:
            yield (f"src.shape[-1] is {self.src.shape[-1]}; {chip.name} allows {partitions} "
                   "(core.partitions)")  # fmt: skip
        if self.src.itemsize != self.ELEMENT_BYTES[0]:
            yield f"src has elements of {self.src.itemsize} bytes; the generated transpose needs 2"

    def _gather_limits(self, chip: Chip, index: Layout) -> Iterator[str]:
        partitions, step = chip.integer("core.partitions"), chip.integer("dma.transpose_rows")
        if not chip.flag("dma.gather_transpose"):
            yield f"{chip.name} has no indirect transpose (dma.gather_transpose)"
        yield from self._common_limits(chip)
        if len(self.shape) == max(AXES) and 1 not in self.shape[1:3]:
            yield f"src.shape is {self.shape}; dim 1 or dim 2 must be 1"
        if self.shape[0] % step or index.size < self.shape[0]:
            yield (f"{self.shape[0]} rows are gathered with {index.size} indices; a multiple of "
                   f"{step}, at most the indices given")  # fmt: skip
        if index.partitions % step or index.partitions > partitions:
            yield f"the index tile has {index.partitions} partitions; a multiple of {step}"
        if index.free > 1 and index.partitions != partitions:
            yield f"an index tile of {index.free} columns needs {partitions} partitions"

    def compute(  # type: ignore[override]
        self, dst: Array | None, src: Array, src_index: Array | None
    ) -> Array:
        """The same bits, permuted."""
        axes = AXES[src.ndim]
        if src_index is None:
            return src.transpose(axes)
        flat = src_index.reshape(src_index.shape[0], -1).T.reshape(-1)[: self.shape[0]]
        rows, inside = _checked(self.nki, flat, len(src), self.oob_mode)
        if inside is None or dst is None:
            return src[rows].transpose(axes)
        result = np.array(dst).reshape([self.shape[a] for a in axes])
        result[..., inside] = src[rows[inside]].transpose(axes)
        return result

    def cost(self, chip: Chip) -> Cost:
        """A copy at the published share of the copy rate."""
        side = "hbm" if self.src.space is Space.HBM else "sbuf"
        factor = chip.number(f"dma.transpose_factor_{side}")
        rows = math.prod(self.shape[:-1])
        staged = Layout.dense(Space.SBUF, self.dst.dtype, (self.dst.partitions, rows))
        work = transfer(chip, staged, self.src, factor=factor,
                        table=self.src if self.src_index is not None else None)  # fmt: skip
        return self.trigger_cost(chip, work)
