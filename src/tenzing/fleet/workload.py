"""What a model costs to run: parameters, FLOPs and bytes, from facts or from its name alone."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.facts.catalogue import Entry, find_shape
from tenzing.fleet.configuration import FAMILIES, NEEDED, sizes_of, spelled

GIGA: Final = 10**9
MEGA: Final = 10**6
MULTIPLY_ADD: Final = 2  # operations in a multiply-add
LAYER_SQUARES: Final = 12  # parameters of a layer with a feed-forward of four times its width
KEY_AND_VALUE: Final = 2
# What an assumed shape leans on, under ``software.shape``; the last two of mixtures only.
_ASSUMED: Final = ("head_dim", "grouped_heads", "layers", "layers_of_params_m")
_MIXTURE: Final = ("experts", "top_k")
# Families that keep one key and value head for every query head.
_MULTI_HEAD: Final = re.compile(
    r"opt-|gpt-?[2j]|gpt-neo|pythia|bloom|llama-?2-(7|13)b|phi-?[123]|mpt|codegen|baichuan|t5|"
    r"persimmon|stablelm|olmo-?(1|2|7)|idefics|llava|ctrl|biogpt|git-|xglm|qwen1?-?(1\.5)?-|yue"
)
_STATE_SPACE: Final = re.compile(
    r"mamba|falcon-?h1|jamba|zamba|lfm|bamba|rwkv|recurrent|hyena|evo-?2|nemotron-h|granite-4|"
    r"qwen3-?next|kimi-linear"
)
_SIZE: Final = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])")
_ACTIVE: Final = re.compile(r"a(\d+(?:\.\d+)?)b")
_NOISE: Final = re.compile(
    r"-(instruct|chat|hf|base|it|maxtext|v0\.[0-9]|[0-9]{4}|preview|gptq|awq|fp8|bf16|think)\b"
)


@dataclass(frozen=True)
class Shape:
    """A model as work: parameters, layers and what one item or token needs.

    ``windowed`` layers (a share) look back on ``window`` positions only. ``assumed`` names what was
    not published and had to be filled in, ``leaned`` the facts under ``software.shape`` it was
    filled in with.
    """

    name: str
    kind: str
    params: float
    active: float
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int = 32000
    experts: int = 0
    top_k: int = 0
    extra: tuple[tuple[str, Any], ...] = ()
    assumed: tuple[str, ...] = ()
    source: str = ""
    fact: str = ""
    window: float = 0.0
    windowed: float = 0.0
    leaned: tuple[str, ...] = ()

    def get(self, key: str, otherwise: Any = 0) -> Any:
        """A further published value: tokens, gmacs, resolution, steps, passes, towers, ..."""
        return dict(self.extra).get(key, otherwise)

    @property
    def state_space(self) -> bool:
        """Whether layers carry a recurrent state (Mamba, Hyena, gated recurrences)."""
        return bool(_STATE_SPACE.search(self.name.lower()))

    @property
    def kv_values(self) -> float:
        """Keys and values that a token leaves in the cache, over all layers."""
        return KEY_AND_VALUE * self.layers * self.kv_heads * self.head_dim

    def seen(self, positions: float) -> float:
        """Positions that a layer looks back on, the mean of windowed layers and the others."""
        near = min(positions, self.window) if self.window else positions
        return self.windowed * near + (1 - self.windowed) * positions

    def attention_flops(self, queries: float, keys: float) -> float:
        """Scores and weighted sums of ``queries`` against ``keys``, over all layers."""
        heads = self.layers * self.heads * self.head_dim
        return 2 * MULTIPLY_ADD * queries * keys * heads

    def touched(self, tokens: float) -> float:
        """Parameters read by a step of ``tokens`` tokens: some experts stay unread."""
        if not self.experts:
            return self.params
        expert = self.expert_params
        dense = max(self.params - expert, 0.0)
        return float(dense + expert * (1 - (1 - self.top_k / self.experts) ** max(tokens, 1.0)))

    @property
    def expert_params(self) -> float:
        """Parameters of all experts of a mixture: what a token leaves out is their unused share."""
        unused = 1 - self.top_k / self.experts if self.experts else 0.0
        return (self.params - self.active) / unused if unused > 0 else 0.0

    @property
    def encoder_params(self) -> float:
        """Parameters that multiply every token of an encoder: its layers, not its embeddings."""
        return float(self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.ffn))


@functools.lru_cache(maxsize=4096)
def shape_of(name: str, params_b: float = 0.0, arch: str = "") -> Shape:
    """The shape of a named model; ``params_b`` (10^9) and ``arch`` complete what no fact says."""
    if name.strip().lower().endswith(".json"):
        return _from_file(name)
    known, entry = _configured(name), find_shape(name)
    if known is not None and (entry is None or known.kind in ("decoder", "moe")):
        return known
    if entry is not None:  # of other models it knows the usual length as well
        shape = _from_entry(entry, name, params_b)
        if known is None:
            return shape
        return replace(shape, fact=known.fact, params=known.params, active=known.active)
    return _assumed(name, params_b, arch)


def _configured(name: str) -> Shape | None:
    """From a published config.json among the facts."""
    plain = _plain(name)
    twin = re.sub(r"llama-3(\.3)?-", "llama-3.1-", plain)  # releases of one shape
    found = next((m for m in (name.lower(), plain, twin) if facts.knows_model(m)), None)
    if found is None:
        return None
    config = facts.model(found)
    if str(config.get("model_type")) not in FAMILIES or not set(spelled(config)) >= NEEDED:
        return None
    return replace(shape_of_config(config, name), source=found, fact=found)


def _from_file(name: str) -> Shape:
    """From a config.json on disk; UsageError for one that is absent or is not a model's."""
    file = Path(name.strip())
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} is not a readable config.json: {type(error).__name__}",
            next_step="give a Hugging Face config.json, or a name",
        ) from None
    if not isinstance(config, dict):
        raise UsageError(f"{file} is not a configuration", got=type(config).__name__)
    inner = config.get("text_config")
    config = {**config, **inner} if isinstance(inner, dict) else config
    missing = sorted(NEEDED - set(spelled(config)))
    if missing:
        raise UsageError(f"{file} lacks {', '.join(missing)}", next_step="give a whole config.json")
    try:
        return replace(shape_of_config(config, name), source=str(file))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"{file} does not describe a model: {error}") from None


