"""The command line: the parser, exit codes, errors as messages; the work is in tenzing.commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from tenzing import __version__, report
from tenzing.cli import (
    comparison,
    execution,
    measuring,
    money,
    numbers,
    programs,
    published,
    traffic,
)
from tenzing.cli.arguments import EXIT_OK, Parser
from tenzing.errors import EXIT_REFUSED, TenzingError, UsageError, close_names

EXIT_BUG: Final = 70  # an error of ours, as sysexits calls it
# the order in which help lists their commands
FAMILIES: Final = (execution, comparison, programs, traffic, measuring, money, numbers, published)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 success, 2 refused with a message, 70 a bug of ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words, script_words = _split_script_words(given)
    as_json = "--json" in words
    parser = build_parser()
    try:
        options = _parsed(parser, words)
        if not hasattr(options, "handler"):
            parser.print_help()
            return EXIT_REFUSED
        options.script = script_words
        options.size = dict(getattr(options, "size", ()))
        handler: Callable[[argparse.Namespace], int] = options.handler
        code = handler(options)
        sys.stdout.flush()
        return code
    except TenzingError as error:
        return _refuse(error, as_json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone: what is left must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        return _refuse(_file_error(error), as_json)
    except Exception:
        traceback.print_exc()
        print("this is a bug in tenzing; please report it with the lines above", file=sys.stderr)
        return EXIT_BUG


def _split_script_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Words after ``--`` belong to the user's script."""
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def _parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    options, unknown = parser.parse_known_args(words)
    if unknown:
        name = getattr(options, "command", "")
        known = [word for word in getattr(options, "spellings", ()) if word.startswith("--")]
        raise UsageError(
            f"tenzing {name} has no such option or argument", got=" ".join(unknown),
            allowed=close_names(unknown[0].partition("=")[0], known) or None,
            next_step=f"see tenzing {name} --help",
        )  # fmt: skip
    return options


def _file_error(error: OSError) -> UsageError:
    named = f" {error.filename}" if error.filename else ""
    return UsageError(
        f"a file or folder cannot be used:{named}", got=error.strerror or error,
        next_step="check its name, what it is and who may read or write it",
    )  # fmt: skip


def _refuse(error: TenzingError, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": report.error_json(error)}, indent=2))
    else:
        print(error.render(), file=sys.stderr)
    return EXIT_REFUSED


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command and an example for each."""
    parser = Parser(
        prog="tenzing",
        description="Run, check, time and price NKI kernels and models on simulated AWS silicon.",
    )
    parser.add_argument("--version", action="version", version=f"tenzing {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND")
    for family in FAMILIES:
        family.add_commands(sub)
    return parser


__all__ = ["EXIT_BUG", "EXIT_OK", "build_parser", "main"]
