"""``neuronxcc.nki.compiler``: explicit placement, and directives that have no effect here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from tenzing.isa.operand import Space
from tenzing.nki.older.blocks import Allocator

__tenzing_internal__ = True

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

sbuf: Final = Allocator(Space.SBUF)
psum: Final = Allocator(Space.PSUM)


def skip_middle_end_transformations(kernel: Decorated) -> Decorated:
    """The kernel as it is: nothing here transforms it."""
    return kernel


enable_stack_allocator = skip_middle_end_transformations
force_auto_alloc = skip_middle_end_transformations


def no_reorder() -> AbstractContextManager[None]:
    """A region in program order; every kernel here runs in program order."""
    return nullcontext()


__all__ = [
    "enable_stack_allocator", "force_auto_alloc", "no_reorder", "psum", "sbuf",
    "skip_middle_end_transformations",
]  # fmt: skip
