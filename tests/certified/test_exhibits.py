"""Exhibits of certified training: run counts, targets that join, verdicts and pictures on made-up records of known truth."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import config, exhibit, published, stats
from bench.certified.design import SETUPS
from bench.certified.spec import Certified, Initialisation, TimingComparison, Verification
from bench.exhibit import LABELS, ArmRun, Chance, Exhibit, ExhibitSettings
from bench.record import Record
from bench.report import collect, figure, judge, table
from bench.report.collect import COLUMNS
from bench.run import Result, RunSpec
from bench.workflow import plan

NAMES = [name.split("/")[1] for name in exhibit.registry() if name.startswith("certified/")]


def of(name: str) -> Exhibit:
    return exhibit.registry()[f"certified/{name}"]


@lru_cache
def settings_at(scale: str, name: str) -> ExhibitSettings:
    return exhibit.settings_of(config.load(scale), of(name))


def noise(seed: int) -> float:
    """A small departure that differs between seeds."""
    return 0.01 * (seed % 5 - 2)


Truth = Mapping[str, Any]
"""What a made-up record says: metric or series column -> value, or a function of the epoch or layer."""


def value(truth: Truth, name: str, at: float, default: float) -> float:
    found = truth.get(name, default)
    return float(found(at)) if callable(found) else float(found)


def outcome_of(spec: RunSpec, truth: Truth) -> Result:
    """An outcome with everything that records of this kind hold."""
    off = noise(spec.seed)
    if isinstance(spec, Verification):
        errors = {name: truth.get(name, 50.0) + off for name in ("standard_error", "verified_error_ibp")}
        pgd = (errors["standard_error"] + errors["verified_error_ibp"]) / 2
        crown = {f"verified_error_{method}": errors["verified_error_ibp"] for method in spec.methods}
        return Result({**crown, **errors, "pgd_error": pgd, "samples": 1000.0, "eps": spec.radius})
    if isinstance(spec, TimingComparison):
        seconds = {name: truth.get(name, 1.0) * (1 + off / 10) for name in SECONDS}
        return Result({f"{name}_{method}": value for name, value in seconds.items() for method in spec.names})
    if isinstance(spec, Initialisation):
        return Result({"growth": 1.0}, {"layers": layers_at_start(spec, truth)})
    assert isinstance(spec, Certified)
    return Result({"best_standard_error": 40.0, "best_verified_error": 50.0}, in_training(spec, truth, off))


SECONDS = ("seconds_zero", "seconds_ramp", "seconds_final", "seconds_total")


def layers_at_start(spec: Initialisation, truth: Truth) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {
        name: [] for name in ("layer", "kind", "fan_in", "fan_out", "radius", "gain", "formula")
    }
    gain = truth.get("gain", 10.0)
    for layer in range(7):
        kind = "input" if layer == 0 else "linear" if layer == 6 else "conv"
        measured = gain * truth.get("off", 1.0) * (1 + noise(spec.seed) / 10)
        row = (layer, kind, 100, 100, 0.1 * measured**layer, measured if layer else 0.0, gain if layer else 0.0)
        for name, number in zip(rows, row, strict=True):
            rows[name].append(number)
    return rows


def in_training(spec: Certified, truth: Truth, off: float) -> dict[str, dict[str, list[Any]]]:
    epochs = list(range(1, spec.schedule.epochs + 1))
    columns = {
        "epoch": epochs,
        "tightness": [value(truth, "tightness", epoch, 0.5) + off for epoch in epochs],
        "relu": [value(truth, "relu", epoch, 0.5) + off for epoch in epochs],
        "train_verified_error": [value(truth, "train_verified_error", epoch, 50.0) + off for epoch in epochs],
    }
    layers: dict[str, list[Any]] = {name: [] for name in ("epoch", "layer", "active", "inactive", "unstable", "radius")}
    radii: dict[str, list[Any]] = {name: [] for name in ("epoch", "layer", "state", "share", "radius")}
    for epoch in epochs:
        inactive = value(truth, "inactive", epoch, 0.5) + off / 10
        for layer in (1, 2):
            row = (epoch, layer, (1 - inactive) / 2, inactive, (1 - inactive) / 2, 0.1)
            for name, number in zip(layers, row, strict=True):
                layers[name].append(number)
            if spec.schedule.phase(epoch - 1) == "ramp":
                for state in ("active", "inactive", "unstable"):
                    radius = value(truth, f"radius_{state}", layer, 0.1) * (1 + off)
                    for name, number in zip(radii, (epoch, layer, state, 1 / 3, radius), strict=True):
                        radii[name].append(number)
    return {"epochs": columns, "layers": layers, "radii": radii}


def frame_of(
    name: str,
    truth: Callable[[ArmRun], Truth] = lambda member: {},
    scale: str = "paper",
    alone: bool = True,
    **changes: Any,
) -> pd.DataFrame:
    """The long frame of an exhibit, as `collect` makes it, from made-up records."""
    chosen, settings = of(name), settings_at(scale, name).model_copy(update=changes)
    rows: list[dict[str, Any]] = []
    for member in chosen.runs(settings):
        made = Record(
            "key", member.spec.description(), "", outcome_of(member.spec, truth(member)), {}, {"alone": alone}
        )
        rows += [{**row, "key": "key", "older": False} for row in chosen.rows(member, made)]
    frame = long(rows)
    return frame if chosen.derive is None else long([*rows, *({**row, "key": ""} for row in chosen.derive(frame))])


def long(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in LABELS:
        if column != "x":
            frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    frame["x"] = pd.to_numeric(frame["x"], errors="coerce")
    return frame


def verdict(frame: pd.DataFrame, name: str, claim: str) -> stats.Finding:
    return next(item for item in of(name).claims if item.name == claim).test(frame)


@lru_cache
def printed(name: str) -> dict[tuple[Any, ...], float]:
    """The paper's own numbers of an exhibit, by labels and metric."""
    rows = published.targets(of(name)).to_dict("records")
    return {published.name_of(row): row["value"] for row in rows}


