"""Verdicts over what is really there: gaps, one seed, older code, other versions, a reference to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import record, stats
from bench.cli.main import main
from bench.errors import UserError
from bench.exhibit import Chance, by_seed
from bench.report import chance, collect, draw, judge, reference, verdicts
from bench.report import recheck as replicate
from bench.report.verdicts import Entry
from bench.workflow import plan as planning
from bench.workflow.plan import Plan

Made = Callable[..., Plan]
TABLE = "invented/distance"


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
    assert found.verdict == "reproduced" and found.finding.n == 3
    assert found.finding.low is not None and found.finding.low > 0
    assert found.scale == "toy" and found.machine and not found.cost


def test_with_one_seed_nothing_is_decided(made: Made) -> None:
    found = claim(made(common={"seeds": 1}))
    assert found.verdict == "undecided" and found.finding.n == 1 and found.finding.low is None


LOOKS = {"first_seed": 2000, "looks": [5, 10]}


def remove(plan: Plan, *, seed: int) -> None:
    """Takes the table's records of a seed away."""
    for member in plan.exhibits[TABLE]:
        if member.spec.seed == seed:
            plan.layout.record(plan.key(member.spec)).unlink()
    collect.collect(plan, TABLE)


def test_missing_seeds_leave_a_claim_undecided_and_are_counted(made: Made) -> None:
    plan = made()
    remove(plan, seed=2)
    found = claim(plan)
    assert found.verdict == "undecided" and found.finding.n == 2
    assert "missing: 2 of 6 runs of invented/distance" in found.finding.detail


@pytest.mark.parametrize(
    ("seeds", "verdict", "says"), [(3, "undecided", "next look at 5"), (7, "reproduced", "look at 5")]
)
def test_a_claim_is_decided_at_the_looks_of_its_scale(made: Made, seeds: int, verdict: str, says: str) -> None:
    found = claim(made(common={"seeds": seeds}, scale=LOOKS))
    assert found.verdict == verdict and says in found.finding.detail
    assert found.finding.tested == (seeds > 5)


@pytest.mark.parametrize(("gone", "verdict"), [(2004, "undecided"), (2000, "undecided"), (2006, "reproduced")])
def test_a_look_is_at_the_first_seeds_of_the_block(made: Made, gone: int, verdict: str) -> None:
    plan = made(common={"seeds": 7}, scale=LOOKS)
    remove(plan, seed=gone)
    assert claim(plan).verdict == verdict


