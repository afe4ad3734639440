"""The exhibits: which runs they share at each scale, names that join the published numbers, claims, figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import config, exhibit, published
from bench.exhibit import ArmRun, Exhibit
from bench.record import Record
from bench.report import collect
from bench.rewarm import design
from bench.rewarm.counts import CountSpec
from bench.rewarm.design import CONTINUATIONS, LONG, PILE, SHORT, SLIMPAJAMA, RewarmSettings
from bench.rewarm.exhibits._rows import Curves
from bench.rewarm.spec import Generated, PretrainSpec
from bench.run import Result
from bench.workflow import plan

FIGURES = [f"rewarm/fig{number}" for number in range(1, 10)]
BEYOND = ["rewarm/replay", "rewarm/schedules", "rewarm/moments", "rewarm/sequence"]

# Protocol, section b: which figures each run is in.
USED = {
    "L1": {2, 3, 4},
    "L2": {2, 3, 4},
    "L3": {1, 2, 3, 4, 7, 8, 9},
    "L4": {2, 3, 4},
    "L5": {2, 3, 9},
    "W0": {1, 7, 8, 9},
    "W05": {1},
    "W2": {1},
    "E27a": {7, 8, 9},
    "E27b": {7, 8, 9},
    "E10a": {7, 8, 9},
    "E10b": {7, 8, 9},
    "P1": {5, 6},
    "P2": {5, 6},
    "P3": {5, 6},
    "P4": {5, 6},
}


def exhibits() -> dict[str, Exhibit]:
    return {name: found for name, found in exhibit.registry().items() if found.paper == "rewarm"}


def paper_plan(*names: str, **common: Any) -> plan.Plan:
    suite = config.load("paper").model_copy(update={"common": {"rewarm": common}})
    return plan.make(suite, names or tuple(exhibits()))


TRAINED = {
    "start": "trained",
    "model": "2x64x4",
    "vocabulary": 64,
    "context": 32,
    "corpora": {"kind": "generated"},
    "schedule_steps": 2000,
    "upstream_steps": 2020,
    "batch": 8,
    "upstream_batch": 8,
    "micro_batch": 0,
    "precision": "float32",
    "evaluation": {"every": 25, "dense_every": 5},
}
"""A reduced scale, of which nothing is trained here."""


# Which runs there are.


def test_sixteen_runs_at_the_papers_scale_with_the_figures_of_the_protocol(results: Path) -> None:
    made = paper_plan(*FIGURES)
    assert len(made.runs) == 16
    for name, arm in CONTINUATIONS.items():
        run = made.runs[made.key(arm.spec(RewarmSettings(), 0))]
        assert set(run.exhibits) == {f"rewarm/fig{number}" for number in USED[name]}, name
        assert run.spec.parent_spec is None


def test_one_upstream_run_a_seed_where_starts_are_trained(results: Path) -> None:
    made = paper_plan(*FIGURES, seeds=3, **TRAINED)
    assert len(made.runs) == 3 * 17
    roots = [run.spec for run in made.runs.values() if run.spec.parent_spec is None]
    # Three upstream runs and three from random weights.
    assert sorted((spec.train_on, spec.seed) for spec in roots) == [
        (side, seed) for side in ("downstream", "upstream") for seed in range(3)
    ]
    for run in made.runs.values():
        assert all(ancestor.seed == run.spec.seed for ancestor in run.spec.chain())


def test_the_plan_states_the_price_of_the_paper(results: Path) -> None:
    from bench.report import plan_text as overview

    made = paper_plan(*FIGURES)
    total = plan.total(made.runs.values())
    assert total["tokens"] == pytest.approx(1747e9, rel=5e-4)
    assert "all of it: 1,746 B tokens" in overview.as_text(made)  # the protocol adds rounded lengths up to 1,747
    # 4.8e21 in the protocol; evaluation comes on top.
    assert 4.7e21 < total["flops"] < 5.2e21
    assert 100 * 24 < total["hours_gpu"] < 180 * 24
    by_exhibit = {
        name: plan.total(run for run in made.runs.values() if name in run.exhibits)["tokens"] / 1e9 for name in FIGURES
    }
    assert by_exhibit["rewarm/fig2"] == pytest.approx(5 * 239.3, rel=1e-3)
    assert by_exhibit["rewarm/fig5"] == pytest.approx(4 * 50.0, rel=1e-3)
    smaller = plan.total(paper_plan(*FIGURES, model="14m", max_lr=1e-3).runs.values())
    assert smaller["tokens"] == total["tokens"]
    assert smaller["flops"] < total["flops"] / 10


def test_stops_and_schedules_are_the_papers() -> None:
    settings = RewarmSettings()
    specs = {name: arm.spec(settings, 0) for name, arm in CONTINUATIONS.items()}
    assert {name for name, spec in specs.items() if spec.steps == 105_837} == {"L1", "L2", "L3", "L4", "L5"}
    assert all(spec.steps == 22_114 for name, spec in specs.items() if CONTINUATIONS[name].stop == SHORT)
    assert all(spec.schedule.steps == 131_296 for spec in specs.values())
    assert all(spec.tokens_per_step == 2_260_992 for spec in specs.values())
    assert specs["L1"].schedule.rate(0) == specs["L1"].schedule.rate(90_000) == pytest.approx(3e-5)
    assert specs["W05"].schedule.warmup_steps == pytest.approx(656.48)
    assert specs["E27a"].checkpoint is not None and specs["E27a"].checkpoint.step == 27_000
    assert specs["L5"].checkpoint is None
    assert {name for name, spec in specs.items() if spec.train_on == "upstream"} == {"P1", "P2", "P3", "P4"}


def test_continued_upstream_text_is_new() -> None:
    settings = RewarmSettings.model_validate(TRAINED)
    again = CONTINUATIONS["P3"].spec(settings, 0)
    assert again.parent is not None
    assert again.first_step * again.batch == again.parent.steps * again.parent.batch


def test_a_mixture_replaces_the_weights_of_the_downstream_runs_alone() -> None:
    settings = RewarmSettings(mixture={"ArXiv": 40.0, "C4": 60.0})
    assert CONTINUATIONS["L3"].spec(settings, 0).sources == (("ArXiv", 40.0), ("C4", 60.0))
    assert CONTINUATIONS["P3"].spec(settings, 0).sources == ()


def test_what_goes_beyond_shares_the_papers_runs(results: Path) -> None:
    figures = paper_plan(*FIGURES, **TRAINED)
    both = paper_plan(*FIGURES, *BEYOND, **TRAINED)
    # 3 replayed, 2 schedules, 4 with kept moments, 2 third stages and a control.
    assert len(both.runs) - len(figures.runs) == 12


def test_exhibits_that_train_nothing_are_in_the_plan(results: Path) -> None:
    from bench.report import plan_text as overview

    made = paper_plan()
    shown = json.loads(overview.as_json(made))
    names = {entry["name"] for entry in shown["exhibits"]}
    assert names == set(exhibits()) and "rewarm/table1" in names
    table = next(entry for entry in shown["exhibits"] if entry["name"] == "rewarm/table1")
    assert table["cost"]["tokens"] == 0


# Made-up records: losses by share of the schedule, with known truth.


class World:
    """Losses in which all claims hold, and knobs that break one each."""

    def __init__(self, **knobs: Any):
        self.spike = 0.3  # of a start without warm-up
        self.gap = 0.0  # left at 0.168 D by a start without warm-up
        self.bump = 0.06  # by which re-warming raises the downstream loss
        self.forgets = {0.1: 0.05, 0.5: 0.12, 1.0: 0.18, 2.0: 0.3}
        self.ends = {0.1: 2.55, 0.5: 2.52, 1.0: 2.505, 2.0: 2.49}
        self.scratch_end = 2.54
        self.scratch_upstream_slope = -0.05
        self.constant_share = 0.1  # how fast the constant rate falls
        self.same_data_rise = 0.08
        self.same_data_back = 0.5  # slope of the way back
        self.early = {143_000: 0.0, 27_000: 0.1, 10_000: 0.3}
        self.line = True
        self.fresh_spike = True  # moments: kept ones do not spike
        self.replay_keeps = 0.7
        self.replay_costs = 0.0
        self.noise = 5e-4
        self.__dict__.update(knobs)

    def losses(self, spec: PretrainSpec, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(downstream, upstream)."""
        multiple = self._multiple(spec)
        stage = sum(1 for _ in spec.chain())
        if spec.train_on == "upstream" and spec.parent is None:
            falling = 4 * np.exp(-shares / 0.2)
            return 2.7 + falling, 2.2 + falling
        if spec.train_on == "downstream" and spec.parent is None:
            dn = self.scratch_end + 5 * np.exp(-shares / 0.1)
            return dn, 2.9 + 5 * np.exp(-shares / 0.1) + self.scratch_upstream_slope * shares
        worse = self.early[self._origin(spec)] if stage == 2 else 0.0
        warmup = spec.schedule.warmup
        rising = np.minimum(1.0, shares / warmup) if warmup else (shares > 0).astype(float)
        spikes = warmup == 0 and multiple != 0.1 and (spec.moments == "fresh" or not self.fresh_spike)
        spike = self.spike * np.exp(-shares / 0.004) * (shares > 0) if spikes else 0.0 * shares
        spike = spike + (self.gap * rising if spikes else 0.0)
        if spec.train_on == "upstream":
            if stage == 3:  # what was forgotten returns, sooner at the higher rate
                up = 2.4 - 0.1 * multiple * shares
                return up + 0.5, up
            up = 2.2 + self.same_data_rise * multiple * rising * (1 - self.same_data_back * shares) + spike
            extra = (0.002 if self.line else 0.2) * np.sin(40 * shares)
            return np.log(1.5 * np.exp(up) + 1.0 + extra * np.exp(up)), up
        if multiple == 0.1:
            dn = self.ends[0.1] + (2.7 - self.ends[0.1]) * np.exp(-shares / self.constant_share)
            return dn + worse, 2.2 + self.forgets[0.1] * (1 - np.exp(-shares / 0.1)) + worse
        end = self.ends[multiple]
        dn = end + (2.7 - end) * np.exp(-shares / 0.2) + self.bump * multiple * rising * np.exp(-shares / 0.15)
        up = 2.2 + self.forgets[multiple] * rising * (1 - self.replay_keeps * (spec.replay > 0))
        return dn + spike + worse + self.replay_costs * (spec.replay > 0), up + spike + worse

    @staticmethod
    def _multiple(spec: PretrainSpec) -> float:
        root = next((ancestor for ancestor in spec.chain() if ancestor.parent is None), spec)
        return round(spec.schedule.max_lr / root.schedule.max_lr, 6)

    @staticmethod
    def _origin(spec: PretrainSpec) -> int:
        assert spec.parent is not None
        step = spec.parent.steps if spec.start == "weights" else int(spec.start.removeprefix("step"))
        share = step / spec.parent.steps
        return min((10_000, 27_000, 143_000), key=lambda known: abs(known / 143_000 - share))

    def record(self, spec: PretrainSpec) -> Record:
        steps = np.asarray(spec.evaluation_steps())
        dn, up = self.losses(spec, steps / spec.schedule.steps)
        random = np.random.default_rng(100 + spec.seed)
        # A seed's own level, shared by its runs, and a little of each run's own.
        level = random.normal(0, 0.02)
        own = np.random.default_rng(int(spec.identity[:8], 16)).normal(0, self.noise, 2)
        series = {
            "step": steps.tolist(),
            "tokens": (steps * spec.tokens_per_step).tolist(),
            "lr": [spec.schedule.rate(int(step)) for step in steps],
            "loss_up": (up + level + own[0]).tolist(),
            "loss_dn": (dn + level + own[1]).tolist(),
        }
        notes = {
            "schedule_steps": spec.schedule.steps,
            "tokens_per_step": spec.tokens_per_step,
            "warmup_steps": spec.schedule.warmup_steps,
        }
        return record_of(spec, Result({}, {"evaluations": series}, {}, notes))


