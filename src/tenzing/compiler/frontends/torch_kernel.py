"""NKI kernels as PyTorch operations that survive torch.export as one node, gradients included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from tenzing.compiler.frontends.torch_values import numpy_dtype, require_torch
from tenzing.compiler.graph import GraphBuilder, GraphError, TensorType, Value
from tenzing.compiler.ops import KernelCall, register_kernel
from tenzing.compiler.ops.control import KERNELS
from tenzing.errors import UsageError
from tenzing.nki.kernel import jit

KERNEL_NAMESPACE: Final = "tenzing_kernel."
RESULTS: Final[dict[str, Callable[..., Any]]] = {}  # meta rules of registered kernels


def custom_kernel(
    kernel: Callable[..., Any] | None = None,
    like: Callable[..., Any] | None = None,
    *,
    name: str = "",
    backward: Callable[..., Any] | None = None,
) -> Any:
    """A PyTorch function that runs an NKI kernel on tensors: on the simulator, or compiled in.

    ``kernel`` takes tensors first, then numbers; its parameters must not be written. ``like`` gives
    empty tensors of the result's shapes and dtypes for the same arguments, as
    ``torch.empty_like``. ``backward(gradients..., arguments...)``, a PyTorch function that may call
    other custom kernels, returns one gradient, or None, per argument. Without ``kernel`` it is a
    decorator. Raises UsageError for a name that is taken.
    """
    if kernel is None:
        return partial(custom_kernel, like=like, name=name, backward=backward)
    if like is None:
        raise UsageError("custom_kernel does not know the results' shapes",
                         next_step="give like=, such as torch.empty_like")  # fmt: skip
    torch = require_torch()
    function = jit(kernel)
    title = name or function.function.__name__
    if title in RESULTS:
        raise UsageError("a kernel of this name is registered already", got=title,
                         next_step="give it another name=")  # fmt: skip
    parameters = _parameters(function.function)

    def eager(*arguments: Any) -> Any:
        return function(*arguments)

    kinds = ", ".join(f"{kind} {parameter}" for parameter, kind in parameters)
    example = _result_count(function.function)
    returned = "Tensor" if example == 1 else "(" + ", ".join(["Tensor"] * example) + ")"
    operation = torch.library.custom_op(
        f"{KERNEL_NAMESPACE[:-1]}::{title}", eager, mutates_args=(),
        schema=f"({kinds}) -> {returned}",
    )  # fmt: skip
    operation.register_fake(like)
    if backward is not None:
        _register_backward(operation, backward)
    RESULTS[title] = like
    register_kernel(title, function)
    return operation


def _parameters(function: Callable[..., Any]) -> list[tuple[str, str]]:
    """Names and schema types: annotations of int, float and bool are numbers, others tensors."""
    kinds = {int: "int", float: "float", bool: "bool", "int": "int", "float": "float",
             "bool": "bool"}  # fmt: skip
    signature = inspect.signature(function)
    return [(p.name, kinds.get(p.annotation, "Tensor")) for p in signature.parameters.values()]


def _result_count(function: Callable[..., Any]) -> int:
    """Tensors that the kernel returns, by its annotation ``tuple[...]``; else one."""
    returned = inspect.signature(function).return_annotation
    text = returned if isinstance(returned, str) else str(returned)
    return text.count(",") + 1 if text.startswith("tuple[") else 1


def _register_backward(operation: Any, backward: Callable[..., Any]) -> None:
    torch = require_torch()

    def keep(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, torch.Tensor)))
        ctx.numbers = [None if isinstance(x, torch.Tensor) else x for x in inputs]

    def gradients(ctx: Any, *given: Any) -> Any:
        saved = iter(ctx.saved_tensors)
        arguments = [next(saved) if n is None else n for n in ctx.numbers]
        return backward(*given, *arguments)

    operation.register_autograd(gradients, setup_context=keep)


def kernel_call(
    builder: GraphBuilder, schema: str, arguments: Sequence[Any], named: dict[str, Any]
) -> Any:
    """The ``kernel`` node of a call of a registered kernel."""
    title = schema.removeprefix(KERNEL_NAMESPACE).removesuffix(".default")
    if title not in KERNELS or title not in RESULTS:
        raise GraphError("no kernel is registered under this name", got=title)
    function = KERNELS[title].function
    bound = inspect.signature(function).bind(*arguments, **named)
    bound.apply_defaults()
    given = bound.arguments
    tensors = [v for v in given.values() if isinstance(v, Value)]
    numbers = tuple((k, v) for k, v in given.items() if not isinstance(v, Value))
    results = builder.emit(KernelCall(title, _result_types(title, given), numbers), *tensors,
                           hint=title)  # fmt: skip
    return results[0] if len(results) == 1 else results


def _result_types(title: str, given: dict[str, Any]) -> tuple[TensorType, ...]:
    """What the meta rule says about tensors of these types."""
    torch = require_torch()
    arguments = [
        torch.empty(v.shape, dtype=getattr(torch, v.dtype.name), device="meta")
        if isinstance(v, Value) else v for v in given.values()
    ]  # fmt: skip
    found = RESULTS[title](*arguments)
    tensors = found if isinstance(found, tuple | list) else (found,)
    return tuple(TensorType(tuple(t.shape), numpy_dtype(t.dtype)) for t in tensors)


__all__ = ["KERNEL_NAMESPACE", "custom_kernel", "kernel_call"]
