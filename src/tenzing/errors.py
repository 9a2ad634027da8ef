"""Errors a user can act on: what happened, what was given, what is allowed, where, what next."""

from __future__ import annotations

import difflib
import linecache
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CLOSE_NAMES: Final = 5  # names offered for a mistyped one
CLOSE: Final = 0.5  # how alike they must be, of 1
EXIT_REFUSED: Final = 2  # the command line's exit code for anything the user can fix
_PACKAGE: Final = Path(__file__).resolve().parent
_LIBRARIES: Final = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def close_names(name: str, known: Iterable[str]) -> str:
    """The known names most like a mistyped one, or all where they are few; empty when none is."""
    names = list(known)
    found = names
    if len(names) > CLOSE_NAMES:
        found = difflib.get_close_matches(name.lower(), names, CLOSE_NAMES, CLOSE)
    return ", ".join(found)


def is_user_code(filename: str) -> bool:
    """Whether a file is the user's own: not Python's, an installed package's or ours."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    return not any(path.is_relative_to(folder) for folder in (_PACKAGE, *_LIBRARIES))


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in the user's source: file, 1-based line, function."""

    file: str
    line: int
    function: str = ""
    column: int | None = None
    end_column: int | None = None

    def __str__(self) -> str:
        name = Path(self.file).name
        return f"{name}:{self.line}" + (f" in {self.function}" if self.function else "")

    def excerpt(self) -> str:
        """The source line with carets under the call, empty when the file cannot be read."""
        text = linecache.getline(self.file, self.line).rstrip("\n")
        if not text.strip():
            return ""
        stripped = text.lstrip()
        indent = len(text) - len(stripped)
        start = max((self.column or 0) - indent, 0)
        end = (self.end_column or len(text)) - indent
        if self.end_column is None or end <= start or end > len(stripped):
            start, end = 0, len(stripped)
        return f"    {stripped}\n    {' ' * start}{'^' * (end - start)}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a kernel, model or file breaks, with the place where it does."""

    rule: str
    message: str
    loc: Loc | None = None
    next_step: str = ""
    related: Sequence[tuple[str, Loc]] = field(default=())

    def render(self) -> str:
        """Lines for a terminal: message, place with caret, related places, next step."""
        lines = [self.message]
        if self.loc is not None:
            lines.append(f"  at {self.loc.file}:{self.loc.line}")
            lines.extend([self.loc.excerpt()] if self.loc.excerpt() else [])
        for label, place in self.related:
            lines.append(f"  {label} at {place.file}:{place.line}")
            lines.extend([place.excerpt()] if place.excerpt() else [])
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return "\n".join(lines)


class ModelWarning(UserWarning):
    """A model compiles, but to something else than its user is likely to mean."""


class TenzingError(Exception):
    """Something the user can fix; rendered without a traceback, exit code 2."""

    rule = "error"

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: object = None,
        where: Loc | None = None,
        next_step: str = "",
        related: Sequence[tuple[str, Loc]] = (),
    ) -> None:
        message = what
        if got is not None:
            message += f"; got {got}"
        if allowed is not None:
            message += f"; allowed: {allowed}"
        self.finding = Finding(self.rule, message, where, next_step, tuple(related))
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes with their finding, whatever their class is made from."""
        return _arrived, (type(self), self.args, self.__dict__)

    @property
    def loc(self) -> Loc | None:
        """Where in the user's source, if known."""
        return self.finding.loc

    def at(self, loc: Loc | None) -> TenzingError:
        """The same error placed at ``loc`` unless it already has a place."""
        old = self.finding
        if loc is not None and old.loc is None:
            self.finding = Finding(old.rule, old.message, loc, old.next_step, old.related)
        return self

    def render(self) -> str:
        """Text for a terminal, without a traceback."""
        return f"{self.rule}: {self.finding.render()}"


def _arrived(
    kind: type[TenzingError], words: tuple[Any, ...], state: dict[str, Any]
) -> TenzingError:
    error = kind.__new__(kind)
    error.args = words
    error.__dict__.update(state)
    return error


class FactsError(TenzingError):
    """A facts file or a question about it is wrong."""

    rule = "facts"


class UsageError(TenzingError):
    """The command line or an API call was used wrongly."""

    rule = "usage"


class KernelError(TenzingError):
    """A kernel breaks a rule of the language or of the chip."""

    rule = "kernel"


class LegalityError(KernelError):
    """The chip would refuse an instruction of the kernel."""

    rule = "legality"

    def __init__(self, findings: Sequence[Finding]) -> None:
        first = findings[0]
        super().__init__(first.message, where=first.loc, next_step=first.next_step)
        self.findings = tuple(findings)

    def render(self) -> str:
        """All broken rules, one after another."""
        return "\n".join(f"{f.rule}: {f.render()}" for f in self.findings)


class CapacityError(KernelError):
    """SBUF, PSUM or HBM is too small for what is live at one time."""

    rule = "capacity"


class OutOfBounds(KernelError):
    """An index or access pattern leaves its tensor."""

    rule = "bounds"


class UnsupportedOp(TenzingError):
    """A model uses an operation the compiler does not know."""

    rule = "unsupported"
