"""The numbers we use: facts about chips and instances."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tenzing import facts
from tenzing.cli.arguments import EXIT_OK, command


def add_commands(sub: Any) -> None:
    """Add the commands of this family."""
    parser = command(
        sub, "facts", "every number we use about a chip or instance, with its source",
        "tenzing facts trn2", _facts,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", default="", help="chip or instance; none lists them")


def _facts(options: argparse.Namespace) -> int:
    name = options.name
    if not name:
        listing = {"chips": list(facts.all_chips()), "instances": sorted(facts.instances())}
        text = "chips: {}\ninstances: {}".format(*(", ".join(v) for v in listing.values()))
        print(json.dumps(listing, indent=2) if options.json else text)
        return EXIT_OK
    thing = facts.instance(name) if name in facts.instances() else facts.chip(name)
    print(json.dumps(facts.as_json(thing), indent=2) if options.json else facts.render(thing))
    return EXIT_OK


__all__ = ["add_commands"]