def as_printed(name: str, swap: tuple[str, str] | None = None) -> Callable[[ArmRun], Truth]:
    """Verifications have the printed errors; those of two methods may be exchanged."""

    def truth(member: ArmRun) -> Truth:
        if not isinstance(member.spec, Verification):
            return {}
        labels = dict(member.labels)
        if swap and labels["method"] in swap:
            labels["method"] = swap[1 - swap.index(labels["method"])]
        numbers = printed(name)
        return {
            to: numbers[published.name_of({**labels, "metric": metric})]
            for metric, to in (("standard_error", "standard_error"), ("verified_error", "verified_error_ibp"))
        }

    return truth


def runs_of(name: str, kind: type[RunSpec]) -> set[str]:
    chosen = of(name)
    return {
        spec.identity
        for member in chosen.runs(settings_at("paper", name))
        for spec in member.spec.chain()
        if isinstance(spec, kind)
    }


def test_run_counts_are_the_protocols() -> None:
    tables = {name: runs_of(name, Certified) for name in ("table1", "table2", "table4")}
    assert {name: len(runs) for name, runs in tables.items()} == {"table1": 99, "table2": 24, "table4": 80}
    assert len(tables["table4"] - tables["table1"]) == 60
    for name, runs in tables.items():
        assert len(runs_of(name, Verification)) == len(runs)  # every network is verified
    assert len(runs_of("fig5", Certified) - tables["table2"]) == 1
    assert len(runs_of("fig5", Verification)) == 2
    assert len(runs_of("radii", Certified) - tables["table1"]) == 36
    for name in ("fig2", "fig3", "fig4", "fig6", "rampbalance"):
        assert runs_of(name, Certified) <= tables["table4"], name


