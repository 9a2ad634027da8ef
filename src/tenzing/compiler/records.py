"""JSON into frozen dataclasses, strictly: every field there, every value of the stated type."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


def build(kind: Any, found: Any, path: str = "") -> Any:
    """A value of ``kind``: a dataclass of such values, a tuple, a mapping, or a plain type.

    ValueError names the place of what is missing, unknown or of another type.
    """
    if kind is Any:
        return found
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, found, path)
    if origin is tuple:
        _expect(list, found, path)
        inner = get_args(kind)[0]
        return tuple(build(inner, one, f"{path}[{k}]") for k, one in enumerate(found))
    if origin in (dict, Mapping):
        _expect(dict, found, path)
        inner = get_args(kind)[1]
        return {name: build(inner, one, f"{path}.{name}") for name, one in found.items()}
    if origin in (Union, types.UnionType):
        optional = [one for one in get_args(kind) if one is not type(None)]
        return None if found is None else build(optional[0], found, path)
    _expect(kind, found, path)
    return found


def _record(kind: type, found: Any, path: str) -> Any:
    _expect(dict, found, path)
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    if sorted(names) != sorted(found):
        odd = sorted(set(names) ^ set(found))
        raise ValueError(f"{path or 'the record'} lacks or does not know {', '.join(odd)}")
    return kind(**{name: build(hints[name], found[name], f"{path}.{name}") for name in names})


def _expect(kind: type, found: Any, path: str) -> None:
    if type(found) is not kind:
        raise ValueError(f"{path or 'the record'} is {type(found).__name__}, not {kind.__name__}")


__all__ = ["build"]
