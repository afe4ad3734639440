"""References to the protocol lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOL = "bench/rewarm/protocol.md"


def test_sections_of_the_protocol_that_code_names_are_there() -> None:
    sections = set(re.findall(r"^## \((\w)\)", (ROOT / PROTOCOL).read_text(encoding="utf-8"), re.MULTILINE))
    named = 0
    for folder in ("bench", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for section in re.findall(rf"{PROTOCOL}`*,\s+section (\w)", text):
                assert section in sections, f"{path}: section {section}"
                named += 1
    assert named >= 4
