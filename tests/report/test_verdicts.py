"""Verdict pages and tables: what a reader sees, and that nothing in a name can break them."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

from bench import stats
from bench.report import verdicts
from bench.report.verdicts import Entry

sys.path.insert(0, str(Path(__file__).parent))
import entries


def entry(**changes: object) -> Entry:
    found = stats.greater({0: 3.0, 1: 4.0, 2: 3.5}, {0: 1.0, 1: 1.5, 2: 1.2})
    fields = {"statement": "Warm starts <generalise> worse | always.", "provenance": "text", **changes}
    return entries.entry("warmstart/table1", "claim", "T1a", found, **fields)


def number(kind: str = "target", ours: dict[int, float] | None = None) -> Entry:
    ours = {0: 51.6, 1: 51.8, 2: 51.7} if ours is None else ours
    return entries.number("warmstart/table1", "cifar10, val_acc", 51.7, ours, kind)


def test_csv_has_every_entry_with_its_interval() -> None:
    rows = list(csv.DictReader(io.StringIO(verdicts.as_csv([entry(), number()]))))
    assert [row["kind"] for row in rows] == ["claim", "target"]
    assert float(rows[1]["low"]) < float(rows[1]["estimate"]) < float(rows[1]["high"])
    assert rows[1]["verdict"] == "reproduced" and rows[1]["n"] == "3"


def test_pages_escape_what_they_show() -> None:
    assert "worse \\| always" in verdicts.as_markdown([entry()])


def test_false_alarms_are_stated() -> None:
    assert verdicts.headline([entry(), number()])[-1].endswith("at most 0.1 wrong.")


def test_context_is_shown_and_never_counted() -> None:
    context = replace(number("context"), provenance="replication:rescience2021", margin=None)
    assert context.verdict == "context"
    judged = [entry(), number()]
    assert verdicts.headline([*judged, context]) == verdicts.headline(judged)
    page = verdicts.as_markdown([*judged, context])
    assert "## Context, not judged" in page and "replication:rescience2021" in page


def test_what_a_scale_cannot_show_stands_with_its_reason() -> None:
    beyond = entry(not_expected_at="generated images have no such shift")
    assert "cannot be expected to show 1 of the claims" in " ".join(verdicts.headline([beyond]))
    for text in (verdicts.as_markdown([beyond]), verdicts.as_csv([beyond])):
        assert "generated images have no such shift" in text
    assert "not to be expected" in verdicts.as_text([beyond])


def test_an_entry_that_was_not_run_says_what_it_would_cost() -> None:
    assert "would take about 3.0 h on 2 cores" in verdicts.as_markdown([number(ours={})])
