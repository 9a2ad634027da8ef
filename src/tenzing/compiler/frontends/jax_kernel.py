"""NKI kernels as JAX functions: on the simulator, or one node of a compiled program; gradients too.

@tenzing.jax.kernel(like=jnp.zeros_like)
def double(x): ...
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.hlo.custom import KERNEL_TARGET
from tenzing.compiler.frontends.jax_interface import require_jax
from tenzing.compiler.ops import register_kernel
from tenzing.errors import UsageError
from tenzing.nki.kernel import jit

NUMBERS: Final = (int, float, bool, "int", "float", "bool")  # annotations that are no tensors
REGISTERED: Final[set[str]] = set()
COMPILING: Final[ContextVar[bool]] = ContextVar("compiling", default=False)


@contextmanager
def compiling() -> Iterator[None]:
    """Inside, kernels are lowered to one call that our reader knows."""
    token = COMPILING.set(True)
    try:
        yield
    finally:
        COMPILING.reset(token)


def kernel(
    function: Callable[..., Any] | None = None,
    like: Callable[..., Any] | None = None,
    *,
    name: str = "",
    backward: Callable[..., Any] | None = None,
) -> Any:
    """A JAX function that runs an NKI kernel on arrays: on the simulator, or compiled in.

    ``function`` takes arrays first, then numbers, annotated as int, float or bool. ``like`` gives
    arrays of the result's shapes and dtypes for the same arguments, as ``jnp.zeros_like``.
    ``backward(gradients..., arguments...)``, a JAX function that may call other kernels, returns
    one gradient, or None, per array. Without ``function`` it is a decorator. Raises UsageError for
    a name that is taken.
    """
    if function is None:
        return partial(kernel, like=like, name=name, backward=backward)
    if like is None:
        raise UsageError("tenzing.jax.kernel does not know the results' shapes",
                         next_step="give like=, such as jnp.zeros_like")  # fmt: skip
    traced = jit(function)
    title = name or traced.function.__name__
    if title in REGISTERED:
        raise UsageError("a kernel of this name is registered already", got=title,
                         next_step="give it another name=")  # fmt: skip
    register_kernel(title, traced)
    REGISTERED.add(title)
    primitive = _primitive(title, traced, like)
    signature = inspect.signature(traced.function)

    def call(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        kinds = {n: p.annotation in NUMBERS for n, p in signature.parameters.items()}
        numbers = tuple((n, v) for n, v in bound.arguments.items() if kinds[n])
        arrays = [v for n, v in bound.arguments.items() if not kinds[n]]
        found = _differentiable(primitive, numbers, backward)(*arrays)
        return found[0] if len(found) == 1 else tuple(found)

    call.__name__ = title
    call.__doc__ = traced.function.__doc__
    return call


def _differentiable(
    primitive: Any, numbers: tuple[tuple[str, Any], ...], backward: Callable[..., Any] | None
) -> Callable[..., Any]:
    """The primitive with these numbers, and its gradient where one is given."""
    jax = require_jax()

    def run(*arrays: Any) -> Any:
        return primitive.bind(*map(jax.numpy.asarray, arrays), numbers=numbers)

    if backward is None:
        return run
    whole = jax.custom_vjp(run)

    def forward(*arrays: Any) -> Any:
        return run(*arrays), arrays

    def gradients(arrays: Sequence[Any], given: Sequence[Any]) -> Any:
        found = backward(*given, *arrays, **dict(numbers))
        each = found if isinstance(found, tuple | list) else (found,)
        return tuple(
            jax.numpy.zeros_like(x) if g is None else g for x, g in zip(arrays, each, strict=True)
        )

    whole.defvjp(forward, gradients)
    return whole


def _primitive(title: str, traced: Callable[..., Any], like: Callable[..., Any]) -> Any:
    """A JAX primitive: shapes from ``like``, values from the simulator."""
    jax = require_jax()
    core, mlir = import_module("jax.extend.core"), import_module("jax.interpreters.mlir")
    primitive = core.Primitive(f"tenzing_kernel_{title}")
    primitive.multiple_results = True

    def simulated(*arrays: Any, numbers: tuple[tuple[str, Any], ...]) -> list[Any]:
        found = traced(*(np.asarray(a) for a in arrays), **dict(numbers))
        several = found if isinstance(found, tuple | list) else (found,)
        return [np.asarray(array) for array in several]

    def shapes(arrays: Sequence[Any], numbers: tuple[tuple[str, Any], ...]) -> list[Any]:
        given = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        found = jax.eval_shape(lambda *x: like(*x, **_accepted(like, numbers)), *given)
        return list(found) if isinstance(found, tuple | list) else [found]

    def lowered(*arrays: Any, numbers: tuple[tuple[str, Any], ...]) -> Any:
        results = shapes(arrays, numbers)
        if COMPILING.get():
            call = jax.ffi.ffi_call(KERNEL_TARGET, results)
            return call(*arrays, kernel=title, numbers=json.dumps(dict(numbers)))
        return jax.pure_callback(partial(simulated, numbers=numbers), results, *arrays)

    primitive.def_impl(
        lambda *arrays, numbers: [jax.numpy.asarray(a) for a in simulated(*arrays, numbers=numbers)]
    )
    primitive.def_abstract_eval(
        lambda *avals, numbers: [
            jax.core.ShapedArray(s.shape, s.dtype) for s in shapes(avals, numbers)
        ]
    )
    mlir.register_lowering(primitive, mlir.lower_fun(lowered, multiple_results=True))
    return primitive


def _accepted(like: Callable[..., Any], numbers: tuple[tuple[str, Any], ...]) -> Mapping[str, Any]:
    """The numbers that a shape rule asks for; ``jnp.zeros_like`` asks for none."""
    try:
        names = inspect.signature(like).parameters
    except ValueError:
        return {}
    return {name: value for name, value in numbers if name in names}


__all__ = ["kernel"]
