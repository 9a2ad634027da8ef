"""GPU step times from aiconfigurator's tables of measured kernels, where that package is installed.

An alternative to our own calibrated model of a GPU: kernels measured by NVIDIA, interpolated and
added up by their package. It states no error, so its figures carry no interval.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from typing import Any, Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fleet.comparison.choice import Choice
from tenzing.fleet.comparison.serving import Question, Work, with_figures
from tenzing.fleet.estimate import Prediction

PACKAGE: Final = "aiconfigurator"
# Their name of each accelerator they hold tables of.
SYSTEMS: Final = {
    "a100": "a100_sxm", "h100": "h100_sxm", "h200": "h200_sxm", "b200": "b200_sxm",
    "b300": "b300_sxm", "gb200": "gb200", "gb300": "gb300", "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
}  # fmt: skip
# Their names of number formats, of products and of the cache.
MS_PER_S: Final = 1e3
FORMATS: Final = {"bf16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4"}


@dataclass(frozen=True)
class Tabled:
    """A question to be answered from the tables; ``version`` is that of the package."""

    question: Question
    version: str


def tables_version() -> str:
    """The installed package's version; UsageError when it is absent."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UsageError(
            "the tables of GPU kernels come with the package aiconfigurator",
            got="it is not installed", next_step='pip install "tenzing[gpu]"',
        ) from None  # fmt: skip


def covers(question: Question) -> bool:
    """Whether the tables have the accelerator and the formats of a question."""
    return (question.offer.accelerator in SYSTEMS and question.weights in FORMATS
            and question.kv in FORMATS and question.pp == 1)  # fmt: skip


def evaluate(tabled: Tabled) -> Choice:
    """The figures of one configuration; UsageError where the package does not know the model."""
    q, task = tabled.question, tabled.question.task
    step = _estimate(q, q.batch)
    fill = step if q.batch == 1 else _estimate(q, 1)
    first_ms = float(fill.ttft)
    others_ms = (q.batch - 1) * first_ms / task.output_tokens
    between_ms = float(step.tpot) / task.accepted + others_ms
    basis = f"{PACKAGE} {tabled.version}, {step.backend_name} {step.backend_version}"
    rate = q.batch * q.groups * MS_PER_S / between_ms
    made = with_figures(q, _certain("ttft_ms_mean", first_ms, basis),
                        _certain("tpot_ms_mean", between_ms, basis),
                        _certain("output_tok_s", rate, basis),
                        Work(first_ms, float(step.tpot)))  # fmt: skip
    return replace(made, basis=basis, assumed=(f"{basis} states no interval",))


def _certain(metric: str, value: float, basis: str) -> Prediction:
    return Prediction(metric, value, value, value, basis, "serving")


@functools.lru_cache(maxsize=256)
def _estimate(q: Question, batch: int) -> Any:
    """Their estimate of a static batch; what they print is left out."""
    estimate = import_module(f"{PACKAGE}.cli.api").cli_estimate
    cached = min(round(q.task.prompt_tokens * q.task.prefix_hit), q.task.prompt_tokens - 1)
    try:
        with _quiet():
            return estimate(
                _repository(q.model), SYSTEMS[q.offer.accelerator], mode="static",
                isl=q.task.prompt_tokens, osl=q.task.output_tokens, prefix=cached,
                batch_size=batch, tp_size=q.tp, gemm_quant_mode=FORMATS[q.weights],
                kvcache_quant_mode=FORMATS[q.kv],
            )  # fmt: skip
    except Exception as error:
        raise UsageError(
            f"{PACKAGE} has no answer for {q.model} on {q.offer.accelerator}",
            got=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
            next_step="leave out --gpu-tables",
        ) from None  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The package prints, logs and warns at every call."""
    logging.disable(logging.WARNING)
    heard = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard),
            warnings.catch_warnings(action="ignore"),
        ):  # fmt: skip
            yield
    finally:
        logging.disable(logging.NOTSET)


def _repository(model: str) -> str:
    """The name that the package knows a model by: that of its repository."""
    if not facts.knows_model(model):
        return model
    entry = facts.model_entry(model)
    names = [entry["where"], *entry.get("aliases", ())]
    return str(next((n for n in names if "Meta-Llama" in n), names[0]))


__all__ = ["Tabled", "covers", "evaluate", "tables_version"]
