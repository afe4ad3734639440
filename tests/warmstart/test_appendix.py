"""Appendix and beyond: how many runs the protocol asks for, what is shared, and claims on frames whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import pytest

from bench import config, exhibit
from bench.errors import UserError
from bench.exhibit import Exhibit
from bench.report.collect import COLUMNS
from bench.warmstart.design import RI, SP, WS
from bench.workflow import plan
from bench.workflow.plan import Plan

NAMES = (
    "fig10",
    "fig11",
    "fig12",
    "fig13",
    "fig14",
    "sweeps",
    "architecture",
    "threshold",
    "recipe",
    "methods",
)
MINE = tuple(f"warmstart/{name}" for name in NAMES)


def known(name: str) -> Exhibit:
    return exhibit.registry()[f"warmstart/{name}"]


@pytest.fixture(scope="module")
def paper() -> Plan:
    return plan.make(config.load("paper"), (*MINE, "warmstart/table1", "warmstart/fig2"))


@pytest.mark.parametrize(
    ("name", "own", "all_runs"),
    [
        ("fig10", 5 * (1 + 9), 5 * (1 + 9 + 9)),  # RI; nine fractions with a first phase each
        ("fig11", 3 * 2 * 12 * 12, 3 * 2 * (144 + 12)),  # 12 x 12 cells of two networks from 12 first phases each
        ("fig12", 5, 5),
        ("fig13", 5 * 2 * 2, 5 * 2 * 2),
        ("fig14", 5 * (2 + 3), 5 * (2 + 3)),
        ("sweeps", 5 * 4 * 11, 5 * (4 * 11 + 1)),  # RI, WS and 9 arms that can learn for each kind; one source
        ("architecture", 5 * 3 * 2 * 2, 5 * 3 * 2 * 3),
        ("threshold", 5 * 3 * 2, 5 * 3 * 3),
        ("recipe", 5 * 6 * 2, 5 * (6 * 2 + 5)),  # a larger second rate shares the plain first phase
        ("methods", 5 * 6, 5 * (6 + 2)),  # L2-init has a first phase of its own
    ],
)
def test_runs_at_paper_are_those_of_the_protocol(paper: Plan, name: str, own: int, all_runs: int) -> None:
    full = f"warmstart/{name}"
    assert len(paper.keys_of(full)) == own
    assert sum(full in run.exhibits for run in paper.runs.values()) == all_runs


@pytest.mark.parametrize(
    ("name", "with_whom", "shared"),
    [
        ("fig10", "table1", 5 * 3),  # RI, the half first, its warm start
        ("fig14", "fig2", 5 * 2),
        ("architecture", "table1", 5 * 2 * 3),
        ("threshold", "table1", 5 * 3),
        ("recipe", "table1", 5 * 3),
        ("methods", "table1", 5 * 3),
    ],
)
def test_what_other_exhibits_train_too_is_trained_once(paper: Plan, name: str, with_whom: str, shared: int) -> None:
    both = {f"warmstart/{name}", f"warmstart/{with_whom}"}
    assert sum(both <= set(run.exhibits) for run in paper.runs.values()) == shared


@pytest.mark.parametrize("scale", ["ci", "small", "paper"])
def test_every_scale_plans_all_of_them(scale: str) -> None:
    made = plan.make(config.load(scale), MINE)
    assert set(made.exhibits) == set(MINE)
    assert all(made.exhibits.values())


def test_a_threshold_of_100_can_be_reached(paper: Plan) -> None:
    for run in paper.exhibits["warmstart/threshold"]:
        stop = run.spec.stop  # type: ignore[attr-defined]
        assert stop.threshold == run.labels["x"]
        assert stop.strict == (stop.threshold < 100)


def test_sweeps_shrink_before_the_first_round_and_leave_out_what_cannot_learn(paper: Plan) -> None:
    runs = [run for run in paper.exhibits["warmstart/sweeps"] if run.spec.seed == 0 and "x" in run.labels]
    assert min(run.labels["x"] for run in runs) == 0.3
    for run in runs:
        starts = {round.start for round in run.spec.rounds}  # type: ignore[attr-defined]
        assert len(starts) == 1 and starts.pop().method == "shrink_perturb"


def test_l2_init_pulls_in_both_phases_and_others_share_the_first(paper: Plan) -> None:
    by_method = {m.labels["method"]: m.spec for m in paper.exhibits["warmstart/methods"] if m.spec.seed == 0}
    pulled = by_method["l2_init"]
    assert pulled.parent_spec is not None
    assert [one.rounds[0].start.strength for one in pulled.chain()] == [1e-3, 1e-3]  # type: ignore[attr-defined]
    assert by_method[SP].parent_spec == by_method["dash"].parent_spec == by_method[WS].parent_spec
    assert by_method[RI].parent_spec is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fig10": {"fractions": [0.5, 1.0]}}, "between 0 and 1"),
        ({"methods": {"methods": ["dahs"]}}, "did you mean 'dash'"),
        ({"methods": {"strengths": {"dash": 2.0}}}, "alpha above 0 and at most 1"),
        ({"sweeps": {"shrinks": [1.5]}}, r"shrinks\.0: .* less than or equal to 1"),
        ({"fig12": {"perturb": -0.1}}, "greater than or equal to 0"),
        ({"fig10": {"population": 30, "fractions": [0.01]}}, "leaves a round"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], says: str) -> None:
    suite = config.load("ci").model_copy(update={"exhibits": {f"warmstart/{k}": v for k, v in settings.items()}})
    with pytest.raises(UserError, match=says):
        plan.make(suite, [f"warmstart/{name}" for name in settings])


def frame_of(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for column in ("panel", "dataset", "model", "method", "optimizer", "x_name"):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "")
    frame["x"] = pd.to_numeric(frame["x"], errors="coerce")
    return frame


def values(value: float, *, metric: str = "val_acc", **labels: Any) -> list[dict[str, Any]]:
    """Three seeds around a value; all numbers of one seed lie equally far off, so that pairs differ exactly."""
    return [{**labels, "metric": metric, "seed": seed, "value": value + seed} for seed in range(3)]


def claim(name: str, which: str) -> Callable[[Any], Any]:
    return next(one.test for one in known(name).claims if one.name == which)


def two(fresh: float, warm: float, **labels: Any) -> list[dict[str, Any]]:
    return values(fresh, method=RI, **labels) + values(warm, method=WS, **labels)


def test_claims_of_figure_10() -> None:
    def made(gaps: dict[float, float]) -> pd.DataFrame:
        rows = values(60, method=RI)
        for fraction, gap in gaps.items():
            rows += values(60 - gap, method=WS, x_name="fraction", x=fraction)
        return frame_of(rows)

    growing = made({0.2: 1.0, 0.5: 3.0, 0.8: 5.0})
    assert {claim("fig10", name)(growing).verdict for name in ("F10a", "F10a-mean")} == {"reproduced"}
    # Three points in perfect order count as half-way to the next possible order.
    assert claim("fig10", "F10b")(growing).estimate == pytest.approx(0.75)
    falling = made({0.2: 5.0, 0.5: 3.0, 0.8: -1.0})
    assert claim("fig10", "F10a")(falling).verdict == "not reproduced"
    assert claim("fig10", "F10b")(falling).estimate == pytest.approx(-0.75)
    with pytest.raises(KeyError):
        claim("fig10", "F10b")(made({0.2: 1.0, 0.5: 3.0}))


def test_claims_of_figure_11() -> None:
    def made(slope: float, noise: float) -> pd.DataFrame:
        rows = []
        for cell, likeness in enumerate((0.1, 0.4, 0.6, 0.9)):
            other = noise * (-1) ** cell
            for model, accuracy in (("thin_resnet18", 50 + slope * likeness), ("logistic", 40 + other)):
                rows += values(likeness, metric="weight_correlation", model=model, panel=f"cell {cell}", method=WS)
                rows += values(accuracy, model=model, panel=f"cell {cell}", method=WS)
        return frame_of(rows)

    assert claim("fig11", "F11a")(made(-20, 1)).verdict == "reproduced"
    assert claim("fig11", "F11a")(made(20, 1)).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("slope", "verdict"), [(0.0, "reproduced"), (20.0, "not reproduced"), (-20.0, "not reproduced")]
)
def test_logistic_regression_has_no_trend_of_its_own(slope: float, verdict: str) -> None:
    """Whatever the ResNet's; a trend of either sign refutes it."""
    likenesses = [0.1 + 0.05 * cell for cell in range(16)]
    # Up and down in turns: what is left is no trend, a little different in each seed.
    rows = []
    for seed in range(4):
        for cell, likeness in enumerate(likenesses):
            other = (1, -1, -1, 1)[cell % 4] * (1 + 0.1 * ((cell + seed) % 3))
            labels = {"model": "logistic", "panel": f"cell {cell}", "method": WS, "seed": seed}
            rows.append({**labels, "metric": "weight_correlation", "value": likeness})
            rows.append({**labels, "metric": "val_acc", "value": 40 + other + slope * likeness})
    finding = claim("fig11", "F11b")(frame_of(rows))
    assert finding.verdict == verdict
    assert -1 <= (finding.low or 0) <= (finding.high or 0) <= 1


