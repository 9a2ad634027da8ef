"""Files derived from the code and the facts: write them, or check that they are current."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]


def wants_check(description: str) -> bool:
    """Parse the one option that both tools have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when out of date")
    return bool(parser.parse_args().check)


def publish(pages: dict[str, str], *, check: bool, folders: Iterable[str] = ()) -> int:
    """Write ``pages`` (path from the root to text), or compare them; 1 when one is stale.

    Files under ``folders`` that no page accounts for are removed, or reported.
    """
    kept = {ROOT / path for path in pages}
    orphans = sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path not in kept
    )
    stale = [path for path, text in sorted(pages.items()) if _current(path) != text]
    if check:
        found = [*stale, *(path.relative_to(ROOT).as_posix() for path in orphans)]
        for path in found:
            print(f"{path} is out of date; `make docs` writes it", file=sys.stderr)
        return 1 if found else 0
    for name in stale:
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[name], encoding="utf-8")
        print(f"wrote {name}")
    for path in orphans:
        path.unlink()
        print(f"removed {path.relative_to(ROOT).as_posix()}")
    return 0


def _current(name: str) -> str | None:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else None
