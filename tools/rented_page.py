"""The reference pages of what can be rented and of the models known by name."""

from __future__ import annotations

from tenzing import facts
from tenzing.facts.catalogue import catalogue


def instances_page() -> str:
    """Every instance with its accelerators, host, price to plan with and power under load."""
    lines = [
        "# Instances", "",
        "What can be rented, with the price to plan with and the power under load. All facts of "
        "one with their sources, every price and its age: `tenzing facts NAME`. Prices of your "
        "own: [your prices](../how-to/your-prices.md).", "",
        "| instance | provider | accelerators | vCPUs | memory | network | USD/h | term | of "
        "| kind | watts under load |", "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, instance in facts.instances().items():
        best, drawn = facts.best_price(name), facts.power(name)
        price = (f"{best.usd_per_hour:,.4f} | {best.term.replace('_', ' ')} | {best.date} "
                 f"| {best.kind}") if best else "unknown | | | "  # fmt: skip
        watts = (f"{drawn.peak.watts.amount:,.0f} ({drawn.peak.low.amount:,.0f} to "
                 f"{drawn.peak.high.amount:,.0f})") if drawn else "unknown"  # fmt: skip
        network = instance.facts["network_gbps"].text()
        lines.append(
            f"| `{name}` | {instance.provider} | {instance.chips} x {instance.accelerator} | "
            f"{instance.facts['vcpus'].text()} | {instance.facts['memory_gib'].text()} | "
            f"{network} | {price} | {watts} |"
        )
    return "\n".join([*lines, "", *_rivals()]) + "\n"


def _rivals() -> list[str]:
    lines = ["## Accelerators nobody rents out under their name here", ""]
    names = [n for n in facts.accelerators() if not facts.instances_of(n)]
    return [*lines, ", ".join(f"`{n}`" for n in names) + "."]


def models_page() -> str:
    """Every model known by name, exact or as a shape."""
    lines = [
        "# Models", "",
        "A name, the name of its repository, or the path of a `config.json` stands for a model. "
        "Exact configurations can be compiled and estimated, shapes only estimated. The whole "
        "entry of one: `tenzing facts NAME`.", "", "## Exact configurations", "",
        "| name | published as | parameters | kind | read from |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name in facts.models():
        entry = facts.model_entry(name)
        lines.append(f"| `{name}` | {entry['where']} | {_count(entry['params_m'])} | "
                     f"{entry['kind']} | {entry['source']} |")  # fmt: skip
    lines += ["", "## Shapes", "", "| name | published as | kind of model | parameters |",
              "|---|---|---|---|"]  # fmt: skip
    for shape in catalogue():
        lines.append(f"| `{shape.name}` | {shape.where} | {shape.values['kind']} | "
                     f"{_count(shape.values['params_m'])} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _count(millions: float) -> str:
    return f"{millions / 1000:,.2f} B" if millions >= 1000 else f"{millions:g} M"