def record_of(spec: Any, result: Result) -> Record:
    return Record(spec.identity, spec.description(), spec.label(), result, {}, {})


def frame_of(name: str, world: World, **changes: Any) -> pd.DataFrame:
    chosen = exhibits()[name]
    settings = chosen.settings.model_validate({**TRAINED, "seeds": 3, **changes})
    rows: list[dict[str, Any]] = []
    for run in chosen.runs(settings):
        rows += chosen.rows(run, world.record(run.spec))
    frame = pd.DataFrame(rows, columns=list(collect.COLUMNS))
    for column in exhibit.LABELS:
        if column != "x":
            frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    return frame


def decide(name: str, claim_name: str, world: World) -> str:
    claim = next(claim for claim in exhibits()[name].claims if claim.name == claim_name)
    if claim.also:
        return claim.test({other: frame_of(other, world) for other in (name, *claim.also)}).verdict
    return claim.test(frame_of(name, world)).verdict


BROKEN: dict[tuple[str, str], dict[str, Any]] = {
    ("rewarm/fig1", "C1"): {"spike": -0.2},
    ("rewarm/fig1", "C1-mean"): {"spike": -0.2},
    ("rewarm/fig1", "C2"): {"gap": 0.2},
    ("rewarm/fig2", "C3"): {"bump": 0.0},
    ("rewarm/fig2", "C5"): {"ends": {0.1: 2.55, 0.5: 2.49, 1.0: 2.505, 2.0: 2.52}},
    ("rewarm/fig2", "C6"): {"constant_share": 0.02, "ends": {0.1: 2.4, 0.5: 2.52, 1.0: 2.505, 2.0: 2.49}},
    ("rewarm/fig2", "C7a"): {"scratch_end": 2.45},
    ("rewarm/fig2", "C7a-mean"): {"scratch_end": 2.45},
    ("rewarm/fig2", "C7b"): {"scratch_end": 2.6},
    ("rewarm/fig3", "C4"): {"forgets": {0.1: 0.2, 0.5: 0.15, 1.0: 0.1, 2.0: 0.05}},
    ("rewarm/fig3", "C8"): {"scratch_upstream_slope": 0.2},
    ("rewarm/fig5", "C9"): {"same_data_rise": -0.05},
    ("rewarm/fig6", "C10"): {"line": False},
    ("rewarm/fig7", "C11"): {"early": {143_000: 0.3, 27_000: 0.1, 10_000: 0.0}},
    ("rewarm/fig7", "C11-mean"): {"early": {143_000: 0.3, 27_000: 0.1, 10_000: 0.0}},
    ("rewarm/fig9", "C7c"): {"scratch_end": -4.0},
    ("rewarm/fig9", "C7c-mean"): {"scratch_end": -4.0},
    ("rewarm/replay", "R1"): {"replay_costs": 0.1},
    ("rewarm/moments", "M1"): {"fresh_spike": False, "noise": 1e-3},
    ("rewarm/sequence", "Q1"): {},
    ("rewarm/sequence", "Q2"): {},
    ("rewarm/schedules", "S1"): {},
}
"""Claim -> what breaks it."""


