"""SIGKILL at a moment that hypothesis chooses, in each kind of run: what goes on equals what was never killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import record

HERE = Path(__file__).resolve().parent
PAPERS = HERE.parent / "papers"
KINDS = ("invented/distance", *(f"kinds/{path.stem}" for path in sorted((PAPERS / "kinds/exhibits").glob("*.py"))))
MOMENTS = ("at a step", "in the middle of a file", "before a file has its name", "after a file has its name")
Train = Callable[..., int]
pytestmark = pytest.mark.timeout(1800)  # a property with many examples; on a busy machine each takes seconds


@pytest.fixture(scope="module")
def train() -> Iterator[Train]:
    """``train(scale, results, moment, at)``: the exit code of a child that trains, and dies at that moment."""
    victim = subprocess.Popen(
        [sys.executable, str(HERE / "victim.py")],
        cwd=HERE.parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert victim.stdin is not None and victim.stdout is not None

    def call(scale: Path, results: Path, moment: str | None = None, at: int = 0) -> int:
        task = {"scale": str(scale), "extra": str(PAPERS), "results": str(results), "moment": moment, "at": at}
        victim.stdin.write(json.dumps(task) + "\n")
        victim.stdin.flush()
        return int(victim.stdout.readline())

    yield call
    victim.stdin.close()
    victim.wait(timeout=30)
    victim.stdout.close()


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, train: Train, tmp_path_factory: pytest.TempPathFactory):
    """A kind of run: its name, its scale file, the records of an uninterrupted training, and occasions to kill it."""
    exhibit = request.param
    name = exhibit.partition("/")[0 if exhibit.startswith("invented") else 2]
    folder = tmp_path_factory.mktemp(name)
    scale = folder / "toy.yaml"
    scale.write_text(
        "scale: toy\ndevice: cpu\ncompile: never\nkeep: everything\n"
        f"only: [{exhibit}]\nexhibits: {{{exhibit}: {{seeds: 1}}}}\n"
    )
    assert train(scale, folder / "whole") == 0
    occasions = json.loads((folder / "whole" / "occasions.json").read_text())
    return name, scale, results_of(folder / "whole"), occasions


def results_of(results: Path) -> dict[str, tuple]:
    """Key -> metrics, series and checksums of the weights."""
    records = {path.stem: record.read(path) for path in (results / "toy" / "runs").glob("*.json")}
    return {key: (one.results(), one.artefacts) for key, one in records.items()}


def test_killed_and_gone_on_equals_never_killed(kind, train: Train, examples: int, injected) -> None:
    name, scale, expected, occasions = kind
    moments = st.one_of(*(st.tuples(st.just(moment), st.integers(1, occasions[moment])) for moment in MOMENTS))
    killed = dict.fromkeys(MOMENTS, 0)
    lost = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(moments, min_size=1, max_size=3))
    def property_holds(kills: list[tuple[str, int]]) -> None:
        nonlocal lost
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder)
            for moment, at in kills:
                code = train(scale, results, moment, at)
                assert code in (0, -9)
                killed[moment] += code == -9
                # What stands under a final name is whole at any time: reading it would raise.
                results_of(results)
            assert train(scale, results) == 0
            now = results_of(results)
            lost += sum(now.get(key) != value for key, value in expected.items())
            assert now == expected

    property_holds()
    assert sum(killed.values()) >= examples  # the first of each example meets its occasion
    for moment, times in killed.items():
        if times:
            injected(
                f"SIGKILL {moment}", f"runs of {name}", "goes on, records equal bit for bit", times=times, lost=lost
            )


@pytest.mark.slow
def test_killed_again_and_again(kind, train: Train, injected) -> None:
    """Each call gets a few steps further and is killed."""
    name, scale, expected, occasions = kind
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        calls = 0
        while train(scale, results, "at a step", 4) == -9:
            calls += 1
            assert calls <= occasions["at a step"], "no progress"
        assert train(scale, results) == 0
        assert results_of(results) == expected
    assert calls >= 1
    injected("SIGKILL at a step", f"runs of {name}", "goes on, records equal bit for bit", times=calls)
