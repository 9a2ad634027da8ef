"""Rotary positions from a configuration, in its old and its new form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from tenzing.compiler.models.positions import Linear, Llama3, LongRope, Rope, Scaling, Yarn
from tenzing.compiler.models.settings import Settings
from tenzing.errors import UnsupportedOp, UsageError

THETA: Final = 10000.0
FAST, SLOW = 32.0, 1.0  # turns between which YaRN blends, of its paper
GAIN_STEP: Final = 0.1  # of YaRN's paper: 0.1 ln(factor) + 1
ORIGINAL: Final = "original_max_position_embeddings"


def rope_settings(config: Settings, kind: str, theta: float) -> tuple[Settings, float]:
    """The table of rotary settings that layers of a kind use, and their base.

    ``kind``: ``full_attention`` or ``sliding_attention``, which may have tables of their own.
    """
    table = config.inner("rope_parameters")
    if table is not None and kind in table:
        table = table.inner(kind)
    elif table is None and kind == "sliding_attention" and "rope_local_base_freq" in config:
        return Settings({}), config.number("rope_local_base_freq")
    table = table or config.inner("rope_scaling") or Settings({})
    return table, table.number("rope_theta", config.number("rope_theta", theta))


def rope_of(
    config: Settings, width: int, *, kind: str = "full_attention", theta: float = THETA,
    share: float = 1.0, neighbours: bool = False,
) -> Rope:  # fmt: skip
    """Rotary positions of a head of ``width``, of which a ``share`` turns."""
    table, base = rope_settings(config, kind, theta)
    part = table.number("partial_rotary_factor", config.number("partial_rotary_factor", share))
    turning = int(width * part)
    if turning % 2 or not turning:
        raise UsageError("config: heads", got=f"{turning} rotary dims", allowed="an even width")
    return Rope(turning, base, scaling_of(config, table), neighbours)


def scaling_of(config: Settings, table: Settings) -> Scaling | None:
    """How rates are stretched; another way than ours would give other values silently."""
    kind = table.text("rope_type", table.text("type", "default"))
    if kind == "default":
        return None
    if kind not in KINDS:
        raise UnsupportedOp(
            "no builder for this rotary scaling", got=kind, allowed=", ".join(KINDS),
            next_step="compile the PyTorch module instead",
        )  # fmt: skip
    return KINDS[kind](config, table)


def _linear(config: Settings, table: Settings) -> Scaling:
    return Linear(table.number("factor"))


def _llama3(config: Settings, table: Settings) -> Scaling:
    low, high = table.number("low_freq_factor"), table.number("high_freq_factor")
    if low >= high:
        raise UsageError("config: rope_scaling", got=f"{low} and {high}",
                         allowed="low_freq_factor below high_freq_factor")  # fmt: skip
    return Llama3(table.number("factor"), low, high, table.count(ORIGINAL))


def yarn_gain(factor: float, scale: float = 1.0) -> float:
    """YaRN's correction of attention scores for a context stretched by ``factor``."""
    return 1.0 if factor <= 1 else GAIN_STEP * scale * math.log(factor) + 1.0


def _yarn(config: Settings, table: Settings) -> Scaling:
    original, factor = table.count(ORIGINAL), table.number("factor")
    if "attention_factor" in table:
        gain = table.number("attention_factor")
    elif "mscale" in table and "mscale_all_dim" in table:
        gain = yarn_gain(factor, table.number("mscale")) / yarn_gain(
            factor, table.number("mscale_all_dim")
        )
    else:
        gain = yarn_gain(factor)
    return Yarn(factor, original, table.number("beta_fast", FAST), table.number("beta_slow", SLOW),
                gain, table.flag("truncate", default=True))  # fmt: skip


def _longrope(config: Settings, table: Settings) -> Scaling:
    longest = config.count("max_position_embeddings")
    original = table.count(ORIGINAL) if ORIGINAL in table else config.count(ORIGINAL)
    factor = longest / original
    grown = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return LongRope(table.numbers("short_factor"), table.numbers("long_factor"), original,
                    table.number("attention_factor", grown))  # fmt: skip


KINDS: Final[Mapping[str, Callable[[Settings, Settings], Scaling]]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,
}
__all__ = ["rope_of", "rope_settings", "scaling_of", "yarn_gain"]
