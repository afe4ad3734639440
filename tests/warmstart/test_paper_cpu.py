"""Scale paper-cpu: cells of scale paper that processors reach, departing in nothing; what is said of claims about all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench import config, exhibit, published, stats
from bench.errors import UserError
from bench.exhibit import Claim, Exhibit
from bench.report import coverage, plan_text
from bench.report.collect import long_frame
from bench.warmstart.design import RI, WS
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

TABLE = "warmstart/table1"


@pytest.fixture(scope="module")
def here() -> Plan:
    return planning.make(config.load("paper-cpu"))


def test_it_departs_in_nothing_but_the_choice_of_cells(here: Plan) -> None:
    assert list(here.exhibits) == ["certified/table5", "certified/fig1", TABLE, "warmstart/fig9"]
    assert {name for name, settings in here.settings.items() if not settings.at_protocol()} == set()
    chosen = {name: set(settings.departures()) for name, settings in here.settings.items() if settings.departures()}
    assert chosen == {TABLE: {"cells"}, "warmstart/fig9": {"pairs", "fractions"}}
    assert {settings.seeds for settings in here.settings.values()} == {5}
    departures = plan_text.as_text(here).split("departures from the paper")[1].splitlines()
    assert departures[1] == "  none"


def test_its_runs_are_those_of_scale_paper_with_other_seeds(here: Plan) -> None:
    paper = planning.make(config.load("paper").model_copy(update={"first_seed": 2000}), tuple(here.exhibits))
    assert set(here.key_by_identity) < set(paper.key_by_identity)
    assert {run.spec.seed for run in here.runs.values()} == set(range(2000, 2005))


def test_it_trains_on_processors_one_process_a_core() -> None:
    suite = config.load("paper-cpu")
    assert (suite.device, suite.threads, suite.looks, suite.first_seed) == ("cpu", 1, (), 2000)


def table1() -> Exhibit:
    return exhibit.registry()[TABLE]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (["cifar10 mlp sdg"], "did you mean 'cifar10 mlp sgd'"),
        (["nonsense"], "'nonsense' is no cell"),
        (["svhn mlp sgd", "svhn mlp sgd"], "'svhn mlp sgd' stands there twice"),
        ([], "at least 1"),
        (["cifar10 mlp sgd", 5], "valid string"),
    ],
)
def test_a_cell_that_is_none_is_one_line(chosen: list[Any], says: str) -> None:
    suite = config.load("paper").model_copy(update={"exhibits": {TABLE: {"cells": chosen}}})
    with pytest.raises(UserError, match=says) as raised:
        exhibit.settings_of(suite, table1())
    assert len(str(raised.value).splitlines()) == 1


def test_each_wrong_cell_has_its_line() -> None:
    suite = config.load("paper").model_copy(update={"exhibits": {TABLE: {"cells": ["a", "cifar10 mlp sgd", "b"]}}})
    with pytest.raises(UserError) as raised:
        exhibit.settings_of(suite, table1())
    first, second = str(raised.value).splitlines()
    assert "cells.0" in first and "cells.2" in second


# --- the gap -------------------------------------------------------------------------------------------------------------


def test_the_published_gap_is_the_difference_of_the_two_printed_numbers() -> None:
    rows = published.targets(table1())
    levels = {
        (row["dataset"], row["model"], row["optimizer"], row["method"]): row["value"]
        for row in rows[rows["metric"] == "val_acc"].to_dict("records")
    }
    gaps = rows[rows["metric"] == "val_acc_gap"]
    assert len(gaps) == 18 and len(levels) == 36
    for row in gaps.to_dict("records"):
        cell = row["dataset"], row["model"], row["optimizer"]
        assert row["value"] == pytest.approx(levels[*cell, RI] - levels[*cell, WS])
        assert "difference" in row["note"]
    assert table1().margins == {"val_acc": 2.0, "val_acc_gap": 1.0}


def frame_of(gap_by_cell: Mapping[str, float], seeds: int = 5) -> Any:
    """Accuracies whose gaps are the given ones, with a little noise."""
    settings = table1().settings(cells=list(gap_by_cell), seeds=seeds)
    rows = []
    for run in table1().runs(settings):
        cell = " ".join(str(run.labels[label]) for label in ("dataset", "model", "optimizer"))
        noise = 0.1 * run.spec.seed + 0.01 * (run.spec.seed % 2) * (run.labels["method"] == WS)
        gap = gap_by_cell[cell] if run.labels["method"] == WS else 0.0
        rows.append(exhibit.row(run, "val_acc", 50 + noise - gap))
    derive = table1().derive
    assert derive is not None
    return long_frame([*rows, *derive(long_frame(rows))])


def test_our_gap_is_that_of_the_same_seed() -> None:
    frame = frame_of({"cifar10 mlp sgd": 1.6}, seeds=2)
    gaps = frame[frame["metric"] == "val_acc_gap"]
    assert gaps["value"].tolist() == pytest.approx([1.6, 1.59])
    assert set(gaps["seed"]) == {0, 1}


# --- claims about all cells ----------------------------------------------------------------------------------------------


def claim(name: str) -> Claim:
    return next(one for one in table1().claims if one.name == name)


def judged(name: str, gap_by_cell: Mapping[str, float], suite: config.Suite) -> stats.Finding:
    settings = {"cells": list(gap_by_cell)}
    plan = planning.make(suite.model_copy(update={"exhibits": {TABLE: settings}}), [TABLE])
    frame = frame_of(gap_by_cell)
    return coverage.of_part(plan, TABLE, claim(name), frame, claim(name).test(frame))


MLPS = [f"{dataset} mlp {optimizer}" for dataset in ("cifar10", "svhn", "cifar100") for optimizer in ("sgd", "adam")]


def test_part_of_the_cells_never_reproduces_a_claim_about_all() -> None:
    finding = judged("T1a-mlp", dict.fromkeys(MLPS[:4], 3.0), config.load("paper"))
    assert finding.verdict == "undecided" and not finding.tested
    assert "4 of the paper's 6 cells" in finding.detail
    assert stats.judged(finding).verdict == "undecided"  # at any look


def test_part_of_the_cells_can_refute_it() -> None:
    finding = judged("T1a-mlp", dict.fromkeys(MLPS[:4], 3.0) | {MLPS[1]: -3.0}, config.load("paper"))
    assert finding.verdict == "not reproduced"
    assert "4 of the paper's 6 cells" in finding.detail


def test_all_cells_of_a_claim_reproduce_it_whatever_other_claims_lack() -> None:
    assert judged("T1a-mlp", dict.fromkeys(MLPS, 3.0), config.load("paper")).verdict == "reproduced"


def test_a_reduced_scale_speaks_of_its_own_cells() -> None:
    """It is not the paper's protocol in any case."""
    assert judged("T1a-mlp", dict.fromkeys(MLPS[:4], 3.0), config.load("ci")).verdict == "reproduced"


def test_a_claim_that_needs_another_data_set_is_not_run() -> None:
    with pytest.raises(KeyError):
        claim("T1c").test(frame_of({"cifar10 thin_resnet18 sgd": 4.0}))


def test_a_claim_without_parts_counts_the_cells_of_its_exhibit(here: Plan) -> None:
    chosen = exhibit.registry()["warmstart/fig9"]
    rows = [exhibit.row(run, "target_acc", 50.0) for run in here.exhibits["warmstart/fig9"]]
    one = next(one for one in chosen.claims if one.name == "F9b")
    finding = stats.above([1.0, 1.1, 1.2], 0.0)
    told = coverage.of_part(here, "warmstart/fig9", one, long_frame(rows), finding)
    assert told.verdict == "undecided" and "4 of the paper's 72 cells" in told.detail
