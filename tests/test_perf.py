"""The guard of the speed table: a ratio has fallen when it falls in two measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from bench.perf import measure, profile, table

BEFORE = {("warmstart/step", "float32"): 1.3, ("certified/step", "float32"): 1.4, ("rewarm/memory", "as trained"): 3.0}


def rows(**ratios: float) -> list[dict[str, Any]]:
    """Rows as a measurement gives them."""
    names = {"warmstart": ("warmstart/step", "float32"), "certified": ("certified/step", "float32")}
    names["memory"] = ("rewarm/memory", "as trained")
    return [
        {"path": path, "variant": variant, "unit": "1/s", "ours": ratios[key], "peer": 1.0, "ratio": ratios[key]}
        for key, (path, variant) in names.items()
        if key in ratios
    ]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """Answers of the next measurements; what was asked for."""
    answers: list[list[dict[str, Any]]] = []
    asked: list[str | None] = []

    def measure(path: str | None) -> tuple[list[dict[str, Any]], list[str]]:
        asked.append(path)
        return answers.pop(0), []

    monkeypatch.setattr(table, "measure", measure)
    monkeypatch.setattr(table, "machine", lambda: "this")
    monkeypatch.setattr(table, "committed", lambda name: BEFORE)
    return answers, asked


def test_a_fall_within_the_tolerance_passes(measured) -> None:
    answers, asked = measured
    answers.append(rows(warmstart=1.15, certified=1.25, memory=2.6))
    assert table.main(None, as_json=False, check=True) == 0
    assert asked == [None]


def test_what_falls_once_is_measured_again(measured) -> None:
    answers, asked = measured
    answers += [rows(warmstart=1.0, certified=1.4, memory=2.0), rows(memory=3.0), rows(warmstart=1.3)]
    assert table.main(None, as_json=False, check=True) == 0
    assert asked == [None, "memory", "warmstart"]


def test_what_falls_twice_fails_by_name(measured, capsys: pytest.CaptureFixture[str]) -> None:
    answers, _ = measured
    answers += [rows(warmstart=1.0, certified=1.4, memory=3.0), rows(warmstart=1.1)]
    assert table.main(None, as_json=False, check=True) == 1
    assert capsys.readouterr().err == "SLOWER warmstart/step float32: 1.00, was 1.30\n"


def test_what_is_no_longer_measured_fails(measured, capsys: pytest.CaptureFixture[str]) -> None:
    answers, _ = measured
    answers += [rows(warmstart=1.3, memory=3.0), []]
    assert table.main(None, as_json=False, check=True) == 1
    assert "certified/step float32: not measured any more, was 1.40" in capsys.readouterr().err


def test_one_path_is_held_against_its_own_rows(measured) -> None:
    answers, asked = measured
    answers.append(rows(memory=3.0))
    assert table.main("memory", as_json=False, check=True) == 0
    answers.append(rows(warmstart=1.3))
    assert table.main("warmstart", as_json=False, check=True) == 0
    assert asked == ["memory", "warmstart"]


def test_a_path_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**given: object) -> Iterator[dict[str, Any]]:
        yield from rows(certified=1.4)
        raise RuntimeError("no room")

    def written(found: object) -> None:
        raise AssertionError("half a table was written")

    parts = {"warmstart": rows(warmstart=1.3), "rewarm": [], "workflow": [], "memory": rows(memory=3.0)}
    for name, found in parts.items():
        monkeypatch.setattr(f"bench.perf.{name}.rows", lambda found=found, **given: found)
    monkeypatch.setattr("bench.perf.certified.rows", broken)
    monkeypatch.setattr(table, "compile_for", lambda threads: None)
    monkeypatch.setattr(table, "write", written)
    assert table.main(None, as_json=True) == 1
    said = capsys.readouterr()
    assert [row["path"] for row in json.loads(said.out)] == ["warmstart/step", "certified/step", "rewarm/memory"]
    assert "RuntimeError: no room" in said.err
    assert said.err.endswith("error: certified could not be measured, so no table was written; why stands above\n")


def test_several_ways_take_turns_with_one_peer() -> None:
    asked: list[str] = []
    rates = {"a": iter([10.0, 30.0, 20.0]), "b": iter([1.0, 1.0, 4.0]), "peer": iter([10.0, 10.0, 20.0])}

    def turn(name: str) -> float:
        asked.append(name)
        return next(rates[name])

    one, other = measure.in_turns([partial(turn, "a"), partial(turn, "b")], partial(turn, "peer"), turns=3)
    assert asked == ["a", "b", "peer"] * 3
    assert one == measure.Timing(ours=20.0, peer=10.0, ratio=1.0, spread=1.0)
    assert other.peer == 10.0 and other.ratio == pytest.approx(0.1) and other.spread == pytest.approx(0.5)


def test_the_ratio_at_peak_is_what_the_products_alone_would_take() -> None:
    row = {"path": "a/step", "variant": "float32", "unit": "images/s", "ours": 300.0, "peer": 200.0, "ratio": 1.5}
    line = table.as_markdown([{**row, "share": 0.5, "note": "said"}]).splitlines()[-1]
    assert line == "| a/step | float32 | images/s | 300 | 200 | 1.50 | 50 % | 3.00 | said |"
    assert "|  |  |" in table.as_markdown([{**row, "share": None}])


def test_the_time_of_a_step_is_divided_among_kinds_of_work() -> None:
    import torch

    left = torch.randn(300, 300)
    norm = torch.nn.BatchNorm1d(300)
    found = profile.shares(lambda: norm(left @ left))
    assert sum(found.values()) == pytest.approx(1)
    assert found["products"] > 0.2 and found["normalisation"] > 0 and found["optimiser"] == 0
    names = (
        "aten::mkldnn_convolution",
        "aten::_fused_adam_",
        "aten::native_batch_norm",
        "aten::copy_",
    )
    kinds = ["products", "optimiser", "normalisation", "rest"]
    assert [profile.kind_of(name) for name in names] == kinds
