"""The paper's exhibits: as many runs as the protocol says, a row for each published number, claims that can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from bench import config, exhibit, published
from bench.errors import UserError
from bench.exhibit import ArmRun, Claim, Exhibit
from bench.record import Record
from bench.report import collect, figure
from bench.report.needs import RARELY, of_exhibit
from bench.run import Result
from bench.warmstart.design import ONLINE, RI, SP, WS, Setup
from bench.warmstart.runs import noise_start, online_shrink, samples_of, shrink_start, transfer
from bench.warmstart.spec import FRESH, KEPT, Training
from bench.workflow import plan

PAPER = ("table1", "table2", "table3", "table4", *(f"fig{number}" for number in range(1, 10)))

World = Callable[[ArmRun, int], dict[str, Any]]
"""(run, samples of a round) -> accuracy `acc`, visited `samples`, ... of a made-up run."""


def of(name: str) -> Exhibit:
    return exhibit.registry()[f"warmstart/{name}"]


@lru_cache(maxsize=32)
def at_paper(name: str) -> plan.Plan:
    return plan.make(config.load("paper"), [f"warmstart/{name}"])


def record_of(run: ArmRun, world: World) -> Record:
    """A made-up record of the shape that the trainer leaves."""
    spec = run.spec
    assert isinstance(spec, Training)
    rounds: dict[str, list[Any]] = {name: [] for name in ("n_samples", "report_acc", "samples", "seconds", "stop_rule")}
    said: dict[str, Any] = {}
    for one in spec.expanded():
        said = {"acc": 50.0, "samples": 1000.0, "train": 99.9, "rule": "threshold"} | world(run, one.samples)
        values = (one.samples, said["acc"], said["samples"], said["samples"] / 1000, said["rule"])
        for name, value in zip(rounds, values, strict=True):
            rounds[name].append(value)
    epochs = list(range(1, (spec.stop.epochs or 3) + 1))
    series: dict[str, dict[str, list[Any]]] = {
        "rounds": rounds,
        "epochs": {
            "epoch": epochs,
            "train_acc": [said["train"] if epoch >= said.get("reached", 0) else 90.0 for epoch in epochs],
            "report_acc": [said["acc"]] * len(epochs),
        },
    }
    if spec.probe.kind == "gradients":
        lines = list(range(0, 13_674, 13))
        series["gradients"] = {"line": lines, "old": [10.0] * len(lines), "new": [said.get("new", 10.0)] * len(lines)}
    if spec.probe.kind == "shrinking":
        loses = said.get("loses", lambda factor: 0.0)
        accuracies = [said["acc"] - loses(factor) for factor in spec.probe.grid]
        names = ("train_acc", "report_acc", "train_acc_batch", "report_acc_batch")
        series["shrinking"] = {"shrink": list(spec.probe.grid)} | {name: accuracies for name in names}
    metrics = {"report_acc": said["acc"], "train_acc": said["train"]}
    samples = float(sum(rounds["samples"]))
    costs = {"samples": samples, "seconds": samples / 1000}
    return Record("", spec.description(), "", Result(metrics, series, costs), {}, {})


def frame_of(name: str, world: World, scale: str = "", **changes: Any) -> pd.DataFrame:
    """The long frame of an exhibit in a made-up world, with the settings of a scale or with some of the paper's changed."""
    definition = of(name)
    settings = exhibit.settings_of(config.load(scale), definition) if scale else definition.settings(**changes)
    rows = [row for run in definition.runs(settings) for row in definition.rows(run, record_of(run, world))]
    frame = collect.long_frame(rows)
    return frame if definition.derive is None else collect.long_frame([*rows, *definition.derive(frame)])


def noisy(run: ArmRun) -> float:
    """A little of each seed, the same in all arms, and less that differs between them."""
    seed = run.spec.seed % 1000
    return 0.3 * seed + 0.01 * ((7 * seed + len(str(sorted(run.labels.items())))) % 5)


def even(run: ArmRun, samples: int) -> dict[str, Any]:
    """Every arm alike, but for its seed."""
    return {"acc": 50 + noisy(run), "samples": 1000 + noisy(run)}


# --- how many runs -------------------------------------------------------------------------------------------------------


def roots(made: plan.Plan) -> int:
    return sum(run.spec.parent_spec is None for run in made.runs.values())


