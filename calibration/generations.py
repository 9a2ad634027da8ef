"""What one generation gains over the one before: the vendor's claim beside our two answers.

    python -m calibration.generations

writes ``docs/explanation/generations.md``. No claim is an input of a model: ``simulated`` is our
own program of either chip, ``calibrated`` is the end-to-end estimate from published rows.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenzing import facts
from tenzing.compiler.models import build, decoder_times
from tenzing.compiler.timing import time_graph
from tenzing.fleet import Layout, decode_step, predict_row, training_step
from tenzing.fleet.estimate import calibration
from tenzing.fleet.estimators import vision
from tenzing.fleet.rows import CONFIGURATION, Row

FOLDER: Final = Path(__file__).resolve().parent
PAGE: Final = FOLDER.parent / "docs" / "explanation" / "generations.md"
DECODER: Final = "llama-2-7b"
ENCODER: Final = "bert-base-uncased"
TOKENS: Final = 2048
DEVICES: Final = 16
GLOBAL_BATCH: Final = 256
SENTENCES, LENGTH = 8, 128


@dataclass(frozen=True)
class Answer:
    """Speed-ups per chip; ``simulated`` is None where ``why`` says the reason."""

    name: str
    facts: Mapping[str, Any]
    peaks: float
    calibrated: float
    simulated: float | None
    why: str


def claims() -> dict[str, dict[str, Any]]:
    """The vendor's statements by name."""
    found: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "generations.toml").read_text())
    return found


def answer(name: str, claim: Mapping[str, Any], tokens: int = 0) -> Answer:
    """One claim with what the models say; ``tokens`` of the compiled layer, 0 compiles nothing."""
    old, new = facts.chip(claim["old"]), facts.chip(claim["new"])
    before = "chip.peak_bf16_tflops" if claim["work"] == "fp8" else claim["peaks"]
    peaks = new.number(claim["peaks"]) / old.number(before)
    calibrated = CALIBRATED[claim["work"]](old.name, new.name)
    simulated, why = None, "not compiled"
    if tokens:
        simulated, why = SIMULATED[claim["work"]](old.name, new.name, tokens)
    return Answer(name, claim, peaks, calibrated, simulated, why)


def _trained(weights: str) -> Callable[[str, str], float]:
    def gain(old: str, new: str) -> float:
        one, two = (
            training_step(DECODER, Layout(chip, tp=8, weights=weights), global_batch=GLOBAL_BATCH,
                          tokens=TOKENS, devices=DEVICES).calibrated.value
            for chip in (old, new)
        )  # fmt: skip
        return one / two

    return gain


def _decoded(old: str, new: str) -> float:
    return _step(old) / _step(new)


def _step(chip: str, weights: str = "bf16") -> float:
    """A decode step of one whole chip."""
    layout = Layout(chip, tp=4, weights=weights)
    return decode_step(DECODER, layout, batch=4, context=TOKENS).calibrated.value


def _narrower(old: str, new: str) -> float:
    return _step(old) / _step(new, "fp8")


def _encoder_row(chip: str) -> Row:
    """Each core of a chip with its own copy."""
    cores = facts.chip(chip).integer("core.per_chip")
    cells = {
        "model": ENCODER, "category": "encoder", "accelerator": chip,
        "instance": f"{chip}.xlarge", "cores_used": str(cores), "batch": str(SENTENCES),
        "seq_len": str(LENGTH), "n_models": str(cores), "workers_per_model": "1",
        "framework": "PyTorch 1", "app_type": "Batch", "model_dtype": "fp32",
        "autocast_dtype": "Matmult-BF16", "throughput_unit": "inf/s",
    }  # fmt: skip
    kind = "inference_encoder_vision"
    return Row(kind, {k: cells.get(k, "") for k in CONFIGURATION[kind]})


def _encoded(old: str, new: str) -> float:
    """Sentences a second of one chip."""

    def rate(chip: str) -> float:
        return predict_row(_encoder_row(chip)).predictions["throughput"].value

    return rate(new) / rate(old)


