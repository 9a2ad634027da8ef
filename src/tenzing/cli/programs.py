"""Programs as files: compile, inspect."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from tenzing import commands, compiler, report
from tenzing.cli.arguments import (
    EXIT_OK,
    add_modes,
    add_path,
    add_target,
    command,
    new_file,
    progress,
    script_output,
)

SHOWN: Final = {
    "graph": "the graph after the passes",
    "imported": "the graph before the passes",
    "memory": "the tensors in HBM by address",
    "kernels": "sources of the user's own kernels",
}


def add_commands(sub: Any) -> None:
    """Add the commands of this family."""
    parser = command(
        sub, "compile", "compile a model into one file that runs without its framework",
        "tenzing compile model.py:net -o model.tz --target trn2", _compile,
    )  # fmt: skip
    add_path(parser)
    parser.add_argument(
        "-o", "--out", type=new_file, required=True, metavar="FILE", help="such as model.tz"
    )
    add_target(parser)
    add_modes(parser)
    parser.add_argument(
        "--weights", choices=("inside", "beside", "none"), default="inside",
        help="in the file, in a safetensors file beside it, or left out (time only)",
    )  # fmt: skip
    parser.add_argument("--no-example", action="store_true", help="leave the example inputs out")
    parser = command(
        sub, "inspect", "what a saved program holds, its checksums verified, nothing of it run",
        "tenzing inspect model.tz --graph", _inspect,
    )  # fmt: skip
    parser.add_argument("path", help="a file that tenzing compile made")
    for name, words in SHOWN.items():
        parser.add_argument(f"--{name}", action="store_true", help=words)


def _compile(options: argparse.Namespace) -> int:
    with script_output(options):
        saved = commands.compile_file(
            options.path, options.out, sizes=options.size, weights=options.weights,
            example=not options.no_example, target=options.target, autocast=options.autocast,
            autocast_dtype=options.autocast_dtype, numerics=options.numerics,
            progress=progress(options),
        )  # fmt: skip
    print(json.dumps(report.saved_json(saved), indent=2) if options.json
          else report.saved_text(saved))  # fmt: skip
    return EXIT_OK


def _inspect(options: argparse.Namespace) -> int:
    saved = compiler.inspect(options.path)
    shown = [name for name in SHOWN if getattr(options, name)]
    print(json.dumps(report.saved_json(saved, shown), indent=2) if options.json
          else report.saved_text(saved, shown))  # fmt: skip
    return EXIT_OK


__all__ = ["add_commands"]