@pytest.mark.parametrize(
    ("name", "cells", "seeds", "trained"),
    [
        # 36 cells and 18 first phases.
        ("table1", 36, 5, 54),
        # Four ways on three data sets; the first phase is the warm start's, and LL is the beginning of LL+WS.
        ("table2", 12, 5, 15),
        # 24 cells and 12 first phases.
        ("table3", 24, 5, 36),
        # Both readings of four sizes, none, and random initialisation; one first phase.
        ("table4", 10, 5, 11),
        ("fig1", 3, 5, 3),
        ("fig2", 2, 5, 2),
        # The first training, random initialisation (start 0) and 70 more starts.
        ("fig4", 72, 5, 72),
        ("fig5", 5, 5, 6),
        ("fig6", 3, 5, 3),
        # Six shrink factors beside random initialisation.
        ("fig7", 7, 5, 7),
        # 6 x 7 cells without the five of lambda = 0 that are too small.
        ("fig8", 37, 5, 37),
        # 6 panels, 12 fractions, 3 ways, of which random initialisation is shared by panels with one target; 3 sources.
        ("fig9", 216, 5, 6 * 12 * 2 + 3 * 12 + 3),
    ],
)
def test_runs_at_the_papers_protocol(name: str, cells: int, seeds: int, trained: int) -> None:
    made = at_paper(name)
    assert len(made.exhibits[f"warmstart/{name}"]) == cells * seeds
    assert len(made.runs) == trained * seeds


def test_figure_3_has_432_and_432_runs_on_36_first_phases() -> None:
    made = at_paper("fig3")
    members = made.exhibits["warmstart/fig3"]
    for method in (RI, WS):
        own = {run.spec.identity for run in members if run.labels["method"] == method}
        assert len(own) == 432
    parents = {run.spec.parent_spec.identity for run in members if run.labels["method"] == WS}
    assert len(parents) == 12 * 3
    assert len(made.runs) == 432 + 432 + 36


def test_figure_4_starts_71_times_from_one_training() -> None:
    members = [run for run in at_paper("fig4").exhibits["warmstart/fig4"] if run.spec.seed == 0]
    starts = {run.labels["x"] for run in members if run.labels["panel"] == "right"}
    assert starts == set(range(0, 351, 5))
    parents = {run.spec.parent_spec.identity for run in members if run.spec.parent_spec is not None}
    assert len(starts) == 71 and len(parents) == 1


def test_table_2_trains_all_layers_for_350_epochs_at_least_and_to_99_percent() -> None:
    runs = [run.spec for run in at_paper("table2").exhibits["warmstart/table2"] if "all" in run.labels["method"]]
    for spec in runs:
        assert isinstance(spec, Training)
        assert (spec.rounds[0].least_epochs, spec.rounds[0].epochs) == (350, None)
        assert (spec.stop.epochs, spec.stop.threshold) == (None, 99.0)
        assert spec.parent is not None and spec.parent.rounds[0].trains == "last"


def test_figure_5_has_as_many_log_lines_as_the_paper_s() -> None:
    assert of("fig5").settings().lines() == 13_650


def test_tables_share_their_beginnings() -> None:
    """Tables 2 to 4 begin with Table 1's first phases; Figures 7 and 8 have Figure 2's random initialisation."""

    def runs(name: str) -> set[str]:
        return set(at_paper(name).key_by_identity)

    def parents(name: str) -> set[str]:
        above = (run.spec.parent_spec for run in at_paper(name).runs.values())
        return {spec.identity for spec in above if spec is not None}

    assert parents("table4") <= runs("table1")
    assert len(parents("table2") & runs("table1")) == 3 * 5
    assert len(parents("table3") & runs("table1")) == 0  # its penalties act in both phases
    # RI and WS of ResNets with SGD are trained once for both.
    assert len(runs("table2") & runs("table1")) == 3 * 3 * 5
    assert len(runs("table4") & runs("table1")) == 3 * 5
    assert len(runs("fig7") & runs("fig2")) == 5
    assert runs("fig2") <= runs("fig8")


@pytest.mark.parametrize("scale", ["ci", "small"])
def test_claims_have_rows_at_reduced_scales(scale: str) -> None:
    """No claim of the paper is left without rows whatever the grid is reduced to."""
    for name in PAPER:
        frame = frame_of(name, even, scale)
        for claim in of(name).claims:
            # Without SVHN nothing is said of it.
            if not claim.also and (scale, claim.name) != ("small", "T1c"):
                claim.test(frame)


