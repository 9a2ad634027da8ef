"""Arguments, output and progress that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, Final, NoReturn

from tenzing import commands, facts
from tenzing.errors import UsageError

EXIT_OK: Final = 0
PATH_HELP: Final = (
    "kernel.py (an NKI script), model.py:name (a model in Python), a model's file or folder, a "
    "saved program, or the name of a known model (llama-3.1-8b: time only)"
)


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others, as words or as JSON."""

    def error(self, message: str) -> NoReturn:
        """Refuse the words given."""
        raise UsageError(message, next_step=f"see {self.prog} --help")


def command(
    sub: Any, name: str, text: str, example: str, handler: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A new command with its help, an example and ``--json``."""
    parser: argparse.ArgumentParser = sub.add_parser(
        name, help=text, description=text, epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handler, command=name, spellings=parser._option_string_actions)
    return parser


def new_file(text: str) -> str:
    """A path to write a file to, checked before the work begins rather than after it."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write {text}: it is a folder; name a file in it")
    if not _writable(path.parent):
        raise argparse.ArgumentTypeError(
            f"cannot write {text}: {path.parent} is no folder that exists and is writable"
        )
    return text


def new_folder(text: str) -> str:
    """A folder to fill, made where it is missing; checked before the work begins."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; name a folder to write into")
    standing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not _writable(standing):
        raise argparse.ArgumentTypeError(f"cannot write into {text}: {standing} is not writable")
    return text


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def add_path(parser: argparse.ArgumentParser) -> None:
    """What the command works on, and what shapes it."""
    parser.add_argument("path", help=PATH_HELP)
    parser.add_argument(
        "--size", metavar="NAME=N", type=_size, action="append", default=[],
        help="for model files: batch=2, length=512 or cached=4096 (a decode step); repeat it",
    )  # fmt: skip
    parser.add_argument(
        "--autocast", choices=("none", "matmult", "all"),
        help="for models: what runs in fewer bits (default: none)",
    )  # fmt: skip


def add_modes(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """How a model is computed."""
    parser.add_argument(
        "--autocast-dtype", metavar="DTYPE",
        help="what autocast computes in: bf16, fp16, tf32 or fp8_e4m3 (default: bf16)",
    )  # fmt: skip
    parser.add_argument(
        "--numerics", choices=("instruction", "graph"),
        help="run every instruction (default), or the NumPy meaning of every operation",
    )  # fmt: skip


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N with N a number above 0")
    return name, int(number)


def named_number(text: str) -> tuple[str, float]:
    """``NAME=NUMBER`` of an option that sets one input among many."""
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


def add_target(parser: argparse.ArgumentParser) -> None:
    """The chip."""
    parser.add_argument(
        "--target", help="chip to simulate (default: trn2, or that of a saved program)"
    )


def add_prices(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The user's own price book."""
    parser.add_argument(
        "--prices", metavar="FILE",
        help=f"your own prices, in the form of ours; they win ({facts.PRICES_VARIABLE} also names "
        "the file)",
    )  # fmt: skip


def use_prices(options: argparse.Namespace) -> None:
    """Take the user's book from here on: facts find it by its name in the environment."""
    if options.prices:
        os.environ[facts.PRICES_VARIABLE] = options.prices


@contextmanager
def script_output(options: argparse.Namespace) -> Iterator[None]:
    """What the script prints must not mix with the JSON object: it goes to standard error."""
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        yield


def progress(options: argparse.Namespace) -> commands.Progress:
    """Lines on standard error, none beside a JSON object."""
    if options.json:
        return lambda _: None
    return lambda text: print(f"  {text}", file=sys.stderr, flush=True)


__all__ = [
    "EXIT_OK", "add_modes", "add_path", "add_prices", "add_target", "command", "named_number",
    "progress", "script_output", "use_prices",
]  # fmt: skip
