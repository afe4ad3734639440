"""Numbers that take several runs are made when records are collected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import config, exhibit
from bench.cli.main import main
from bench.report import collect
from bench.workflow import execute
from bench.workflow import plan as planning


def doubled(frame: Any) -> Iterable[dict[str, Any]]:
    for seed, group in frame.groupby("seed"):
        at = dict(zip(group["x"], group["value"], strict=True))
        if set(at) == {0.1, 0.2}:
            yield {"method": "walk", "seed": seed, "metric": "further", "value": at[0.2] - at[0.1]}


def test_derived_numbers_stand_beside_those_of_single_runs(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "invented/distance"
    plan = planning.make(config.load(str(invented)))
    execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    plain, _ = collect.frame_of(plan, name)
    monkeypatch.setitem(exhibit.registry(), name, replace(exhibit.registry()[name], derive=doubled))
    frame, _ = collect.frame_of(plan, name)
    own, derived = frame[frame["metric"] == "distance"], frame[frame["metric"] == "further"]
    assert own["value"].tolist() == plain["value"].tolist()
    assert derived["seed"].tolist() == [0, 1, 2]
    first = {x: float(rows["value"].iloc[0]) for x, rows in own[own["seed"] == 0].groupby("x")}
    assert derived["value"].iloc[0] == pytest.approx(first[0.2] - first[0.1])
    # What is derived is written and read like the rest, and needs no x.
    collect.collect(plan, name)
    again, _ = collect.read(plan, name)
    assert again["value"].tolist() == frame["value"].tolist()


def test_nothing_is_derived_from_nothing(invented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "invented/distance"
    plan = planning.make(config.load(str(invented)))

    def never(frame: Any) -> Iterable[dict[str, Any]]:
        raise AssertionError("called without rows")

    monkeypatch.setitem(exhibit.registry(), name, replace(exhibit.registry()[name], derive=never))
    frame, facts = collect.frame_of(plan, name)
    assert frame.empty and len(facts.missing) == 6


def test_a_table_of_other_records_is_noticed(invented: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planning.make(config.load(str(invented)))
    execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    name = "invented/distance"
    capsys.readouterr()
    assert main(["collect", "--scale", str(invented)]) == main(["draw", "--scale", str(invented)]) == 0
    assert capsys.readouterr().err == ""
    plan.layout.record(plan.keys_of(name)[0]).unlink()
    assert collect.outdated(plan) == [name]
    assert main(["judge", "--scale", str(invented), "--exhibits", name]) == 0
    note = capsys.readouterr().err
    assert f"note: {name}" in note and f"collect --scale {invented} --exhibits {name}`" in note
    collect.collect(plan, name)
    assert collect.outdated(plan) == []