def test_claims_of_figure_12() -> None:
    for gain, verdict in ((1.5, "reproduced"), (-1.5, "not reproduced")):
        rows = [row for c in range(4) for row in values(60 + c * gain, method=SP, x_name="cycle", x=c)]
        assert claim("fig12", "F12")(frame_of(rows)).verdict == verdict


def test_claims_of_figures_13_and_14() -> None:
    def online(name: str, fresh: float, other: float, **labels: Any) -> list[dict[str, Any]]:
        early = [*values(30, method=RI, x_name="n_samples", x=100, **labels)]
        early += values(40, method=name, x_name="n_samples", x=100, **labels)
        late = values(fresh, method=RI, x_name="n_samples", x=300, **labels)
        return early + late + values(other, method=name, x_name="n_samples", x=300, **labels)

    svhn = online(WS, 80, 75, dataset="svhn", model="thin_resnet18")
    good = frame_of(svhn + online(WS, 50, 45, dataset="cifar10", model="mlp"))
    bad = frame_of(svhn + online(WS, 45, 50, dataset="cifar10", model="mlp"))
    assert claim("fig13", "F13")(good).verdict == "reproduced"
    assert claim("fig13", "F13")(bad).verdict == "not reproduced"
    assert claim("fig14", "F14")(frame_of(online("last_layer λ=0.3", 70, 60))).verdict == "reproduced"
    assert claim("fig14", "F14")(frame_of(online("last_layer λ=0.3", 70, 71))).verdict == "not reproduced"


