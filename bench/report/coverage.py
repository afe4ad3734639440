"""Claims about a paper's whole design, where a scale at the paper's protocol has chosen some of its cells.

Published numbers of the chosen cells are compared as ever. A claim about all cells is told as "2 of 5 cells": some of them
can refute it, and never reproduce it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench import exhibit, stats
from bench.exhibit import ArmRun, Claim
from bench.report.collect import long_frame
from bench.stats import Finding
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd


def of_part(plan: Plan, name: str, claim: Claim, frame: pd.DataFrame, finding: Finding) -> Finding:
    """The finding of a claim, left open where it would be reproduced by part of the paper's cells.

    Args:
        plan: with the settings of the exhibit.
        name: exhibit of the claim.
        claim: the claim.
        frame: long frame of the exhibit.
        finding: what the claim's test says of it.
    """
    settings = plan.settings[name]
    if finding.verdict == "not run" or not settings.at_protocol() or set(settings.departures()) <= {"seeds"}:
        return finding
    here, paper = number_of_cells(plan, name, claim, frame, finding)
    if here >= paper:
        return finding
    text = f"{here} of the paper's {paper} cells"
    if finding.verdict == "reproduced":
        return stats.undecided(finding, text)
    return replace(finding, detail=f"{finding.detail}; {text}")


def number_of_cells(plan: Plan, name: str, claim: Claim, frame: pd.DataFrame, finding: Finding) -> tuple[int, int]:
    """Number of cells that a claim rests on, and in the paper: its parts, or the exhibit's where it has none."""
    definition, settings = exhibit.registry()[name], plan.settings[name]
    runs = list(definition.runs(type(settings)(seeds=2)))
    try:
        paper = _parts(claim.test(_made_up(runs, sorted(set(frame["metric"])))))
    except Exception:  # a test may ask for numbers that are no arm's, or for other exhibits
        paper = 1
    if paper > 1:
        return _parts(finding), paper
    return _cells(plan.exhibits[name]), _cells(runs)


def _parts(finding: Finding) -> int:
    """Number of settings that a finding is made of; an average stands before its own."""
    return max(1, len(finding.parts) - (finding.rule == "average"))


def _cells(runs: Sequence[ArmRun]) -> int:
    """Number of cells, in each of which several methods are compared."""
    return len({tuple((key, label) for key, label in run.labels.items() if key != "method") for run in runs})


def _made_up(runs: Sequence[ArmRun], metrics: Sequence[str]) -> pd.DataFrame:
    """A long frame that has every metric of every run; its values mean nothing."""
    rows: list[dict[str, Any]] = [
        exhibit.row(run, metric, 1.0 + run.spec.seed + number % 7)
        for number, run in enumerate(runs)
        for metric in metrics
    ]
    return long_frame(rows)
