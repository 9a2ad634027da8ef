"""One call from a configuration to the graph of one of its programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tenzing.compiler.graph import Graph
from tenzing.compiler.models.config import transformer_of
from tenzing.compiler.models.transformer import (
    Transformer,
    decode_graph,
    encode_graph,
    prefill_graph,
)
from tenzing.errors import UsageError

PHASES: Final = ("prefill", "decode", "encode")


def build(
    model: str | Path | Mapping[str, Any] | Transformer,
    phase: str | None = None,
    batch: int = 1,
    length: int = 128,
    *,
    caches: bool = True,
) -> Graph:
    """The graph of a model by name, config.json, folder or content, in one phase.

    ``prefill``: prompts [batch, length] to the last logits, and with ``caches`` what they leave in
    the caches. ``decode``: one token against caches of ``length`` positions. ``encode``: the hidden
    states of an encoder. Without a phase: prefill where there is a head, else encode. Raises
    UsageError for a phase the model does not have, UnsupportedOp for a family without a builder.
    """
    found = model if isinstance(model, Transformer) else transformer_of(model)
    phase = phase or ("prefill" if found.head else "encode")
    if phase not in PHASES:
        raise UsageError("phase", got=phase, allowed=", ".join(PHASES))
    sizes: dict[str, Any] = {"batch": batch, "length": length}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(name, got=size, allowed="a whole number above 0")
    if phase == "decode":
        return decode_graph(found, batch, length)
    if phase == "encode":
        return encode_graph(found, batch, length)
    return prefill_graph(found, batch, length, caches=caches)


__all__ = ["PHASES", "build"]