# --- what is compared with the paper --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER)
def test_each_published_number_with_a_margin_joins_a_member(name: str) -> None:
    targets = published.targets(of(name)).to_dict("records")
    frame = frame_of(name, even, seeds=1)
    ours = {published.name_of(row) for row in frame.to_dict("records")}
    missing = [published.name_of(row) for row in targets if published.name_of(row) not in ours]
    assert not missing, missing[:5]
    if name in ("table1", "table3", "table4", "fig1", "fig2", "fig4", "fig5", "fig7", "fig9"):
        assert len(targets) >= 6


def test_joining_notices_a_wrong_label() -> None:
    """The check above can fail: a number of another panel joins nothing."""
    frame = frame_of("table3", even, seeds=1).assign(panel="l1")
    ours = {published.name_of(row) for row in frame.to_dict("records")}
    assert not any(published.name_of(row) in ours for row in published.targets(of("table3")).to_dict("records"))


# --- claims --------------------------------------------------------------------------------------------------------------


def shrink_of(run: ArmRun) -> float:
    panel = str(run.labels.get("panel", ""))
    return float(panel.removeprefix("lambda=")) if panel.startswith("lambda=") else 1.0


def tables(run: ArmRun, samples: int) -> dict[str, Any]:
    """Random initialisation is 4 points ahead of everything."""
    return {"acc": 50 + noisy(run) + 4 * (run.labels["method"] == RI)}


def gap_closed(run: ArmRun, samples: int) -> dict[str, Any]:
    return {"acc": 50 + noisy(run) - 4 * (run.labels["method"] == RI)}


def noise(run: ArmRun, samples: int) -> dict[str, Any]:
    """Table 4's shape: noise adds accuracy and cost, and stays below random initialisation."""
    size = float(run.labels.get("x") or 0)
    fresh = run.labels["method"] == RI
    return {
        "acc": 50 + noisy(run) + (6 if fresh else 300 * size),
        "samples": 2000 + noisy(run) if fresh else 1000 + noisy(run) + 1e5 * size,
    }


def free_lunch(run: ArmRun, samples: int) -> dict[str, Any]:
    """Noise lowers accuracy and cost but for one size, which beats random initialisation in both."""
    size = float(run.labels.get("x") or 0)
    best = size == 1e-3
    return {"acc": 50 + noisy(run) - 100 * size + 9 * best, "samples": 1000 + noisy(run) - 1e4 * size}


def damage(run: ArmRun, samples: int) -> dict[str, Any]:
    """Figure 4's shape: none until epoch 30, complete at 125."""
    start = float(run.labels.get("x") or 0)
    share = min(1.0, max(0.0, (start - 30) / 95))
    return {"acc": 50 + noisy(run) - (3.5 + 0.01 * (run.spec.seed % 1000) * start / 350) * share}


def growing_damage(run: ArmRun, samples: int) -> dict[str, Any]:
    """It sets in at once and never ends, but is small until late."""
    start = float(run.labels.get("x") or 0)
    return {"acc": 50 + noisy(run) - (1.0 if start else 0) - (2 * (start - 125) / 225 if start > 125 else 0)}


def gradients(run: ArmRun, samples: int) -> dict[str, Any]:
    shrink = shrink_of(run)
    return {"new": (10 + 40 * max(0.0, shrink - 0.3) / 0.7) * (1 + noisy(run) / 100)}


def flat_gradients(run: ArmRun, samples: int) -> dict[str, Any]:
    """New samples' gradients are below twice the old ones' after a warm start and grow as the weights shrink."""
    return {"new": (15 + 40 * (1 - shrink_of(run))) * (1 + noisy(run) / 100)}


def shrinking(run: ArmRun, samples: int) -> dict[str, Any]:
    little = 0.01 * (1 + run.spec.seed % 1000)
    loses = {
        "thin_resnet18": lambda factor: 20.0 * (factor < 0.1) + little * (1 - factor),
        "mlp": lambda factor: 15.0 * (factor < 0.6),
        "mlp_without_biases": lambda factor: 20.0 * (factor == 0),
    }[run.labels["model"]]
    return {"acc": 50 + noisy(run), "loses": loses}


def fragile(run: ArmRun, samples: int) -> dict[str, Any]:
    """Everything loses accuracy in proportion, but the MLP with biases loses nothing."""
    slope = 0.01 * (1 + run.spec.seed % 1000) if run.labels["model"] == "mlp" else 30.0
    return {"acc": 50 + noisy(run), "loses": lambda factor: slope * (1 - factor)}


