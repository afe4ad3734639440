"""Verdict pages and tables: what a reader sees, and that nothing in a name can break them."""

from __future__ import annotations

import csv
import io

from bench import stats
from bench.report import verdicts
from bench.report.verdicts import Entry


def entry(**changes: object) -> Entry:
    fields = {
        "exhibit": "warmstart/table1",
        "kind": "claim",
        "name": "T1a",
        "statement": "Warm starts <generalise> worse | always.",
        "source": "Table 1",
        "published": None,
        "spread": None,
        "unit": "",
        "provenance": "text",
        "margin": None,
        "finding": stats.greater({0: 3.0, 1: 4.0, 2: 3.5}, {0: 1.0, 1: 1.5, 2: 1.2}),
        "test": "difference > 0",
        "scale": "ci",
        "machine": "a machine",
        "older": False,
        "cost": "",
        "note": "",
    }
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


def number(**changes: object) -> Entry:
    found = stats.equivalent_to({0: 51.0, 1: 52.0, 2: 51.5}, 51.7, margin=2.0)
    fields = {"kind": "target", "name": "cifar10, val_acc", "statement": "", "published": 51.7, "margin": 2.0}
    return entry(**{**fields, "finding": found, **changes})


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
    context = number(kind="context", provenance="replication:rescience2021", margin=None)
    assert context.verdict == "context"
    entries = [entry(), number(), context]
    assert verdicts.headline(entries) == verdicts.headline(entries[:2])
    assert "## Context, not judged" in verdicts.as_markdown(entries)
    assert "replication:rescience2021" in verdicts.as_markdown(entries)


def test_what_a_scale_cannot_show_stands_with_its_reason() -> None:
    beyond = entry(not_expected_at="generated images have no such shift")
    assert "cannot be expected to show 1 of the claims" in " ".join(verdicts.headline([beyond]))
    for text in (verdicts.as_markdown([beyond]), verdicts.as_csv([beyond])):
        assert "generated images have no such shift" in text
    assert "not to be expected" in verdicts.as_text([beyond])


def test_an_entry_that_was_not_run_says_what_it_would_cost() -> None:
    absent = number(finding=stats.not_run("no record"), cost="about 3.0 h on 2 cores")
    assert "would take about 3.0 h on 2 cores" in verdicts.as_markdown([absent])
