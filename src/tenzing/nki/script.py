"""Runs an unmodified script as ``__main__``, with ``nki`` and ``neuronxcc`` aliased to tenzing."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from tenzing.errors import Loc, TenzingError, UsageError, is_user_code
from tenzing.nki import alias
from tenzing.nki.kernel import Session, entered, user_place

__tenzing_internal__ = True

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_FRAMES_SHOWN: Final = 8


def run_script(path: str | Path, argv: Sequence[str] = (), session: Session | None = None) -> int:
    """Run a script to its end and return its exit code.

    Kernels it calls run in ``session``. Errors of ours pass through; any other exception of the
    script becomes a :class:`UsageError` with the traceback cut to the script's own frames.
    """
    file = Path(path)
    code = _compiled(file)
    current = session if session is not None else Session()
    with _as_main(file, argv) as module, entered(current):
        try:
            exec(code, module.__dict__)
        except TenzingError as error:
            raise error.at(user_place(error.__traceback__)) from None
        except SystemExit as stop:
            return _exit_code(stop)
        except Exception as error:
            raise script_error(file, error) from None
    return 0


def _compiled(file: Path) -> CodeType:
    try:
        return compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except OSError as error:
        raise UsageError(f"cannot read the script {file}: {error.strerror}") from None
    except SyntaxError as error:
        raise UsageError(
            f"{file.name} is not Python: {error.msg}", where=Loc(str(file), error.lineno or 1)
        ) from None
    except ValueError as error:
        raise UsageError(f"{file.name} is not Python: {error}") from None


@contextmanager
def _as_main(file: Path, argv: Sequence[str]) -> Iterator[ModuleType]:
    """A fresh ``__main__`` with the script's folder first on the path, undone at the end."""
    module = ModuleType("__main__")
    module.__dict__.update(__file__=str(file), __builtins__=__builtins__)
    known = set(sys.modules)
    old_argv, old_path, old_main = sys.argv, sys.path[:], sys.modules.get("__main__")
    was_installed = alias.is_installed()
    alias.install()
    sys.argv = [str(file), *argv]
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules["__main__"] = module
    try:
        yield module
    finally:
        sys.argv, sys.path[:] = old_argv, old_path
        if old_main is not None:
            sys.modules["__main__"] = old_main
        _forget_neighbours(file.resolve().parent, known)
        if not was_installed:
            alias.uninstall()


def _forget_neighbours(folder: Path, known: set[str]) -> None:
    """Drop modules the script imported from its own folder: another script may have the same."""
    for name in set(sys.modules) - known:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin and Path(origin).resolve().parent == folder:
            del sys.modules[name]


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    sys.stderr.write(f"{stop.code}\n")
    return 1


def script_error(file: Path, error: Exception) -> UsageError:
    """An exception of the user's own code as a message with the frames of that code."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    text = "".join(traceback.format_list(frames[-_FRAMES_SHOWN:])).rstrip()
    own = [f for f in frames if is_user_code(f.filename)]
    where = None
    for frame in (own or frames)[-1:]:
        where = Loc(frame.filename, frame.lineno or 1, frame.name)
    reason = "".join(traceback.format_exception_only(error)).strip()
    return UsageError(f"{file.name} stopped: {reason}\n{text}", where=where)


def _is_ours(filename: str) -> bool:
    return filename.startswith("<") or Path(filename).resolve().is_relative_to(_PACKAGE)


__all__ = ["run_script", "script_error"]
