"""The numbers we use: facts about chips, accelerators, instances and models."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tenzing import facts
from tenzing.cli.arguments import EXIT_OK, add_prices, command, use_prices
from tenzing.errors import FactsError, UsageError


def add_commands(sub: Any) -> None:
    """Add the commands of this family."""
    parser = command(
        sub, "facts", "every number we use about a chip, instance or model, with its source",
        "tenzing facts trn2", _facts,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", default="",
                        help="chip, accelerator, instance or model; none lists them")  # fmt: skip
    add_prices(parser)


def _facts(options: argparse.Namespace) -> int:
    use_prices(options)
    name = options.name
    if not name:
        listing = _listing()
        text = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in listing.items())
        print(json.dumps(listing, indent=2) if options.json else text)
        return EXIT_OK
    book = _book(name)
    if book is None:
        print(json.dumps(facts.model_json(name), indent=2) if options.json
              else facts.render_model(name))  # fmt: skip
    else:
        print(json.dumps(facts.as_json(book), indent=2) if options.json else facts.render(book))
    return EXIT_OK


def _listing() -> dict[str, list[str]]:
    chips = list(facts.all_chips())
    return {
        "chips": chips,
        "accelerators": [name for name in facts.accelerators() if name not in chips],
        "instances": sorted(facts.instances()),
        "models": sorted({*facts.models(), *facts.shapes()}),
    }


def _book(name: str) -> Any:
    """The facts of an instance, chip or accelerator; None for a model; UsageError for neither."""
    if name.strip().lower() in facts.instances():
        return facts.instance(name)
    try:
        found = facts.accelerator(name).name
    except FactsError:
        if facts.knows_model(name) or facts.find_shape(name) is not None:
            return None
        raise UsageError(
            f"nothing is known by the name {name!r}", got=name,
            next_step="tenzing facts lists chips, accelerators, instances and models",
        ) from None  # fmt: skip
    return facts.chip(found) if found in facts.all_chips() else facts.rival(found)


__all__ = ["add_commands"]
