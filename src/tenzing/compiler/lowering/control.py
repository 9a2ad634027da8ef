"""Branches, loops, calls and other people's kernels.

A branch is taken, and a loop turned, while the program is recorded: a condition that constants
decide is computed from them, any other is read from the simulated memory. Without values a loop
needs its stated trips, and a branch stands for the one with the most arithmetic.
"""

from __future__ import annotations

import numpy as np

from tenzing.compiler.graph import Array, Graph, GraphError, Node
from tenzing.compiler.lowering.program import lower_region
from tenzing.compiler.lowering.registry import CONTROL, Known, device_dtype, lowers
from tenzing.compiler.ops.control import KERNELS, Call, Case, KernelCall, While
from tenzing.machine.core import active_core
from tenzing.nki import NkiTensor


def _region(region: Graph, inputs: list[NkiTensor], known: Known) -> tuple[list[NkiTensor], Known]:
    bound = {
        value: tensor.reshape(value.shape or (1,))
        for value, tensor in zip(region.inputs, inputs, strict=True)
    }
    pairs = zip(region.inputs, known, strict=True)
    return lower_region(region, bound, {v: a for v, a in pairs if a is not None})


def _content(tensor: NkiTensor, known: Array | None) -> Array | None:
    """A value that constants decide or the simulated memory holds; None when only time counts."""
    if known is not None:
        return known
    core = active_core()
    core.flush()
    return tensor.array() if core.values else None


def _call(node: Node, inputs: list[NkiTensor], known: Known) -> tuple[list[NkiTensor], Known]:
    assert isinstance(node.op, Call)
    return _region(node.op.body, inputs, known)


def _case(node: Node, inputs: list[NkiTensor], known: Known) -> tuple[list[NkiTensor], Known]:
    op = node.op
    assert isinstance(op, Case)
    index = _content(inputs[0], known[0])
    if index is not None:
        return _region(op.branch(int(index.reshape(-1)[0])), inputs[1:], known[1:])
    longest = max(op.branches, key=lambda branch: branch.work.flops)
    return _region(longest, inputs[1:], known[1:])


def _while(node: Node, inputs: list[NkiTensor], known: Known) -> tuple[list[NkiTensor], Known]:
    op = node.op
    assert isinstance(op, While)
    carried, fixed = inputs[: op.carried], inputs[op.carried :]
    found, constant = list(known[: op.carried]), list(known[op.carried :])
    turns = 0
    while _goes_on(node, turns, [*carried, *fixed], [*found, *constant]):
        carried, after = _region(op.body, [*carried, *fixed], [*found, *constant])
        found = list(after)
        turns += 1
    return carried, found


def _goes_on(node: Node, turns: int, inputs: list[NkiTensor], known: Known) -> bool:
    op = node.op
    assert isinstance(op, While)
    tensors, found = _region(op.condition, inputs, known)
    answer = _content(tensors[0], found[0])
    if answer is not None:
        return bool(answer.reshape(-1)[0])
    if not op.trips:
        raise GraphError(
            f"how often the loop %{node.outputs[0].name} turns depends on values",
            where=node.loc, next_step="run the model with inputs, state While(trips=...), or count "
            "with a constant bound",
        )  # fmt: skip
    return turns < op.trips


@lowers("kernel")
def _kernel(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, KernelCall)
    kernel = KERNELS[op.kernel]
    if kernel.grid and int(np.prod([d.cores for d in kernel.grid])) > 1:
        raise GraphError(f"kernel {op.kernel} has a grid over several cores", where=node.loc,
                         next_step="a compiled model runs on one core: drop the grid")  # fmt: skip
    found = kernel(*inputs, **dict(op.attributes))
    tensors = list(found) if isinstance(found, tuple | list) else [found]
    if len(tensors) != len(op.results):
        raise op.mismatch(f"{len(tensors)} results")
    for tensor, wanted in zip(tensors, op.results, strict=True):
        if tensor.size != wanted.elements or tensor.dtype != device_dtype(wanted.dtype):
            raise op.mismatch(f"{tensor.dtype}{list(tensor.shape)}")
    return tensors


CONTROL.update({"call": _call, "case": _case, "while": _while})
