"""Serving a language model on an offer: every layout, batch and number format, and its figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from tenzing import facts
from tenzing.errors import TenzingError
from tenzing.fleet.comparison.choice import FULL, OK, SLOW, UNKNOWN, Choice, bounds
from tenzing.fleet.comparison.offer import Offer
from tenzing.fleet.comparison.task import Serving
from tenzing.fleet.estimate import Prediction
from tenzing.fleet.estimators.device import BYTES
from tenzing.fleet.prediction import predict_row
from tenzing.fleet.rows import CONFIGURATION, Row
from tenzing.fleet.steptime import Fit, Layout, decode_step, prefill, serving_fit
from tenzing.fleet.workload import MULTIPLY_ADD, Shape, shape_of

KIND: Final = "inference_llm"
TERA: Final = 1e12
GB: Final = 1e9
MS_PER_S: Final = 1e3
UNIT: Final = "output tokens"
STAGES: Final = (1, 2, 4, 8, 16)
BITS: Final = 8
NS_PER_MS: Final = 1e6
HOP_CHIP: Final = "trn2"  # whose hop between instances over EFA is published
HOP_ASSUMED: Final = "a hop between stages takes as long as published for Trainium 2 over EFA"
BATCHES: Final = tuple(2**n for n in range(10))  # per copy of the model


@dataclass(frozen=True)
class Question:
    """A model, a task and an offer with one layout: what one evaluation needs."""

    model: str
    task: Serving
    offer: Offer
    tp: int
    pp: int
    batch: int
    weights: str
    kv: str

    @property
    def layout(self) -> Layout:
        """The layout of one copy; all ranks of the instances that are left hold further copies."""
        return Layout(self.offer.accelerator, self.tp, self.groups, self.pp, self.weights,
                      kv=self.kv)  # fmt: skip

    @property
    def groups(self) -> int:
        """Groups of ``tp`` ranks on all instances; each has ``batch`` requests in flight."""
        return self.offer.ranks * self.offer.count // self.tp

    @cached_property
    def fit(self) -> Fit:
        """What a rank must hold and has: computed once, and carried to other processes."""
        return serving_fit(shape_of(self.model), self.layout, self.batch, self.task.window)

    @property
    def replicas(self) -> int:
        """Copies of the model on all instances."""
        return self.groups // self.pp


def questions(model: str, task: Serving, offer: Offer, formats: tuple[tuple[str, str], ...]
              ) -> Iterator[Question]:  # fmt: skip
    """Layouts worth asking: tensor parallel within an instance, stages where that is not enough.

    One question that does not fit is kept where none does, so that the answer says what is missing.
    """
    shape = shape_of(model)
    for weights, kv in formats:
        if not _has_format(offer, weights):
            continue
        asked = [Question(model, task, offer, tp, pp, 1, weights, kv)
                 for tp, pp in _layouts(offer, shape)]  # fmt: skip
        whole = [found for q in asked if q.pp == 1 for found in _fitting(q)]
        staged = [found for q in asked if q.pp > 1 for found in _fitting(q)] if not whole else []
        yield from whole or staged or [max(asked, key=lambda q: (q.tp * q.pp, q.tp))]


def _layouts(offer: Offer, shape: Shape) -> list[tuple[int, int]]:
    """Tensor-parallel widths, powers of two up to the ranks of an instance and the heads; stages.

    Stages divide the layers; they are for models that no group of ranks holds whole.
    """
    most = min(offer.ranks, max(shape.heads, 1))
    widths = [2**n for n in range(most.bit_length()) if 2**n <= most]
    return [
        (tp, pp)
        for tp in widths
        for pp in STAGES
        if tp * pp <= offer.ranks * offer.count and (pp == 1 or shape.layers % pp == 0)
    ]


def _has_format(offer: Offer, weights: str) -> bool:
    device = offer.device
    if weights == "fp4":
        return bool(device.fp4_tflops)
    return weights != "fp8" or bool(device.fp8_tflops) or device.family == "neuron"


def _fitting(q: Question) -> list[Question]:
    """The layout with every batch whose cache fits beside the weights."""
    tried = (replace(q, batch=batch) for batch in BATCHES)
    return list(itertools.takewhile(lambda trial: not trial.fit.missing, tried))


def evaluate(question: Question) -> Choice:
    """The figures of one configuration; a refusal is an answer with its reason."""
    try:
        return _evaluated(question)
    except TenzingError as error:
        return replace(_blank(question), status=UNKNOWN, why=str(error).splitlines()[0])


def _evaluated(q: Question) -> Choice:
    shape = shape_of(q.model)
    fit = q.fit
    if fit.missing:
        why = (f"a rank needs {fit.needed / 2**30:.1f} GiB of {fit.available / 2**30:.1f}: weights "
               f"{fit.weights / 2**30:.1f}, cache {fit.cache / 2**30:.1f}")  # fmt: skip
        return replace(_blank(q), status=FULL, why=why,
                       memory_share=fit.needed / fit.available)  # fmt: skip
    answer = predict_row(_row(q))
    found = answer.predictions
    first, between = (_staged(q, shape, found.get(m)) for m in ("ttft_ms_mean", "tpot_ms_mean"))
    assumed = {name for p in found.values() for name in p.assumed}
    assumed |= {HOP_ASSUMED} if q.pp > 1 and q.offer.device.family != "neuron" else set()
    made = with_figures(q, first, between, found.get("output_tok_s"), _work(q))
    return replace(made, basis=answer.basis, assumed=tuple(sorted(assumed)))


@dataclass(frozen=True)
class Work:
    """What the server spends: the prefill of one request and a decode step, nobody waiting."""

    fill_ms: float
    step_ms: float


def with_figures(
    q: Question, first: Prediction | None, between: Prediction | None,
    tokens_s: Prediction | None, work: Work,
) -> Choice:  # fmt: skip
    """A choice from its times to the first and the next token (ms) and its output tokens a second.

    ``work`` says how prompts and answers share the bill. Money, energy and shares follow from these
    and the offer; limits are judged.
    """
    shape, fit = shape_of(q.model), q.fit
    rates = bounds("rate", tokens_s)
    requests = rates["rate"] / q.task.output_tokens
    mfu, mbu = _shares(q, shape, requests, between)
    figures: dict[str, Any] = {
        **rates, **bounds("ttft_ms", first), **bounds("tpot_ms", between),
        "requests_s": requests, "mfu": mfu, "mbu": mbu,
        "memory_share": fit.needed / fit.available,
        **_split(q, q.offer.money(rates), work),
        **q.offer.energy(rates, max(mfu, mbu)),
    }  # fmt: skip
    return _judged(replace(_blank(q), **figures), q.task)


def _work(q: Question) -> Work:
    task, layout = q.task, q.layout
    new = max(round(task.prompt_tokens * (1 - task.prefix_hit)), 1)
    context = task.prompt_tokens + task.output_tokens // 2
    fill = prefill(q.model, layout, batch=1, tokens=new)
    step = decode_step(q.model, layout, batch=q.batch, context=context)
    return Work(fill.calibrated.value * MS_PER_S, step.calibrated.value * MS_PER_S)


def _blank(q: Question) -> Choice:
    return q.offer.choice(tp=q.tp, pp=q.pp, replicas=q.replicas, batch=q.batch, weights=q.weights,
                          kv=q.kv, unit=UNIT)  # fmt: skip


def _judged(choice: Choice, task: Serving) -> Choice:
    over = [f"{name} {value:.0f} ms is above {limit:.0f}"
            for name, value, limit in (("TTFT", choice.ttft_ms, task.ttft_ms),
                                       ("TPOT", choice.tpot_ms, task.tpot_ms))
            if limit and value > limit]  # fmt: skip
    return replace(choice, status=SLOW if over else OK, why="; ".join(over))


def _row(q: Question) -> Row:
    """The configuration as a row that the estimators read: as many clients as slots."""
    task = q.task
    cells = q.layout.cells() | {
        "model": q.model, "instance": q.offer.instance, "batch": str(q.batch),
        "concurrency": str(q.batch * q.groups), "input_len": str(task.prompt_tokens),
        "output_len": str(task.output_tokens), "seq_len": str(task.window), "kv_dtype": q.kv,
        "tok_s_scope": "system", "run_mode": "online",
        "spec_decode": f"mean {task.accepted:.3f}" if task.accepted > 1 else "",
        "prefix_hit": f"{task.prefix_hit:.4f}" if task.prefix_hit else "",
    }  # fmt: skip
    return Row(KIND, {name: cells.get(name, "") for name in CONFIGURATION[KIND]})


def _staged(q: Question, shape: Shape, time: Prediction | None) -> Prediction | None:
    """A time with the way of a step's activations from stage to stage over the network."""
    if time is None or q.pp == 1:
        return time
    chip = facts.chip(q.offer.accelerator if q.offer.device.family == "neuron" else HOP_CHIP)
    hop_ns = chip.number("collective.inter_instance_hop_ns")
    sent = q.batch * shape.hidden * BYTES["bf16"]
    gbps = chip.number("collective.inter_instance_rank_gbps")
    added = (q.pp - 1) * (hop_ns + sent * BITS / gbps) / NS_PER_MS
    return replace(time, value=time.value + added, low=time.low + added, high=time.high + added)


