"""Typed reading of a Hugging Face configuration: wrong or missing keys are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from tenzing.errors import UsageError


class Settings:
    """The values of a config.json under its keys; a key that is null counts as absent."""

    def __init__(self, values: Mapping[str, Any], place: str = "") -> None:
        self.values, self.place = values, place

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def count(self, *names: str, default: int | None = None) -> int:
        """A whole number above 0 under the first key that is there."""
        name = next((n for n in names if n in self), names[0])
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(name, "a whole number above 0")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self._wrong(name, "a number above 0")
        return float(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A word."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers above 0."""
        value = self.values.get(name)
        good = isinstance(value, list | tuple) and value
        if not good or any(
            isinstance(x, bool) or not isinstance(x, int | float) or x <= 0 for x in value or ()
        ):
            raise self._wrong(name, "a list of numbers above 0")
        return tuple(float(x) for x in value or ())

    def inner(self, name: str) -> Settings | None:
        """The settings under a key, or None."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(name, "a table")
        return Settings(value, f"{self.place}{name}.")

    def _wrong(self, name: str, allowed: str) -> UsageError:
        found = self.values.get(name)
        return UsageError(f"config: {self.place}{name}", got=found, allowed=allowed)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What weights are stored in; bfloat16 where nothing says so."""
        name = self.text("dtype", self.text("torch_dtype", "bfloat16")).removeprefix("torch.")
        if name not in ("float32", "float16", "bfloat16"):
            raise UsageError("config: dtype", got=name, allowed="float32, float16, bfloat16")
        return np.dtype(getattr(ml_dtypes, name, name))


__all__ = ["Settings"]
