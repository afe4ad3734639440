"""Every reference to the protocol leads to a section of it."""

from __future__ import annotations

import re

from bench.paths import PROJECT

PROTOCOL = PROJECT / "bench" / "certified" / "protocol.md"
FILES = [
    path
    for folder in ("bench/certified", "bench/models", "bench/perf", "bench/data", "tests/certified")
    for path in sorted((PROJECT / folder).rglob("*.py"))
    if "certified" in path.read_text(encoding="utf-8")
]
REFERENCE = re.compile(r"bench/certified/protocol\.md(?:, sections? (\w)(?: and (\w))?)?")


def test_every_reference_leads_to_a_section() -> None:
    sections = set(re.findall(r"^## \((\w)\)", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE))
    assert sections == set("abcdefg")
    references = [(path, match) for path in FILES for match in REFERENCE.finditer(path.read_text(encoding="utf-8"))]
    assert len(references) > 10
    wrong = [
        f"{path.name}: {match.group()}" for path, match in references if set(filter(None, match.groups())) - sections
    ]
    assert not wrong


def test_no_reference_is_without_its_file() -> None:
    """Docstrings name the file, so that a reader and the test above find it."""
    bare = re.compile(r"[Pp]rotocol, " + "section|[Pp]rotocol, " + "Table")
    assert not [path.name for path in FILES if bare.search(path.read_text(encoding="utf-8"))]
