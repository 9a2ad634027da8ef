"""Code asks only for keys that the schema declares."""

from __future__ import annotations

import re
from pathlib import Path

import tenzing
from tenzing.facts.schema import CHIP_KEYS


def test_every_key_named_in_the_code_is_declared() -> None:
    groups = "|".join(sorted({path.split(".")[0] for path in CHIP_KEYS}))
    asked = re.compile(rf'\.(?:number|integer|flag|text|fact)\(\s*"((?:{groups})\.[a-z0-9_]+)"')
    root = Path(tenzing.__file__).parent
    found = {
        (file.relative_to(root).as_posix(), path)
        for file in root.rglob("*.py")
        for path in asked.findall(file.read_text("utf-8"))
    }
    assert found, "the pattern no longer finds anything"
    assert {(file, path) for file, path in found if path not in CHIP_KEYS} == set()
