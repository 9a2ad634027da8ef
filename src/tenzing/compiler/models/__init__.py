"""Graphs of known model families straight from their shapes: no framework, no weights."""

from tenzing.compiler.models.build import PHASES, build
from tenzing.compiler.models.config import builds, read_config, transformer_of
from tenzing.compiler.models.experts import Experts, Router
from tenzing.compiler.models.programs import DecoderTimes, decoder_times
from tenzing.compiler.models.training import TrainingTimes, training_times
from tenzing.compiler.models.transformer import (
    Transformer,
    decode_graph,
    encode_graph,
    llama,
    prefill_graph,
)

__all__ = [
    "PHASES", "DecoderTimes", "Experts", "Router", "TrainingTimes", "Transformer", "build",
    "builds", "decode_graph", "transformer_of", "decoder_times", "encode_graph", "llama",
    "prefill_graph", "read_config", "training_times",
]  # fmt: skip
