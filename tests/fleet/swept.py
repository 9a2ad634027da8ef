"""Functions that sweeps of the tests run, importable by their workers."""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tenzing.errors import Loc, UsageError


class Dtype(enum.Enum):
    BF16 = "bf16"
    FP8 = "fp8"


class Size(NamedTuple):
    batch: int
    length: int


@dataclass(frozen=True)
class Option:
    batch: int
    dtype: Dtype = Dtype.BF16
    mesh: tuple[int, ...] = (2, 4)
    log: str = ""


@dataclass(frozen=True)
class Answer:
    option: Option
    tokens_per_s: float
    size: Size


def answer(option: Option) -> Answer:
    """A result of every kind that can be kept; notes the call when asked."""
    if option.log:
        with Path(option.log).open("a") as file:
            file.write(f"{option.batch}\n")
    return Answer(option, option.batch / 3.0, Size(option.batch, 128))


def picky(number: int) -> float:
    """Some items fail: refused, by a bug, with a result that cannot travel."""
    if number == 3:
        raise UsageError("three", got=3, where=Loc("model.py", 7), next_step="give four")
    if number == 5:
        return 1 / (number - 5)
    if number == 6:
        return lambda: None  # type: ignore[return-value]
    return number / 7


def deadly(number: int) -> int:
    """One item ends the process that computes it."""
    if number == 4:
        os._exit(9)
    return number * number


def slow(number: int) -> int:
    """Long enough to be interrupted."""
    time.sleep(30)
    return number
