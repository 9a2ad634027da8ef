"""Commands that execute: run, check, profile."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenzing import commands, report
from tenzing.cli.arguments import (
    EXIT_OK,
    add_modes,
    add_path,
    add_target,
    command,
    new_file,
    new_folder,
    progress,
    script_output,
)
from tenzing.errors import EXIT_REFUSED


def add_commands(sub: Any) -> None:
    """Add the commands of this family."""
    _add_run(sub)
    _add_check(sub)
    _add_profile(sub)


def _add_run(sub: Any) -> None:
    parser = command(
        sub, "run", "run a script or model on a simulated chip: result, legality, time, money",
        "tenzing run kernel.py --target trn2 --html out.html -- --size 512", _run,
    )  # fmt: skip
    add_path(parser)
    add_target(parser)
    parser.add_argument("--html", type=new_file, metavar="FILE", help="write an HTML report")
    parser.add_argument("--perfetto", type=new_file, metavar="FILE", help="write a Perfetto trace")
    model = parser.add_argument_group("for models")
    add_modes(model)
    model.add_argument("--compare", action="store_true", help="differences of every output")
    model.add_argument("--per-op", action="store_true", help="and of every operation")
    model.add_argument("--graph", action="store_true", help="print the optimised graph only")
    model.add_argument("--passes", action="store_true", help="print what each pass did only")


def _add_check(sub: Any) -> None:
    parser = command(
        sub, "check", "legality only: what the device would refuse, and where it does not fit",
        "tenzing check kernel.py --target trn3", _check,
    )  # fmt: skip
    add_path(parser)
    add_target(parser)


def _add_profile(sub: Any) -> None:
    parser = command(
        sub, "profile", "timeline, engine use and stalls by source line, as files and text",
        "tenzing profile kernel.py --out profile/", _profile,
    )  # fmt: skip
    add_path(parser)
    add_target(parser)
    parser.add_argument(
        "--out", type=new_folder, default="profile", metavar="DIR",
        help="folder for report.html, trace.json and profile.json (default: profile); "
        "files of these names in it are replaced",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="FILE", help="the profile.json of an earlier run: show what changed"
    )
    parser.add_argument(
        "--neuron-explorer", type=new_folder, metavar="DIR",
        help="write the tables of Neuron Explorer's schema too",
    )  # fmt: skip
    parser.add_argument(
        "--explorer-format", choices=("parquet", "csv"), default="parquet",
        help="the form of these tables",
    )  # fmt: skip


def _show_graph(options: argparse.Namespace) -> int:
    """The graph after the passes, and the nodes that each pass left."""
    with script_output(options):
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
    with script_output(options):
        result = commands.run(
            options.path, target=options.target, argv=options.script,
            autocast=options.autocast, autocast_dtype=options.autocast_dtype,
            numerics=options.numerics, compared=compared, sizes=options.size,
            progress=progress(options),
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
    with script_output(options):
        result = commands.check(
            options.path, target=options.target, argv=options.script, autocast=options.autocast,
            sizes=options.size, progress=progress(options),
        )  # fmt: skip
    print(json.dumps(report.findings_json(result), indent=2) if options.json
          else report.findings_text(result))  # fmt: skip
    return EXIT_REFUSED if result.findings else EXIT_OK


def _profile(options: argparse.Namespace) -> int:
    earlier = report.read_profile(Path(options.against)) if options.against else None
    with script_output(options):
        result = commands.profile(
            options.path, target=options.target, argv=options.script,
            autocast=options.autocast, sizes=options.size, progress=progress(options),
        )  # fmt: skip
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    report.write_run_html(result, folder / "report.html", profiled=True)
    report.write_run_perfetto(result, folder / "trace.json")
    if options.neuron_explorer:
        explored = Path(options.neuron_explorer)
        report.write_run_explorer(result, explored, options.explorer_format)
    plain = report.profile_json(result)
    (folder / "profile.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(plain, indent=2) if options.json else report.profile_text(result, folder))
    if earlier is not None:
        print(report.difference_text(earlier, plain), file=sys.stderr if options.json else None)
    return EXIT_REFUSED if result.findings else EXIT_OK


__all__ = ["add_commands"]