def online(run: ArmRun, samples: int) -> dict[str, Any]:
    """Figures 7 and 8: smaller lambda is better and dearer, and random initialisation dearest."""
    if run.labels["method"] == RI:
        return {"acc": 60 + noisy(run), "samples": 4000 + noisy(run)}
    shrink = shrink_of(run)
    noise = float(run.labels.get("x") or 0.01)
    return {
        "acc": 66 - 9 * shrink + noisy(run) - 3 * (noise == 1),
        "samples": 1000 + 2000 * (1 - shrink) + noisy(run),
    }


def useless(run: ArmRun, samples: int) -> dict[str, Any]:
    """Shrinking costs accuracy and saves nothing; noise hurts."""
    if run.labels["method"] == RI:
        return {"acc": 60 + noisy(run), "samples": 1000 + noisy(run)}
    shrink = shrink_of(run)
    noise = float(run.labels.get("x") or 0.0)
    return {
        "acc": 50 + 5 * shrink + noisy(run) - 3 * (noise > 0),
        "samples": 2000 + 500 * shrink + noisy(run) + 1000 * (noise > 0),
    }


def transferred(run: ArmRun, samples: int) -> dict[str, Any]:
    return {"acc": 50 + noisy(run) + {SP: 3, WS: 1, RI: 0}[run.labels["method"]]}


def hurt_by_transfer(run: ArmRun, samples: int) -> dict[str, Any]:
    return {"acc": 50 + noisy(run) + {SP: -3, WS: -1, RI: 0}[run.labels["method"]]}


def convex(run: ArmRun, samples: int) -> dict[str, Any]:
    """Table 1's shape: warm starts hurt networks, on SVHN less, and logistic regression hardly."""
    gap = 0.2 if run.labels["model"] == "logistic" else 2.0 if run.labels["dataset"] == "svhn" else 4.0
    return {"acc": 50 + noisy(run) + gap * (run.labels["method"] == RI)}


def reversed_table(run: ArmRun, samples: int) -> dict[str, Any]:
    """Warm starts help networks, on SVHN less, and hurt logistic regression."""
    gap = 4.0 if run.labels["model"] == "logistic" else -2.0 if run.labels["dataset"] == "svhn" else -4.0
    return {"acc": 50 + noisy(run) + gap * (run.labels["method"] == RI)}


def many_warm_starts(run: ArmRun, samples: int) -> dict[str, Any]:
    fresh = run.labels["method"] == RI
    return {"acc": 50 + noisy(run) + 12 * fresh, "samples": 1000 + 4000 * fresh + noisy(run)}


def useless_warmth(run: ArmRun, samples: int) -> dict[str, Any]:
    """Warm starts are 2 points behind, and cost two thirds."""
    fresh = run.labels["method"] == RI
    return {"acc": 50 + noisy(run) + 2 * fresh, "samples": 2000 + 1000 * fresh + noisy(run)}


def one_after_another(run: ArmRun, samples: int) -> dict[str, Any]:
    """Figure 1's shape; the first phase ends where the warm start begins."""
    fresh = run.labels["method"] == RI
    return {"acc": 50 + noisy(run) + 5 * fresh, "train": 100.0, "reached": 2 + (9 + run.spec.seed % 2) * fresh}


def better_but_slower(run: ArmRun, samples: int) -> dict[str, Any]:
    fresh = run.labels["method"] == RI
    return {
        "acc": 50 + noisy(run) - 5 * fresh,
        "train": 100.0,
        "reached": 11 - 9 * fresh + run.spec.seed % 2 * (1 - fresh),
    }


