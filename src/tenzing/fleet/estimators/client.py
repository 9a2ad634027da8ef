"""What a client sees of a server: waiting, other clients' prompts, time for each token at the host.

Every figure is a sum of parts that are calibrated like the work of a step.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from tenzing.facts import software
from tenzing.fleet.estimate import Estimate, Solve, conditions, slope
from tenzing.fleet.estimators.serving import Serving

MS: Final = 1e3
STATISTICS: Final = ("p50", "mean", "p99")
MOST_PREFILLING: Final = 0.9  # of an open load's time; beyond it nothing would be decoded
_WAVES: Final = re.compile(r"2024-0[1-5]")  # releases of the client that sent requests together


def first_token(s: Serving, fill: float, step: float) -> dict[str, float]:
    """Parts of the time to the first token: its prompt, prompts before it, a slot."""
    if s.load == "open":
        busy = min(s.rate * fill, MOST_PREFILLING)
        return {"fill": fill, "arrivals": fill * busy / (2 * (1 - busy)), "decode": step}
    before = max(s.active + s.waiting - 1, 0.0) / 2
    waves = "waves" if _WAVES.search(s.row.text("version")) else s.load
    parts = {"fill": fill, f"prompts_{waves}": before * fill}
    if s.waiting and waves != "waves":
        decoded = step * s.output + s.active * fill
        parts["slot"] = s.waiting / s.active * decoded
    return parts


def between_tokens(s: Serving, fill: float, step: float) -> dict[str, float]:
    """Parts of the time between tokens: a step, other clients' prompts, the host."""
    sampled = "_sampling" if "tgi" in s.row.text("framework").lower() else ""
    host_s = software(f"serving.host{s.side}_s")
    if s.load == "open":
        busy = min(s.rate * fill, MOST_PREFILLING)
        crowded = (s.slots - 1) * fill / max(s.output, 1.0)  # every slot full
        others = min(step * busy / (1 - busy), crowded)
        active = min(s.rate * (fill + s.output * step), float(s.slots))
    else:
        active = s.active
        others = max(active - 1, 0.0) * fill / max(s.output, 1.0)
    return {"decode": step / s.accepted, "prompts": others / s.accepted,
            f"host{sampled}{s.side}": active * host_s / s.accepted}  # fmt: skip


def served(s: Serving, step_estimate: Estimate, fill_estimate: Estimate, solve: Solve
           ) -> list[Estimate]:  # fmt: skip
    """Every figure of a client from the steps of a server."""
    step, fill = solve(step_estimate), solve(fill_estimate)
    quiet = s.load == "batch" or (s.load == "clients" and s.active <= 1 and not s.waiting)
    if quiet:
        found = [
            part for name in STATISTICS
            for part in (as_metric(fill_estimate, f"ttft_ms_{name}", name),
                         as_metric(step_estimate, f"tpot_ms_{name}", name, 1 / s.accepted))
        ]  # fmt: skip
        return [*found, *_per_token(s, step_estimate), *_totals(s, fill, step / s.accepted, 0.0)]
    first, between = first_token(s, fill, step), between_tokens(s, fill, step)
    solved = solve(of_load(s, "", "first_token", first, "p50", "prefill"))
    wait = solved - solve(of_load(s, "", "first_token", _without(first, "slot"), "p50", "prefill"))
    paced = solve(of_load(s, "", "between_tokens", between, "p50", "decode"))
    told = between
    if "llmperf" in s.row.text("framework").lower():  # it divides a request by its tokens
        told = {**between, "first": solved / max(s.output, 1.0)}
    found = []
    for name in STATISTICS:
        found.append(of_load(s, f"ttft_ms_{name}", "first_token", first, name, "prefill"))
        found.append(of_load(s, f"tpot_ms_{name}", "between_tokens", told, name, "decode"))
    return [*found, *_totals(s, solved, paced, wait)]


def _per_token(s: Serving, step: Estimate) -> list[Estimate]:
    """The oldest tables: latency per token and tokens a second, prompt and answer together."""

    every = [as_metric(step, f"latency_per_token_ms_{n}", n) for n in ("p50", "p99")]
    rate = replace(step, metric="total_tok_s", scale=float(s.slots), rate=True)
    return [*every, replace(rate, features={**step.features, **conditions(statistic="throughput")})]


def _without(parts: dict[str, float], name: str) -> dict[str, float]:
    return {k: v for k, v in parts.items() if k != name}


def as_metric(estimate: Estimate, metric: str, statistic: str, share: float = 1.0) -> Estimate:
    """A step's own time under the name of a metric, in ms."""
    stat = conditions(statistic=statistic)
    return Estimate(metric, estimate.quantity, estimate.parts, {**estimate.features, **stat},
                    scale=MS * share, phase=estimate.phase, width=estimate.width,
                    assumed=estimate.assumed)  # fmt: skip


def of_load(
    s: Serving, metric: str, quantity: str, parts: dict[str, float], statistic: str, phase: str,
    scale: float = MS, rate: bool = False, **more: object,
) -> Estimate:  # fmt: skip
    """A client's figure with factors for how the server was driven."""
    features = conditions(load=s.load, framework=s.framework, statistic=statistic, **more)
    if s.accepted > 1:
        features |= {"flag=speculative": 1.0}
    if s.load in ("clients", "open"):
        features |= slope("ln_clients", (s.active + s.waiting) * s.replicas, 1.0)
    if s.waiting:
        features |= {"flag=queued": 1.0}
    assumed = s.prompt_assumed if quantity == "first_token" else s.shape.assumed
    return Estimate(metric, quantity, parts, features, scale=scale, rate=rate,
                    phase=phase, width=s.framework, assumed=assumed)  # fmt: skip


def _totals(s: Serving, first: float, between: float, wait: float) -> list[Estimate]:
    """Whole requests and rates; ``wait`` of ``first`` is for a slot, which others use meanwhile."""
    total = first + max(s.output - 1, 1.0) * between
    held = max(total - wait, between)
    busy = _busy(s, held)
    scope = s.row.text("tok_s_scope").lower()
    if scope.startswith(("decode rate", "system (decode")):
        seconds, made = between, float(s.slots * s.replicas)
    elif scope.startswith("per request"):
        seconds, made = total, s.output
    else:
        seconds, made = held, busy * s.output
    kind = next((k for k in ("decode rate", "per request") if k in scope), "system")
    per_gpu = s.cores.chips * s.replicas if "per gpu" in scope or "per chip" in scope else 1.0

    def make(metric: str, quantity: str, time: float, scale: float, rate: bool, **more: object
             ) -> Estimate:  # fmt: skip
        return of_load(s, metric, quantity, {"model": time}, "", "serving", scale, rate, **more)

    return [
        make("output_tok_s", "output_rate", seconds, made / per_gpu, True,
             scope=kind.replace(" ", "-")),
        make("e2e_latency_ms", "request", total, MS, False),
        make("req_s", "request_rate", held, busy, True),
    ]  # fmt: skip


def _busy(s: Serving, held: float) -> float:
    """Requests that all replicas serve at a time."""
    if s.load == "open":
        each = max(min(s.rate * held, float(s.slots)), 1.0)
    else:
        each = float(s.slots) if s.load == "batch" else s.active
    busy = each * s.replicas
    return min(busy, s.clients) if s.clients else busy


__all__ = ["as_metric", "between_tokens", "first_token", "of_load", "served"]
