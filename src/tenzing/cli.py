"""The command line: arguments, progress, exit codes; the work is in :mod:`tenzing.commands`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tenzing import __version__, commands, facts, report
from tenzing.errors import EXIT_REFUSED, TenzingError, UsageError

EXIT_OK: Final = 0
EXIT_BUG: Final = 70  # an error of ours, as sysexits calls it
ALL_TARGETS: Final = "inf2,trn1,trn2,trn3"
PATH_HELP: Final = (
    "kernel.py (an NKI script), model.py:name (a model in Python), a model's file or folder, or "
    "the name of a known model (llama-3.1-8b: time only)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 success, 2 refused with a message, 70 a bug of ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words, script_words = _split_script_words(given)
    parser = build_parser()
    options = parser.parse_args(words)
    if not hasattr(options, "handler"):
        parser.print_help()
        return EXIT_REFUSED
    options.script = script_words
    options.size = dict(getattr(options, "size", ()))
    handler: Callable[[argparse.Namespace], int] = options.handler
    try:
        code = handler(options)
        sys.stdout.flush()
        return code
    except TenzingError as error:
        return _refuse(error, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone: what is left must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        return _refuse(UsageError(f"{error.strerror or error}: {error.filename or ''}"), options)
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


def _refuse(error: TenzingError, options: argparse.Namespace) -> int:
    if getattr(options, "json", False):
        print(json.dumps({"error": report.error_json(error)}, indent=2))
    else:
        print(error.render(), file=sys.stderr)
    return EXIT_REFUSED


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command and an example for each."""
    parser = argparse.ArgumentParser(
        prog="tenzing",
        description="Run, check, time and price NKI kernels and models on simulated AWS silicon.",
    )
    parser.add_argument("--version", action="version", version=f"tenzing {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(sub)
    _add_check(sub)
    _add_profile(sub)
    _add_compare(sub)
    _add_facts(sub)
    return parser


def _command(
    sub: Any, name: str, text: str, example: str, handler: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = sub.add_parser(
        name, help=text, description=text, epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handler)
    return parser


def _add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help=PATH_HELP)
    parser.add_argument(
        "--size", metavar="NAME=N", type=_size, action="append", default=[],
        help="for model files: batch=2, length=512 or cached=4096 (a decode step); repeat it",
    )  # fmt: skip
    parser.add_argument(
        "--autocast", choices=("none", "matmult", "all"), default="none",
        help="for models: what runs in bf16 (default: none)",
    )  # fmt: skip


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N with N a number above 0")
    return name, int(number)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="trn2", help="chip to simulate (default: trn2)")


def _add_run(sub: Any) -> None:
    parser = _command(
        sub, "run", "run a script or model on a simulated chip: result, legality, time, money",
        "tenzing run kernel.py --target trn2 --html out.html -- --size 512", _run,
    )  # fmt: skip
    _add_path(parser)
    _add_target(parser)
    parser.add_argument("--html", metavar="FILE", help="write an HTML report")
    parser.add_argument("--perfetto", metavar="FILE", help="write a Perfetto trace")
    model = parser.add_argument_group("for models")
    model.add_argument(
        "--autocast-dtype", default="bf16", metavar="DTYPE",
        help="what autocast computes in: bf16, fp16 or fp8_e4m3 (fp8 with matmult) (default: bf16)",
    )  # fmt: skip
    model.add_argument(
        "--numerics",
        choices=("instruction", "graph"),
        default="instruction",
        help="run every instruction, or the NumPy meaning of every operation",
    )
    model.add_argument("--compare", action="store_true", help="differences of every output")
    model.add_argument("--per-op", action="store_true", help="and of every operation")
    model.add_argument("--graph", action="store_true", help="print the optimised graph only")
    model.add_argument("--passes", action="store_true", help="print what each pass did only")


def _add_check(sub: Any) -> None:
    parser = _command(
        sub, "check", "legality only: what the device would refuse, and where it does not fit",
        "tenzing check kernel.py --target trn3", _check,
    )  # fmt: skip
    _add_path(parser)
    _add_target(parser)


def _add_profile(sub: Any) -> None:
    parser = _command(
        sub, "profile", "timeline, engine use and stalls by source line, as files and text",
        "tenzing profile kernel.py --out profile/", _profile,
    )  # fmt: skip
    _add_path(parser)
    _add_target(parser)
    parser.add_argument("--out", default="profile", metavar="DIR", help="folder for the files")


def _add_compare(sub: Any) -> None:
    parser = _command(
        sub, "compare", "one script or model on several chips: time and money side by side",
        f"tenzing compare kernel.py --on {ALL_TARGETS}", _compare,
    )  # fmt: skip
    _add_path(parser)
    parser.add_argument("--on", default=ALL_TARGETS, metavar="CHIPS", help="comma-separated chips")


