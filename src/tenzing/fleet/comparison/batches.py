"""Encoders, vision, speech and diffusion on an offer: independent copies, batch after batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing import facts
from tenzing.errors import TenzingError
from tenzing.fleet.comparison.choice import OK, SLOW, UNKNOWN, Choice, bounds
from tenzing.fleet.comparison.offer import Offer
from tenzing.fleet.comparison.task import Encoding, Imaging, Perceiving
from tenzing.fleet.estimators.device import BF16_BYTES
from tenzing.fleet.estimators.vision import work_of
from tenzing.fleet.prediction import predict_row
from tenzing.fleet.rows import CONFIGURATION, Row
from tenzing.fleet.workload import shape_of

KIND: Final = "inference_encoder_vision"
MANY: Final = tuple(2**n for n in range(9))
BATCHES: Final = {Encoding: MANY, Perceiving: MANY, Imaging: (1, 2, 4)}
LATENCY: Final = {Encoding: ("latency_ms_mean", 1.0), Perceiving: ("latency_ms_mean", 1.0),
                  Imaging: ("e2e_s", 1e3)}  # fmt: skip
Work = Encoding | Imaging | Perceiving
TERA: Final = 1e12


@dataclass(frozen=True)
class Question:
    """A model, a task and an offer with one batch; a copy on every rank, or on several."""

    model: str
    task: Work
    offer: Offer
    tp: int
    batch: int


def questions(model: str, task: Work, offer: Offer) -> Iterator[Question]:
    """Every batch on the narrowest copy that holds the weights."""
    device = offer.device
    rank_bytes = device.hbm_bytes / offer.ranks_per_chip
    need = shape_of(model).params * BF16_BYTES * facts.software("memory.encoder_held")
    width = next((2**n for n in range(10) if 2**n * rank_bytes >= need), offer.ranks)
    for batch in BATCHES[type(task)]:
        yield Question(model, task, offer, min(width, offer.ranks), batch)


def evaluate(question: Question) -> Choice:
    """The figures of one batch; a refusal is an answer with its reason."""
    q, o = question, question.offer
    copies = o.ranks * o.count // q.tp
    blank = o.choice(tp=q.tp, replicas=copies, batch=q.batch, unit=_unit(q))
    try:
        answer = predict_row(_row(q))
    except TenzingError as error:
        return replace(blank, status=UNKNOWN, why=str(error).splitlines()[0])
    metric, scale = LATENCY[type(q.task)]
    time = answer.predictions.get(metric)
    if time is None:
        return replace(blank, status=UNKNOWN, why=answer.reason or f"no model for {metric}")
    latency = bounds("latency_ms", time, scale)
    rates = _rates(latency, q.batch * copies)
    mfu = _mfu(q, rates["rate"])
    limit = q.task.latency_ms
    slow = bool(limit) and latency["latency_ms"] > limit
    figures: dict[str, Any] = {**latency, **rates, "requests_s": rates["rate"], "mfu": mfu,
                               **o.money(rates), **o.energy(rates, mfu)}  # fmt: skip
    why = f"{latency['latency_ms']:.0f} ms is above {limit:.0f}" if slow else ""
    return replace(blank, **figures, status=SLOW if slow else OK, why=why, basis=answer.basis,
                   assumed=tuple(sorted(time.assumed)))  # fmt: skip


def _rates(latency: dict[str, float], at_once: float) -> dict[str, float]:
    """Batches follow one another on every copy: as many at once over the time of one."""
    per_ms = at_once * 1e3
    return {"rate": per_ms / latency["latency_ms"], "rate_low": per_ms / latency["latency_ms_high"],
            "rate_high": per_ms / latency["latency_ms_low"]}  # fmt: skip


def _unit(q: Question) -> str:
    if isinstance(q.task, Encoding):
        return "texts"
    return "clips" if shape_of(q.model).kind == "speech" else "images"


def _mfu(q: Question, rate: float) -> float:
    one = work_of(_row(q), shape_of(q.model))
    flops = one.flops * one.passes + one.extra_flops
    return flops * rate / (q.offer.device.bf16_tflops * TERA * q.offer.chips * q.offer.count)


def _row(q: Question) -> Row:
    """One copy on its own cores: what a call takes while the others work on theirs."""
    neuron = q.offer.device.family == "neuron"
    cells = {
        "model": q.model, "accelerator": q.offer.accelerator, "instance": q.offer.instance,
        "cores_used": str(q.tp), "tp": str(q.tp), "batch": str(q.batch), "model_dtype": "bf16",
        "framework": "PyTorch 2", "run_mode": "single copy",
        "app_type": "Batch" if neuron else "",
    }  # fmt: skip
    if isinstance(q.task, Encoding):
        cells |= {"category": "encoder", "seq_len": str(q.task.prompt_tokens)}
    else:
        size = q.task.resolution
        cells |= {"resolution": f"{size}x{size}" if size else ""}
    if isinstance(q.task, Imaging):
        cells |= {"category": "diffusion", "steps": str(q.task.steps or "")}
    elif neuron:
        cells |= {"autocast_dtype": "Matmult-BF16"}
    if isinstance(q.task, Perceiving):  # one call at a time, as the tables call real time
        cells |= {"category": shape_of(q.model).kind, "app_type": "Real Time" if neuron else ""}
    return Row(KIND, {name: cells.get(name, "") for name in CONFIGURATION[KIND]})


__all__ = ["Question", "evaluate", "questions"]
