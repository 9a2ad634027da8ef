"""The frontends, and which of them a model belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenzing.compiler.frontends import huggingface, jax, onnx, stablehlo, tensorflow, torch
from tenzing.compiler.frontends.interface import Imported
from tenzing.errors import UsageError


@dataclass(frozen=True)
class Door:
    """A frontend: what it takes, in words, and its two functions.

    ``accepts(model)`` looks at names and bytes and imports no framework;
    ``read(model, inputs, keywords)`` gives the graph at the shapes of the example inputs.
    """

    takes: str
    accepts: Callable[[Any], bool]
    read: Callable[[Any, Sequence[Any], Mapping[str, Any]], Imported]


DOORS: Final = (
    Door("a torch.nn.Module or torch.export.ExportedProgram", torch.accepts, torch.import_module),
    Door("an ONNX model: a path, its bytes or a ModelProto", onnx.accepts, onnx.import_model),
    Door(
        "a StableHLO program: a .mlir file, its text or its bytes",
        stablehlo.accepts,
        stablehlo.import_program,
    ),
    Door(
        "a function of JAX arrays: plain, jitted, lowered or exported",
        jax.accepts,
        jax.import_function,
    ),
    Door(
        "a Keras model, tf.function or SavedModel folder",
        tensorflow.accepts,
        tensorflow.import_model,
    ),
    Door(
        "a Hugging Face folder, a config.json or the name of a known model",
        huggingface.accepts,
        huggingface.read,
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
