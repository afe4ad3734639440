"""Verdicts over what is really there: gaps, one seed, older code, other versions, a reference to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import record
from bench.errors import UserError
from bench.report import collect, draw, judge, reference
from bench.report import recheck as replicate
from bench.report.verdicts import Entry
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

Made = Callable[..., Plan]


def claim(plan: Plan) -> Entry:
    (found,) = [entry for entry in judge.entries_of(plan) if entry.kind == "claim"]
    return found


def quiet(text: str) -> None:
    pass


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for reference records."""
    monkeypatch.setenv("BENCH_REFERENCE", str(tmp_path / "reference"))
    return tmp_path / "reference"


def test_a_claim_has_a_verdict_with_its_interval(made: Made) -> None:
    found = claim(made())
    assert found.verdict == "reproduced" and found.outcome.n == 3
    assert found.outcome.low is not None and found.outcome.low > 0
    assert found.scale == "toy" and found.machine and not found.cost


def test_with_one_seed_nothing_is_decided(made: Made) -> None:
    found = claim(made(common={"seeds": 1}))
    assert found.verdict == "undecided" and found.outcome.n == 1 and found.outcome.low is None


def test_missing_seeds_leave_a_claim_undecided_and_are_counted(made: Made) -> None:
    plan = made()
    gone = {plan.key(member.spec) for member in plan.exhibits["invented/distance"] if member.spec.seed == 2}
    for key in gone:
        plan.layout.record(key).unlink()
    collect.collect(plan, "invented/distance")
    found = claim(plan)
    assert found.verdict == "undecided" and found.outcome.n == 2
    assert "missing: 2 of 6 runs of invented/distance" in found.outcome.detail


def test_an_exhibit_whose_runs_failed_is_drawn_with_its_gap_marked(drawn: Made) -> None:
    plan = drawn(failing_drift=0.2)
    stem = plan.layout.exhibits / "invented" / "distance"
    assert "3 runs missing" in stem.with_suffix(".md").read_text()
    assert "0.1" in stem.with_suffix(".csv").read_text()
    found = claim(plan)
    assert found.verdict == "not run" and "6 runs" in found.cost and "GPU" in found.cost
    judge.judge(plan, tell=quiet)
    page = (plan.layout.root / "index.html").read_text()
    assert "3 of 6 runs missing" in page and "its parent walk of 20 drift 0.2 seed 1 failed" in page


def test_an_exhibit_without_any_record_says_so_in_its_place(drawn: Made) -> None:
    plan = drawn(train=False)
    for name, suffixes in (("distance", ("csv", "md", "tex")), ("curve", ("csv", "pdf", "png"))):
        for suffix in suffixes:
            assert (plan.layout.exhibits / "invented" / f"{name}.{suffix}").exists()
    assert "runs are missing" in (plan.layout.exhibits / "invented" / "distance.md").read_text()
    assert {entry.verdict for entry in judge.entries_of(plan)} == {"not run"}


def test_an_exhibit_that_cannot_be_drawn_with_all_its_runs_is_an_error(made: Made, monkeypatch: Any) -> None:
    plan = made()
    broken = planning.exhibit.registry()["invented/distance"]

    def fails(*_: Any) -> Any:
        raise KeyError("a column")

    monkeypatch.setattr(broken.__class__, "draw", property(lambda self: fails), raising=False)
    with pytest.raises(KeyError, match="a column"):
        draw.draw(plan, "invented/distance")


def test_runs_without_a_row_to_judge_have_the_reason_of_the_claim(made: Made, monkeypatch: Any) -> None:
    """Measurements that other work disturbed are there and show nothing."""
    plan = made()
    chosen = planning.exhibit.registry()["invented/distance"]

    def asks(frame: Any) -> Any:
        assert frame.empty
        raise KeyError("seconds: no measurement had the machine to itself")

    monkeypatch.setattr(chosen.__class__, "rows", property(lambda self: lambda *_: ()), raising=False)
    monkeypatch.setattr(chosen.claims[0].__class__, "test", property(lambda self: asks), raising=False)
    collect.collect(plan, "invented/distance")
    found = claim(plan)
    assert found.verdict == "not run" and "no measurement had the machine to itself" in found.outcome.detail


def test_records_of_older_code_are_marked(made: Made) -> None:
    plan = made()
    for path in plan.layout.runs.glob("*.json"):
        one = record.read(path)
        key = f"{one.key.split('-')[0]}-00000000"
        record.write(plan.layout.record(key), record.Record(**{**vars(one), "key": key}))
        path.unlink()
    suite = plan.suite.model_copy(update={"older_code": "accept"})
    again = planning.make(suite)
    collect.collect(again, "invented/distance")
    collect.collect(again, "invented/curve")
    found = claim(again)
    assert found.older and found.verdict == "reproduced" and "older code" in found.remark()


def test_a_record_of_another_version_is_named(made: Made) -> None:
    plan = made()
    path = plan.layout.record(plan.keys_of("invented/distance")[0])
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(UserError, match=r"record of format 99, this version writes format 1"):
        collect.collect(plan, "invented/distance")


