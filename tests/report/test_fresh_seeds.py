"""What scale ci says holds for another block of seeds: its reference judges every claim, and no block contradicts it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from bench import config, exhibit, stats
from bench.looks import BLOCK
from bench.paths import PROJECT
from bench.report import claims, collect, reference
from bench.stats import Finding
from bench.workflow import plan as planning

Findings = dict[tuple[str, str], Finding]


def test_every_claim_has_a_verdict() -> None:
    """On the committed page, which is generated from the records."""
    page = (reference.folder("ci") / "verdicts.md").read_text(encoding="utf-8")
    assert "| **" in page and not [line for line in page.splitlines() if "| **" in line and "| not run |" in line]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The claims by the committed reference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_RESULTS", str(tmp_path_factory.mktemp("results")))
        return claims.findings(reference.as_results(planning.make(config.load("ci"), source="ci")))


@pytest.fixture(scope="module")
def second(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A paper's claims by the next block of seeds, trained now."""
    paper: str = request.param
    folder = tmp_path_factory.mktemp(paper)
    content = yaml.safe_load((config.CONFIGS / "ci.yaml").read_text())
    scale = folder / "fresh.yaml"
    block = {"scale": "fresh", "first_seed": content.get("first_seed", 0) + BLOCK}
    scale.write_text(yaml.safe_dump({**content, **block}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_RESULTS", str(folder / "results"))
        command = [sys.executable, "-m", "bench", "run", "--scale", str(scale), "--exhibits", paper]
        answer = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=8000)
        assert answer.returncode == 0, answer.stderr[-2000:]
        plan = planning.make(config.load(str(scale)), [paper], source=str(scale))
        for name in plan.exhibits:
            collect.collect(plan, name)
        found = claims.findings(plan)
    missing = {" ".join(key): finding.detail for key, finding in found.items() if finding.verdict == "not run"}
    assert not missing, missing  # of times, where other work disturbed them: repeat on a quiet machine
    return found


@pytest.mark.slow
@pytest.mark.timeout(9000)
@pytest.mark.parametrize("second", exhibit.papers(), indirect=True)
def test_no_claim_is_decided_the_other_way(first: Findings, second: Findings) -> None:
    decided = [key for key in second if {first[key].verdict, second[key].verdict} <= set(stats.DECIDED)]
    apart = [key for key in decided if first[key].verdict != second[key].verdict]
    assert decided and not apart, {" ".join(key): (first[key].detail, second[key].detail) for key in apart}
