"""Measure a model on the machine at hand, through PyTorch."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tenzing.commands.opening import is_python, open_model
from tenzing.compiler.frontends.torch_measure import DTYPES, TASKS, Bench, Runs, Setting
from tenzing.compiler.models import read_config
from tenzing.errors import UsageError
from tenzing.fleet.measured import Measurement, write_measurements

Progress = Callable[[str], None]
LENGTH: Final = 128
DECODER_TASKS: Final = ("prefill", "decode")


def measure(
    path: str,
    *,
    tasks: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] = (LENGTH,),
    device: str = "",
    dtype: str = "",
    threads: int = 0,
    warmups: int = 3,
    repeats: int = 10,
    compiled: bool = False,
    out: str | Path | None = None,
    date: datetime.date | None = None,
    progress: Progress = lambda _: None,
) -> list[Measurement]:
    """Run a model on this machine's CPU or GPU: each task at each batch and length.

    ``path``: the name of a known model, a ``config.json`` or its folder (random weights, through
    transformers), or ``model.py:name`` (the user's own module and inputs; tasks encoder and
    training). Tasks: prefill and decode for a decoder, else encoder, where none is named. ``out``:
    a file to write them to, which ``tenzing compare --measured`` reads.
    """
    if out is not None:
        _check_folder(Path(out))
    for name, given in (("batch", batches), ("length", lengths)):
        for size in given:
            if size < 1:
                raise UsageError(name, got=size, allowed="a whole number above 0")
    setting = Setting(device, dtype, threads, warmups, repeats, compiled)
    model, inputs = open_model(path, {})
    own = is_python(path)
    day = (date or datetime.date.today()).isoformat()
    found: list[Measurement] = []
    progress(f"loading {path}" if own else f"making {path} with random weights")
    with Bench(model if own else read_config(model), inputs, setting) as bench:
        progress(f"{bench.parameters:,} parameters in {bench.setting.dtype} on "
                 f"{bench.setting.device}; warm-ups {bench.setting.warmups}, "
                 f"timed runs {bench.setting.repeats}")  # fmt: skip
        for task in tasks or _usual_tasks(bench, own):
            for sizes in _sizes(own, batches, lengths):
                progress(f"{task} " + " ".join(f"{k} {v}" for k, v in sizes.items()))
                runs = bench.run(task, sizes, progress)
                found.append(_measurement(path, task, sizes, bench, runs, day))
                if out is not None:  # each on its own: a later one may not fit
                    write_measurements(found[-1:], out)
    return found


def _usual_tasks(bench: Bench, own: bool) -> Sequence[str]:
    return DECODER_TASKS if bench.decodes and not own else ("encoder",)


def _sizes(own: bool, batches: Sequence[int], lengths: Sequence[int]) -> list[dict[str, int]]:
    if own:
        return [{"batch": 0, "length": 0}]
    return [{"batch": batch, "length": length} for batch in batches for length in lengths]


def _measurement(
    path: str, task: str, sizes: Mapping[str, int], bench: Bench, runs: Runs, day: str
) -> Measurement:
    setting = bench.setting
    return Measurement(
        model=path, task=task, batch=sizes["batch"] or bench.own_batch, length=sizes["length"],
        dtype=setting.dtype, device=setting.device, threads=setting.threads,
        compiled=setting.compiled, date=day, machine=bench.machine(), times_s=runs.times_s,
        parameters=runs.parameters, peak_bytes=runs.peak_bytes, energy_j=runs.energy_j,
    )  # fmt: skip


def _check_folder(file: Path) -> None:
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(
            f"{file} cannot be written", next_step="give a file in a folder that exists"
        )


__all__ = ["DTYPES", "LENGTH", "TASKS", "measure"]
