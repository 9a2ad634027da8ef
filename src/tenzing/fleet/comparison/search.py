"""The search: every layout on every target, the best of each, the frontier between them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing import facts
from tenzing.errors import TenzingError, UsageError
from tenzing.fleet.comparison import batches, serving, tables, training
from tenzing.fleet.comparison.choice import Choice
from tenzing.fleet.comparison.measured import measured_choices
from tenzing.fleet.comparison.money import Elsewhere, completed, demand_of, elsewhere_of
from tenzing.fleet.comparison.offer import Offer, offers
from tenzing.fleet.comparison.task import (
    Encoding,
    Imaging,
    Perceiving,
    Serving,
    Task,
    task_named,
)
from tenzing.fleet.economics import Demand
from tenzing.fleet.estimators.device import BYTES
from tenzing.fleet.measured import Measurement
from tenzing.fleet.steptime import Layout, decode_step
from tenzing.fleet.sweep import sweep
from tenzing.fleet.workload import Shape, assumed_in, shape_of

Progress = Callable[[str], None]
DEFAULT_TARGETS: Final = (
    "inf2.48xlarge", "trn1.32xlarge", "trn2.48xlarge", "p5.48xlarge", "p5en.48xlarge",
    "g6e.48xlarge", "c8g.48xlarge",
)  # fmt: skip
# What a model of each kind is for, where a user does not say.
USUAL: Final = {
    "decoder": "chat", "moe": "chat", "encoder": "embed", "encoder-decoder": "embed",
    "diffusion": "image", "cnn": "vision", "vision-transformer": "vision", "speech": "speech",
}  # fmt: skip
FAMILY_OF: Final = {
    "decoder": ("serving", "training"), "moe": ("serving", "training"),
    "encoder": ("encoding", "training"), "encoder-decoder": ("encoding", "training"),
    "vision-transformer": ("perceiving", "training"), "cnn": ("perceiving",),
    "speech": ("perceiving",), "diffusion": ("imaging",),
}  # fmt: skip
MS_PER_S: Final = 1e3
TOLD_FROM: Final = 1000  # configurations: fewer take a second or two
CLOSE_NAMES: Final = 5
WORTH_PROCESSES: Final = 4000  # configurations: fewer take less time than processes to start


@dataclass(frozen=True)
class Comparison:
    """Every configuration asked, in order; targets with nothing to rent; what was assumed.

    ``assumed`` says it in words, ``leaned`` names the assumed facts (:func:`facts.assumed_fact`).
    ``elsewhere`` is set where prices per token were given, ``demand`` where requests a second were.
    """

    model: str
    shape: Shape
    task_name: str
    task: Task
    choices: tuple[Choice, ...]
    absent: tuple[tuple[str, str], ...]
    assumed: tuple[str, ...]
    leaned: tuple[facts.Assumed, ...] = ()
    elsewhere: Elsewhere | None = None
    demand: Demand | None = None

    @property
    def best(self) -> tuple[Choice, ...]:
        """The best configuration of every target and instance, cheapest first."""
        groups: dict[tuple[str, str, int], list[Choice]] = {}
        for choice in self.choices:
            groups.setdefault((choice.target, choice.instance, choice.instances), []).append(choice)
        return tuple(sorted((min(g, key=lambda c: c.merit) for g in groups.values()),
                            key=lambda c: c.merit))  # fmt: skip

    def frontier(self, target: str, instance: str) -> tuple[Choice, ...]:
        """Configurations that no other beats in both speed for a user and work for the money."""
        mine = [c for c in self.choices
                if c.usable and c.target == target and c.instance == instance]  # fmt: skip
        kept: list[Choice] = []
        for choice in sorted(mine, key=lambda c: (c.wait_ms, -c.rate)):
            if not kept or choice.rate > kept[-1].rate:
                kept.append(choice)
        return tuple(kept)


def compare(
    model: str, on: Sequence[str] = DEFAULT_TARGETS, task: str = "", *,
    weights: Sequence[str] = ("bf16",), kv: Sequence[str] = ("bf16",), term: str = "",
    region: str | None = None, usd_per_million: Sequence[float] = (),
    forecast: Mapping[str, float] | None = None, measured: Sequence[Measurement] = (),
    ray: str = "", jobs: int | None = None, gpu_tables: bool = False,
    progress: Progress = lambda _: None, **overrides: Any,
) -> Comparison:  # fmt: skip
    """A model's work on several targets: all layouts and batches, with time, money and energy.

    ``on`` names instances or chips; ``overrides`` are fields of the task (``prompt_tokens=2048``);
    ``usd_per_million`` what tokens cost elsewhere (input, output; one price for other tasks than
    serving), for the load to break even; ``forecast`` overrides the defaults of sizing for
    ``requests_s``, as in :class:`tenzing.fleet.economics.Demand`; ``measured`` are a user's own
    measurements, shown beside; ``ray`` is the address of a cluster that searches instead of this
    machine; ``gpu_tables`` takes aiconfigurator's measured kernels for the GPUs and formats they
    cover. Raises UsageError for targets nobody knows and for a task that is not the model's.
    """
    shape, name = _work(model, task)
    wanted, defaults = task_named(name, **overrides)
    elsewhere = elsewhere_of(wanted, usd_per_million)
    with facts.recording() as looked:
        demand = demand_of(wanted, forecast or {})
        found, absent = offers(on, term=term, region=region)
        questions = _asked(model, wanted, found, weights, kv, gpu_tables)
        absent += _unasked(found, questions, weights)
        progress(f"{len(questions)} configurations of {model} on {len(found)} kinds of instance")
        answers = _answers(questions, ray, jobs, progress)
        choices = [c for c, _ in answers] + measured_choices(measured, model, wanted)
        choices = [completed(c, wanted, elsewhere, demand) for c in choices]
    words = {a for c in choices for a in c.assumed} | {a for o in found for a in o.assumed}
    leaned = looked.found.union(*(names for _, names in answers), assumed_in(shape))
    return Comparison(model, shape, name, wanted, tuple(choices), tuple(absent),
                      (*defaults, *sorted(words)), tuple(sorted(leaned)), elsewhere, demand,
                      )  # fmt: skip


def _work(model: str, task: str) -> tuple[Shape, str]:
    """The model and the name of its task; UsageError where it has none, or another."""
    shape = shape_of(model)
    name = task or USUAL.get(shape.kind, "")
    if not name:
        raise UsageError(f"{model} is a {shape.kind} model: say what it does", allowed=", ".join(
            facts.tasks()), next_step="give --task")  # fmt: skip
    facts.task(name)
    _suits(model, shape, name)
    return shape, name


def _asked(
    model: str, task: Task, found: Sequence[Offer], weights: Sequence[str], kv: Sequence[str],
    gpu_tables: bool,
) -> list[Any]:  # fmt: skip
    """Every question, those that the tables of GPU kernels cover for them."""
    for form in (*weights, *kv):
        if form not in BYTES:
            raise UsageError("unknown number format", got=form, allowed=", ".join(BYTES))
    pairs = tuple((w, k) for w in weights for k in kv)
    asked = [q for offer in found for q in _questions(model, task, offer, pairs)]
    if not gpu_tables:
        return asked
    version = tables.tables_version()
    return [_tabled(q, version) for q in asked]


def _unasked(
    found: Sequence[Offer], asked: Sequence[Any], weights: Sequence[str]
) -> list[tuple[str, str]]:
    """Targets that have no configuration with these formats, each with the reason."""
    served = {q.question.offer if isinstance(q, tables.Tabled) else q.offer for q in asked}
    rest = {o.target: o.device.name for o in found if o not in served}
    return [(target, f"{name} does not compute in {' or '.join(weights)}")
            for target, name in rest.items()]  # fmt: skip


def _suits(model: str, shape: Shape, task: str) -> None:
    if "parameters" in shape.assumed:
        near = difflib.get_close_matches(model.lower(), facts.models(), CLOSE_NAMES)
        raise UsageError(f"nothing is known of {model}", got=repr(model),
                         allowed=", ".join(near) or "a known name, or one that states its size",
                         next_step="give its config.json, or a name like my-model-7b")  # fmt: skip
    family, _ = facts.task(task)
    allowed = FAMILY_OF.get(shape.kind, ())
    if allowed and family not in allowed:
        usual = [t for t in facts.tasks() if facts.task(t)[0] in allowed]
        raise UsageError(f"{model} is a {shape.kind} model: {task} is not its work", got=task,
                         allowed=", ".join(usual))  # fmt: skip


def _questions(
    model: str, task: Task, offer: Offer, formats: tuple[tuple[str, str], ...]
) -> Iterable[Any]:
    if isinstance(task, Serving):
        return serving.questions(model, task, offer, formats)
    if isinstance(task, Encoding | Imaging | Perceiving):
        return batches.questions(model, task, offer)
    return training.questions(model, task, offer)


def evaluate(question: Any) -> tuple[Choice, tuple[facts.Assumed, ...]]:
    """The figures of any question, and the assumed facts that they lean on.

    A function of the module, so that other processes can run it.
    """
    with facts.recording() as looked:
        choice = _figures(question)
    return choice, tuple(sorted(looked.found))


def _figures(question: Any) -> Choice:
    if isinstance(question, serving.Question):
        return serving.evaluate(question)
    if isinstance(question, batches.Question):
        return batches.evaluate(question)
    if isinstance(question, tables.Tabled):
        return tables.evaluate(question)
    return training.evaluate(question)


def _tabled(question: Any, version: str) -> Any:
    """The same question for the tables of measured GPU kernels, where they cover it."""
    if isinstance(question, serving.Question) and tables.covers(question):
        return tables.Tabled(question, version)
    return question


def _answers(
    asked: list[Any], ray: str, jobs: int | None, progress: Progress
) -> list[tuple[Choice, tuple[facts.Assumed, ...]]]:
    """Evaluated here, in other processes, or on a cluster; computing one of ours beats keeping."""
    alone = jobs is None and not ray and len(asked) < WORTH_PROCESSES
    looked_up = any(isinstance(q, tables.Tabled) for q in asked)  # slow: their answers are kept
    told = progress if looked_up or len(asked) > TOLD_FROM else lambda _: None
    found = sweep(evaluate, asked, ray=ray, jobs=1 if alone else jobs, keep=looked_up,
                  progress=told)  # fmt: skip
    for answer in found:
        if isinstance(answer, TenzingError):
            raise answer
    return [answer for answer in found if not isinstance(answer, TenzingError)]


def simulated(found: Comparison, progress: Progress = lambda _: None) -> Comparison:
    """The same with the decode step of our own compiled program beside the best.

    Only where our compiler knows the model, the chip runs NKI and one group of ranks holds the
    model; others keep None. The first time of a layout is slow, later ones come from the store.
    """
    task = found.task
    times: dict[Choice, Choice] = {}
    for best in found.best:
        if not isinstance(task, Serving) or best.accelerator not in facts.chips():
            continue
        if best.pp > 1:
            progress(f"not simulated on {best.instance}: our programs have no stages")
        elif best.usable:
            progress(f"compiling {found.model} for {best.instance}: tp {best.tp}")
            layout = Layout(best.accelerator, best.tp, best.replicas, 1, best.weights, kv=best.kv)
            step = decode_step(found.model, layout, batch=best.batch, context=task.window,
                               simulate=True, progress=progress)  # fmt: skip
            if step.simulated_s is None:
                progress(f"not simulated on {best.instance}: {step.why}")
            ms = None if step.simulated_s is None else step.simulated_s * MS_PER_S / task.accepted
            times[best] = replace(best, simulated_ms=ms)
    return replace(found, choices=tuple(times.get(c, c) for c in found.choices))


__all__ = ["DEFAULT_TARGETS", "Comparison", "compare", "evaluate", "simulated"]
