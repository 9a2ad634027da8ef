"""The programs that serve a decoder: prefill buckets and decode steps by cache length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenzing.compiler.models.config import transformer_of
from tenzing.compiler.models.transformer import Transformer, decode_graph, prefill_graph
from tenzing.compiler.timing import GraphTime, time_graph

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DecoderTimes:
    """Times of the compiled programs of one model: by prompt bucket, and by cache length."""

    shape: Transformer
    batch: int
    prefill: Mapping[int, GraphTime]
    decode: Mapping[int, GraphTime]


def decoder_times(
    model: str | Path | Mapping[str, Any] | Transformer,
    *,
    batch: int = 1,
    buckets: Sequence[int] = (),
    lengths: Sequence[int] = (),
    target: str = "trn2",
    mesh: Mapping[str, int] | None = None,
    progress: Progress = lambda _: None,
) -> DecoderTimes:
    """Time a decoder's programs from shapes alone, on one core or on a ``mesh`` such as {"tp": 8}.

    ``buckets``: prompt lengths, ``lengths``: cache lengths of decode steps. Raises CapacityError
    for a model that does not fit.
    """
    shape = model if isinstance(model, Transformer) else transformer_of(model)
    prefill, decode = {}, {}
    for tokens in buckets:
        progress(f"prefill of {tokens} tokens")
        prefill[tokens] = time_graph(prefill_graph(shape, batch, tokens), target, mesh=mesh)
    for length in lengths:
        progress(f"decode step at {length} positions")
        decode[length] = time_graph(decode_graph(shape, batch, length), target, mesh=mesh)
    return DecoderTimes(shape, batch, prefill, decode)


__all__ = ["DecoderTimes", "decoder_times"]