def shape_of_config(c: Mapping[str, Any], name: str) -> Shape:
    """The shape behind Hugging Face's keys; an unknown family is counted as a gated decoder."""
    z = sizes_of(c)
    return Shape(
        name, z.kind, z.total, z.active, z.layers, z.hidden, z.ffn, z.heads, z.kv_heads,
        z.head_dim, z.vocab, z.experts, z.top_k, z.extra,
        assumed=() if z.known else ("gated decoder",), window=z.window, windowed=z.windowed,
    )  # fmt: skip


def _plain(name: str) -> str:
    plain = name.strip().lower().rsplit("/", 1)[-1].split(" ")[0].removeprefix("meta-")
    plain = plain.replace("_", "-").replace("llama3", "llama-3").replace("llama2", "llama-2")
    return _NOISE.sub("", _NOISE.sub("", plain))


def _from_entry(entry: Entry, name: str, params_b: float) -> Shape:
    v = dict(entry.values)
    params = float(v["params_m"]) * MEGA
    assumed: tuple[str, ...] = ()
    if params_b and v["kind"] == "moe":
        params = params_b * GIGA  # the row's own figure wins over the card's
    usual = {key: _usual(key) for key in ("default_layers", "default_hidden", "default_vocab")}
    leaned = tuple(key for key in usual if key.removeprefix("default_") not in v)
    layers = int(v.get("layers", usual["default_layers"]))
    hidden = int(v.get("hidden", usual["default_hidden"]))
    heads = int(v.get("heads", max(hidden // _usual("narrow_head_dim"), 1)))
    active = float(v["active_b"]) * GIGA if "active_b" in v else params
    extra = tuple(
        (k, _frozen(v[k])) for k in v
        if k in ("tokens", "gmacs", "resolution", "steps", "passes", "decode_gmacs", "towers",
                 "decoder_layers", "shared_layers", "spatial", "temporal")
    )  # fmt: skip
    return Shape(name, v["kind"], params, min(active, params), layers, hidden,
                 int(v.get("ffn", 4 * hidden)), heads, int(v.get("kv_heads", heads)),
                 int(v.get("head_dim", hidden // heads)),
                 int(v.get("vocab", usual["default_vocab"])),
                 int(v.get("experts", 0)), int(v.get("top_k", 0)), extra, assumed, entry.where,
                 window=float(v.get("window", 0)), windowed=float(v.get("windowed", 0)),
                 leaned=leaned + (() if "heads" in v else ("narrow_head_dim",)))  # fmt: skip


def _frozen(value: Any) -> Any:
    return tuple(_frozen(x) for x in value) if isinstance(value, list) else value


def size_in_name(name: str) -> float:
    """Parameters that a name states (``7B``, ``350M``), 0 when it states none."""
    plain = re.sub(r"(?<=\d)[_b](?=\d)", ".", name.lower())  # 1_6b is 1.6b, 1b7 is 1.7b
    plain = re.sub(r"(\d\.\d)$", r"\1b", plain) if "bloom" in plain else plain
    sizes = [float(n) * (GIGA if unit == "b" else MEGA) for n, unit in _SIZE.findall(plain)]
    return max(sizes, default=0.0)


def _assumed(name: str, params_b: float, arch: str) -> Shape:
    """A Llama-like decoder of the stated size; everything but the size is an assumption."""
    lower = name.lower()
    stated = params_b * GIGA or size_in_name(lower)
    params = stated or _usual("params_m") * MEGA
    leaned = [*_ASSUMED, *([] if stated else ["params_m"])]
    active_match = _ACTIVE.search(lower)
    mixture = bool(active_match) or "moe" in arch.lower()
    active = params
    if active_match:
        active = float(active_match.group(1)) * GIGA
    elif mixture:
        active = params * facts.software("shape.active_share")
        leaned.append("active_share")
    body = min(params, max(active * 3, active)) if mixture else params
    layers, head_dim = round(_layers(body)), _usual("head_dim")
    hidden = max(round(math.sqrt(body / (LAYER_SQUARES * layers)) / head_dim), 1) * head_dim
    heads = max(hidden // head_dim, 1)
    kv = heads if _MULTI_HEAD.search(lower) else min(_usual("grouped_heads"), heads)
    assumed = ["shape"] + ([] if stated else ["parameters"])
    return Shape(name, "moe" if mixture else "decoder", params, min(active, params), layers,
                 hidden, 4 * hidden, heads, kv, head_dim,
                 experts=_usual("experts") if mixture else 0,
                 top_k=_usual("top_k") if mixture else 0, assumed=tuple(assumed),
                 source="assumed: like Llama of this size",
                 leaned=(*leaned, *(_MIXTURE if mixture else ())))  # fmt: skip


def _usual(key: str) -> int:
    return facts.software_facts().integer(f"shape.{key}")


def _layers(params: float) -> float:
    """Layers of Llama-like decoders, between the published sizes on a logarithmic scale."""
    book = facts.software_facts()
    sizes = [m * MEGA for m in book.integers("shape.layers_of_params_m")]
    points = list(zip(sizes, book.integers("shape.layers"), strict=True))
    if params <= points[0][0]:
        return points[0][1]
    for (low, first), (high, second) in itertools.pairwise(points):
        if params <= high:
            share = math.log(params / low) / math.log(high / low)
            return first + share * (second - first)
    return points[-1][1]


def assumed_in(shape: Shape) -> set[facts.Assumed]:
    """The assumed facts that a shape was filled in with."""
    return {(facts.software_facts().name, f"shape.{key}") for key in shape.leaned}


__all__ = ["GIGA", "LAYER_SQUARES", "MULTIPLY_ADD", "Shape", "assumed_in", "shape_of",
           "shape_of_config", "size_in_name"]  # fmt: skip
