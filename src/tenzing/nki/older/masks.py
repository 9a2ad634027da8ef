"""``mask=`` of the older language: an affine condition on the index grid clips every operand.

Only conditions on one grid dim at a time are taken, joined by ``&``; that is a rectangle of the
grid. What lies outside is neither read nor written: the rest of a new tile stays unwritten.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tenzing.errors import KernelError
from tenzing.machine import active_core
from tenzing.nki.assign import place_into
from tenzing.nki.indexing import AffineIndex, Condition
from tenzing.nki.tensor import OPERATORS, NkiTensor
from tenzing.nki.values import new_tile

__tenzing_internal__ = True


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one grid dim that a mask leaves."""

    start: int
    stop: int
    size: int

    @property
    def count(self) -> int:
        """Indices left."""
        return max(self.stop - self.start, 0)

    @property
    def clips(self) -> bool:
        """Whether anything is left out."""
        return self.count < self.size


def spans(mask: Condition) -> list[Span]:
    """What the mask leaves of each dim of its grid."""
    rank = max(len(e.shape) for e in mask.not_negative)
    found = [Span(0, 1, 1)] * rank
    for expression in (e.padded(rank) for e in mask.not_negative):
        for dim, size in enumerate(expression.shape):
            if found[dim].size < size:
                found[dim] = Span(0, size, size)
    for expression in (e.padded(rank) for e in mask.not_negative):
        _narrow(found, expression)
    return found


def _narrow(found: list[Span], expression: AffineIndex) -> None:
    """Intersect with ``expression >= 0``."""
    if expression.low >= 0:
        return
    dims = [
        d for d, (c, n) in enumerate(zip(expression.coefficients, expression.shape, strict=True))
        if c and n > 1
    ]  # fmt: skip
    if expression.high < 0 or not dims:
        found[0] = Span(0, 0, found[0].size)
        return
    if len(dims) > 1:
        raise KernelError("a mask may compare one grid dim at a time",
                          got=f"a condition on dims {dims}", where=active_core().here(),
                          next_step="slice the operands to the valid part instead")  # fmt: skip
    (dim,) = dims
    step, old = expression.coefficients[dim], found[dim]
    if step > 0:
        found[dim] = Span(max(old.start, -(expression.constant // step)), old.stop, old.size)
    else:
        found[dim] = Span(old.start, min(old.stop, expression.constant // -step + 1), old.size)


class OutsideView:
    """A view that leaves its tensor; a mask may bring it back inside, anything else is an error."""

    def __init__(self, tensor: NkiTensor, items: Sequence[Any], error: KernelError) -> None:
        self._tensor, self._items, self._error = tensor, tuple(items), error

    def clipped(self, parts: list[Span]) -> NkiTensor:
        """The view with its index tensors cut to what the mask leaves."""
        items = [_cut(item, parts) if isinstance(item, AffineIndex) else item
                 for item in self._items]  # fmt: skip
        view = self._tensor[tuple(items)]
        refuse_outside(view)
        return view

    def refuse(self) -> NoReturn:
        """Report the index that leaves the tensor, at its own line."""
        raise self._error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._error

    def _refused(self, *_: Any) -> NoReturn:
        raise self._error

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refused
    __getitem__ = __setitem__ = __iadd__ = __isub__ = __imul__ = __neg__ = __pow__ = _refused


def _cut(index: AffineIndex, parts: list[Span]) -> AffineIndex:
    whole = index.padded(len(parts)) if len(index.shape) < len(parts) else index
    shape, constant = list(whole.shape), whole.constant
    for dim, part in enumerate(parts):
        if part.clips and shape[dim] > 1:
            shape[dim] = part.count
            constant += whole.coefficients[dim] * part.start
    return AffineIndex(tuple(shape), whole.coefficients, constant)


def refuse_outside(value: Any) -> None:
    """Report a view outside its tensor."""
    if isinstance(value, OutsideView):
        value.refuse()


def clip(value: Any, parts: list[Span]) -> Any:
    """A tile or tensor cut to what the mask leaves; other values as they are."""
    if isinstance(value, OutsideView):
        return value.clipped(parts)
    if not isinstance(value, NkiTensor):
        return value
    if value.ndim < len(parts):
        raise KernelError(
            f"the mask has {len(parts)} dims, an operand has shape {value.shape}",
            where=active_core().here(), next_step="index the operand with the mask's grid",
        )  # fmt: skip
    key = [
        slice(p.start, p.stop) if p.clips and n > 1 else slice(None)
        for p, n in zip(parts, value.shape, strict=False)
    ]
    return value[tuple(key)]


def masked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` taking ``mask=`` as well."""

    @functools.wraps(function)
    def call(*args: Any, mask: Any = None, **kwargs: Any) -> Any:
        if mask is None:
            for value in (*args, *kwargs.values()):
                refuse_outside(value)
            return function(*args, **kwargs)
        if not isinstance(mask, Condition):
            raise KernelError(f"{name}: mask must be a condition on index tensors",
                              got=type(mask).__name__, allowed="such as i < 100, joined by &",
                              where=active_core().here())  # fmt: skip
        return _masked_call(name, function, spans(mask), args, kwargs)

    return call


def _masked_call(
    name: str, function: Callable[..., Any], parts: list[Span], args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:  # fmt: skip
    if not all(p.count for p in parts):
        if name == "nl.store":
            return None
        raise KernelError(f"{name}: the mask leaves nothing", where=active_core().here(),
                          next_step="skip the call for such an iteration")  # fmt: skip
    result = function(
        *[clip(a, parts) for a in args], **{k: clip(v, parts) for k, v in kwargs.items()}
    )
    if not isinstance(result, NkiTensor):
        return result
    shape, key = list(result.shape), [slice(None)] * result.ndim
    for dim, part in enumerate(parts[: result.ndim]):
        if part.clips and shape[dim] == part.count:
            shape[dim], key[dim] = part.size, slice(part.start, part.stop)
    if tuple(shape) == result.shape:
        return result
    whole = new_tile(shape, result.dtype, result.buffer)
    place_into(whole[tuple(key)], result)
    return whole


OPERATORS["outside"] = OutsideView