@pytest.mark.parametrize(("name", "claim"), [key for key in BROKEN if key[0] in FIGURES])
def test_a_claim_that_holds_is_reproduced(name: str, claim: str) -> None:
    assert decide(name, claim, World()) == "reproduced"


@pytest.mark.parametrize(("name", "claim"), [key for key, knobs in BROKEN.items() if knobs and key[1] != "M1"])
def test_a_claim_that_fails_is_not_reproduced(name: str, claim: str) -> None:
    assert decide(name, claim, World(**BROKEN[name, claim])) == "not reproduced"


def test_noise_between_seeds_does_not_make_warm_ups_equal() -> None:
    assert decide("rewarm/fig1", "C2", World(noise=0.1)) == "undecided"


@pytest.mark.parametrize(
    ("name", "claim", "knobs"),
    [
        ("rewarm/fig2", "C7a", {"ends": {0.1: 2.55, 0.5: 2.537, 1.0: 2.505, 2.0: 2.49}, "noise": 5e-3}),
        ("rewarm/fig7", "C11", {"early": {143_000: 0.0, 27_000: 0.0, 10_000: 0.3}}),
    ],
)
def test_one_setting_without_a_difference_leaves_every_setting_open_and_the_average_stands(
    name: str, claim: str, knobs: dict[str, Any]
) -> None:
    assert decide(name, claim, World(**knobs)) != "reproduced"
    assert decide(name, f"{claim}-mean", World(**knobs)) == "reproduced"