def test_a_lost_claim_is_a_regression(made: Made, committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = made()
    reference.replace(plan, why="first")
    for name in plan.exhibits:
        draw.draw(plan, name)
    assert judge.judge(plan, strict=True, tell=quiet) == 0
    assert "1 of 1 claims are reproduced there, 1 of them here" in capsys.readouterr().out
    kept = judge.beside_reference(plan, judge.entries_of(plan))
    assert [entry.reference for entry in kept if entry.kind == "claim"] == ["reproduced"]

    # The second halves of the walks now drift alike.
    for member in plan.exhibits["invented/distance"]:
        path = plan.layout.record(plan.key(member.spec))
        one = record.read(path)
        one.outcome.metrics["distance"] = 1.0 + 0.001 * one.seed
        record.write(path, one)
    collect.collect(plan, "invented/distance")
    assert judge.judge(plan, strict=True, tell=quiet) == 1
    said = capsys.readouterr().err
    assert "REGRESSION invented/distance D1: reproduced in the reference" in said and "now not reproduced" in said


def test_without_a_reference_there_is_nothing_to_compare(made: Made, committed: Path) -> None:
    plan = made()
    with pytest.raises(UserError, match="no reference records of scale toy; there are: none"):
        judge.judge(plan, strict=True, tell=quiet)


def test_claims_that_the_reference_does_not_know_are_named(
    made: Made, committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference.replace(made(), why="first")
    assert judge.judge(made(drifts=(0.1, 0.2, 0.3), common={"first_seed": 7}), strict=True, tell=quiet) == 0
    assert "no records for 1 claims (invented/distance D1)" in capsys.readouterr().err


def test_a_part_of_the_reference_is_replaced_and_the_rest_stays(made: Made, committed: Path) -> None:
    plan = made()
    reference.replace(plan, why="first")
    path = committed / "toy" / "invented.jsonl"
    before = path.read_text().splitlines()
    part = planning.make(plan.suite, ["invented/curve"], source=plan.source)
    reference.replace(part, why="nothing changed")
    assert path.read_text().splitlines() == before
    assert [note["why"] for note in reference.notes("toy")["invented"]] == ["first"]
    again = plan.layout.record(next(iter(part.runs)))
    found = record.read(again)
    record.write(again, replace(found, provenance={**found.provenance, "seconds": 2.0}))
    reference.replace(part, why="second")
    assert len(set(path.read_text().splitlines()) - set(before)) == 1
    assert [note["why"] for note in reference.notes("toy")["invented"]] == ["second", "first"]
    (latest, first) = reference.notes("toy")["invented"]
    assert latest["exhibits"] == ["invented/curve"] and latest["records"] == 3 and first["records"] == 15
    assert first["machines"][0]["records"] == 15 and first["commit"]


def test_a_half_filled_results_folder_takes_nothing_from_the_reference(made: Made, committed: Path) -> None:
    plan = made()
    reference.replace(plan, why="first")
    path = committed / "toy" / "invented.jsonl"
    before = path.read_text()
    gone = plan.key(plan.exhibits["invented/distance"][0].spec)
    plan.layout.record(gone).unlink()
    with pytest.raises(
        UserError, match=r"lacks 1 of the runs that .* has .* train them first, or name with --exhibits"
    ):
        reference.replace(plan, why="second")
    assert path.read_text() == before
    reference.replace(planning.make(plan.suite, ["invented/curve"], source=plan.source), why="what is there")
    assert path.read_text() == before


def test_a_reason_is_asked_for(made: Made, committed: Path) -> None:
    with pytest.raises(UserError, match="expected a reason"):
        reference.replace(made(), why=" ")


def test_exhibits_are_drawn_from_the_reference_without_training(made: Made, committed: Path) -> None:
    plan = made()
    reference.replace(plan, why="first")
    for path in plan.layout.runs.glob("*.json"):
        path.unlink()
    fed = reference.as_results(plan)
    for name in fed.exhibits:
        draw.draw(fed, name)
    assert fed.layout.root.name == "toy-reference"
    assert (fed.layout.exhibits / "invented" / "curve.png").stat().st_size > 1000
    assert claim(fed).verdict == "reproduced"


def test_cheap_reference_runs_match_when_trained_again(
    made: Made, committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made()
    reference.replace(plan, why="first")
    assert replicate.verify(plan) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("match")]
    assert len(lines) == 2 and all(line.endswith("bit for bit") for line in lines)


@pytest.mark.parametrize(
    ("machine", "distance", "code", "expected"),
    [
        ({}, 1e-9, 1, "DIFFERS"),
        ({"processor": "another"}, 1e-9, 0, "within 4 standard deviations over seeds, because of processor"),
        ({"vector_units": "another"}, 1e-9, 0, "within 4 standard deviations over seeds, because of vector units"),
        ({"processor": "another"}, 50.0, 1, "DIFFERS"),
    ],
)
def test_an_altered_reference_is_noticed(
    made: Made, committed: Path, capsys: Any, machine: dict[str, str], distance: float, code: int, expected: str
) -> None:
    plan = made()
    for run in plan.runs.values():
        path = plan.layout.record(run.key)
        one = record.read(path)
        one.provenance["machine"] |= machine
        for name in one.outcome.metrics:
            one.outcome.metrics[name] += distance
        record.write(path, one)
    reference.replace(plan, why="altered")
    assert replicate.verify(plan) == code
    assert expected in capsys.readouterr().out


def test_a_reference_of_other_settings_is_named(made: Made, committed: Path) -> None:
    reference.replace(made(), why="first")
    other = made(train=False, common={"first_seed": 50})
    with pytest.raises(UserError, match="settings have changed since"):
        replicate.verify(other)


def test_the_commands_reach_the_reference(made: Made, committed: Path, bench: Any) -> None:
    plan = made()
    reference.replace(plan, why="first")
    for command in (["draw"], ["judge", "--strict"], ["paper"]):
        answer = bench(*command, "--scale", plan.source, "--from", "reference")
        assert answer.returncode == 0, answer.stderr
    assert (plan.layout.root.with_name("toy-reference") / "paper.pdf").read_bytes().startswith(b"%PDF")
    broken = committed / "toy" / "invented.jsonl"
    broken.write_text(broken.read_text() + "not a record\n")
    answer = bench("judge", "--scale", plan.source, "--from", "reference")
    assert answer.returncode == 2 and "invented.jsonl:16: not a record" in answer.stderr
