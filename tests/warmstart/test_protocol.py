"""Places of the protocol that code names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOL = "bench/warmstart/protocol.md"


def test_sections_of_the_protocol_that_code_names_are_there() -> None:
    sections = set(re.findall(r"^## \((\w)\)", (ROOT / PROTOCOL).read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        path: re.findall(rf"{PROTOCOL},\s+section (\w)", path.read_text(encoding="utf-8"))
        for folder in ("bench", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__)
    }
    wrong = [
        f"{path}: section {section}" for path, found in named.items() for section in found if section not in sections
    ]
    assert not wrong
    assert sum(map(len, named.values())) >= 4


def test_no_reference_to_a_protocol_lacks_its_path() -> None:
    for path in (ROOT / "bench" / "warmstart").rglob("*.py"):
        assert not re.search(r"\(protocol, |in the protocol\b", path.read_text(encoding="utf-8")), path