def test_the_sweep_needs_one_cell_that_is_better_than_ws_and_cheaper_than_ri() -> None:
    def made(cells: dict[float, tuple[float, float]]) -> pd.DataFrame:
        rows = []
        for metric, fresh, warm in (("val_acc", 70, 60), ("samples_total", 1000, 200)):
            rows += values(fresh, metric=metric, method=RI, panel="mlp")
            rows += values(warm, metric=metric, method=WS, panel="mlp")
        for shrink, (accuracy, samples) in cells.items():
            where = {"panel": "mlp", "method": "s=0.01", "x_name": "shrink", "x": shrink}
            rows += values(accuracy, **where) + values(samples, metric="samples_total", **where)
        return frame_of(rows)

    test = claim("sweeps", "SW1")
    assert test(made({0.3: (72, 1200), 0.6: (68, 500)})).verdict == "reproduced"
    assert test(made({0.3: (72, 1200), 0.6: (55, 500)})).verdict == "not reproduced"
    assert test(made({0.3: (72, 1200), 1.0: (68, 500)})).verdict == "not reproduced"  # lambda 1 shrinks nothing


def test_claims_of_architecture_and_threshold() -> None:
    labels = {"optimizer": "sgd"}
    nets = two(60, 55, model="thin", **labels) + two(70, 62, model="wide", **labels)
    assert {claim("architecture", name)(frame_of(nets)).verdict for name in ("AR1", "AR1-mean")} == {"reproduced"}
    assert claim("architecture", "AR2")(frame_of(nets)).estimate == pytest.approx(3.0)
    nets += two(50, 52, model="group_norm", **labels)
    assert claim("architecture", "AR1")(frame_of(nets)).verdict == "not reproduced"
    both = two(60, 55, x_name="threshold", x=99.0) + two(61, 57, x_name="threshold", x=100.0)
    assert claim("threshold", "TH1")(frame_of(both)).verdict == "reproduced"
    assert claim("threshold", "TH2")(frame_of(both)).estimate == pytest.approx(-1.0)


def test_claims_of_recipe_and_methods() -> None:
    arms = two(60, 55, panel="plain") + two(61, 57, panel="momentum") + two(85, 85, panel="modern")
    assert claim("recipe", "RE1")(frame_of(arms)).verdict == "reproduced"
    assert claim("recipe", "RE2")(frame_of(arms)).estimate == pytest.approx(0.0)
    arms += two(60, 61, panel="larger_rate")
    assert claim("recipe", "RE1")(frame_of(arms)).verdict == "not reproduced"
    rows = two(60, 55) + values(58, method=SP) + values(56, method="last_layer_reset")
    rows += values(54, method="dash") + values(57, method="l2_init")
    frame = frame_of(rows)
    verdicts = {one.name: one.test(frame).verdict for one in known("methods").claims}
    assert verdicts == {"ME1": "reproduced", "ME2": "reproduced", "ME3": "not reproduced", "ME4": "estimate"}


@pytest.mark.parametrize("name", NAMES)
def test_an_exhibit_draws_without_a_row(name: str) -> None:
    """Nothing was run yet: an empty figure, or cells that say so."""
    chosen = known(name)
    settings = exhibit.settings_of(config.load("ci"), chosen)
    drawn = chosen.draw(frame_of([]), frame_of([]), settings)
    if chosen.kind == "table":
        assert (drawn["random init"] == "–").all()
    else:
        assert drawn.axes
