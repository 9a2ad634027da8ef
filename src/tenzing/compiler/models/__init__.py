"""Graphs of known model families straight from their shapes: no framework, no weights."""

from tenzing.compiler.models.config import decoder_shape
from tenzing.compiler.models.decoder import DecoderShape, Experts, decode_graph, prefill_graph
from tenzing.compiler.models.programs import DecoderTimes, decoder_times

__all__ = [
    "DecoderShape", "DecoderTimes", "Experts", "decode_graph", "decoder_shape", "decoder_times",
    "prefill_graph",
]  # fmt: skip
