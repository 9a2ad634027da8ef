"""Traffic of many sizes: buckets."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from tenzing import commands, report
from tenzing.cli.arguments import EXIT_OK, add_target, command, progress, script_output
from tenzing.errors import EXIT_REFUSED

PERCENT: Final = 100


def add_commands(sub: Any) -> None:
    """Add the commands of this family."""
    parser = command(
        sub, "buckets", "the fewest shapes to compile for traffic of many sizes",
        "tenzing buckets traffic.csv --waste 10% --multiple 16", _buckets,
    )  # fmt: skip
    parser.add_argument(
        "path", metavar="TRAFFIC", help="CSV with a column length, and batch and count if any"
    )
    parser.add_argument(
        "--waste", type=_share, default=_share("10%"), metavar="SHARE",
        help="how much of the work may be padding, as a percentage or a share (default: 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--multiple", type=_number, default=1, metavar="N", help="lengths of buckets divide by N"
    )
    parser.add_argument(
        "--most", type=_number, default=0, metavar="N", help="no more than N buckets"
    )
    parser.add_argument(
        "--given", type=_bucket_list, default=(), metavar="BUCKETS",
        help="also what these buckets waste: 128,512 or 1x128,8x512",
    )  # fmt: skip
    parser.add_argument(
        "--model", default="",
        help="count simulated time of this model (a folder, config.json or name), not tokens",
    )  # fmt: skip
    add_target(parser)
    parser.add_argument(
        "--autocast", choices=("none", "matmult", "all"), help="how the model is timed"
    )


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        found = float(number) / (PERCENT if number != text else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 10% or 0.1")
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _bucket_list(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(_number(n) for n in bucket.split("x")) for bucket in text.split(","))


def _buckets(options: argparse.Namespace) -> int:
    with script_output(options):
        found = commands.buckets(
            options.path, options.waste, multiple=options.multiple, most=options.most,
            given=options.given, model=options.model, target=options.target,
            autocast=options.autocast, progress=progress(options),
        )  # fmt: skip
    print(json.dumps(report.advice_json(*found), indent=2) if options.json
          else report.advice_text(*found))  # fmt: skip
    return EXIT_OK if found.advice.reached else EXIT_REFUSED


__all__ = ["add_commands"]
