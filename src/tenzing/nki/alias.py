"""Makes ``import nki`` and ``import neuronxcc.nki`` find tenzing, on demand and undoably."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

__tenzing_internal__ = True

ALIASES: Final[dict[str, str]] = {
    "nki": "tenzing.nki",
    "nki.language": "tenzing.nki.language",
    "nki.isa": "tenzing.nki.isa",
    "nki.typing": "tenzing.nki.older.typing",
    "neuronxcc": "",  # only a parent
    "neuronxcc.nki": "tenzing.nki.older",
    "neuronxcc.nki.language": "tenzing.nki.older.language",
    "neuronxcc.nki.isa": "tenzing.nki.older.isa",
    "neuronxcc.nki.typing": "tenzing.nki.older.typing",
    "neuronxcc.nki.compiler": "tenzing.nki.older.compiler",
}
_ROOTS: Final = ("nki", "neuronxcc")


class _AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and fills the alias modules: each shows the names of one of ours."""

    def __init__(self) -> None:
        self.replaced: dict[str, ModuleType] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for the names of the table, None for all others."""
        if fullname not in ALIASES:
            return None
        package = any(name.startswith(f"{fullname}.") for name in ALIASES)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        """Copy the public names of the module behind the alias."""
        source = ALIASES[module.__name__]
        if not source:
            return
        real = importlib.import_module(source)
        names = getattr(real, "__all__", dir(real))
        module.__dict__.update({n: getattr(real, n) for n in names if hasattr(real, n)})
        module.__dict__.update(__doc__=real.__doc__, __all__=list(names))
        module.__dict__["__getattr__"] = lambda name: getattr(real, name)


def install(*, shadow: bool = True) -> None:
    """Alias ``nki`` and ``neuronxcc`` to tenzing; with ``shadow`` also over installed packages."""
    if is_installed():
        return
    finder = _AliasFinder()
    if shadow:
        finder.replaced = _taken()
        sys.meta_path.insert(0, finder)
    else:
        sys.meta_path.append(finder)


def uninstall() -> None:
    """Undo :func:`install`; modules it had replaced come back."""
    for finder in [f for f in sys.meta_path if isinstance(f, _AliasFinder)]:
        _taken()
        sys.modules.update(finder.replaced)
        sys.meta_path.remove(finder)


def is_installed() -> bool:
    """Whether the aliases are in place."""
    return any(isinstance(f, _AliasFinder) for f in sys.meta_path)


def _taken() -> dict[str, ModuleType]:
    """The modules now under the aliased names, removed from ``sys.modules``."""
    names = [n for n in sys.modules if n.partition(".")[0] in _ROOTS]
    return {name: sys.modules.pop(name) for name in names}


__all__ = ["ALIASES", "install", "is_installed", "uninstall"]
