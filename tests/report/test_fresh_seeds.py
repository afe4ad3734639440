"""Scale ci is worth reading: claims are decided, and another block of seeds decides them alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from bench import collect, config, exhibit, judge
from bench import plan as planning
from bench.exhibit import PAPERS
from bench.report.verdicts import Entry

DECIDED = ("reproduced", "not reproduced")
FRESH = 1000
"""First seed of the second block; settings were settled on seeds from 100 on, records are made of those from 0 on."""


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """First seed -> scale file: that of scale ci, and the same with other seeds."""
    content = yaml.safe_load((config.CONFIGS / "ci.yaml").read_text())
    made = {}
    for first in (0, FRESH):
        made[first] = tmp_path_factory.mktemp("scales") / "ci.yaml"
        made[first].write_text(yaml.safe_dump({**content, "scale": f"ci-{first}", "first_seed": first}))
    return made


def claims(bench: Callable[..., CompletedProcess[str]], scale: Path, paper: str) -> dict[str, Entry]:
    answer = bench("run", "--scale", str(scale), "--exhibits", paper, timeout=3000)
    assert answer.returncode == 0, answer.stderr[-2000:]
    plan = planning.make(config.load(str(scale)), [paper], source=str(scale))
    for name in plan.members:
        collect.collect(plan, name)
    return {f"{entry.exhibit} {entry.name}": entry for entry in judge.entries_of(plan) if entry.kind == "claim"}


@pytest.mark.slow
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("paper", PAPERS)
def test_a_fresh_block_of_seeds_decides_the_claims_alike(
    bench: Callable[..., CompletedProcess[str]], blocks: dict[int, Path], paper: str
) -> None:
    first, second = (claims(bench, blocks[block], paper) for block in (0, FRESH))
    assert first.keys() == second.keys()
    assert len(first) >= sum(len(one.claims) for one in exhibit.registry().values() if one.paper == paper)
    for found in (first, second):
        assert not [name for name, entry in found.items() if entry.verdict == "not run"]
        seeded = [entry for entry in found.values() if entry.outcome.n >= 3]
        assert sum(entry.verdict in DECIDED for entry in seeded) >= 2 / 3 * len(seeded)
    both = [name for name in first if first[name].verdict in DECIDED and second[name].verdict in DECIDED]
    apart = [name for name in both if first[name].verdict != second[name].verdict]
    assert not apart, {name: (first[name].outcome.detail, second[name].outcome.detail) for name in apart}
    # A claim near its threshold may be decided by one block and left open by the other.
    decided = [name for name in first if first[name].verdict in DECIDED]
    assert len(both) >= 0.75 * len(decided)
