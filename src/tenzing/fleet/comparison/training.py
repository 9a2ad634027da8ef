"""Training on an offer: tensor, pipeline and data parallel layouts, and what a run costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing.errors import CapacityError, TenzingError
from tenzing.fleet.comparison.choice import FULL, UNKNOWN, Choice, bounds
from tenzing.fleet.comparison.offer import Offer
from tenzing.fleet.comparison.task import Training
from tenzing.fleet.estimate import Prediction
from tenzing.fleet.steptime import Layout, StepTime, training_step
from tenzing.fleet.workload import MULTIPLY_ADD, shape_of

UNIT: Final = "trained tokens"
STAGES: Final = (1, 2, 4, 8, 16)
MICROBATCHES: Final = (1, 2, 4)
FORWARD_AND_BACKWARD: Final = 3
TERA: Final = 1e12
MS_PER_S: Final = 1e3


@dataclass(frozen=True)
class Question:
    """A model, a training run and an offer with one layout."""

    model: str
    task: Training
    offer: Offer
    tp: int
    pp: int
    micro: int
    recompute: bool

    @property
    def ranks(self) -> int:
        """Logical cores of AWS silicon, devices of others, over all instances."""
        return self.offer.ranks * self.offer.count

    @property
    def copies(self) -> int:
        """Copies of the model that share a step's sequences."""
        return max(self.ranks // (self.tp * self.pp), 1)

    @property
    def sequences(self) -> int:
        """Sequences of an optimizer step, at least one microbatch for every copy."""
        wanted = round(self.task.batch_tokens / self.task.sequence_tokens)
        return max(wanted, self.copies * self.micro)


def questions(model: str, task: Training, offer: Offer) -> Iterator[Question]:
    """Layouts worth asking: tensor parallel within an instance, stages of equal layers.

    Layouts that would need more sequences than a step has are left out, unless nothing else is.
    """
    shape = shape_of(model)
    inside = Question(model, task, offer, 1, 1, 1, False).ranks // offer.count
    widths = [2**n for n in range(inside.bit_length()) if 2**n <= min(inside, shape.heads)]
    found = [
        Question(model, task, offer, tp, pp, micro, recompute)
        for tp in widths
        for pp in STAGES
        if pp == 1 or (shape.layers % pp == 0 and tp * pp <= inside * offer.count)
        for micro in MICROBATCHES
        for recompute in (False, True)
    ]
    wanted = max(round(task.batch_tokens / task.sequence_tokens), 1)
    yield from [q for q in found if q.sequences <= wanted] or found


def evaluate(question: Question) -> Choice:
    """The figures of one layout; a refusal is an answer with its reason."""
    q = question
    o = q.offer
    blank = o.choice(tp=q.tp, pp=q.pp, replicas=q.copies, batch=q.micro, recompute=q.recompute,
                     unit=UNIT)  # fmt: skip
    try:
        step = training_step(
            q.model, Layout(o.accelerator, q.tp, q.copies, q.pp), global_batch=q.sequences,
            tokens=q.task.sequence_tokens, devices=o.chips * o.count, microbatch=q.micro,
            recompute=q.recompute, instance=o.instance,
        )  # fmt: skip
    except CapacityError as error:
        return replace(blank, status=FULL, why=str(error).splitlines()[0])
    except TenzingError as error:
        return replace(blank, status=UNKNOWN, why=str(error).splitlines()[0])
    return replace(blank, **_figures(q, step))


def _figures(q: Question, step: StepTime) -> dict[str, Any]:
    time = step.calibrated
    tokens = q.sequences * q.task.sequence_tokens
    rates = bounds("rate", _rate(time, tokens))
    flops = FORWARD_AND_BACKWARD * MULTIPLY_ADD * shape_of(q.model).active * rates["rate"]
    mfu = flops / (q.offer.device.tflops("bf16") * TERA * q.offer.chips * q.offer.count)
    return {
        **rates, **bounds("latency_ms", time, MS_PER_S), "mfu": mfu, "basis": time.basis,
        "memory_share": step.fit.needed / step.fit.available, "assumed": time.assumed,
        **q.offer.money(rates), **q.offer.energy(rates, mfu),
    }  # fmt: skip


def _rate(time: Prediction, tokens: float) -> Prediction:
    return replace(time, value=tokens / time.value, low=tokens / time.high, high=tokens / time.low)


__all__ = ["Question", "evaluate", "questions"]
