"""The command that runs a model on the machine at hand: measure."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tenzing import commands, fleet, report
from tenzing.cli.arguments import EXIT_OK, command, new_file, progress, script_output

MODEL_HELP = "a known model's name, a config.json or its folder (random weights), or model.py:name"


def add_commands(sub: Any) -> None:
    """Add the command of this family to a parser."""
    parser = command(
        sub, "measure", "run a model on this machine's CPU or GPU through PyTorch, and time it",
        "tenzing measure llama-3.1-8b --task decode --batch 1,8 --length 2048 -o measured.json",
        _measure,
    )  # fmt: skip
    parser.add_argument("path", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--task", type=_tasks, default=(), metavar="TASKS",
        help=f"of {', '.join(commands.TASKS)}; several with commas (default: prefill,decode of a "
        "decoder, else encoder)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=_counts, default=(1,), metavar="N",
        help="sequences, one number or several with commas (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--length", type=_counts, default=(commands.LENGTH,), metavar="N",
        help="tokens of the prompt, or in the cache of a decode step (default: 128)",
    )  # fmt: skip
    parser.add_argument("--device", default="", help="cpu, cuda or cuda:N (default: a GPU if any)")
    parser.add_argument("--dtype", default="", choices=commands.DTYPES,
                        help="default: bf16 on a GPU, fp32 on a CPU")  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: PyTorch's)")
    parser.add_argument("--warmups", type=int, default=3, help="runs before the timed ones")
    parser.add_argument("--repeats", type=int, default=10, help="timed runs")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("-o", "--out", type=new_file, metavar="FILE",
                        help="add to a JSON file, which `tenzing compare --measured` reads",
                        )  # fmt: skip


def _measure(options: argparse.Namespace) -> int:
    with script_output(options):
        found = commands.measure(
            options.path, tasks=options.task, batches=options.batch, lengths=options.length,
            device=options.device, dtype=options.dtype, threads=options.threads,
            warmups=options.warmups, repeats=options.repeats, compiled=options.compile,
            out=options.out, progress=progress(options),
        )  # fmt: skip
    if options.json:
        print(json.dumps(fleet.measurements_json(found), indent=2))
    else:
        print(report.measured_text(found))
    return EXIT_OK


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _tasks(text: str) -> tuple[str, ...]:
    words = _words(text)
    unknown = [word for word in words if word not in commands.TASKS]
    if unknown or not words:
        raise argparse.ArgumentTypeError(f"{text!r} is not of {', '.join(commands.TASKS)}")
    return words


def _counts(text: str) -> tuple[int, ...]:
    words = _words(text)
    if not words or not all(word.isdigit() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, nor several")
    return tuple(map(int, words))


__all__ = ["add_commands"]
