"""Scale ci is worth reading: its reference decides claims, and another block of seeds decides them alike."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from bench import config, exhibit
from bench.exhibit import PAPERS
from bench.paths import PROJECT
from bench.report import collect, judge, reference
from bench.report.verdicts import Entry
from bench.workflow import plan as planning

DECIDED = ("reproduced", "not reproduced")
FRESH = 1000
"""First seed of the second block; settings were settled on seeds from 100 on, records are made of those from 0 on."""


SHORT = {
    "warmstart": "12 of 24 decided: gaps of a few points vary between seeds as much as they are large",
    "certified": "15 of 29 decided: most others have several parts, of which one or two are left open",
}
"""Papers of whose claims with three seeds fewer than two thirds are decided."""


def share_decided(entries: dict[str, Entry]) -> float:
    """Of the claims with three seeds or more."""
    seeded = [entry for entry in entries.values() if entry.outcome.n >= 3]
    return sum(entry.verdict in DECIDED for entry in seeded) / len(seeded)


def claims(entries: list[Entry]) -> dict[str, Entry]:
    return {f"{entry.exhibit} {entry.name}": entry for entry in entries if entry.kind == "claim"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """The claims by the committed reference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_RESULTS", str(tmp_path_factory.mktemp("results")))
        return claims(judge.claims_of(reference.as_results(planning.make(config.load("ci"), source="ci"))))


def test_every_claim_has_a_verdict(first: dict[str, Entry]) -> None:
    assert len(first) == sum(len(one.claims) for one in exhibit.registry().values())
    assert not [name for name, entry in first.items() if entry.verdict == "not run"]


@pytest.mark.parametrize(
    "paper",
    [
        pytest.param(one, marks=pytest.mark.xfail(reason=SHORT[one], strict=True) if one in SHORT else ())
        for one in PAPERS
    ],
)
def test_two_thirds_of_the_claims_are_decided(first: dict[str, Entry], paper: str) -> None:
    assert share_decided({name: entry for name, entry in first.items() if entry.exhibit.startswith(paper)}) >= 2 / 3


@pytest.fixture(scope="module")
def second(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """A paper's claims by another block of seeds, trained now."""
    paper: str = request.param
    folder = tmp_path_factory.mktemp(paper)
    content = yaml.safe_load((config.CONFIGS / "ci.yaml").read_text())
    scale = folder / "fresh.yaml"
    scale.write_text(yaml.safe_dump({**content, "scale": "fresh", "first_seed": FRESH}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_RESULTS", str(folder / "results"))
        command = [sys.executable, "-m", "bench", "run", "--scale", str(scale), "--exhibits", paper]
        answer = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=8000)
        assert answer.returncode == 0, answer.stderr[-2000:]
        plan = planning.make(config.load(str(scale)), [paper], source=str(scale))
        for name in plan.exhibits:
            collect.collect(plan, name)
        found = claims(judge.entries_of(plan))
    missing = {name: entry.outcome.detail for name, entry in found.items() if entry.verdict == "not run"}
    assert not missing, missing  # of times, where other work disturbed them: repeat on a quiet machine
    return found


@pytest.mark.slow
@pytest.mark.timeout(9000)
@pytest.mark.parametrize("second", PAPERS, indirect=True)
class TestFreshSeeds:
    def test_no_claim_is_decided_the_other_way(self, first: dict[str, Entry], second: dict[str, Entry]) -> None:
        decided = [name for name in second if {first[name].verdict, second[name].verdict} <= set(DECIDED)]
        apart = [name for name in decided if first[name].verdict != second[name].verdict]
        assert decided and not apart, {
            name: (first[name].outcome.detail, second[name].outcome.detail) for name in apart
        }

    def test_three_quarters_of_the_decided_claims_are_decided_again(
        self, first: dict[str, Entry], second: dict[str, Entry]
    ) -> None:
        """A claim near its threshold may be decided by one block and left open by the other.

        Certified failed this when it was last trained, with 11 of 15: T1c, T3a, T4c and T4f were left open.
        """
        decided = [name for name in second if first[name].verdict in DECIDED]
        again = [name for name in decided if second[name].verdict in DECIDED]
        assert len(again) >= 0.75 * len(decided), sorted(set(decided) - set(again))

    def test_two_thirds_of_the_claims_are_decided(
        self, request: pytest.FixtureRequest, second: dict[str, Entry]
    ) -> None:
        paper = next(iter(second)).partition("/")[0]
        if paper in SHORT:
            request.applymarker(pytest.mark.xfail(reason=SHORT[paper]))
        assert share_decided(second) >= 2 / 3
