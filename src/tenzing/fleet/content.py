"""Values as JSON and back without loss: dataclasses, enums and tuples keep their kind.

What a value holds is also its name in a cache: two values of equal content have equal JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import PurePath
from typing import Any, Final

from tenzing.errors import UsageError

PLAIN: Final = (str, int, float, bool, type(None))
TUPLE: Final = "__tuple__"
CLASS: Final = "__class__"
ENUM: Final = "__enum__"
TAGS: Final = (TUPLE, CLASS, ENUM)


def to_json(value: Any) -> Any:
    """A JSON value that :func:`from_json` turns back into an equal one.

    Numbers, text, lists, tuples (named ones too), mappings with text keys, enums and dataclasses of
    those; a path becomes text. Raises UsageError for anything else.
    """
    if isinstance(value, Enum):
        return {ENUM: _name_of(type(value)), "name": value.name}
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if type(value) is tuple:
        return {TUPLE: [to_json(item) for item in value]}
    if isinstance(value, Mapping) and _has_names(value):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    names = _fields_of(type(value))
    if names is not None:
        parts = {name: to_json(getattr(value, name)) for name in names}
        return {CLASS: _name_of(type(value)), "fields": parts}
    raise UsageError(
        f"a {type(value).__qualname__} cannot be kept by its content",
        allowed="numbers, text, lists, tuples, mappings with text keys, enums, dataclasses",
    )  # fmt: skip


def from_json(value: Any) -> Any:
    """The value that :func:`to_json` was given; classes are looked up by name."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TUPLE in value:
        return tuple(from_json(item) for item in value[TUPLE])
    if ENUM in value:
        return _class_of(value[ENUM])[value["name"]]
    if CLASS in value:
        parts = {name: from_json(item) for name, item in value["fields"].items()}
        return _class_of(value[CLASS])(**parts)
    return {name: from_json(item) for name, item in value.items()}


def _has_names(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and name not in TAGS for name in value)


def _name_of(kind: type) -> str:
    if "<locals>" in kind.__qualname__:
        raise UsageError("a class made inside a function cannot be found again",
                         got=kind.__qualname__, next_step="define it at the top of its module",
                         )  # fmt: skip
    return f"{kind.__module__}:{kind.__qualname__}"


def _fields_of(kind: type) -> tuple[str, ...] | None:
    """What a dataclass or a named tuple is made from; None for other classes."""
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind) if field.init)
    return getattr(kind, "_fields", None) if issubclass(kind, tuple) else None


def _class_of(name: str) -> Any:
    """A class of ours by name; anything else that a file may name is refused."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if isinstance(found, type) and (issubclass(found, Enum) or _fields_of(found) is not None):
        return found
    raise UsageError("not a kept value", got=name)


__all__ = ["from_json", "to_json"]
