"""Made-up entries and exhibits for pages and reports."""

from __future__ import annotations

from pathlib import Path

from bench import stats
from bench.report.shown import Departure, Shown
from bench.report.verdicts import Entry


def shown(root: Path, name: str, kind: str, **changes: object) -> Shown:
    facts: dict[str, object] = {
        "title": f"Title of {name}", "caption": "What it shows.", "kind": kind, "files": root / "exhibits" / name,
        "missing": [], "runs": 6, "seconds": 120.0, "machines": ["a machine"], "commits": ["0123456789abcdef"],
        "about": "What the paper does.", "expected": "Expected (printed): much.", "here": "Here: less, 3 seeds.",
        "departures": (departure("width", "16", "8"),), "settings": ("seeds", "width"),
        "code": f"bench/{name.split('/')[0]}/exhibits/table1.py",
    }  # fmt: skip
    return Shown(name, **{**facts, **changes})  # type: ignore[arg-type]


def departure(name: str, paper: str, here: str) -> Departure:
    return Departure(name, f"what {name} is", paper, here)


def entry(exhibit: str, kind: str, name: str, finding: stats.Finding, **changes: object) -> Entry:
    facts: dict[str, object] = {
        "statement": f"Statement of {name}." if kind in ("claim", "estimate") else "", "source": "Table 1",
        "published": None, "spread": None, "unit": "percent", "provenance": "printed", "margin": None,
        "test": finding.test, "scale": "ci", "machine": "a machine", "older": False, "cost": "", "note": "",
    }  # fmt: skip
    return Entry(exhibit=exhibit, kind=kind, name=name, finding=finding, **{**facts, **changes})  # type: ignore[arg-type]


def number(exhibit: str, name: str, published: float, ours: dict[int, float], kind: str = "target") -> Entry:
    finding = stats.equivalent_to(ours, published, margin=2.0) if ours else stats.not_run("no record")
    cost = "" if ours else "about 3.0 h on 2 cores"
    return entry(exhibit, kind, name, finding, published=published, spread=0.5, margin=2.0, cost=cost)
