"""How a call's values are nested, said without any framework: tuples, lists, dicts and leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tenzing.errors import UsageError

DEEPEST: Final = 64  # levels; no model nests its inputs deeper
Number = int | float | bool | str | None


@dataclass(frozen=True)
class Fixed:
    """A leaf that is no tensor: a flag, a number or None that the model was compiled with."""

    content: Any


@dataclass(frozen=True)
class Slot:
    """A leaf that is a tensor: its place among the graph's inputs or outputs."""

    place: int


Nest = Slot | Fixed | tuple["Nest", ...] | list["Nest"] | dict[str, "Nest"]


@dataclass(frozen=True)
class Nesting:
    """The nests of positional inputs, keyword inputs and outputs."""

    arguments: Nest
    keywords: Nest
    outputs: Nest


def match(nest: Nest, given: Any, path: str = "") -> Iterator[tuple[Slot, str, Any]]:
    """Every tensor of ``given`` with its slot and path; UsageError where it is nested otherwise."""
    if isinstance(nest, Slot):
        yield nest, path, given
    elif isinstance(nest, Fixed):
        if type(given) is not type(nest.content) or given != nest.content:
            _differs(path, given, repr(nest.content), "compile once for each of its values")
    elif isinstance(nest, dict):
        if not isinstance(given, Mapping) or sorted(map(str, given)) != sorted(nest):
            _differs(path, given, f"a mapping of {', '.join(nest) or 'nothing'}")
        named = {str(name): content for name, content in given.items()}
        for name, part in nest.items():
            yield from match(part, named[name], f"{path}[{name!r}]" if path else name)
    else:
        if not isinstance(given, list | tuple) or len(given) != len(nest):
            _differs(path, given, f"{type(nest).__name__} of {len(nest)}")
        for number, (part, one) in enumerate(zip(nest, given, strict=True)):
            yield from match(part, one, f"{path}[{number}]")


def _differs(path: str, given: Any, allowed: str, next_step: str = "") -> NoReturn:
    if isinstance(given, Mapping):
        got = f"a mapping of {', '.join(map(str, given)) or 'nothing'}"
    elif isinstance(given, list | tuple):
        got = f"{type(given).__name__} of {len(given)}"
    else:
        got = repr(given) if isinstance(given, Number) else type(given).__name__
    raise UsageError(
        f"input {path}".rstrip() + " is nested otherwise than the compiled one", got=got,
        allowed=allowed, next_step=next_step or "give the same lists, tuples and dicts",
    )  # fmt: skip


def fill(nest: Nest, leaves: Sequence[Any]) -> Any:
    """The nested value with ``leaves`` in the slots."""
    if isinstance(nest, Slot):
        return leaves[nest.place]
    if isinstance(nest, Fixed):
        return nest.content
    if isinstance(nest, dict):
        return {name: fill(part, leaves) for name, part in nest.items()}
    return type(nest)(fill(part, leaves) for part in nest)


def slots(nest: Nest, path: str = "") -> Iterator[tuple[Slot, str]]:
    """Every slot with its path, in order."""
    if isinstance(nest, Slot):
        yield nest, path
    elif isinstance(nest, dict):
        for name, part in nest.items():
            yield from slots(part, f"{path}[{name!r}]")
    elif not isinstance(nest, Fixed):
        for number, part in enumerate(nest):
            yield from slots(part, f"{path}[{number}]")


def to_json(nest: Nest) -> dict[str, Any]:
    """As JSON values; UsageError for a fixed leaf that JSON cannot hold."""
    if isinstance(nest, Slot):
        return {"tensor": nest.place}
    if isinstance(nest, Fixed):
        if not isinstance(nest.content, Number):
            raise UsageError("this model takes or gives an object that a file cannot hold",
                             got=type(nest.content).__name__,
                             allowed="tensors, numbers, texts and None")  # fmt: skip
        return {"fixed": nest.content}
    if isinstance(nest, dict):
        return {"dict": {name: to_json(part) for name, part in nest.items()}}
    return {type(nest).__name__: [to_json(part) for part in nest]}


def from_json(found: Any, places: int, depth: int = 0) -> Nest:
    """What :func:`to_json` wrote, for slots below ``places``; ValueError for anything else."""
    if not isinstance(found, dict) or len(found) != 1 or depth > DEEPEST:
        raise ValueError("a nest is one of tensor, fixed, dict, list, tuple")
    ((kind, content),) = found.items()
    if kind == "tensor" and type(content) is int and 0 <= content < places:
        return Slot(content)
    if kind == "fixed" and isinstance(content, Number):
        return Fixed(content)
    if kind == "dict" and isinstance(content, dict):
        return {name: from_json(part, places, depth + 1) for name, part in content.items()}
    if kind in ("list", "tuple") and isinstance(content, list):
        parts = [from_json(part, places, depth + 1) for part in content]
        return parts if kind == "list" else tuple(parts)
    raise ValueError(f"no nest: {kind}")


__all__ = [
    "Fixed", "Nest", "Nesting", "Slot", "fill", "from_json", "match", "slots", "to_json",
]  # fmt: skip