@pytest.mark.parametrize("scale", ["ci", "small", "paper"])
def test_every_trained_network_is_verified_on_the_whole_test_set_of_its_scale(scale: str) -> None:
    trained: set[str] = set()
    verified: dict[str, Verification] = {}
    for name in NAMES:
        for member in of(name).runs(settings_at(scale, name)):
            spec = member.spec
            if isinstance(spec, Certified):
                trained.add(spec.identity)
            if isinstance(spec, Verification) and spec.eps is None:
                trained.add(spec.parent.identity)
                verified[spec.parent.identity] = spec
    assert trained == set(verified)
    for spec in verified.values():
        assert set(spec.methods) >= {"ibp", "crown_ibp"}
        assert spec.attacked_samples() == spec.parent.test_samples() <= spec.test_samples()


@pytest.mark.parametrize("name", [name for name in NAMES if of(name).margins])
def test_every_target_joins_a_member_at_scale_paper(name: str) -> None:
    ours = {published.name_of(row) for row in frame_of(name).to_dict("records")}
    wanted = set(printed(name))
    assert wanted
    assert not [target for target in wanted if target not in ours]


def test_the_papers_own_numbers_are_targets_and_other_work_is_not() -> None:
    counts = {name: len(printed(name)) for name in ("table1", "table2", "table4")}
    assert counts == {"table1": 54, "table2": 48, "table4": 32}
    assert not [name for name in printed("table1") if "literature" in name]


@pytest.mark.parametrize("name", ["table1", "table2", "table4"])
def test_claims_hold_on_the_printed_numbers(name: str) -> None:
    frame = frame_of(name, as_printed(name), seeds=5)
    for claim in of(name).claims:
        outcome = claim.test(frame)
        assert outcome.verdict == ("reproduced" if claim.kind == "claim" else "estimate"), (claim.name, outcome)


@pytest.mark.parametrize(
    ("name", "swap", "claims"),
    [
        ("table1", ("ours", "vanilla_ibp"), "T1a T1b T1c T1d"),
        ("table1", ("crown_ibp", "vanilla_ibp"), "T1e"),
        ("table2", ("ours", "crown_ibp"), "T2a"),
        ("table2", ("vanilla_ibp_no_bn", "vanilla_ibp"), "T2b"),
        ("table4", ("r1_no_bn", "r3_bn_full"), "T4a"),
        ("table4", ("r7_reg_no_init", "r8_full"), "T4e T4f"),
    ],
)
def test_claims_fail_where_methods_are_exchanged(name: str, swap: tuple[str, str], claims: str) -> None:
    frame = frame_of(name, as_printed(name, swap), seeds=5)
    for claim in claims.split():
        assert verdict(frame, name, claim).verdict == "not reproduced", claim


def shifted(frame: pd.DataFrame, by: float, **labels: Any) -> pd.DataFrame:
    """The frame with errors of some rows moved by so many points."""
    changed = frame.copy()
    rows = changed["metric"].isin(["verified_error", "standard_error"])
    for name, wanted in labels.items():
        rows &= changed[name] == wanted
    assert rows.any()
    changed.loc[rows, "value"] += by
    return changed


@pytest.mark.parametrize(
    ("name", "claim", "by", "labels"),
    [
        ("table1", "T1f", 1.0, {"dataset": "mnist", "method": "crown_ibp"}),
        ("table1", "T1g", 9.0, {"panel": "160 (1+80+79)", "method": "ours"}),
        ("table1", "T1h", 9.0, {"model": "cnn7", "method": "vanilla_ibp"}),
        ("table1", "T1i", 3.0, {"panel": "160 (1+80+79)", "method": "ours"}),
        ("table1", "T1j", 3.0, {"dataset": "mnist", "method": "ours"}),
        ("table2", "T2c", 9.0, {"model": "wide_resnet", "method": "ours"}),
        ("table2", "T2d", 9.0, {"model": "cnn7"}),
        ("table4", "T4b", 3.0, {"method": "r2_bn_conv"}),
        ("table4", "T4c", -3.0, {"method": "r4_init"}),
        ("table4", "T4d", 3.0, {"method": "r5_init_tightness"}),
        ("table4", "T4d", 3.0, {"method": "r6_init_relu"}),
    ],
)
def test_claims_fail_where_one_part_does(name: str, claim: str, by: float, labels: dict[str, Any]) -> None:
    frame = frame_of(name, as_printed(name), seeds=5)
    assert verdict(shifted(frame, by, **labels), name, claim).verdict == "not reproduced"