CASES: dict[str, tuple[str, World, World]] = {
    **{name: ("table1", convex, reversed_table) for name in ("T1a", "T1a-mean", "T1a-mlp", "T1a-mlp-mean")},
    **{name: ("table1", convex, reversed_table) for name in ("T1b", "T1b-mean", "T1c")},
    "T2": ("table2", tables, gap_closed),
    "T2-mean": ("table2", tables, gap_closed),
    "T3": ("table3", tables, gap_closed),
    "T3-mean": ("table3", tables, gap_closed),
    "F1a": ("fig1", one_after_another, better_but_slower),
    "F1b": ("fig1", one_after_another, better_but_slower),
    "F2a": ("fig2", many_warm_starts, useless_warmth),
    "F2b": ("fig2", many_warm_starts, useless_warmth),
    "T4a": ("table4", noise, free_lunch),
    "T4b": ("table4", noise, free_lunch),
    "T4c": ("table4", noise, free_lunch),
    "F4a": ("fig4", damage, growing_damage),
    "F4b": ("fig4", damage, growing_damage),
    "F4c": ("fig4", damage, growing_damage),
    "F5a": ("fig5", gradients, flat_gradients),
    "F5b": ("fig5", gradients, flat_gradients),
    "F5c": ("fig5", gradients, flat_gradients),
    "F6a": ("fig6", shrinking, fragile),
    "F6b": ("fig6", shrinking, fragile),
    "F6c": ("fig6", shrinking, fragile),
    "F7a": ("fig7", online, useless),
    "F7b": ("fig7", online, useless),
    "F7c": ("fig7", online, useless),
    "F7d": ("fig7", online, useless),
    "F8a": ("fig8", online, useless),
    "F8b": ("fig8", online, useless),
    "F9a": ("fig9", transferred, hurt_by_transfer),
    "F9b": ("fig9", transferred, hurt_by_transfer),
}


@cache
def made_up(name: str, world: World, seeds: int) -> pd.DataFrame:
    fewer = {"fractions": [0.04, 0.5]} if name == "fig9" else {}
    return frame_of(name, world, seeds=seeds, **fewer)


def judged(claim: str, world: World, seeds: int = 3) -> str:
    name = CASES[claim][0]
    test = next(one.test for one in of(name).claims if one.name == claim)
    return test(made_up(name, world, seeds)).verdict


@pytest.mark.parametrize("claim", CASES)
def test_claims_hold_where_they_should_and_fail_where_they_should(claim: str) -> None:
    _, holds, fails = CASES[claim]
    assert judged(claim, holds) == "reproduced"
    assert judged(claim, fails) == "not reproduced"


@pytest.mark.parametrize("claim", CASES)
def test_one_seed_decides_nothing(claim: str) -> None:
    _, holds, fails = CASES[claim]
    assert judged(claim, holds, seeds=1) == judged(claim, fails, seeds=1) == "undecided"


def test_all_claims_of_these_exhibits_are_tested_here() -> None:
    for name in {name for name, _, _ in CASES.values()}:
        assert {claim.name for claim in of(name).claims if not claim.also} <= set(CASES)


def claim_of(name: str, which: str) -> Claim:
    return next(one for one in of(name).claims if one.name == which)


def test_a_warm_start_that_helps_logistic_regression_does_not_make_it_suffer() -> None:
    frame = frame_of("table1", gap_closed, seeds=3)
    assert {claim_of("table1", name).test(frame).verdict for name in ("T1b", "T1b-mean")} == {"reproduced"}


def test_one_setting_that_goes_the_other_way_refutes_both_the_claim_and_its_average() -> None:
    def world(run: ArmRun, samples: int) -> dict[str, Any]:
        other = run.labels["model"] == "mlp" and (run.labels["dataset"], run.labels["optimizer"]) == ("svhn", "sgd")
        return {"acc": 50 + noisy(run) + (-1 if other else 4) * (run.labels["method"] == RI)}

    frame = frame_of("table1", world, seeds=3)
    verdicts = {name: claim_of("table1", name).test(frame).verdict for name in ("T1a-mlp", "T1a-mlp-mean")}
    assert set(verdicts.values()) == {"not reproduced"}


def test_an_average_holds_where_one_setting_is_open() -> None:
    def world(run: ArmRun, samples: int) -> dict[str, Any]:
        lost = run.labels["dataset"] == "cifar100" and run.labels["model"] == "mlp"
        gap = (run.spec.seed % 2 - 0.4) if lost else 4.0
        return {"acc": 50 + noisy(run) + gap * (run.labels["method"] == RI)}

    frame = frame_of("table1", world, seeds=5)
    assert claim_of("table1", "T1a-mlp").test(frame).verdict == "undecided"
    assert claim_of("table1", "T1a-mlp-mean").test(frame).verdict == "reproduced"


def test_many_warm_starts_are_compared_with_one_in_the_seeds_that_both_have() -> None:
    frames = {
        "warmstart/fig2": frame_of("fig2", many_warm_starts, seeds=3),
        "warmstart/table1": frame_of("table1", convex, seeds=5, cells=["cifar10 thin_resnet18 adam"]),
    }
    finding = claim_of("fig2", "F2c").test(frames)
    assert (finding.verdict, finding.n) == ("reproduced", 3)
    assert finding.estimate == pytest.approx(8.0, abs=0.1)