def _add_facts(sub: Any) -> None:
    parser = _command(
        sub, "facts", "every number we use about a chip or instance, with its source",
        "tenzing facts trn2", _facts,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", default="", help="chip or instance; none lists them")


@contextmanager
def _script_output(options: argparse.Namespace) -> Iterator[None]:
    """What the script prints must not mix with the JSON object: it goes to standard error."""
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        yield


def _progress(options: argparse.Namespace) -> commands.Progress:
    if options.json:
        return lambda _: None
    return lambda text: print(f"  {text}", file=sys.stderr, flush=True)


def _show_graph(options: argparse.Namespace) -> int:
    """The graph after the passes, and the nodes that each pass left."""
    with _script_output(options):
        compiled = commands.compile_path(
            options.path, options.size, target=options.target, autocast=options.autocast,
            autocast_dtype=options.autocast_dtype, numerics=options.numerics,
        )  # fmt: skip
    shown: dict[str, Any] = {}
    if options.passes:
        shown["passes"] = [
            {"name": s.name, "before": sum(s.before.values()), "after": sum(s.after.values())}
            for s in compiled.steps
        ]
    if options.graph:
        shown["graph"] = compiled.text()
    if options.json:
        print(json.dumps(shown, indent=2))
        return EXIT_OK
    for step in shown.get("passes", ()):
        print(f"{step['name']:24s} {step['before']:6d} -> {step['after']:6d} nodes")
    print(shown.get("graph", ""), end="")
    return EXIT_OK


def _run(options: argparse.Namespace) -> int:
    if options.graph or options.passes:
        return _show_graph(options)
    compared = "operations" if options.per_op else "outputs" if options.compare else ""
    with _script_output(options):
        result = commands.run(
            options.path, target=options.target, argv=options.script,
            autocast=options.autocast, autocast_dtype=options.autocast_dtype,
            numerics=options.numerics, compared=compared, sizes=options.size,
            progress=_progress(options),
        )  # fmt: skip
    if options.html:
        report.write_run_html(result, Path(options.html))
    if options.perfetto:
        report.write_run_perfetto(result, Path(options.perfetto))
    if options.json:
        shown = report.run_result_json(result)
        if result.comparison is not None:
            shown["comparison"] = asdict(result.comparison)
        print(json.dumps(shown, indent=2))
    else:
        print(report.run_result_text(result))
        if result.comparison is not None:
            print(f"\ncompared with the framework\n{result.comparison}")
    return EXIT_REFUSED if result.findings else EXIT_OK


def _check(options: argparse.Namespace) -> int:
    with _script_output(options):
        result = commands.check(
            options.path, target=options.target, argv=options.script, autocast=options.autocast,
            sizes=options.size,
        )  # fmt: skip
    print(json.dumps(report.findings_json(result), indent=2) if options.json
          else report.findings_text(result))  # fmt: skip
    return EXIT_REFUSED if result.findings else EXIT_OK


def _profile(options: argparse.Namespace) -> int:
    with _script_output(options):
        result = commands.run(
            options.path, target=options.target, argv=options.script,
            autocast=options.autocast, sizes=options.size, progress=_progress(options),
        )  # fmt: skip
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    report.write_run_html(result, folder / "report.html")
    report.write_run_perfetto(result, folder / "trace.json")
    print(json.dumps(report.profile_json(result), indent=2) if options.json
          else report.profile_text(result, folder))  # fmt: skip
    return EXIT_OK


def _compare(options: argparse.Namespace) -> int:
    targets = [t for t in options.on.split(",") if t]
    if not targets:
        raise UsageError("--on names no chip", allowed=", ".join(facts.chips()))
    with _script_output(options):
        results = commands.compare(
            options.path, targets=targets, argv=options.script, autocast=options.autocast,
            sizes=options.size, progress=_progress(options),
        )  # fmt: skip
    print(json.dumps(report.comparison_json(targets, results), indent=2) if options.json
          else report.comparison_text(targets, results))  # fmt: skip
    return EXIT_OK if any(not isinstance(r, TenzingError) for r in results) else EXIT_REFUSED


def _facts(options: argparse.Namespace) -> int:
    name = options.name
    if not name:
        listing = {"chips": list(facts.all_chips()), "instances": sorted(facts.instances())}
        text = "chips: {}\ninstances: {}".format(*(", ".join(v) for v in listing.values()))
        print(json.dumps(listing, indent=2) if options.json else text)
        return EXIT_OK
    thing = facts.instance(name) if name in facts.instances() else facts.chip(name)
    print(json.dumps(facts.as_json(thing), indent=2) if options.json else facts.render(thing))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