def test_init_helps_only_where_it_lowers_the_error_by_more_than_the_margin() -> None:
    """Printed 67.63 % with the initialisation and 67.01 % without: 0.9 points less is still no help, 1.1 points are."""
    frame = frame_of("table4", as_printed("table4"), seeds=5)
    assert verdict(shifted(frame, -0.9, method="r4_init"), "table4", "T4c").verdict == "reproduced"
    assert verdict(shifted(frame, -1.1, method="r4_init"), "table4", "T4c").verdict == "not reproduced"


def test_how_the_regularisers_alternate_is_estimated() -> None:
    """Printed 68.96 and 69.38 % after 70 epochs, 66.74 and 66.46 % after 160: 0.42 + 0.28 points."""
    frame = frame_of("table4", as_printed("table4"), seeds=5)
    assert verdict(frame, "table4", "T4g").estimate == pytest.approx(0.7)
    changed = shifted(frame, 3.0, method="r5_init_tightness", panel="160 (1+80+79)")
    assert verdict(changed, "table4", "T4g").estimate == pytest.approx(3.7)


def test_absolute_errors_are_compared_at_the_papers_protocol_only() -> None:
    for name, claim in (("table1", "T1i"), ("table1", "T1j"), ("table2", "T2c")):
        frame = frame_of(name, lambda member: {"verified_error_ibp": 5.0}, scale="ci")
        assert verdict(frame, name, claim).verdict in ("not comparable", "undecided"), claim


def test_one_seed_decides_nothing() -> None:
    frame = frame_of("table2", as_printed("table2"))
    assert {claim.test(frame).verdict for claim in of("table2").claims} == {"undecided"}


def by_method(numbers: Mapping[str, Truth]) -> Callable[[ArmRun], Truth]:
    return lambda member: numbers.get(member.labels["method"], {})


