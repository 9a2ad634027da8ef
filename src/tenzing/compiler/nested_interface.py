"""Calls of a program whose framework is not there: nested NumPy arrays in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tenzing.compiler.frontends.interface import ArrayState, checked_array
from tenzing.compiler.graph import Array, Value
from tenzing.compiler.nesting import Nesting, fill, match, slots


@dataclass(frozen=True)
class NestedInterface(ArrayState):
    """Inputs and outputs nested as the model's own were; the program keeps its state itself."""

    inputs: tuple[Value, ...]
    names: tuple[str, ...]
    nesting: Nesting
    state: dict[str, Array] = field(default_factory=dict)

    def _given(
        self, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> list[tuple[Value, Any]]:
        """What a call gives for every input of the graph, in order."""
        parts = (self.nesting.arguments, tuple(arguments)), (self.nesting.keywords, dict(keywords))
        found = {slot.place: given for nest, part in parts for slot, _, given in match(nest, part)}
        return [(value, found[place]) for place, value in enumerate(self.inputs)]

    def leaves(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the class."""
        return [np.asarray(given) for _, given in self._given(arguments, keywords)]

    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the class."""
        return [checked_array(given, value) for value, given in self._given(arguments, keywords)]

    def outputs(self, arrays: Sequence[Array]) -> Any:
        """See the class."""
        return fill(self.nesting.outputs, arrays)

    def results(self, outputs: Any) -> list[Array]:
        """See the class."""
        return [np.asarray(found) for _, _, found in match(self.nesting.outputs, outputs)]

    def output_names(self) -> list[str]:
        """See the class."""
        return list(self.names)

    def output_places(self) -> list[int]:
        """See the class."""
        return [slot.place for slot, _ in slots(self.nesting.outputs)]

    def described(self) -> Nesting:
        """See the class."""
        return self.nesting

    def _named(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        return {value.name: found for value, found in self._given(arguments, keywords)}


__all__ = ["NestedInterface"]
