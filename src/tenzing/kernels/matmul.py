"""Matrix products: ``linear`` with bias, activation, gate and residual in the epilogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tenzing.kernels.operands import Chunk, Loaded, Operand, Ring, groups
from tenzing.kernels.plan import Plan, Shape, default_plan, steps
from tenzing.kernels.tiles import copy_from_psum, load_row_broadcast, move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

STORES_IN_FLIGHT: Final = 4  # result tiles: filled while earlier ones are on their way

Span = tuple[int, int]
Bank = tuple[Span, Span, NkiTensor]  # rows and columns within a group, and their sums


@dataclass(frozen=True)
class Finish:
    """What happens to a product on its way to HBM: ``op(product + bias) + residual``."""

    out: NkiTensor
    bias: NkiTensor | None = None
    op: Any = None
    residual: NkiTensor | None = None


@jit
def linear(
    x: NkiTensor,
    w: NkiTensor,
    bias: NkiTensor | None = None,
    op: Any = None,
    residual: NkiTensor | None = None,
    out_dtype: Any = None,
    plan: Plan | None = None,
) -> NkiTensor:
    """``op(x @ w + bias) + residual``: x [rows, k], w [k, n], bias [n], residual [rows, n].

    The product runs in the dtype of ``w``; ``x`` is cast on chip. ``plan`` says how the product
    is cut; without it the cut with the best estimate is taken.
    """
    out = nl.ndarray((x.shape[0], w.shape[1]), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    left, right = Operand(x, False, w.dtype), Operand(w, True, w.dtype)
    multiply(left, right, Finish(out, bias, op, residual), plan)
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
        multiply(left, right, Finish(out[number]))
    return out


def multiply(left: Operand, right: Operand, finish: Finish, plan: Plan | None = None) -> None:
    """The product of two operands, group of PSUM banks by group."""
    shape = Shape(left.width, left.depth, right.width, right.dtype.itemsize)
    plan = plan or default_plan(shape)
    sides = {
        "left": Loaded(left, *plan.side(shape, "left")),
        "right": Loaded(right, *plan.side(shape, "right")),
    }
    stores = Stores(shape, plan, finish)
    together = plan.parts(shape)
    biases: dict[Span, NkiTensor] = {}
    for rows, columns, fresh in _walk(shape, plan):
        for side in fresh:
            sides[side].forget()
        if finish.bias is not None and columns not in biases:
            high = min(shape.rows, nl.tile_size.pmax)
            biases[columns] = load_row_broadcast(finish.bias, *columns, high)
        banks = _bank_tiles(rows, columns)
        for part in together:
            _accumulate(sides, part, rows, columns, banks)
        stores.put(banks, rows, columns, biases.get(columns))


def _accumulate(
    sides: dict[str, Loaded], part: Chunk, rows: Span, columns: Span, banks: list[Bank]
) -> None:
    """Add a part of the contraction to every bank of a group."""
    at = [part.start + number * part.partitions for number in range(part.blocks)]
    stationary = [sides["left"].block(k, *rows) for k in at]
    moving = [sides["right"].block(k, *columns) for k in at]
    for (r, high), (c, wide), bank in banks:
        for k, one, other in zip(at, stationary, moving, strict=True):
            nisa.nc_matmul(
                dst=bank, stationary=one[:, r : r + high], moving=other[:, c : c + wide],
                accumulate=k > 0,
            )  # fmt: skip


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
        size = (
            min(shape.rows, nl.tile_size.pmax),
            min(shape.columns, plan.column_tiles * nl.tile_size.gemm_moving_fmax),
        )
        self.results = Ring(size, finish.out.dtype, STORES_IN_FLIGHT)
        self.extras = None
        if finish.residual is not None:
            self.extras = Ring(size, finish.residual.dtype, STORES_IN_FLIGHT)

    def put(self, banks: list[Bank], rows: Span, columns: Span, bias: NkiTensor | None) -> None:
        """Everything of one group."""
        finish, turn = self.finish, 0
        across = slice(columns[0], columns[0] + columns[1])
        by_row: dict[Span, list[tuple[Span, NkiTensor]]] = {}
        for r, c, bank in banks:
            by_row.setdefault(r, []).append((c, bank))
        for (r, high), row in by_row.items():
            down = slice(rows[0] + r, rows[0] + r + high)
            done = self.results.next(high, columns[1])
            extra = None
            if self.extras is not None and finish.residual is not None:
                extra = self.extras.next(high, columns[1])
                move(extra, finish.residual[down, across])
            for (c, wide), bank in row:
                part = slice(c, c + wide)
                epilogue(
                    done[0:high, part], bank, None if bias is None else bias[0:high, part],
                    finish.op, None if extra is None else extra[0:high, part], turn,
                )  # fmt: skip
                turn += 1
            move(finish.out[down, across], done)


def epilogue(
    dst: NkiTensor,
    product: NkiTensor,
    bias: NkiTensor | None,
    op: Any,
    residual: NkiTensor | None,
    turn: int,
) -> None:
    """``op(product + bias) + residual`` from PSUM to SBUF, in as few passes as it takes."""
    steps_left = [s for s in (bias is not None, op is not None, residual is not None) if s]
    current = product

    def target() -> NkiTensor:
        steps_left.pop()
        return nl.ndarray(product.shape, dtype=nl.float32, buffer=nl.sbuf) if steps_left else dst

    if not steps_left:
        copy_from_psum(dst, product, turn)
        return
    if bias is not None:
        shifted = target()
        nisa.tensor_tensor(dst=shifted, data1=current, data2=bias, op=nl.add)
        current = shifted
    if op is not None:
        active = target()
        nisa.activation(dst=active, op=op, data=current)
        current = active
    if residual is not None:
        nisa.tensor_tensor(dst=target(), data1=current, data2=residual, op=nl.add)


__all__ = ["Finish", "batched_matmul", "epilogue", "linear", "multiply"]