def test_an_arm_without_any_run_leaves_claims_not_run(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim about every arm would otherwise be judged on those that are there."""
    plan = made(drifts=(0.1, 0.2, 0.3), failing_drift=0.3)
    found = claim(plan)
    assert found.verdict == "not run" and "no run of 1 arms of invented/distance is there (walk" in found.remark()


def declare(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Changes the table's declaration."""
    known = planning.exhibit.registry()
    monkeypatch.setitem(known, TABLE, replace(known[TABLE], **changes))


def test_a_claim_whose_test_fails_is_one_line_and_the_rest_is_judged(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made()
    (good,) = planning.exhibit.registry()[TABLE].claims

    def fails(frame: Any) -> Any:
        raise ZeroDivisionError("by nothing\nat all")

    declare(monkeypatch, claims=(replace(good, name="D0", test=fails), good))
    bad, found = (entry for entry in judge.entries_of(plan) if entry.kind == "claim")
    assert (bad.verdict, found.verdict) == ("not run", "reproduced")
    assert "its test failed with ZeroDivisionError: by nothing at all" in verdicts.as_text([bad, found])


@pytest.mark.parametrize("kind", ["claim", "estimate"])
def test_estimates_are_shown_and_not_counted(made: Made, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Declared as such, or since the test is one."""
    plan = made()
    (one,) = planning.exhibit.registry()[TABLE].claims
    test = one.test if kind == "estimate" else lambda frame: stats.estimate(by_seed(frame, "distance", x=0.1))
    declare(monkeypatch, claims=(replace(one, test=test, kind=kind),))
    (found,) = [entry for entry in judge.entries_of(plan) if entry.kind == "estimate"]
    assert found.verdict == "estimate" and found.finding.low is not None and not found.finding.tested
    assert "0 claims" in verdicts.headline([found])[0] and "## Estimates" in verdicts.as_markdown([found])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"chance": lambda settings, row: Chance(3.5, 100) if row["x"] == 0.1 else None}, "distance at chance"),
        ({"ranges": {"distance": (5.0, 10.0)}}, "distance outside of 5 to 10"),
        ({"chance": lambda settings, row: Chance(90.0, 100)}, ""),
        ({"chance": lambda settings, row: None}, ""),
    ],
)
def test_values_that_say_nothing_decide_nothing(
    made: Made, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    plan = made()
    declare(monkeypatch, **changes)
    found = claim(plan)
    assert found.verdict == ("undecided" if says else "reproduced") and says in found.finding.detail


def test_a_verdict_that_does_not_rest_on_such_values_stands(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made(drifts=(0.1, 0.2, 0.3))
    declare(monkeypatch, chance=lambda settings, row: Chance(5.0, 30) if row["x"] == 0.3 else None)
    reasons = chance.doubts(collect.read(plan, TABLE)[0], planning.exhibit.registry()[TABLE], plan.settings[TABLE])
    assert reasons.any() and claim(plan).verdict == "reproduced"


@pytest.mark.parametrize(
    ("percent", "level", "alike"),
    [
        (90.0, (90.0, 500), True),
        (93.2, (90.0, 500), True),
        (93.6, (90.0, 500), False),
        (86.0, (90.0, 500), False),
        (100.0, (95.0, 20), True),
        (0.0, (10.0, 10), True),
        (120.0, (90.0, 500), False),
    ],
)
def test_at_chance_is_within_a_binomial_band(percent: float, level: tuple[float, int], alike: bool) -> None:
    assert chance.at_chance(percent, Chance(*level)) is alike


def test_exhibits_of_two_blocks_are_not_paired(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made(scale=LOOKS, first_seed=2100)
    (one,) = planning.exhibit.registry()[TABLE].claims
    declare(monkeypatch, claims=(replace(one, also=("invented/curve",)),))
    assert "begin at 2100 in invented/distance and 2000 in invented/curve" in claim(plan).finding.detail


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
    assert found.verdict == "not run" and "no measurement had the machine to itself" in found.finding.detail


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
    with pytest.raises(UserError, match=r"record of another version of the suite \(format 99, this one writes 2\)"):
        collect.collect(plan, "invented/distance")


def test_a_lost_claim_is_a_regression(made: Made, committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = made()
    reference.replace(plan, why="first")
    for name in plan.exhibits:
        draw.draw(plan, name)
    assert judge.judge(plan, strict=True, tell=quiet) == 0
    assert "1 claims are reproduced there; 0 of them were lost" in capsys.readouterr().out
    kept = judge.beside_reference(plan, judge.entries_of(plan))
    assert [entry.reference for entry in kept if entry.kind == "claim"] == ["reproduced"]
    drift_alike(plan)
    assert judge.judge(plan, strict=True, tell=quiet) == 1
    said = capsys.readouterr().err
    assert "REGRESSION invented/distance D1" in said


def drift_alike(plan: Plan, seeds: range = range(10_000)) -> None:
    """The second halves of the walks get equally far, but for a little that depends on the seed and the arm."""
    for member in plan.exhibits[TABLE]:
        if member.spec.seed in seeds:
            path = plan.layout.record(plan.key(member.spec))
            one = record.read(path)
            one.result.metrics["distance"] = (
                1.0 + 0.001 * (one.seed % 7) - 0.01 * member.labels["x"] * (1 + one.seed % 3)
            )
            record.write(path, one)
    collect.collect(plan, TABLE)


@pytest.mark.parametrize(("further", "code", "says"), [(False, 0, "not confirmed"), (True, 1, "REGRESSION")])
def test_five_further_seeds_confirm_a_regression(
    made: Made, committed: Path, capsys: pytest.CaptureFixture[str], further: bool, code: int, says: str
) -> None:
    settling = {"first_seed": 0, "looks": [5, 10]}
    plan = made(common={"seeds": 5}, scale=settling)
    reference.replace(plan, why="first")
    drift_alike(plan)
    assert judge.judge(plan, strict=True, tell=quiet) == 1
    assert "ALARM invented/distance D1" in capsys.readouterr().err
    planning.give_seeds(plan, {TABLE: 10})
    plan = made(common={"seeds": 5}, scale=settling)
    assert plan.settings[TABLE].seeds == 10
    if further:
        drift_alike(plan, range(5, 10))
    assert judge.judge(plan, strict=True, tell=quiet) == code
    assert says in capsys.readouterr().err


def test_the_reference_keeps_its_seeds_and_says_where_it_has_more(made: Made, committed: Path) -> None:
    settling = {"first_seed": 0, "looks": [5, 10]}
    plan = made(common={"seeds": 5}, scale=settling)
    planning.give_seeds(plan, {TABLE: 10})
    plan = made(common={"seeds": 5}, scale=settling)
    reference.replace(plan, why="ten seeds")
    assert reference.seeds("toy") == {TABLE: 10}
    plan.layout.seeds.unlink()
    plain, said = made(common={"seeds": 5}, scale=settling), []
    assert len(plain.exhibits[TABLE]) == 10 and len(reference.as_results(plain).exhibits[TABLE]) == 20
    for name in plain.exhibits:
        draw.draw(plain, name)
    judge.judge(plain, tell=said.append)
    assert "DECIDE=" in said[-1] and "1 exhibits" in said[-1]


@pytest.mark.parametrize("content", ["[]", '{"invented/distance": "ten"}', '{"invented/distance": 0}', "{"])
def test_seeds_that_are_none_are_one_line(made: Made, content: str) -> None:
    plan = made(train=False, scale={"looks": [5]})
    plan.layout.seeds.write_text(content)
    with pytest.raises(UserError, match=r"seeds\.json") as refused:
        made(train=False, scale={"looks": [5]})
    assert len(str(refused.value).splitlines()) == 1


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
        for name in one.result.metrics:
            one.result.metrics[name] += distance
        record.write(path, one)
    reference.replace(plan, why="altered")
    assert replicate.verify(plan) == code
    assert expected in capsys.readouterr().out


def test_a_reference_of_other_settings_is_named(made: Made, committed: Path) -> None:
    reference.replace(made(), why="first")
    other = made(train=False, common={"first_seed": 50})
    with pytest.raises(UserError, match="settings have changed since"):
        replicate.verify(other)


def test_the_commands_reach_the_reference(made: Made, committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = made()
    reference.replace(plan, why="first")
    there = ["--scale", plan.source, "--from", "reference"]
    for command in (["draw"], ["judge", "--strict"], ["paper"]):
        assert main([*command, *there]) == 0
    assert (plan.layout.root.with_name("toy-reference") / "paper.pdf").read_bytes().startswith(b"%PDF")
    broken = committed / "toy" / "invented.jsonl"
    broken.write_text(broken.read_text() + "not a record\n")
    assert main(["judge", *there]) == 2
    assert "invented.jsonl:16: not a record" in capsys.readouterr().err
