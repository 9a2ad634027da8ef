"""A set of facts under dotted keys, which remembers what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tenzing.errors import FactsError
from tenzing.facts.fact import Fact
from tenzing.facts.schema import Key


@dataclass(frozen=True, eq=False, repr=False)
class Book:
    """Facts about one thing (a chip, an instance); compares by identity.

    ``used`` collects the keys that were asked for, so that a report can say on which assumed
    numbers it leans.
    """

    name: str
    file: str
    facts: Mapping[str, Fact]
    keys: Mapping[str, Key]
    used: set[str] = field(default_factory=set)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def fact(self, path: str) -> Fact:
        """The fact at a dotted key, also when it is a recorded unknown.

        Raises FactsError for a key that is not in the schema or not in this file.
        """
        found = self.facts.get(path)
        if found is None:
            raise self._absent(path)
        self.used.add(path)
        return found

    def known(self, path: str) -> bool:
        """True when the key is here and has a value (asking does not count as use)."""
        found = self.facts.get(path)
        return found is not None and not found.unknown

    def number(self, path: str) -> float:
        """A number in the unit the key's name and schema say."""
        value = self._value(path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(path, "a number", value)
        return float(value)

    def integer(self, path: str) -> int:
        """A whole number."""
        value = self._value(path)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(path, "a whole number", value)
        return value

    def text(self, path: str) -> str:
        """Words."""
        value = self._value(path)
        if not isinstance(value, str):
            raise self._wrong(path, "text", value)
        return value

    def flag(self, path: str) -> bool:
        """Whether this thing has a capability."""
        value = self._value(path)
        if not isinstance(value, bool):
            raise self._wrong(path, "a flag", value)
        return value

    def integers(self, path: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self._value(path)
        if not isinstance(value, tuple):
            raise self._wrong(path, "a list", value)
        return tuple(int(x) for x in value)

    def items(self) -> Iterator[tuple[str, Fact]]:
        """Every (key, fact), in the order of the schema; does not count as use."""
        for key in self.keys:
            if key in self.facts:
                yield key, self.facts[key]

    def assumed_used(self) -> list[tuple[str, Fact]]:
        """The assumed facts asked for so far, sorted by key."""
        pairs = ((path, self.facts[path]) for path in sorted(self.used))
        return [(path, found) for path, found in pairs if found.kind == "assumed"]

    def _value(self, path: str) -> object:
        found = self.facts.get(path)  # not self.fact(): this is asked for every instruction
        if found is None:
            raise self._absent(path)
        if found.value is None:
            raise FactsError(
                f"{self.name}: {path} is not publicly known ({self._file()}, "
                f"looked in {found.source})",
                next_step=f"choose a chip that has it, or add the fact with a source to "
                f"{self._file()}",
            )
        self.used.add(path)
        return found.value

    def _absent(self, path: str) -> FactsError:
        if path in self.keys:
            return FactsError(
                f"{self.name} has no fact {path} ({self._file()})",
                next_step=f"add it with unit {self.keys[path].unit!r}, kind and source to "
                f"{self._file()}",
            )
        group = path.split(".", maxsplit=1)[0]
        near = [k for k in self.keys if k.split(".", maxsplit=1)[0] == group]
        return FactsError(
            f"{path} is not a key of the facts schema (asked of {self.name}, {self._file()})",
            got=repr(path),
            allowed=", ".join(near or sorted({k.split(".")[0] + ".*" for k in self.keys})),
        )

    def _wrong(self, path: str, asked: str, value: object) -> FactsError:
        return FactsError(
            f"{self.name}: {path} was asked for as {asked} ({self._file()})",
            got=repr(value),
            allowed=f"chip.{self.keys[path].type}({path!r})",
        )

    def _file(self) -> str:
        return self.file.replace("\\", "/").rsplit("/", maxsplit=1)[-1]
