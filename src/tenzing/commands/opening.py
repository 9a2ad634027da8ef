"""From a path or a name to a model: the user's Python, files that frontends read, known models."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from tenzing import facts
from tenzing.errors import Loc, TenzingError, UsageError, close_names
from tenzing.nki.script import script_error

NKI_PACKAGES: Final = ("nki", "neuronxcc")


def is_python(path: str) -> bool:
    """Whether a path names a Python file, or something in one."""
    return path.endswith(".py") or ".py:" in path


def is_script(path: str) -> bool:
    """Whether a path names a whole Python file, such as an NKI script."""
    return path.endswith(".py")


def split_path(path: str) -> tuple[Path, str]:
    """``model.py:net`` as file and attribute; an error when the file is missing."""
    text, _, attribute = path.partition(".py:")
    file = Path(text + ".py") if attribute else Path(path)
    if not file.is_file():
        raise UsageError(
            f"{file} is not a file",
            next_step="give a Python file with NKI kernels, or model.py:name for a model",
        )
    return file, attribute


def simulated(target: str) -> None:
    """Check that a program can be simulated on ``target``, with a word for names of instances."""
    if target.strip().lower() in facts.instances():
        chip = facts.instance(target).chip
        known = chip in facts.chips()
        raise UsageError(
            f"{target} is an instance, and a program is simulated on one chip",
            allowed=", ".join(facts.chips()),
            next_step=f"give {chip}" if known else "compare a model by its name or config.json",
        )
    facts.simulated_chip(target)


def refuse_unused(path: str, argv: Sequence[str], modes: Mapping[str, Any]) -> None:
    """Refuse what would have no effect: ``modes`` of a script, script words of a model."""
    given = [f"--{name.replace('_', '-')}" for name, value in modes.items() if value]
    if is_script(path) and given:
        raise UsageError(
            "a script decides itself what it computes; this option is for models",
            got=", ".join(given),
            next_step="leave it out, give model.py:name for a model, or pass words to the script "
            "after --",
        )
    if argv and not is_script(path):
        raise UsageError("words after -- are for scripts", got=" ".join(argv),
                         allowed="kernel.py")  # fmt: skip


@contextmanager
def _code_of(file: Path) -> Iterator[None]:
    """The user's own code runs: it may import from its folder, and its errors become messages."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except TenzingError:
        raise
    except SyntaxError as error:
        where = Loc(error.filename or str(file), error.lineno or 1)
        raise UsageError(f"{file.name} is not Python: {error.msg}", where=where) from None
    except SystemExit as stop:
        raise UsageError(
            f"{file.name} ended with exit code {stop.code}",
            next_step='keep such code under `if __name__ == "__main__":`',
        ) from None
    except ModuleNotFoundError as error:
        if error.name not in NKI_PACKAGES:
            raise script_error(file, error) from None
        raise UsageError(
            f"{file.name} imports {error.name}: it is a script with kernels, not a model",
            next_step=f"give the whole file: {file}",
        ) from None
    except Exception as error:
        raise script_error(file, error) from None
    finally:
        sys.path.remove(folder)


def load_model(file: Path, attribute: str) -> tuple[Any, tuple[Any, ...]]:
    """Module and example inputs named by ``attribute``.

    The attribute is a pair ``(module, inputs)``, a function returning one, or a module beside a
    variable ``example_inputs``.
    """
    with _code_of(file):
        names = runpy.run_path(str(file))
    if attribute not in names:
        known = ", ".join(n for n in names if not n.startswith("_"))
        raise UsageError(
            f"{file} has no '{attribute}'", allowed=known or "it defines nothing",
            next_step="give one that is a model, or a pair (model, inputs)",
        )  # fmt: skip
    found = names[attribute]
    if _makes_a_model(found):
        with _code_of(file):
            found = found()
    if isinstance(found, tuple) and len(found) == len(("module", "inputs")):
        module, inputs = found
    elif "example_inputs" in names:
        module, inputs = found, names["example_inputs"]
    else:
        raise UsageError(
            f"{file} gives no example inputs for '{attribute}'",
            next_step="define example_inputs = (tensor, ...) beside it, or return (module, inputs)",
        )
    return module, tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _makes_a_model(found: Any) -> bool:
    """Whether it is a function that can be called with nothing, as against a model itself."""
    if not isinstance(found, FunctionType):
        return False
    return all(p.default is not p.empty for p in signature(found).parameters.values())


def open_model(path: str, sizes: Mapping[str, int]) -> tuple[Any, tuple[Any, ...]]:
    """The model that a path or name stands for, and its example inputs.

    ``model.py:name`` runs the user's file; everything else is read by the compiler's frontends, at
    ``sizes`` (such as batch and length) where a model's shapes are open.
    """
    if is_python(path):
        file, attribute = split_path(path)
        if not attribute:
            raise UsageError("only a model has a graph", got=path, next_step="give model.py:name")
        if sizes:
            raise UsageError("sizes are for model files, not for Python", got=dict(sizes),
                             next_step=f"change the example inputs in {file}")  # fmt: skip
        return load_model(file, attribute)
    if not Path(path).exists() and not facts.knows_model(path):
        raise UsageError(
            f"there is no file or folder {path}, and no known model of that name",
            allowed=close_names(path, facts.models()) or None,
            next_step="give kernel.py, model.py:name, a model's file or folder, or a model that "
            "`tenzing facts` lists",
        )
    return path, ()


__all__ = ["is_python", "is_script", "load_model", "open_model", "split_path"]
