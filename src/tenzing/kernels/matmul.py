"""Matrix products: ``linear`` with bias, activation, gate and residual in the epilogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import groupby
from typing import Any, Final

from tenzing.kernels.operands import Chunk, Loaded, Operand, Ring, groups
from tenzing.kernels.plan import (
    PLANS_REMEMBERED,
    Plan,
    Shape,
    candidates,
    default_plan,
    estimate_ns,
    move_ns,
    multiply_ns,
    steps,
)
from tenzing.kernels.tiles import copy_from_psum, move, spans
from tenzing.kernels.tuning import Search, extrapolated_ns, kernel_ns
from tenzing.nki import Spec, jit
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.creation import current_chip
from tenzing.nki.tensor import NkiTensor

BIAS_BYTES: Final = 16384  # of a partition for bias rows that stay
TURNING_BANKS: Final = 2  # of PSUM, for operands that TensorE transposes
PERF_MODES: Final = {1: nisa.matmul_perf_mode.none, 2: nisa.matmul_perf_mode.double_row}
SEARCH_NS: Final = 150_000  # of multiplying or loading: below, a search costs more than it saves
STORES_IN_FLIGHT: Final = 4  # result tiles: filled while earlier ones are on their way

Span = tuple[int, int]
Bank = tuple[Span, Span, NkiTensor]  # rows and columns within a group, and their sums


@dataclass(frozen=True)
class Finish:
    """What happens to products on their way to HBM.

    One product: ``op(product * scale + bias) + residual``. Two: ``op(first + bias) * (second +
    bias) + residual``, a gate and what it gates. Scale and biases, one number per column, may be
    absent.
    """

    out: NkiTensor
    biases: tuple[NkiTensor | None, ...] = (None,)
    op: Any = None
    residual: NkiTensor | None = None
    scale: NkiTensor | None = None


@jit
def linear(
    x: NkiTensor,
    w: NkiTensor,
    bias: NkiTensor | None = None,
    op: Any = None,
    residual: NkiTensor | None = None,
    out_dtype: Any = None,
    plan: Plan | None = None,
    transpose_w: bool = False,
    scale: NkiTensor | None = None,
) -> NkiTensor:
    """``op(x @ w * scale + bias) + residual``: x [rows, k], w [k, n], residual [rows, n].

    Scale and bias are [n]. The product runs in the dtype of ``w``; ``x`` is cast on chip.
    ``plan`` says how the product is cut; without it the cut with the best estimate is taken.
    ``transpose_w``: w is [n, k].
    """
    left, right = Operand(x, False, w.dtype), Operand(w, not transpose_w, w.dtype)
    out = nl.ndarray((x.shape[0], right.width), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    multiply(left, (right,), Finish(out, (bias,), op, residual, scale), plan)
    return out


@jit
def gated_linear(
    x: NkiTensor,
    gate: NkiTensor,
    up: NkiTensor,
    op: Any = None,
    biases: tuple[NkiTensor | None, NkiTensor | None] = (None, None),
    out_dtype: Any = None,
    plan: Plan | None = None,
) -> NkiTensor:
    """``op(x @ gate + bias) * (x @ up + bias)``: x [rows, k], gate and up [k, n].

    Both products of a tile are summed side by side in PSUM and share every load of ``x``.
    """
    out = nl.ndarray((x.shape[0], gate.shape[1]), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    rights = (Operand(gate, True, gate.dtype), Operand(up, True, gate.dtype))
    multiply(Operand(x, False, gate.dtype), rights, Finish(out, biases, op), plan)
    return out


@jit
def batched_matmul(
    a: NkiTensor,
    b: NkiTensor,
    transpose_b: bool = False,
    out_dtype: Any = None,
    transpose_a: bool = False,
) -> NkiTensor:
    """``a @ b`` for every leading index: a [batch, m, k], b [batch, k, n].

    ``transpose_a``: a is [batch, k, m]; ``transpose_b``: b is [batch, n, k].
    """
    m, n = a.shape[2 if transpose_a else 1], b.shape[1 if transpose_b else 2]
    out = nl.ndarray((a.shape[0], m, n), dtype=out_dtype or a.dtype, buffer=nl.hbm)
    for number in range(a.shape[0]):
        left = Operand(a[number], transpose_a, a.dtype)
        right = Operand(b[number], not transpose_b, a.dtype)
        multiply(left, (right,), Finish(out[number]))
    return out


def multiply(
    left: Operand, rights: tuple[Operand, ...], finish: Finish, plan: Plan | None = None
) -> None:
    """The products of an operand with one or two others, group of PSUM banks by group."""
    turning = TURNING_BANKS if not all(o.moves_by_dma for o in (left, *rights)) else 0
    shape = Shape(
        left.width, left.depth, rights[0].width, left.dtype.itemsize, len(rights), turning,
        one_pass=left.dtype != nl.float32,
    )  # fmt: skip
    plan = plan or chosen_plan(shape, left.dtype)
    held = {
        "left": [Loaded(left, *plan.side(shape, "left"))],
        "right": [Loaded(right, *plan.side(shape, "right")) for right in rights],
    }
    stores = Stores(shape, plan, finish)
    together = plan.parts(shape)
    for rows, columns, fresh in _walk(shape, plan):
        for side in fresh:
            for loaded in held[side]:
                loaded.forget()
        banks = [_bank_tiles(rows, columns) for _ in rights]
        for part in together:
            _accumulate(held, part, shape.unit, rows, columns, banks)
        stores.put(banks, rows, columns)


def chosen_plan(shape: Shape, dtype: Any) -> Plan:
    """The plan for a product on the current chip: searched for where it is long, else estimated."""
    rough = default_plan(shape)
    if max(multiply_ns(shape), move_ns(shape, rough)) < SEARCH_NS:
        return rough
    return _searched(shape, dtype, current_chip().name)


@lru_cache(maxsize=PLANS_REMEMBERED)
def _searched(shape: Shape, dtype: Any, chip: str) -> Plan:
    return Search(
        tuple(candidates(shape)),
        lambda plan: estimate_ns(shape, plan),
        lambda plan: _measured_ns(shape, dtype, plan),
        multiply_ns(shape),
    ).best()


def _measured_ns(shape: Shape, dtype: Any, plan: Plan) -> float:
    """Time of a plan from one or two panels of the kept operand, past which few groups stream."""
    step_rows, step_columns = steps(plan)
    keep_left = plan.kept != "right"
    kept, streamed = (shape.rows, shape.columns) if keep_left else (shape.columns, shape.rows)
    kept_step, step = (step_rows, step_columns) if keep_left else (step_columns, step_rows)
    panel = kept_step * plan.panel

    def measure(panels: int, trips: int) -> float:
        sizes = min(kept, panel * panels), min(streamed, step * trips)
        rows, columns = sizes if keep_left else sizes[::-1]
        x, w = Spec((rows, shape.depth), dtype), Spec((shape.depth, columns), dtype)
        if shape.rights > 1:
            return kernel_ns(gated_linear, x, w, w, plan=plan)
        return kernel_ns(linear, x, w, plan=plan)

    return extrapolated_ns(-(-kept // panel), -(-streamed // step), measure)


def _accumulate(
    held: dict[str, list[Loaded]],
    part: Chunk,
    unit: int,
    rows: Span,
    columns: Span,
    banks: list[list[Bank]],
) -> None:
    """Add a part of the contraction, ``unit`` blocks at a time, to every bank of a group."""
    at = [(part.start + first * part.partitions, n) for first, n in spans(part.blocks, unit)]
    stationary = _cut([held["left"][0].blocks(k, n, *rows) for k, n in at])
    moving = [_cut([own.blocks(k, n, *columns) for k, n in at]) for own in held["right"]]
    for pair in zip(*banks, strict=True):
        for (r, c, bank), right in zip(pair, moving, strict=True):
            for (k, n), one, other in zip(at, stationary(*r), right(*c), strict=True):
                nisa.nc_matmul(dst=bank, stationary=one, moving=other, accumulate=k > 0,
                               perf_mode=PERF_MODES[n])  # fmt: skip


def _cut(blocks: list[NkiTensor]) -> Callable[[int, int], list[NkiTensor]]:
    """Columns of blocks [partitions, together, columns]; what several banks take is cut once."""

    @cache
    def columns(start: int, count: int) -> list[NkiTensor]:
        part = slice(start, start + count)
        return [b[:, slice(0, b.shape[1]) if b.shape[1] > 1 else 0, part] for b in blocks]

    return columns


def _walk(shape: Shape, plan: Plan) -> Iterator[tuple[Span, Span, list[str]]]:
    """Rows and columns of each group, and which operands are loaded anew for it."""
    step_rows, step_columns = steps(plan)
    keep_left = plan.kept != "right"
    kept = (shape.rows, step_rows) if keep_left else (shape.columns, step_columns)
    streamed = (shape.columns, step_columns) if keep_left else (shape.rows, step_rows)
    names = ("left", "right") if keep_left else ("right", "left")
    for panel in groups(*kept, plan.panel):
        fresh = list(names)
        for span in spans(*streamed):
            for inside in panel:
                yield (inside, span, fresh) if keep_left else (span, inside, fresh)
                fresh = []
            fresh = list(names) if plan.kept == "none" else [names[1]]


def _bank_tiles(rows: Span, columns: Span) -> list[Bank]:
    """One PSUM bank for each 128 rows and 512 columns of a group, row by row."""
    return [
        (r, c, nl.ndarray((r[1], c[1]), dtype=nl.float32, buffer=nl.psum))
        for r in spans(rows[1], nl.tile_size.pmax)
        for c in spans(columns[1], nl.tile_size.gemm_moving_fmax)
    ]


class Stores:
    """Finishes the banks of a group and stores them, 128 rows at a time."""

    def __init__(self, shape: Shape, plan: Plan, finish: Finish) -> None:
        self.finish = finish
        self.high = min(shape.rows, nl.tile_size.pmax)
        wide = min(shape.columns, plan.column_tiles * nl.tile_size.gemm_moving_fmax)
        size = (self.high, wide)
        self.results = Ring(size, finish.out.dtype, STORES_IN_FLIGHT)
        self.extras = None
        if finish.residual is not None:
            self.extras = Ring(size, finish.residual.dtype, STORES_IN_FLIGHT)
        self.scale = None if finish.scale is None else _RowTiles(finish.scale, size)
        self.rows_of = [None if b is None else _RowTiles(b, size) for b in finish.biases]

    def put(self, banks: list[list[Bank]], rows: Span, columns: Span) -> None:
        """Everything of one group."""
        across = slice(columns[0], columns[0] + columns[1])
        shifts = [None if tiles is None else tiles.get(columns) for tiles in self.rows_of]
        shifts.append(None if self.scale is None else self.scale.get(columns))
        turn = 0
        for high_span, row in groupby(zip(*banks, strict=True), key=lambda pair: pair[0][0]):
            start, high = rows[0] + high_span[0], high_span[1]
            done = self.results.next(high, columns[1])
            extra = self._residual(slice(start, start + high), across)
            for pair in row:
                first, wide = pair[0][1]
                part = (slice(0, high), slice(first, first + wide))
                self._finish(
                    done[part], [bank for _, _, bank in pair],
                    [None if s is None else s[part] for s in shifts],
                    None if extra is None else extra[part], turn,
                )  # fmt: skip
                turn += 1
            move(self.finish.out[start : start + high, across], done)

    def _residual(self, down: slice, across: slice) -> NkiTensor | None:
        if self.extras is None or self.finish.residual is None:
            return None
        tile = self.extras.next(down.stop - down.start, across.stop - across.start)
        move(tile, self.finish.residual[down, across])
        return tile

    def _finish(
        self,
        dst: NkiTensor,
        products: list[NkiTensor],
        shifts: list[NkiTensor | None],
        residual: NkiTensor | None,
        turn: int,
    ) -> None:
        steps = [*_scaled(shifts[-1]), *_added(shifts[0]), *_activated(self.finish.op)]
        if len(products) > 1:
            gate = nl.ndarray(dst.shape, dtype=nl.float32, buffer=nl.sbuf)
            finished(gate, products[0], steps, turn)
            steps = [*_added(shifts[1]), partial(_combined, gate, nl.multiply)]
        finished(dst, products[-1], [*steps, *_added(residual)], turn)


class _RowTiles:
    """A bias row on every partition, by columns; the latest few are kept."""

    def __init__(self, bias: NkiTensor, size: tuple[int, int]) -> None:
        self.bias, self.high = bias, size[0]
        kept = max(2, BIAS_BYTES // (size[1] * bias.dtype.itemsize))
        self.ring = Ring(size, bias.dtype, kept)
        self.tiles: dict[Span, NkiTensor] = {}

    def get(self, columns: Span) -> NkiTensor:
        if columns not in self.tiles:
            if len(self.tiles) == self.ring.count:
                self.tiles.pop(next(iter(self.tiles)))
            tile = self.ring.next(self.high, columns[1])
            row = self.bias.ap([[0, self.high], [1, columns[1]]], offset=columns[0])
            move(tile, row)
            self.tiles[columns] = tile
        return self.tiles[columns]


Step = Callable[[NkiTensor, NkiTensor], None]  # from a tile, often in PSUM, to another


def finished(dst: NkiTensor, product: NkiTensor, steps: Sequence[Step], turn: int) -> None:
    """A product through its last steps from PSUM to SBUF, in float32 until the last."""
    if not steps:
        copy_from_psum(dst, product, turn)
        return
    current = product
    for step in steps[:-1]:
        between = nl.ndarray(product.shape, dtype=nl.float32, buffer=nl.sbuf)
        step(between, current)
        current = between
    steps[-1](dst, current)


def _scaled(tile: NkiTensor | None) -> list[Step]:
    return [] if tile is None else [partial(_combined, tile, nl.multiply)]


def _added(tile: NkiTensor | None) -> list[Step]:
    return [] if tile is None else [partial(_combined, tile, nl.add)]


def _combined(tile: NkiTensor, op: Any, dst: NkiTensor, src: NkiTensor) -> None:
    nisa.tensor_tensor(dst=dst, data1=src, data2=tile, op=op)


def _activated(op: Any) -> list[Step]:
    def step(dst: NkiTensor, src: NkiTensor) -> None:
        nisa.activation(dst=dst, op=op, data=src)

    return [] if op is None else [step]


__all__ = ["Finish", "batched_matmul", "finished", "gated_linear", "linear", "multiply"]