def test_every_claim_of_the_protocol_is_there() -> None:
    found = {(name, claim.name) for name, chosen in exhibits().items() for claim in chosen.claims}
    assert found == set(BROKEN)
    names = {claim for name, claim in found if name in FIGURES and not claim.endswith("-mean")}
    assert names == {*(f"C{n}" for n in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)), "C7a", "C7b", "C7c"}


def test_one_seed_leaves_a_claim_undecided() -> None:
    claim = exhibits()["rewarm/fig7"].claims[0]
    assert claim.test(frame_of("rewarm/fig7", World(), seeds=1)).verdict == "undecided"


def test_a_run_that_is_missing_is_said_so() -> None:
    claim = exhibits()["rewarm/fig3"].claims[0]
    frame = frame_of("rewarm/fig3", World())
    with pytest.raises(KeyError, match="Constant"):
        claim.test(frame[frame["method"] != design.CONST_NAME])


def test_replay_moments_and_stages_are_judged() -> None:
    assert decide("rewarm/replay", "R1", World()) == "reproduced"
    assert decide("rewarm/moments", "M1", World()) == "reproduced"
    assert decide("rewarm/moments", "M1", World(fresh_spike=False, spike=-0.1)) != "reproduced"
    assert decide("rewarm/sequence", "Q1", World()) == "reproduced"
    # The control of the made-up world goes half the way back only.
    assert decide("rewarm/sequence", "Q2", World()) == "not reproduced"
    assert decide("rewarm/sequence", "Q2", World(same_data_back=1.4)) == "reproduced"
    assert decide("rewarm/schedules", "S1", World(noise=1e-4)) == "reproduced"