def test_shrink_perturb_is_compared_with_the_better_arm_and_not_with_the_luckier_run() -> None:
    """Three arms that differ by chance alone: the best of two runs in each seed would lie above each of them."""

    def world(run: ArmRun, samples: int) -> dict[str, Any]:
        return {"acc": 50 + {RI: 1, WS: -1, SP: 0}[run.labels["method"]] * (-1) ** run.spec.seed}

    frame = frame_of("fig9", world, seeds=4, fractions=[0.1])
    assert claim_of("fig9", "F9b").test(frame).estimate == pytest.approx(0.0)


def test_a_margin_of_transfer_does_not_grow_with_the_spread() -> None:
    def world(run: ArmRun, samples: int) -> dict[str, Any]:
        return {"acc": 50 + 10 * run.spec.seed - 2 * (run.labels["method"] == SP) + 0.01 * noisy(run)}

    frame = frame_of("fig9", world, seeds=4, fractions=[0.1])
    assert claim_of("fig9", "F9a").test(frame).verdict == "not reproduced"


def test_a_resnet_that_never_suffers_is_not_the_papers() -> None:
    def world(run: ArmRun, samples: int) -> dict[str, Any]:
        little = 0.01 * (1 + run.spec.seed % 1000)
        return {"acc": 50 + noisy(run), "loses": lambda factor: little * (1 - factor)}

    assert claim_of("fig6", "F6b").test(frame_of("fig6", world, seeds=3)).verdict == "not reproduced"
    with pytest.raises(KeyError, match="no shrink factor between"):
        claim_of("fig6", "F6b").test(frame_of("fig6", world, seeds=3, shrinks=[0.0, 0.1, 0.2, 1.0]))


@pytest.mark.parametrize(
    ("name", "labels", "percent", "samples"),
    [
        ("table1", {"dataset": "cifar100", "metric": "val_acc"}, 1.0, 16_667),
        ("fig1", {"dataset": "cifar10", "metric": "test_acc_final"}, 10.0, 10_000),
        ("fig9", {"dataset": "svhn", "metric": "target_acc"}, 10.0, 26_032),
        ("sweeps", {"dataset": "cifar10", "metric": "val_acc", "panel": "transfer"}, 10.0, 10_000),
        ("sweeps", {"dataset": "cifar10", "metric": "val_acc", "panel": "mlp"}, 10.0, 16_667),
    ],
)
def test_chance_levels(name: str, labels: dict[str, str], percent: float, samples: int) -> None:
    chance = of(name).chance
    assert chance is not None
    assert chance(of(name).settings(), labels) == (percent, samples)
    assert chance(of(name).settings(), {**labels, "metric": "samples_to_stop"}) is None


def test_chance_is_that_of_what_stands_in() -> None:
    settings = exhibit.settings_of(config.load("ci"), of("table1"))
    chance = of("table1").chance
    assert chance is not None
    assert chance(settings, {"dataset": "cifar100", "metric": "val_acc"}) == (5.0, 500)


def test_figures_whose_training_is_chaotic_say_so() -> None:
    chaotic = {name for name, one in exhibit.registry().items() if one.paper == "warmstart" and one.chaotic}
    assert chaotic == {f"warmstart/fig{number}" for number in (2, 4, 5, 7)}


def test_what_the_papers_own_numbers_decide() -> None:
    """By printed means and spreads at five seeds: the ResNets' and MLPs' gaps; an average needs fewer than all at once."""
    found = {
        name: need
        for table in ("table1", "table3", "table4")
        for name, need in of_exhibit(f"warmstart/{table}").items()
    }
    assert {name for name, need in found.items() if need.chance > 0.8} >= {
        "T1a", "T1a-mean", "T1a-mlp", "T1a-mlp-mean", "T1c", "T3-mean", "T4a",
    }  # fmt: skip
    assert {name for name, need in found.items() if need.chance < RARELY} == {"T1b", "T3"}
    assert found["T1b"].seeds is None, "its largest printed gap is its margin"


def test_a_figure_3_that_favours_warm_starts_is_reported_and_not_judged() -> None:
    def better(run: ArmRun, samples: int) -> dict[str, Any]:
        return {"acc": 50 + noisy(run) + 2 * (run.labels["method"] == WS)}

    outcome = of("fig3").claims[0].test(frame_of("fig3", better, batch_sizes=[64, 128], learning_rates=[0.1]))
    assert outcome.verdict == "estimate"
    assert outcome.estimate == pytest.approx(2, abs=0.1)
    assert outcome.n == 3


