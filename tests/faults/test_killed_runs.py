"""SIGKILL at several moments of each kind of run: what goes on equals what was never killed, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from pathlib import Path

import pytest

from bench import record

sys.path.insert(0, str(Path(__file__).parent))
import victim

PAPERS = Path(__file__).resolve().parent.parent / "papers"
KINDS = ("invented/distance", *(f"kinds/{path.stem}" for path in sorted((PAPERS / "kinds/exhibits").glob("*.py"))))
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(victim.IMPORTED_ONCE)


def train(scale: Path, results: Path, moment: str | None = None, at: int = 0) -> int:
    """The exit code of a child that trains, and dies at the `at`-th occasion of that moment."""
    child = CONTEXT.Process(target=victim.train, args=(scale, PAPERS, results, moment, at))
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def results_of(results: Path) -> dict[str, tuple]:
    """Key -> metrics, series and checksums of the weights. Reading what is not whole raises."""
    records = {path.stem: record.read(path) for path in (results / "toy" / "runs").glob("*.json")}
    return {key: (one.results(), one.artefacts) for key, one in records.items()}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A kind of run: its scale file, the records of an uninterrupted training, and the number of occasions to kill it."""
    folder = tmp_path_factory.mktemp("kind")
    scale = folder / "toy.yaml"
    scale.write_text(
        "scale: toy\ndevice: cpu\ncompile: never\nkeep: everything\n"
        f"only: [{request.param}]\nexhibits: {{{request.param}: {{seeds: 1}}}}\n"
    )
    assert train(scale, folder / "whole") == 0
    occasions = json.loads((folder / "whole" / "occasions.json").read_text())
    return scale, results_of(folder / "whole"), occasions


def test_a_run_that_was_killed_at_each_moment_equals_one_that_never_was(kind, tmp_path: Path) -> None:
    scale, expected, occasions = kind
    for moment in victim.MOMENTS:
        assert train(scale, tmp_path, moment, 1 + occasions[moment] // 6) == -signal.SIGKILL
        results_of(tmp_path)
    assert train(scale, tmp_path) == 0
    assert results_of(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("moment", victim.MOMENTS)
def test_a_run_that_is_killed_again_and_again_ends(kind, moment: str, tmp_path: Path) -> None:
    """Each call gets a few steps further."""
    scale, expected, occasions = kind
    calls = 0
    while train(scale, tmp_path, moment, 4) == -signal.SIGKILL:
        calls += 1
        assert calls <= occasions[moment], "no progress"
    assert calls and train(scale, tmp_path) == 0
    assert results_of(tmp_path) == expected