def _shares(
    q: Question, shape: Shape, requests: float, between: Prediction | None
) -> tuple[float, float]:
    """MFU over prompts and answers; MBU of decoding, weights and cache read for every step."""
    device, chips = q.offer.device, q.offer.chips * q.offer.count
    computed = q.task.prompt_tokens * (1 - q.task.prefix_hit) + q.task.output_tokens
    flops = MULTIPLY_ADD * shape.active * computed * requests
    mfu = flops / (device.tflops("bf16") * TERA * chips)
    if between is None or not between.value:
        return mfu, 0.0
    read = shape.touched(q.batch) * BYTES[q.weights]
    read += q.batch * q.task.window * shape.kv_values * BYTES[q.kv]
    held = device.hbm_gb_s * GB * q.tp / q.offer.ranks_per_chip
    step_s = between.value / MS_PER_S * q.task.accepted
    return mfu, read / step_s / held


def _split(q: Question, money: dict[str, Any], work: Work) -> dict[str, Any]:
    """The bill shared between input and output tokens as the time of prefill and decoding is."""
    whole = money.get("usd_per_million")
    decoded = q.task.output_tokens * work.step_ms / q.task.accepted / q.batch
    if whole is None or not work.fill_ms + decoded:
        return money
    share = work.fill_ms / (work.fill_ms + decoded)
    per_request = whole * q.task.output_tokens
    return money | {
        "usd_per_million_input": per_request * share / q.task.prompt_tokens,
        "usd_per_million_output": whole * (1 - share),
    }


__all__ = ["Question", "Work", "evaluate", "questions", "with_figures"]