def test_pareto_front_and_budget() -> None:
    from bench.warmstart.exhibits.fig3 import best_within, front

    costs, accuracies = [3.0, 1.0, 2.0, 4.0], [60.0, 50.0, 49.0, 61.0]
    assert front(costs, accuracies) == ([1.0, 3.0, 4.0], [50.0, 60.0, 61.0])
    assert best_within(costs, accuracies, 2.5) == 50.0
    assert best_within(costs, accuracies, 0.5) is None


def test_relative_differences_are_those_of_the_same_seed() -> None:
    def world(run: ArmRun, samples: int) -> dict[str, Any]:
        base = 40.0 + 10 * run.spec.seed
        return {"acc": base if run.labels["method"] == RI else 0.9 * base}

    frame = frame_of("fig4", world, seeds=2, epochs=10)
    found = frame[frame["metric"] == "acc_relative_difference"]
    assert len(found) == 2 * 2  # starts 5 and 10
    assert found["value"].tolist() == pytest.approx([-10.0] * 4)


def test_a_start_without_its_random_initialisation_has_no_difference() -> None:
    frame = frame_of("fig4", even, seeds=2, epochs=10)
    kept = frame[~((frame["method"] == RI) & (frame["seed"] == 1))]
    found = list(of("fig4").derive(kept))  # type: ignore[misc]
    assert {row["seed"] for row in found} == {0}


def test_runs_that_never_reach_the_threshold_have_no_cost_to_it() -> None:
    def stuck(run: ArmRun, samples: int) -> dict[str, Any]:
        return {"rule": "cap" if run.labels["method"] == RI else "threshold"}

    frame = frame_of("fig3", stuck, seeds=1, batch_sizes=[64], learning_rates=[0.1])
    assert set(frame[frame["metric"] == "samples_to_99_train"]["method"]) == {WS}
    with pytest.raises(KeyError, match="random_init"):
        of("fig3").claims[0].test(frame[frame["metric"] != "val_acc"])


# --- starts and bad input ------------------------------------------------------------------------------------------------


def test_the_two_ends_of_shrink_perturb_are_the_runs_of_figure_2() -> None:
    settings = of("fig2").settings()
    own = {run.labels["method"]: run.spec for run in of("fig2").runs(settings) if run.spec.seed == 0}
    for method, (shrink, perturb) in {RI: (0, 1), WS: (1, 0)}.items():
        run = online_shrink(settings, ONLINE, 0, increment=1000, shrink=shrink, perturb=perturb)
        assert run.identity == own[method].identity
    later = online_shrink(settings, ONLINE, 0, increment=1000, shrink=0.6, perturb=0.01, first_round=False)
    assert later.rounds[0].start == FRESH
    assert later.rounds[1].start == shrink_start(0.6, 0.01)
    assert noise_start(0) == KEPT


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fig7", {"shrinks": [1.2]}, "less than or equal to 1"),
        ("fig7", {"perturb": -0.1}, "greater than or equal to 0"),
        ("fig9", {"fractions": [0.0]}, "greater than 0"),
        ("fig9", {"pairs": [{"source": "svhn", "target": "svhn"}]}, "expected two data sets"),
        ("table4", {"noise": [-1e-3]}, "greater than 0"),
        ("fig4", {"epochs": 4}, "leaves no start"),
        ("fig4", {"epochs": 40, "only_starts": [50]}, "lies outside"),
        ("fig1", {"width": 4}, "greater than or equal to 8"),
    ],
)
def test_impossible_settings_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        of(name).settings(**changes)
    suite = config.load("paper").model_copy(update={"exhibits": {f"warmstart/{name}": changes}})
    with pytest.raises(UserError, match=message) as raised:
        exhibit.settings_of(suite, of(name))
    assert len(str(raised.value).splitlines()) == 1
    assert f"warmstart/{name}" in str(raised.value)


def test_a_fraction_that_leaves_an_empty_round_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"fraction 0\.01 of 30 samples leaves a round of 0") as raised:
        samples_of(30, 0.01)
    assert "\n" not in str(raised.value)
    suite = config.load("paper").model_copy(
        update={"exhibits": {"warmstart/fig9": {"population": 30, "fractions": [0.01]}}}
    )
    with pytest.raises(UserError, match="leaves a round of 0"):
        plan.make(suite, ["warmstart/fig9"])