def test_overtaking_is_found_where_it_is() -> None:
    from bench.rewarm.exhibits.fig2 import overtaken_at

    frame = frame_of("rewarm/fig2", World(noise=0.0))
    x = np.linspace(0.02, LONG, 20_000)
    spec = {
        name: CONTINUATIONS[name].spec(RewarmSettings.model_validate(TRAINED), 0) for name in ("L1", "L2", "L3", "L4")
    }
    curves = {name: World().losses(spec[name], x)[0] for name in spec}
    best = np.min([curves[name] for name in ("L2", "L3", "L4")], axis=0)
    crossing = x[np.argmax(best < curves["L1"])]
    assert overtaken_at(frame) == pytest.approx(dict.fromkeys(range(3), crossing), abs=0.02)
    never = frame_of("rewarm/fig2", World(ends={0.1: 2.0, 0.5: 2.52, 1.0: 2.5, 2.0: 2.49}, constant_share=0.02))
    assert overtaken_at(never) == pytest.approx(dict.fromkeys(range(3), LONG), abs=1e-3)


def test_levels_are_means_over_the_last_percent() -> None:
    curves = Curves(
        share=[0.0, 0.5, 0.991, 0.995, 1.0],
        tokens=[0, 50, 99, 99.5, 100],
        loss={PILE: [9.0, 5.0, 1.0, 2.0, 3.0], SLIMPAJAMA: [0.0] * 5},
        warmup=0.01,
        schedule_tokens=100,
    )
    assert curves.level(1.0, PILE) == pytest.approx(2.0)
    assert curves.level(0.6, PILE) == 5.0  # none within 1 %: the last before
    assert curves.until(0.6).share == [0.0, 0.5]


