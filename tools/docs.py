"""Writes docs/reference from code and facts: instructions, facts, chips, instances, models, CLI."""

from __future__ import annotations

import sys
from typing import Final

from cli_page import cli_page
from generated import publish, wants_check
from isa_page import isa_page
from rented_page import instances_page, models_page

from tenzing import facts

FOLDER: Final = "docs/reference"
MARK: Final = "<!-- Derived by tools/docs.py; `make docs` rewrites it. -->\n"


def pages() -> dict[str, str]:
    """Path from the root and text of every reference page."""
    found = {"isa.md": isa_page(), "facts.md": facts.schema_page(), "cli.md": cli_page()}
    found |= {"instances.md": instances_page(), "models.md": models_page()}
    found |= {f"chips/{name}.md": chip_page(name) for name in facts.all_chips()}
    return {f"{FOLDER}/{name}": MARK + text for name, text in sorted(found.items())}


def chip_page(name: str) -> str:
    """Every fact about a chip with its source."""
    chip = facts.chip(name)
    return (
        f"# {chip.title}\n\nWhat the keys mean: [facts](../facts.md). The same in a terminal: "
        f"`tenzing facts {name}`.\n\n```text\n{facts.render(chip)}\n```\n"
    )


if __name__ == "__main__":
    sys.exit(publish(pages(), check=wants_check(__doc__ or ""), folders=(FOLDER,)))
