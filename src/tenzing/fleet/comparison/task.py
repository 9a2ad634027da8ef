"""What is to be done on the silicon: one class a family, sizes and limits with their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.errors import UsageError


@dataclass(frozen=True)
class Serving:
    """Requests to a language model: tokens in and out, limits, what eases the work.

    ``prefix_hit`` is the share of a prompt found in the cache, ``accepted`` the mean tokens that a
    step of speculative decoding yields, ``requests_s`` the demand to size for (0: none). A limit of
    0 is no limit.
    """

    prompt_tokens: int
    output_tokens: int
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    prefix_hit: float = 0.0
    accepted: float = 1.0
    requests_s: float = 0.0

    @property
    def window(self) -> int:
        """Positions that the cache of a request must hold."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True)
class Encoding:
    """Texts through an encoder."""

    prompt_tokens: int
    latency_ms: float = 0.0
    requests_s: float = 0.0


@dataclass(frozen=True)
class Imaging:
    """Images from a diffusion model; 0 steps are the model's own number."""

    resolution: int = 0
    steps: int = 0
    latency_ms: float = 0.0
    requests_s: float = 0.0


@dataclass(frozen=True)
class Perceiving:
    """Pictures or clips of sound through a network, one pass each; 0 is its own resolution."""

    resolution: int = 0
    latency_ms: float = 0.0
    requests_s: float = 0.0


@dataclass(frozen=True)
class Training:
    """Pre-training on ``total_tokens``, an optimizer step every ``batch_tokens``."""

    sequence_tokens: int
    batch_tokens: int
    total_tokens: int


Task = Serving | Encoding | Imaging | Perceiving | Training
CLASSES: Final[Mapping[str, type[Any]]] = {
    "serving": Serving, "encoding": Encoding, "imaging": Imaging,
    "perceiving": Perceiving, "training": Training,
}  # fmt: skip
SHARES: Final = ("prefix_hit",)
AT_LEAST: Final = {"accepted": 1.0, "prompt_tokens": 1, "output_tokens": 1, "sequence_tokens": 1,
                   "batch_tokens": 1, "total_tokens": 1}  # fmt: skip


def task_named(name: str, **overrides: Any) -> tuple[Task, tuple[str, ...]]:
    """The task of that name with what the user says instead, and the defaults it leans on.

    Overrides of None are left at the default. Raises FactsError for an unknown task, UsageError for
    an override that the task does not have or that is out of range.
    """
    family, book = facts.task(name)
    made = CLASSES[family]
    fields = [field.name for field in dataclasses.fields(made)]
    given = {key: value for key, value in overrides.items() if value is not None}
    for key, value in given.items():
        if key not in fields:
            raise UsageError(f"task {name} has no {key}", got=value, allowed=", ".join(fields))
        _check(key, value)
    usual = {key: fact.value for key, fact in book.items() if key not in given}
    assumed = tuple(f"{name}: {key} {value}" for key, value in usual.items())
    return made(**usual, **given), assumed


def _check(key: str, value: float) -> None:
    if key in SHARES and not 0 <= value <= 1:
        raise UsageError(f"{key} is a share", got=value, allowed="0 to 1")
    if value < AT_LEAST.get(key, 0):
        raise UsageError(f"{key} is too small", got=value, allowed=f">= {AT_LEAST.get(key, 0)}")


__all__ = ["CLASSES", "Encoding", "Imaging", "Perceiving", "Serving", "Task", "Training",
           "task_named"]  # fmt: skip