FIGURE_TRUTHS: dict[str, dict[str, Truth]] = {
    "fig2": {
        "r1_no_bn": {"inactive": 0.9},
        "r3_bn_full": {"inactive": 0.6},
        "r8_full": {"inactive": 0.3},
    },
    "fig3": {
        "r1_no_bn": {"tightness": 0.9},
        "r3_bn_full": {"tightness": 0.8},
        "r7_reg_no_init": {"tightness": 0.4},
        "r8_full": {"tightness": 0.2},
    },
    "fig4": {
        "r1_no_bn": {"relu": 1.5},
        "r3_bn_full": {"relu": 0.8},
        "r4_init": {"relu": 0.9},
        "r7_reg_no_init": {"relu": 0.2},
        "r8_full": {"relu": 0.2},
    },
    "fig5": {"ours": {"train_verified_error": 80.0}, "r7_reg_no_init": {"train_verified_error": 85.0}},
    "fig6": {
        method: {"radius_inactive": 0.1, "radius_active": 0.2, "radius_unstable": 0.3}
        for method in ("r3_bn_full", "r8_full")
    },
    "table3": {
        "vanilla_ibp": dict(zip(SECONDS, (30.0, 54.8, 54.8, 8747.9), strict=True)),
        "crown_ibp": dict(zip(SECONDS, (30.0, 78.5, 54.8, 10641.3), strict=True)),
        "ours": dict(zip(SECONDS, (64.0, 64.0, 54.8, 9512.3), strict=True)),
    },
    "cost": {
        "vanilla_ibp": {"seconds_ramp": 54.8},
        "crown_ibp": {"seconds_ramp": 78.5},
        "ours": {"seconds_ramp": 64.0},
    },
    "fig1": {"torch_default": {"gain": 10.0}, "ibp": {"gain": 1.0}},
    "table5": {"ibp": {"gain": 1.0}},
}
FLIPS: list[tuple[str, str, dict[str, Truth]]] = [
    ("fig2", "F2a", {"r7_reg_no_init": {"inactive": 0.95}}),
    ("fig2", "F2b", {"r8_full": {"inactive": 0.7}}),
    ("fig2", "F2b", {"r3_bn_full": {"inactive": 0.95}}),
    ("fig3", "F3a", {"r8_full": {"tightness": lambda epoch: 0.9 if epoch <= 20 else 0.1}}),
    ("fig3", "F3b", {"r8_full": {"tightness": lambda epoch: 0.1 if epoch <= 20 else 0.95}}),
    ("fig4", "F4a", {"r7_reg_no_init": {"relu": 1.2}}),
    ("fig4", "F4b", {"r3_bn_full": {"relu": 1.9}}),
    ("fig5", "F5a", {"ours": {"train_verified_error": 90.0}}),
    ("fig6", "F6a", {"r8_full": {"radius_inactive": lambda layer: 0.1 if layer == 1 else 0.5, "radius_unstable": 0.3}}),
    ("table3", "T3a", {"ours": dict(zip(SECONDS, (64.0, 64.0, 60.0, 9512.3), strict=True))}),
    ("table3", "T3b", {"ours": dict(zip(SECONDS, (29.0, 64.0, 54.8, 9512.3), strict=True))}),
    ("table3", "T3c", {"ours": dict(zip(SECONDS, (64.0, 80.0, 54.8, 9512.3), strict=True))}),
    ("table3", "T3d", {"ours": dict(zip(SECONDS, (64.0, 64.0, 54.8, 8000.0), strict=True))}),
    ("cost", "CO1", {"ours": {"seconds_ramp": 50.0}}),
    ("fig1", "F1a", {"torch_default": {"gain": 2.0}}),
    ("fig1", "F1b", {"torch_default": {"gain": 10.0, "off": 1.2}}),
    ("fig1", "F1c", {"ibp": {"gain": 1.0, "off": 0.85}}),
    ("table5", "T5a", {"orthogonal": {"gain": 5.0, "off": 1.05}}),
]


@pytest.mark.parametrize("name", FIGURE_TRUTHS)
def test_claims_of_curves_and_costs_hold_where_they_are_true(name: str) -> None:
    changes = {"seeds": 3} if name in ("fig5",) else {}
    frame = frame_of(name, by_method(FIGURE_TRUTHS[name]), **changes)
    for claim in of(name).claims:
        outcome = claim.test(frame)
        assert outcome.verdict == "reproduced", (claim.name, outcome)


@pytest.mark.parametrize(("name", "claim", "flip"), FLIPS)
def test_claims_of_curves_and_costs_fail_where_they_are_false(name: str, claim: str, flip: dict[str, Truth]) -> None:
    changes = {"seeds": 3} if name in ("fig5",) else {}
    frame = frame_of(name, by_method({**FIGURE_TRUTHS[name], **flip}), **changes)
    assert verdict(frame, name, claim).verdict == "not reproduced"


@pytest.mark.parametrize(("short", "long", "expected"), [(0.7, 0.5, "reproduced"), (0.5, 0.7, "not reproduced")])
def test_ramp_length_and_balance(short: float, long: float, expected: str) -> None:
    truth = lambda member: {"inactive": short if member.labels["panel"].startswith("70") else long}  # noqa: E731
    assert verdict(frame_of("rampbalance", truth), "rampbalance", "RB1").verdict == expected


