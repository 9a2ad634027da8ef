"""The reference page of the command line, from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tenzing.cli import EXIT_BUG, EXIT_OK, build_parser
from tenzing.errors import EXIT_REFUSED


def cli_page() -> str:
    """Every command: what it does, how it is called, arguments, an example."""
    parser = build_parser()
    lines = ["# Command line", "", parser.description or "", ""]
    lines += [
        f"Exit status: {EXIT_OK} done, {EXIT_REFUSED} refused with a message, {EXIT_BUG} a bug of "
        "ours. Words after `--` go to the user's script.",
    ]
    for name, command in commands(parser).items():
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The sub-commands of a parser by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _section(name: str, command: argparse.ArgumentParser) -> list[str]:
    lines = [f"## tenzing {name}", "", f"{_sentence(command.description or '')}", ""]
    lines += ["```text", _usage(name, command), "```", "", "| argument | meaning |", "|---|---|"]
    lines += [f"| `{_spelling(action)}` | {action.help or ''} |" for action in _arguments(command)]
    example = (command.epilog or "").removeprefix("example: ")
    return [*lines, "", f"Example: `{example}`"] if example else lines


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _arguments(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Positional arguments first, then options; not the help option."""
    shown = [a for a in command._actions if a.dest != "help"]
    yield from (a for a in shown if not a.option_strings)
    yield from (a for a in shown if a.option_strings)


def _usage(name: str, command: argparse.ArgumentParser) -> str:
    words = ["tenzing", name]
    for action in _arguments(command):
        optional = bool(action.option_strings) or action.nargs == "?"
        words.append(f"[{_spelling(action)}]" if optional else _spelling(action))
    return " ".join(words)


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return (action.dest if not isinstance(action.metavar, str) else action.metavar).upper()
    option = action.option_strings[-1]
    if action.nargs == 0:
        return option
    if action.choices:
        return f"{option} {{{','.join(map(str, action.choices))}}}"
    return f"{option} {action.metavar or action.dest.upper()}"