def _encoder_parts(old: str, new: str) -> str:
    """What a batch spends its time on, per chip, in the calibrated answer."""
    using = calibration()

    def parts(chip: str) -> dict[str, float]:
        made = vision.estimates(_encoder_row(chip), using.time)
        found = using.parts(next(e for e in made if e.metric == "throughput"))
        return {k: v / _cores(chip) for k, v in found.items()}

    before, after = parts(old), parts(new)
    products = before["compute"] / after["compute"]
    others = [sum(p.values()) - p["compute"] for p in (before, after)]
    return (
        f"In the calibrated answer products are {before['compute'] / sum(before.values()):.0%} of "
        f"the time on {old} and {after['compute'] / sum(after.values()):.0%} on {new}. They gain "
        f"{products:.1f} a chip, everything else {others[0] / others[1]:.1f}: the products hold "
        "the ratio below that of the peaks."
    )


Simulated = tuple[float | None, str]


def _cores(chip: str) -> int:
    return facts.chip(chip).integer("core.per_chip")


def _layer() -> dict[str, Any]:
    return facts.model(DECODER) | {"num_hidden_layers": 1}


def _simulated_training(old: str, new: str, tokens: int) -> Simulated:
    one, two = (
        training_step(DECODER, Layout(chip, tp=8), global_batch=GLOBAL_BATCH, tokens=tokens,
                      devices=DEVICES, simulate=True)
        for chip in (old, new)
    )  # fmt: skip
    if one.simulated_s is None or two.simulated_s is None:
        return None, one.why or two.why
    return one.simulated_s / two.simulated_s, "a whole step, forward, backward, sums and update"


def _simulated_decode(old: str, new: str, tokens: int) -> Simulated:
    one, two = (
        decoder_times(_layer(), lengths=(tokens,), target=chip).decode[tokens].total_ps
        / _cores(chip)
        for chip in (old, new)
    )
    return one / two, "decode step of a layer on every core"


def _no_builder(what: str) -> Callable[[str, str, int], Simulated]:
    return lambda old, new, tokens: (None, what)


def _simulated_encoder(old: str, new: str, tokens: int) -> Simulated:
    if old not in facts.chips():
        alone = time_graph(build(ENCODER, "encode", SENTENCES, LENGTH), new).total_ps
        return None, f"{old} has no NKI; a batch takes {alone / 1e9:.2f} ms on a core of {new}"
    return None, "no older chip runs NKI"


CALIBRATED: Final[Mapping[str, Callable[[str, str], float]]] = {
    "training": _trained("bf16"), "training8": _trained("fp8"), "decode": _decoded,
    "fp8": _narrower, "encoder": _encoded,
}  # fmt: skip
PARTS: Final[Mapping[str, Callable[[str, str], str]]] = {"encoder": _encoder_parts}
SIMULATED: Final[Mapping[str, Callable[[str, str, int], Simulated]]] = {
    "training": _simulated_training,
    "training8": _no_builder("no builder has products of 8 bits"),
    "decode": _simulated_decode,
    "fp8": _no_builder("no builder has weights of 8 bits"),
    "encoder": _simulated_encoder,
}


INTRO: Final = f"""# From generation to generation

Generated by `python -m calibration.generations`; do not edit.

Speed-ups of one chip over one chip. None of these claims is an input: *peaks* is the ratio of two
documented figures, *simulated* compiles {DECODER} for the cores of either chip ({TOKENS} tokens),
*calibrated* is the end-to-end estimate (a training step of {DEVICES} chips, a decode step of one
chip, {ENCODER} on every core), whose constants were fitted on published rows.

| | the vendor says | kind | peaks | simulated | calibrated |
|---|---|---|---|---|---|
"""


def page(answers: list[Answer]) -> str:
    """The page as Markdown: one row a claim, then where it is from and how it was simulated."""
    lines, notes = [], []
    for a in answers:
        ours = "-" if a.simulated is None else f"{a.simulated:.2f}"
        lines.append(
            f"| {a.facts['title']} | {a.facts['claim']} ({a.facts['value']:g}) | "
            f"{a.facts['kind']} | {a.peaks:.2f} | {ours} | {a.calibrated:.2f} |"
        )
        notes.append(f"- **{a.facts['title']}**: {a.facts['source']}. Simulated: {a.why}.")
    held = [
        f"**{a.facts['title']}.** {a.facts['note']} "
        + PARTS[a.facts["work"]](a.facts["old"], a.facts["new"])
        for a in answers if "note" in a.facts
    ]  # fmt: skip
    parts = [INTRO + "\n".join(lines), "Sources, and how each was simulated:", "\n".join(notes),
             *(["## What holds a ratio back", *held] if held else [])]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page([answer(name, claim, TOKENS) for name, claim in claims().items()]))
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
