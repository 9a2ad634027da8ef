"""The command ``compare``: a program on several chips, or a model's work on several instances."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, Final

from tenzing import commands, facts, fleet, report
from tenzing.cli.arguments import (
    EXIT_OK,
    add_path,
    add_prices,
    command,
    named_number,
    new_file,
    progress,
    script_output,
    use_prices,
)
from tenzing.errors import EXIT_REFUSED, TenzingError, UsageError

CONFIGURATION: Final = "config.json"  # what makes a folder a model's
ALL_CHIPS: Final = "inf2,trn1,trn2,trn3"
_MEASURE: Final = re.compile(r"([0-9.]+)\s*([a-zA-Z]*)")
_MS: Final = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3}
_COUNT: Final = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
# Options that are fields of the task.
_FIELDS: Final = (
    "prompt_tokens", "output_tokens", "ttft_ms", "tpot_ms", "latency_ms", "prefix_hit", "accepted",
    "requests_s", "resolution", "steps", "sequence_tokens", "batch_tokens", "total_tokens",
)  # fmt: skip


def add_commands(sub: Any) -> None:
    """Add the commands of this family."""
    parser = command(
        sub, "compare",
        "a model's work on several instances: speed, money and energy of the best layout of each; "
        "or one script on several chips",
        "tenzing compare llama-3.1-8b --on trn2.48xlarge,p5.48xlarge --task chat", _compare,
    )  # fmt: skip
    add_path(parser)
    parser.add_argument(
        "--on", metavar="TARGETS",
        help="comma-separated instances (p5.48xlarge, 'trn2.48xlarge x4') or chips (trn2)",
    )  # fmt: skip
    parser.add_argument("--task", default="", choices=facts.tasks(), metavar="TASK",
                        help="for models by name: " + ", ".join(facts.tasks()))  # fmt: skip
    _add_sizes(parser.add_argument_group("the task, where it is not the usual one"))
    _add_offers(parser.add_argument_group("layouts and prices"))
    parser.add_argument("--no-simulate", dest="simulate", action="store_false",
                        help="leave out the step of our own program")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="every configuration, not only the best")
    parser.add_argument("--gpu-tables", action="store_true",
                        help="GPUs by aiconfigurator's measured kernels")  # fmt: skip
    parser.add_argument("--measured", metavar="FILE",
                        help="what `tenzing measure` wrote, to show beside")  # fmt: skip
    parser.add_argument("--ray", default="", metavar="ADDRESS",
                        help="search on a Ray cluster (extra: ray)")  # fmt: skip
    parser.add_argument("--csv", type=new_file, metavar="FILE",
                        help="write every configuration as CSV")  # fmt: skip
    parser.add_argument("--html", type=new_file, metavar="FILE", help="write a page with plots")


def _add_sizes(group: Any) -> None:
    for name, kind, text in (
        ("prompt", _count, "tokens of a prompt or text"), ("output", _count, "tokens of an answer"),
        ("sequence", _count, "tokens of a training sequence"),
    ):  # fmt: skip
        group.add_argument(f"--{name}", dest=f"{name}_tokens", type=kind, metavar="N", help=text)
    group.add_argument("--batch-tokens", type=_count, metavar="N", help="tokens of a training step")
    group.add_argument("--tokens", dest="total_tokens", type=_count, metavar="N",
                       help="tokens to train on, such as 2T")  # fmt: skip
    for name, text in (("ttft", "time to the first token"), ("tpot", "time per output token"),
                       ("latency", "time of a batch or an image")):  # fmt: skip
        group.add_argument(f"--{name}", dest=f"{name}_ms", type=_ms, metavar="TIME",
                           help=f"limit of the {text}, such as 500ms; 0 for none")  # fmt: skip
    group.add_argument("--prefix-hit", type=float, metavar="SHARE",
                       help="share of prompts found in the cache")  # fmt: skip
    group.add_argument("--accepted", type=float, metavar="N",
                       help="tokens that a step of speculative decoding yields")  # fmt: skip
    group.add_argument("--requests", dest="requests_s", type=float, metavar="N",
                       help="requests a second on average to size for")  # fmt: skip
    group.add_argument("--resolution", type=int, metavar="PIXELS", help="side of an image")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps")


def _add_offers(group: Any) -> None:
    group.add_argument("--weights", default="bf16", metavar="FORMATS",
                       help="formats of weights to try: bf16, fp8, int8, fp4")  # fmt: skip
    group.add_argument("--kv", default="bf16", metavar="FORMATS",
                       help="formats of the key cache to try: bf16, fp8")  # fmt: skip
    group.add_argument("--term", default="", help="price term: " + ", ".join(facts.TERMS))
    group.add_argument("--region", help="price region, such as us-east-1")
    group.add_argument("--usd-per-million", type=_dollars, default=(), metavar="IN,OUT",
                       help="what a million input and output tokens cost elsewhere (one price for "
                       "other work): the load to break even")  # fmt: skip
    group.add_argument("--forecast", metavar="NAME=N", type=named_number, action="append",
                       default=[], help="an input of sizing for --requests: peak_to_mean, "
                       "headroom, availability, ...; repeat it")  # fmt: skip
    add_prices(group)


def _compare(options: argparse.Namespace) -> int:
    targets = _names(options.on) if options.on is not None else list(fleet.DEFAULT_TARGETS)
    if _runs(options, targets):
        return _run_on(options)
    use_prices(options)
    configuration = Path(options.path, CONFIGURATION)
    if configuration.is_file():
        options.path = str(configuration)
    own = fleet.read_measurements(options.measured) if options.measured else []
    found = commands.compare(
        options.path, targets, options.task, simulate=options.simulate,
        weights=_names(options.weights), kv=_names(options.kv), term=options.term,
        region=options.region, usd_per_million=options.usd_per_million,
        forecast=dict(options.forecast), measured=own, gpu_tables=options.gpu_tables,
        ray=options.ray, progress=progress(options),
        **{name: getattr(options, name) for name in _FIELDS},
    )  # fmt: skip
    if options.csv:
        report.write_choices_csv(found, Path(options.csv))
    if options.html:
        report.write_choices_html(found, Path(options.html))
    print(json.dumps(report.choices_json(found, every=options.all), indent=2) if options.json
          else report.choices_text(found, every=options.all))  # fmt: skip
    return EXIT_OK if any(choice.met for choice in found.best) else EXIT_REFUSED


def _runs(options: argparse.Namespace, targets: list[str]) -> bool:
    """Whether the path is a program to execute, as against a model to plan with."""
    path = options.path
    if commands.is_python(path):
        return True
    if Path(path, CONFIGURATION).is_file() and (_planned(options) or not _chips(targets)):
        return False
    return Path(path).exists() and not path.endswith(".json") and not facts.knows_model(path)


def _run_on(options: argparse.Namespace) -> int:
    """One script or model file on several chips."""
    planned = _planned(options)
    if planned:
        raise UsageError("a script is executed, not planned", got=", ".join(planned),
                         next_step="give the name of a model or its config.json")  # fmt: skip
    targets = _names(options.on if options.on is not None else ALL_CHIPS)
    if not targets:
        raise UsageError("--on names no chip", allowed=", ".join(facts.chips()))
    with script_output(options):
        results = commands.run_on(
            options.path, targets=targets, argv=options.script, autocast=options.autocast,
            sizes=options.size, progress=progress(options),
        )  # fmt: skip
    print(json.dumps(report.comparison_json(targets, results), indent=2) if options.json
          else report.comparison_text(targets, results))  # fmt: skip
    return EXIT_OK if any(not isinstance(r, TenzingError) for r in results) else EXIT_REFUSED


def _planned(options: argparse.Namespace) -> list[str]:
    """Options given that only planning knows."""
    names = (*_FIELDS, "task", "term", "region", "prices", "usd_per_million", "forecast")
    return [name for name in names if getattr(options, name)]


def _chips(targets: list[str]) -> bool:
    """Whether every target is a chip that can be simulated."""
    return all(target.lower() in facts.chips() for target in targets)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _measure(text: str, units: dict[str, float], wanted: str) -> float:
    found = _MEASURE.fullmatch(text.strip())
    if found is None or found[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    try:
        return float(found[1]) * units[found[2].lower()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None


def _dollars(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace("$", "").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not one price or IN,OUT") from None


def _ms(text: str) -> float:
    return _measure(text, _MS, "a time such as 500ms or 2s")


def _count(text: str) -> int:
    return round(_measure(text, _COUNT, "a count such as 4096, 4k or 2T"))


__all__ = ["add_commands"]
