"""Generated kernels: a chain of elementwise steps and row reductions on one tile shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenzing.errors import KernelError
from tenzing.kernels.tiles import spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor


@dataclass(frozen=True, slots=True)
class Step:
    """One primitive of a chain.

    ``kind``: ``unary`` (activation function), ``binary`` (ALU operator), ``reduce`` (over the last
    dim, keeps it as one) or ``cast``. ``op`` is the ``nl`` function. ``inputs`` are positions of
    earlier values (kernel inputs first, then step results) or Python numbers. ``dtype`` is what
    the result is rounded to.
    """

    kind: str
    op: Any
    inputs: tuple[int | float, ...]
    dtype: Any
    is_scalar: tuple[bool, ...] = ()


@jit
def elementwise(
    inputs: Sequence[NkiTensor],
    steps: Sequence[Step],
    results: Sequence[int],
    rows: int,
    columns: int,
) -> list[NkiTensor]:
    """Run ``steps`` on row blocks; every input is [rows, columns], [rows, 1], or [1, columns].

    ``results`` are the positions of the values to return, each written to HBM.
    """
    pmax = nl.tile_size.pmax
    widths = _widths(inputs, steps, columns)
    shapes = [(rows, widths[r]) for r in results]
    dtypes = [_dtype(inputs, steps, r) for r in results]
    outs = [
        nl.ndarray(shape, dtype=dtype, buffer=nl.hbm)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    repeated = {
        k: _repeat(x, min(rows, pmax)) for k, x in enumerate(inputs) if x.shape[0] == 1 < rows
    }
    for start, count in spans(rows, pmax):
        values: list[NkiTensor] = []
        for k, source in enumerate(inputs):
            if k in repeated:
                values.append(repeated[k][0:count, 0 : source.shape[1]])
                continue
            tile = nl.ndarray((count, source.shape[1]), dtype=source.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=source[start : start + count, 0 : source.shape[1]])
            values.append(tile)
        for step in steps:
            values.append(_run(step, values, count))
        for out, result in zip(outs, results, strict=True):
            nisa.dma_copy(dst=out[start : start + count, 0 : out.shape[1]], src=values[result])
    return outs


def _widths(inputs: Sequence[NkiTensor], steps: Sequence[Step], columns: int) -> list[int]:
    widths = [x.shape[1] for x in inputs]
    for step in steps:
        taken = [
            widths[int(v)]
            for v, number in zip(step.inputs, _scalars(step), strict=True)
            if not number
        ]
        widths.append(1 if step.kind == "reduce" else max(taken))
    return widths


def _dtype(inputs: Sequence[NkiTensor], steps: Sequence[Step], position: int) -> Any:
    if position < len(inputs):
        return inputs[position].dtype
    return steps[position - len(inputs)].dtype


def _scalars(step: Step) -> tuple[bool, ...]:
    return step.is_scalar or (False,) * len(step.inputs)


def _repeat(row: NkiTensor, partitions: int) -> NkiTensor:
    columns = row.shape[1]
    tile = nl.ndarray((partitions, columns), dtype=row.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=row.ap([[0, partitions], [1, columns]]))
    return tile


def _run(step: Step, values: list[NkiTensor], count: int) -> NkiTensor:
    operands = [
        v if number else values[int(v)]
        for v, number in zip(step.inputs, _scalars(step), strict=True)
    ]
    tiles = [v for v in operands if isinstance(v, NkiTensor)]
    width = 1 if step.kind == "reduce" else max(t.shape[1] for t in tiles)
    dst = nl.ndarray((count, width), dtype=step.dtype, buffer=nl.sbuf)
    if step.kind == "reduce":
        nisa.tensor_reduce(dst=dst, op=step.op, data=tiles[0], axis=1)
    elif step.kind == "unary":
        nisa.activation(dst=dst, op=step.op, data=tiles[0])
    elif step.kind == "cast":
        nisa.tensor_copy(dst=dst, src=tiles[0])
    elif step.kind == "binary":
        _binary(dst, step.op, operands[0], operands[1], width)
    else:
        raise KernelError(f"elementwise step kind {step.kind}",
                          allowed="unary, binary, reduce, cast")  # fmt: skip
    return dst


def _binary(dst: NkiTensor, op: Any, a: Any, b: Any, width: int) -> None:
    full_a = isinstance(a, NkiTensor) and a.shape[1] == width
    full_b = isinstance(b, NkiTensor) and b.shape[1] == width
    if full_a and full_b:
        nisa.tensor_tensor(dst=dst, data1=a, data2=b, op=op)
    elif full_a:
        nisa.tensor_scalar(dst=dst, data=a, op0=op, operand0=b)
    else:
        nisa.tensor_scalar(dst=dst, data=b, op0=op, operand0=a, reverse0=True)