@pytest.mark.parametrize("name", ["fig2", "fig7", "fig8"])
def test_an_increment_larger_than_the_data_is_one_clear_line(name: str) -> None:
    suite = config.load("paper").model_copy(update={"exhibits": {f"warmstart/{name}": {"population": 300}}})
    with pytest.raises(UserError, match="increment 1000: expected at most the 200 samples"):
        plan.make(suite, [f"warmstart/{name}"])


def test_transfer_between_data_sets_of_different_classes() -> None:
    settings = of("fig9").settings()
    setup = Setup("cifar100", optimizer="adam")
    run = transfer(settings, setup, 0, source="cifar10", fraction=0.1, start=shrink_start(0.3, 1e-4))
    assert run.parent is not None
    assert (run.parent.classes(), run.classes()) == (10, 100)
    assert run.rounds[0].samples == 5000
    fresh = transfer(settings, setup, 0, source="svhn", fraction=0.1, start=FRESH)
    assert fresh.parent is None


@pytest.mark.parametrize("name", PAPER)
def test_exhibits_draw_from_rows_alone(name: str) -> None:
    definition = of(name)
    settings = exhibit.settings_of(config.load("ci"), definition)
    result = definition.draw(frame_of(name, even, "ci"), published.of_exhibit(definition), settings)
    if definition.kind == "table":
        tables = result.values() if isinstance(result, dict) else [result]
        assert all(cells.shape[0] and cells.shape[1] for cells in tables)
    else:
        assert any(ax.has_data() for ax in result.axes)


@pytest.mark.parametrize("name", ["fig1", "fig2", "fig4", "fig5", "fig9"])
def test_published_points_stand_among_ours_where_they_can_be_compared(name: str) -> None:
    """Elsewhere they are in a small panel of their own, if there is room."""
    definition, paper = of(name), published.of_exhibit(of(name))
    reduced = definition.settings(seeds=1, width=8)
    for settings, sources in ((definition.settings(seeds=1), {"ours", "published"}), (reduced, {"ours"})):
        fig = definition.draw(frame_of(name, damage, seeds=1), paper, settings)
        assert set(figure.numbers_of(fig)["source"]) == sources


def test_table_1_has_the_papers_groups_and_the_gaps_below() -> None:
    frame = frame_of("table1", convex)
    levels, gaps = of("table1").draw(frame, published.targets(of("table1")), of("table1").settings()).values()
    assert levels.columns.tolist() == [(model, name) for model in ("ResNet", "MLP", "LR") for name in ("SGD", "Adam")]
    assert levels.index.tolist() == [
        (name, start) for name in ("CIFAR-10", "SVHN", "CIFAR-100") for start in ("RI", "WS")
    ]
    assert levels.loc[("CIFAR-10", "WS"), ("ResNet", "Adam")].endswith("[74.4]")
    assert gaps.loc["CIFAR-10", ("ResNet", "Adam")] == "4.0 ± 0.0 [3.6]"


def test_figure_6_says_on_how_many_samples_it_reports() -> None:
    chosen = of("fig6")
    settings = chosen.settings(population=6000, report_samples=500)
    fig = chosen.draw(collect.long_frame([]), published.of_exhibit(chosen), settings)
    assert [ax.get_title() for ax in fig.axes] == ["500 samples", "4,000 samples"]


def test_seconds_of_heat_maps_are_shown_when_all_runs_have_them() -> None:
    chosen = of("fig8")
    settings = exhibit.settings_of(config.load("ci"), chosen)
    records = ((run, replace(record_of(run, even), provenance={"alone": True})) for run in chosen.runs(settings))
    whole = collect.long_frame([row for run, record in records for row in chosen.rows(run, record)])
    seconds = whole["metric"] == "train_time_total"
    assert seconds.any()
    for frame, shown in ((whole, True), (whole.drop(whole[seconds].index[0]), False), (whole[~seconds], False)):
        made = chosen.draw(frame, published.of_exhibit(chosen), settings)
        assert any("training time" in axes.get_title() for axes in made.axes) is shown


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9", "table2", "table3", "table4"])
def test_exhibits_draw_what_there_is(name: str) -> None:
    """Runs may be missing: an empty frame is drawn too."""
    chosen = of(name)
    settings = exhibit.settings_of(config.load("ci"), chosen)
    empty = collect.long_frame([])
    assert chosen.draw(empty, published.of_exhibit(chosen), settings) is not None