@pytest.mark.parametrize(("mtl", "least", "expected"), [(40.0, 30.0, "reproduced"), (60.0, 55.0, "not reproduced")])
def test_recipes(mtl: float, least: float, expected: str) -> None:
    def truth(member: ArmRun) -> Truth:
        line, weight = member.labels["method"], member.labels["x"]
        if line in ("mtl_ibp", "sabr"):
            return {"standard_error": mtl, "verified_error_ibp": 70.0}
        if line == "tuned_ibp" and weight < 1:
            return {"standard_error": least, "verified_error_ibp": 120 - 2 * least + 40 * (expected == "reproduced")}
        return {"standard_error": 50.0, "verified_error_ibp": 65.0}

    frame = frame_of("recipes", truth)
    assert {claim.test(frame).verdict for claim in of("recipes").claims} == {expected}


@pytest.mark.parametrize("scale", ["ci", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_exhibits_are_drawn(name: str, scale: str, tmp_path: Path) -> None:
    chosen, settings = of(name), settings_at(scale, name)
    truth = by_method(FIGURE_TRUTHS.get(name, {}))
    frame = frame_of(name, truth, scale=scale)
    drawn = chosen.draw(frame, published.of_exhibit(chosen), settings)
    if chosen.kind == "figure":
        figure.save(drawn, tmp_path / name)
        assert (tmp_path / f"{name}.pdf").stat().st_size > 3000
        assert drawn.axes[0].get_legend() or drawn.legends
    else:
        table.write(drawn, tmp_path / name, title=chosen.title)
        lines = [line.split("|") for line in (tmp_path / f"{name}.md").read_text().splitlines() if line.startswith("|")]
        assert len(lines) >= 5
        assert not any(cell.strip() in ("nan", "None") for line in lines for cell in line)


def test_table_rows_have_the_published_number_and_n_beside_ours() -> None:
    frame = frame_of("table1", as_printed("table1"))
    tables = of("table1").draw(frame, published.of_exhibit(of("table1")), settings_at("paper", "table1"))
    assert list(tables) == ["", "Further errors", "Other work, as printed"]
    panel = SETUPS["cifar_160"].panel
    long = tables[""][tables[""].index.get_level_values("epochs") == panel].droplevel(["data set", "epochs"])
    assert list(long.index) == ["vanilla IBP", "CROWN-IBP", "ours", "ours (best run)"]
    assert [f"{network} {kind}" for network, kind in long.columns[1:4]] == [
        "CNN-7 verified",
        "Wide-ResNet standard",
        "Wide-ResNet verified",
    ]
    assert long["CNN-7", "verified"]["ours"] == "**65.58 ± 0.02** [65.58]"
    assert long["CNN-7", "verified"]["ours (best run)"] == "65.56 [65.03]"
    further = tables["Further errors"].loc["CIFAR-10, eps 8/255", panel, "ours", "CNN-7"]
    assert (further["test images"], further["seeds"]) == ("1,000", "5")
    assert ("MNIST", "200 (9+51 epochs)", "CROWN-IBP (Zhang et al.)") in tables["Other work, as printed"].index


def test_the_lowest_error_of_a_row_is_bold_where_methods_are_columns() -> None:
    frame = frame_of("table2", as_printed("table2"))
    table2 = of("table2").draw(frame, published.of_exhibit(of("table2")), settings_at("paper", "table2"))
    bold = table2[""].map(lambda text: text.startswith("**"))
    assert [*bold.loc[:, "ours"].all()] == [True, True] and bold.sum(axis=1).eq(2).all()


def test_chance_is_that_of_a_network_that_answers_alike_to_everything() -> None:
    def level(scale: str, name: str, metric: str, dataset: str = "cifar10") -> Chance | None:
        chance = of(name).chance
        assert chance is not None
        return chance(settings_at(scale, name), {"dataset": dataset, "metric": metric})

    assert level("paper", "table1", "verified_error") == level("paper", "table4", "pgd_error") == (90, 10_000)
    assert level("ci", "table1", "verified_error") == (80, 5_000) and level("ci", "table4", "pgd_error") == (80, 500)
    assert level("ci", "radii", "verified_error_crown_ibp", "mnist") == (80, 500)
    assert level("paper", "table2", "best_verified_error", "tiny_imagenet") == (99.5, 10_000)
    assert level("ci", "recipes", "certified_accuracy_ibp") == (20, 5_000)
    assert level("ci", "table1", "at_protocol") is level("ci", "recipes", "test_images") is None
    assert level("ci", "fig5", "train_verified_error_early", "tiny_imagenet") is None


def test_headings_name_the_radius_of_the_runs() -> None:
    """At scale small runs are at 2/255 where the paper's are at 8/255."""
    small = {name: settings_at("small", name) for name in ("table1", "radii", "recipes")}
    table1 = of("table1").draw(frame_of("table1", scale="small"), published.of_exhibit(of("table1")), small["table1"])
    assert set(table1[""].index.get_level_values("data set")) == {"MNIST, eps 0.1", "CIFAR-10, eps 2/255"}
    radii = of("radii").draw(frame_of("radii", scale="small"), published.of_exhibit(of("radii")), small["radii"])
    # 2/255 and 0.3 of the paper, a fourth each.
    assert set(radii[""].index.get_level_values("eps")) == {
        "0.1 → 0.025",
        "2/255 → 0.001961",
        "0.3 → 0.075 (trained at eps 0.4 → 0.1)",
    }
    recipes = of("recipes")
    fig = recipes.draw(frame_of("recipes", scale="small"), published.of_exhibit(recipes), small["recipes"])
    assert {ax.get_title().partition("eps")[2] for ax in fig.axes} == {" 8/255 → 2/255"}
    markers = [line.get_markerfacecolor() for ax in fig.axes for line in ax.get_lines()]
    assert "none" not in markers  # numbers of later work at 8/255 are not beside runs at 2/255
    fig = recipes.draw(frame_of("recipes"), published.of_exhibit(recipes), settings_at("paper", "recipes"))
    assert {ax.get_title().partition("eps")[2] for ax in fig.axes} == {" 8/255", " 2/255"}
    assert "none" in [line.get_markerfacecolor() for ax in fig.axes for line in ax.get_lines()]


def test_a_number_is_expected_from_as_many_seeds_as_the_protocol_repeats_its_cell() -> None:
    made = plan.make(config.load("paper"), ["certified/table1"])
    facts = collect.Facts([], 0, 0, [], 0.0, [])
    subject = judge.Subject(made, "certified/table1", pd.DataFrame(), facts)
    expected = {row["model"]: subject.expected(row) for row in published.targets(of("table1")).to_dict("records")}
    assert expected == {"cnn7": {0, 1, 2, 3, 4}, "wide_resnet": {0, 1, 2}, "resnext": {0, 1, 2}}


def test_names_of_the_ablation_share_their_runs_with_table_1() -> None:
    settings = settings_at("paper", "table4")
    ours, vanilla = (settings.training("cifar_160", "cnn7", method, 2) for method in ("ours", "vanilla_ibp"))
    assert ours == settings.training("cifar_160", "cnn7", "r8_full", 2)
    assert vanilla == settings.training("cifar_160", "cnn7", "r3_bn_full", 2)
    assert ours.parameters() == 17_192_650


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bench import config; from bench.workflow import plan; "
        "plan.make(config.load('paper'), ['certified']); "
        "print([name for name in ('torch', 'pandas', 'scipy', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("name", "claim"), [("table3", "T3b"), ("cost", "CO1")])
def test_seconds_of_a_busy_machine_are_neither_shown_nor_judged(name: str, claim: str) -> None:
    busy = frame_of(name, alone=False)
    assert not busy["metric"].str.contains("seconds").any()
    with pytest.raises(KeyError, match="alone"):  # judged as not run
        verdict(busy, name, claim)
    drawn = of(name).draw(busy, published.of_exhibit(of(name)), settings_at("paper", name))
    assert len(drawn) >= 3, "the published seconds stand alone"
