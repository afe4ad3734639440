"""The guard of the speed table: a ratio has fallen when it falls in two measurements."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.perf import measure, table

BEFORE = {("warmstart/step", "float32"): 1.3, ("certified/step", "float32"): 1.4, ("rewarm/memory", "as trained"): 3.0}


def rows(**ratios: float) -> list[dict[str, Any]]:
    """Rows as a measurement gives them."""
    names = {"warmstart": ("warmstart/step", "float32"), "certified": ("certified/step", "float32")}
    names["memory"] = ("rewarm/memory", "as trained")
    common = {"unit": "1/s", "peer": 1.0, "spread": None, "note": ""}
    return [
        {"path": path, "variant": variant, **common, "ours": ratios[key], "ratio": ratios[key]}
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
    assert asked == [None, "rewarm", "warmstart"]


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


def test_one_path_is_compared_with_its_own_rows(measured) -> None:
    answers, asked = measured
    answers.append(rows(memory=3.0))
    assert table.main("rewarm", as_json=False, check=True) == 0
    answers.append(rows(warmstart=1.3))
    assert table.main("warmstart", as_json=False, check=True) == 0
    assert asked == ["rewarm", "warmstart"]


def test_a_path_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*arguments: object) -> Iterator[dict[str, Any]]:
        yield from rows(certified=1.4)
        raise RuntimeError("no room")

    def write(table_rows: object) -> None:
        raise AssertionError("half a table was written")

    parts = {"warmstart": rows(warmstart=1.3), "rewarm": rows(memory=3.0), "workflow": []}
    for name, part in parts.items():
        monkeypatch.setattr(f"bench.perf.{name}.rows", lambda *arguments, part=part: part)
    monkeypatch.setattr("bench.perf.certified.rows", broken)
    monkeypatch.setattr(table.process, "prepare_torch", lambda threads: None)
    monkeypatch.setattr(table.process, "compile_for", lambda threads: None)
    monkeypatch.setattr(table, "write", write)
    assert table.main(None, as_json=True) == 1
    output = capsys.readouterr()
    assert [row["path"] for row in json.loads(output.out)] == ["warmstart/step", "certified/step", "rewarm/memory"]
    assert "RuntimeError: no room" in output.err
    assert "certified could not be measured" in output.err.splitlines()[-1]


def test_several_loops_take_turns_with_one_peer() -> None:
    asked: list[str] = []
    rates = {"a": iter([10.0, 30.0, 20.0]), "b": iter([1.0, 1.0, 4.0]), "peer": iter([10.0, 10.0, 20.0])}

    def turn(name: str) -> float:
        asked.append(name)
        return next(rates[name])

    one, other = measure.in_turns([partial(turn, "a"), partial(turn, "b")], partial(turn, "peer"), turns=3)
    assert asked == ["a", "b", "peer"] * 3
    assert one == measure.Timing(ours=20.0, peer=10.0, ratio=1.0, spread=1.0)
    assert other.peer == 10.0 and other.ratio == pytest.approx(0.1) and other.spread == pytest.approx(0.5)


def loop(losses: list[float], units: int = 1) -> measure.Loop:
    """Steps that give these losses again and again."""
    source = itertools.cycle((torch.tensor(loss),) for loss in losses)
    return measure.Loop(lambda loss: loss, source, units=units, steps=2, device=torch.device("cpu"))


def test_losses_in_float32_must_be_the_peers() -> None:
    table_rows = list(
        measure.compared("p/step", "1/s", {"float32": loop([1.0, 2.0])}, loop([1.0, 2.0]), tolerance=1e-4)
    )
    assert [(row["path"], row["variant"]) for row in table_rows] == [("p/step", "float32")]
    assert table.as_markdown(table_rows).splitlines()[-1].startswith("| p/step | float32 | 1/s | ")
    list(measure.compared("p/step", "1/s", {"bf16": loop([1.0, 2.1])}, loop([1.0, 2.0]), tolerance=1e-4))
    with pytest.raises(AssertionError, match=r"p/step float32: losses differ by 0\.05"):
        list(measure.compared("p/step", "1/s", {"float32": loop([1.0, 2.1])}, loop([1.0, 2.0]), tolerance=1e-4))


def test_a_run_of_a_job_is_trained_and_leaves_its_record(tmp_path: Path) -> None:
    from bench.perf import workflow

    assert workflow.run_job(tmp_path, range(2)) > 0
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_step_of_the_table_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.perf import certified, rewarm, warmstart

    device = torch.device("cpu")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(certified, "BATCH", 8)
    monkeypatch.setattr(warmstart, "BATCH", 8)
    for module in (certified, rewarm, warmstart):
        for side in ("ours", "peer"):
            loop = module.loop_for_memory(side, device)
            loop.take(2)
            assert all(loss > 0 for loss in loop.losses)
    assert warmstart.plain(device).take(1) == 8
    assert certified.peer(device, certified.by_equations).take(1) == 8
    assert certified.verification(device, "ibp", 4)["ratio"] > 0
