"""What PyTorch itself computes inside a model: its exported program, interpreted call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from tenzing.compiler.frontends.aten.translator import Complex
from tenzing.compiler.frontends.torch_values import require_torch, to_numpy
from tenzing.compiler.graph import Array, Value


class Made(NamedTuple):
    """The call of PyTorch's graph that made a value; ``part`` of a complex result."""

    call: str
    part: str = ""


@dataclass(frozen=True)
class Traced:
    """An exported program, and by the names of our values the calls that made them."""

    program: Any
    made: Mapping[str, Made]

    def values(self, names: Set[str], leaves: Sequence[Any]) -> dict[str, Array]:
        """What PyTorch computes for the named values at the flat inputs of a call."""
        torch = require_torch()
        wanted: dict[str, list[tuple[str, str]]] = {}
        for name in sorted(names & self.made.keys()):
            call, part = self.made[name]
            wanted.setdefault(call, []).append((name, part))
        found: dict[str, Array] = {}

        class Recorder(torch.fx.Interpreter):  # type: ignore[name-defined]
            def run_node(self, node: Any) -> Any:
                result = super().run_node(node)
                for name, part in wanted.get(node.name, ()):
                    found[name] = to_numpy(getattr(result, part) if part else result)
                return result

        with torch.no_grad():
            Recorder(self.program.graph_module).run(*self._arguments(leaves))
        return found

    def _arguments(self, leaves: Sequence[Any]) -> list[Any]:
        """What every placeholder holds: the module's tensors, then the leaves of the call."""
        given, program = iter(leaves), self.program
        return [
            next(given) if spec.kind.name == "USER_INPUT"
            else program.state_dict.get(spec.target, program.constants.get(spec.target))
            for spec in program.graph_signature.input_specs
        ]  # fmt: skip


def calls_behind(known: Mapping[Any, Any]) -> dict[str, Made]:
    """By the names of our values, the first call of an FX graph that each came from."""
    made: dict[str, Made] = {}
    for node, result in known.items():
        if node.op != "call_function":
            continue
        if isinstance(result, Complex):
            made.setdefault(result.real.name, Made(node.name, "real"))
            made.setdefault(result.imaginary.name, Made(node.name, "imag"))
        elif isinstance(result, Value):
            made.setdefault(result.name, Made(node.name))
    return made


__all__ = ["Made", "Traced", "calls_behind"]