# Names that join.


def _table1_record(run: ArmRun) -> Record:
    from bench.data.text import SLIMPAJAMA_WEIGHTS

    names = list(SLIMPAJAMA_WEIGHTS)
    columns = {
        "corpus": ["pile", *["slimpajama"] * 7],
        "source": ["Pile", *names],
        "weight": [100.0, *SLIMPAJAMA_WEIGHTS.values()],
        "drawn": [100.0, *SLIMPAJAMA_WEIGHTS.values()],
        "train": [300e9, *[1e9] * 7],
        "val": [1e6, *[1e6] * 7],
    }
    notes = {"sequences": 100, "context": 2048}
    return record_of(run.spec, Result({"divergence": 0.1}, {"sources": columns}, {}, notes))


class PaperWorld(World):
    """The same losses for runs that start from public checkpoints."""

    def losses(self, spec: PretrainSpec, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del spec
        return 2.7 - 0.1 * shares, 2.2 + 0.1 * shares


def test_every_target_joins_a_number_of_ours_at_the_papers_scale() -> None:
    judged = 0
    for name, chosen in exhibits().items():
        targets = published.targets(chosen)
        if targets.empty:
            continue
        rows: list[dict[str, Any]] = []
        for run in chosen.runs(chosen.settings()):
            record = _table1_record(run) if isinstance(run.spec, CountSpec) else PaperWorld().record(run.spec)
            rows += chosen.rows(run, record)
        ours = {published.name_of(row) for row in rows}
        for target in targets.to_dict("records"):
            assert published.name_of(target) in ours, f"{name}: {published.name_of(target)}"
        judged += len(targets)
    # 24 numbers of Table 1, and the highest Pile loss of Figure 1.
    assert judged == 25


def test_printed_numbers_without_a_margin_are_in_claims_or_settings() -> None:
    rows = published.of_paper("rewarm")
    printed = rows[(rows["provenance"] == "printed") & ~rows["exhibit"].isin(["setup", "table1"])]
    assert set(printed["metric"]) == {"max_val_loss", "constant_best_until", "scratch_below_constant_after"}


def test_the_settings_hold_the_printed_and_derived_set_up() -> None:
    rows = published.of_paper("rewarm")
    setup = rows[rows["exhibit"] == "setup"]
    value = {metric: group["value"].tolist() for metric, group in setup.groupby("metric")}
    settings = RewarmSettings()
    assert value["tokens_per_step"] == [settings.batch * 2048]
    assert value["schedule_steps"] == [settings.schedule_steps]
    assert value["upstream_steps"] == [settings.upstream_steps]
    assert value["upstream_tokens_per_step"] == [settings.upstream_batch * 2048]
    assert sorted(value["warmup_fraction"]) == list(design.WARMUPS)
    assert sorted(value["max_lr"]) == pytest.approx([m * settings.max_lr for m in (0.5, 1.0, 2.0)])
    assert value["constant_lr"] == pytest.approx([design.CONSTANT * settings.max_lr])
    assert value["last_plotted_step_long_runs"] == [CONTINUATIONS["L3"].spec(settings, 0).steps]
    assert value["eval_interval"] == [settings.evaluation.every]
    optimizer = settings.optimizer
    assert (value["adam_beta1"] + value["adam_beta2"], value["adam_eps"]) == (list(optimizer.betas), [optimizer.eps])
    assert (value["weight_decay"], value["grad_clip_norm"]) == ([optimizer.weight_decay], [optimizer.clip_norm])
    assert value["eval_interval_during_warmup"] == [settings.evaluation.dense_every]


# Pictures.


def _drawn(name: str, **changes: Any) -> Any:
    chosen = exhibits()[name]
    settings = chosen.settings.model_validate({**TRAINED, "seeds": 3, **changes})
    return chosen.draw(frame_of(name, World(), **changes), published.of_exhibit(chosen), settings)


LEGENDS = {
    "rewarm/fig1": ["WU 0.0", "WU 0.005", "WU 0.01", "WU 0.02"],
    "rewarm/fig2": list(design.LONG_RUNS.values()),
    "rewarm/fig3": list(design.LONG_RUNS.values()),
    "rewarm/fig5": ["Constant 3e-05", "MaxLR 1.5e-04", "MaxLR 3e-04", "MaxLR 6e-04"],
    "rewarm/fig7": [f"{w} Iter. {i}" for i in (10000, 27000, 143000) for w in ("WU 0", "WU 0.01")],
    "rewarm/fig8": [f"{w} Iter. {i}" for i in (10000, 27000, 143000) for w in ("WU 0", "WU 0.01")],
}


@pytest.mark.parametrize("name", [*FIGURES, *BEYOND])
def test_figures_name_the_papers_series_and_units(name: str, tmp_path: Path) -> None:
    from bench.report import figure

    drawn = _drawn(name)
    figure.save(drawn, tmp_path / "figure")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    texts = [legend for axes in drawn.axes if (legend := axes.get_legend()) is not None] + drawn.legends
    named = [text.get_text() for legend in texts for text in legend.get_texts()]
    for label in LEGENDS.get(name, []):
        assert label in named
    labels = {axes.get_xlabel() for axes in drawn.axes} | {axes.get_ylabel() for axes in drawn.axes}
    assert labels & {"tokens (M)", "SlimPajama PPL (downstream)"}


def test_warm_up_ends_are_grey_dash_dot_lines() -> None:
    axes = _drawn("rewarm/fig1").axes[0]
    lines = [line for line in axes.get_lines() if line.get_linestyle() == "-." and line.get_color() == "0.55"]
    tokens = 2000 * 8 * 32 / 1e6
    places = sorted(float(line.get_xdata()[0]) for line in lines)
    assert places == pytest.approx([share * tokens for share in (0.005, 0.01, 0.02)])


def test_figures_can_be_drawn_when_runs_are_missing() -> None:
    for name in (*FIGURES, *BEYOND):
        chosen = exhibits()[name]
        frame = frame_of(name, World())
        first = frame["method"].iloc[0]
        settings = chosen.settings.model_validate({**TRAINED, "seeds": 3})
        for left in (frame[frame["method"] != first], frame[frame["seed"] < 0]):
            drawn = chosen.draw(left, published.of_exhibit(chosen), settings)
            assert drawn.axes and all(axes.get_xlabel() or axes.get_ylabel() for axes in drawn.axes), name


# Table 1.


def test_table_1_counts_generated_languages(tmp_path: Path) -> None:
    frame, table = _table1(tmp_path, corpora={"kind": "generated"})
    ours = frame[frame["dataset"] == "generated"].set_index("metric")["value"]
    assert ours["train_tokens"] == pytest.approx(2000 * 8 * 32 / 1e9)
    assert ours["sampling_percent"] == 100
    assert 0 < frame[frame["metric"] == "divergence"]["value"].iloc[0] < math.log(2)
    assert "[67.00]" in table[table["source"] == "CommonCrawl"].iloc[0].tolist()  # the paper's, printed beside


def test_table_1_counts_the_shards(tmp_path: Path) -> None:
    sizes = {"arxiv": 7, "books": 9, "reviews": 30, "wikipedia": 11}
    _write_text(tmp_path / "text", sizes)
    frame, table = _table1(
        tmp_path,
        vocabulary=512,
        corpora={"kind": "text", "upstream": "text-upstream", "downstream": "text-downstream", "tokenizer": "bpe-300"},
    )
    from bench.data.text import REAL_TEXT_WEIGHTS, token_counts

    counts = token_counts(tmp_path, "bpe-300", "text-downstream")
    for source, weight in REAL_TEXT_WEIGHTS.items():
        own = frame[frame["dataset"] == source].groupby("metric")["value"].first()
        assert own["sampling_percent"] == pytest.approx(weight, abs=0.01)
        assert own["train_tokens"] * 1e9 == pytest.approx(counts[source]["train"])
        drawn = weight / 100 * 2000 * 8 * 32
        assert own["epochs_drawn"] == pytest.approx(drawn / counts[source]["train"], rel=1e-3)
    assert frame[frame["dataset"] == "Total"].set_index("metric")["value"]["sampling_percent"] == 100
    assert list(table["source"])[-2] == "Total"


def _table1(root: Path, **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    import torch

    from bench.paths import Layout
    from bench.rewarm import counts
    from bench.training.context import Context

    chosen = exhibits()["rewarm/table1"]
    settings = chosen.settings.model_validate({**TRAINED, "seeds": 1, **changes})
    (run,) = chosen.runs(settings)
    context = Context("k", "count", Layout("x", root / "results"), torch.device("cpu"), data_root=root)
    rows = list(chosen.rows(run, record_of(run.spec, counts.train(run.spec, context))))
    frame = pd.DataFrame(rows, columns=list(collect.COLUMNS))
    frame["dataset"] = frame["dataset"].fillna("")
    return frame, chosen.draw(frame, published.of_exhibit(chosen), settings)


def _write_text(folder: Path, sizes: dict[str, int]) -> None:
    def write(path: Path, documents: int, meta: Callable[[int], dict[str, str]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"text": f"Document {number} of {path.parent.name}. " * 20, "meta": meta(number)})
            for number in range(documents)
        ]
        path.write_text("\n".join(lines) + "\n")

    for split, documents in (("train", 40), ("val", 8)):
        write(folder / "upstream" / f"{split}.jsonl", documents, lambda number: {"pile_set_name": "Books"})
        for name, size in sizes.items():
            count = size if split == "train" else 3
            write(folder / "downstream" / name / f"{split}.jsonl", count, lambda number: {"redpajama_set_name": "x"})


def test_divergence_is_zero_for_equal_and_ln_2_for_disjoint_tokens() -> None:
    from bench.rewarm.counts import divergence

    assert divergence(np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.0])) == 0
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(math.log(2))


def test_scale_files_plan_all_exhibits_with_generated_or_real_text(results: Path) -> None:
    for scale, pictures, number in (("ci", {"rewarm/replay", "rewarm/schedules"}, 5), ("small", set(BEYOND), 3)):
        made = plan.make(config.load(scale), ["rewarm"])
        for name in (*FIGURES, *BEYOND):
            seeds = {run.spec.seed for run in made.exhibits[name]}
            assert len(seeds) == (1 if name in pictures else number), (scale, name)
        figures = {run.spec.identity for run in made.runs.values() if set(run.exhibits) & set(FIGURES)}
        assert len(figures) == 17 * number
        assert all(run.spec.small for run in made.runs.values() if isinstance(run.spec, PretrainSpec))
    generated = plan.make(config.load("ci"), ["rewarm/fig2"]).runs
    assert all(isinstance(run.spec.corpora, Generated) for run in generated.values())
