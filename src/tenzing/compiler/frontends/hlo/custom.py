"""Calls of things that StableHLO has no operation for."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Found, Reader, hlo
from tenzing.compiler.graph import Value

KERNEL_TARGET: Final = "tenzing.kernel"
UNCHANGED: Final = ("Sharding", "annotate_device_placement", "xla.sdy.FuncResultSharding")
OPTIONS: Final = "mhlo.backend_config"


@hlo("stablehlo.custom_call")
def _custom_call(reader: Reader, operation: Operation, *operands: Value) -> Found:
    """A registered NKI kernel, an annotation, or an operation that older versions wrap."""
    target = operation.text("call_target_name")
    if target == KERNEL_TARGET:
        return _kernel(reader, operation, operands)
    if target in UNCHANGED:
        return operands
    if target == "mhlo.erf":
        return reader.add(ops.Erf(), *operands)
    if target == "mhlo.topk" and len(operation.types()) == 2:  # noqa: PLR2004 - values, places
        count = operation.types()[0].shape[-1]
        return reader.builder.emit(ops.TopK(count, np.dtype(np.int32)), *operands)
    raise reader.unsupported(operation, f"of {target}")


def _kernel(reader: Reader, operation: Operation, operands: tuple[Value, ...]) -> Found:
    options = operation.attribute(OPTIONS)
    title = options["kernel"].value
    numbers = tuple(json.loads(options["numbers"].value).items())
    op = ops.KernelCall(title, tuple(operation.types()), numbers)
    return reader.builder.emit(op, *operands, hint=title)


__all__ = ["KERNEL_TARGET"]
