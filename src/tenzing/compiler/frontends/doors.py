"""The frontends, and which of them a model belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from tenzing.compiler.frontends.interface import Imported
from tenzing.errors import UsageError


@dataclass(frozen=True)
class Door:
    """A frontend: what it takes, in words, its module here, and the function that reads a model.

    The module is imported when a model is looked at, and none after the one that accepts it. Its
    ``accepts(model)`` looks at names and bytes and imports no framework; ``read(model, inputs,
    keywords)`` gives the graph at the shapes of the example inputs.
    """

    takes: str
    module: str
    reader: str

    def accepts(self, model: Any) -> bool:
        """Whether a model is of this kind."""
        return bool(self._home.accepts(model))

    def read(self, model: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Imported:
        """The model's graph."""
        found: Imported = getattr(self._home, self.reader)(model, inputs, keywords)
        return found

    @property
    def _home(self) -> Any:
        return import_module(f"{__package__}.{self.module}")


DOORS: Final = (
    Door("a torch.nn.Module or torch.export.ExportedProgram", "torch", "import_module"),
    Door("an ONNX model: a path, its bytes or a ModelProto", "onnx", "import_model"),
    Door("a StableHLO program: a .mlir file, its text or its bytes", "stablehlo", "import_program"),
    Door("a function of JAX arrays: plain, jitted, lowered or exported", "jax", "import_function"),
    Door("a Keras model, tf.function or SavedModel folder", "tensorflow", "import_model"),
    Door(
        "a Hugging Face folder, a config.json or the name of a known model", "huggingface", "read"
    ),
)


def import_any(model: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Imported:
    """The graph of a model of any kind that has a frontend; UsageError for what has none."""
    for door in DOORS:
        if door.accepts(model):
            return door.read(model, inputs, keywords)
    raise UsageError("this is no model that can be compiled", got=_described(model),
                     allowed="; ".join(door.takes for door in DOORS),
                     next_step="a function of tensors goes into the forward of a torch.nn.Module",
                     )  # fmt: skip


def _described(model: Any) -> str:
    return repr(model) if isinstance(model, str) else type(model).__name__


__all__ = ["DOORS", "Door", "import_any"]
