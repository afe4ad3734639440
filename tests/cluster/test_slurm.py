"""The profile for Slurm against a real Slurm: runs, a job that is cancelled, one that reaches its limit, wrong settings."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import record

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def scale(invented: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(invented, tmp_path / "toy.yaml"))


@pytest.fixture
def expected(bench, scale: Path, tmp_path: Path) -> dict[str, dict]:
    """Results of an uninterrupted run without Slurm."""
    assert bench("run", "--scale", str(scale), BENCH_RESULTS=str(tmp_path / "whole")).returncode == 0
    return results_of(tmp_path / "whole")


def results_of(results: Path) -> dict[str, dict]:
    records = {path.stem: record.read(path) for path in (results / "toy" / "runs").glob("*.json")}
    return {
        key: {name: value for name, value in one.results().items()}
        | {"metrics": {name: value for name, value in one.metrics.items() if not name.startswith("seconds")}}
        for key, one in records.items()
    }


class Call:
    """``bench reproduce`` through a profile, with its output in a file; it ends with the test."""

    def __init__(self, slurm, scale: Path, profile: Path, environment: dict[str, str]):
        self.output = profile / "output.txt"
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench", "reproduce", "--scale", str(scale), "--profile", str(profile)],
                cwd=ROOT,
                env={**slurm.environment, **environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait(self, seconds: float = 400) -> int:
        return self.process.wait(timeout=seconds)


@pytest.fixture
def start(slurm, scale: Path) -> Iterator[Callable[..., Call]]:
    """``start(profile, WALK_SECONDS="0.05")``."""
    calls: list[Call] = []

    def begin(profile: Path, **environment: str) -> Call:
        calls.append(Call(slurm, scale, profile, environment))
        return calls[-1]

    yield begin
    for call in calls:
        if call.process.poll() is None:
            os.killpg(call.process.pid, signal.SIGKILL)
            call.process.wait()


def test_an_exhibit_through_slurm_with_a_cancelled_job(slurm, start, results, expected, tmp_path) -> None:
    """A running job is cancelled: it is submitted again and its runs go on from where they were."""
    call = start(slurm.profile(tmp_path / "profile"), WALK_SECONDS="0.05", BENCH_CHECKPOINT_SECONDS="0")
    slurm.wait_for(lambda: list((results / "toy" / "scratch").glob("*/state.pt")), 120, "state of a run", call.text)
    (job,) = slurm.jobs()
    slurm.run("scancel", job)
    assert call.wait() == 0, call.text() + slurm.log()
    assert results_of(results) == expected
    resumed = [record.read(path).provenance["resumed"] for path in (results / "toy" / "runs").glob("*.json")]
    assert any(resumed), "the run under way was not begun again"
    assert (results / "toy" / "paper.pdf").exists()
    assert slurm.jobs("all") == [] or all(one != job for one in slurm.jobs())


def test_a_job_past_its_time_limit_goes_on_in_the_next(slurm, start, results, expected, tmp_path) -> None:
    """A minute is the shortest limit that Slurm knows; the walks take longer."""
    profile = slurm.profile(tmp_path / "profile", set_resources={"run": {"runtime": 1}})
    call = start(profile, WALK_SECONDS="0.5", BENCH_CHECKPOINT_SECONDS="0")
    slurm.wait_for(lambda: "TimeLimit=00:01:00" in slurm.run("scontrol", "show", "jobs"), 120, "job", call.text)
    assert call.wait() == 0, call.text() + slurm.log()
    assert "Trying to restart" in call.text()
    assert results_of(results) == expected


def test_a_job_asks_for_what_the_plan_says(slurm, start, scale, results, tmp_path) -> None:
    """GPUs, memory and time reach Slurm; without a GPU the job fails by name and nothing becomes a result."""
    scale.write_text(scale.read_text().replace("device: cpu", "device: cuda"))
    call = start(slurm.profile(tmp_path / "profile", retries=0))
    assert call.wait() == 1
    plan = json.loads((results / "toy" / "plan.json").read_text())
    (planned,) = plan["jobs"]
    (job,) = slurm.run("scontrol", "--oneliner", "show", "jobs").strip().splitlines()[-1:]
    assert "TresPerJob=gres:gpu:1" in job or "TresPerJob=gres/gpu:1" in job
    assert f"MinMemoryNode={planned['memory_mb']}M" in job
    assert "TimeLimit=00:10:00" in job and "CPUs/Task=1" in job
    assert "device: cuda is asked for and torch finds no GPU" in call.text(), call.text()
    assert not list((results / "toy" / "runs").glob("*.json"))


PRETENDS = """
import atexit, os, sys, time
if "--job" in sys.orig_argv:
    import torch
    torch.cuda.is_available = lambda: True
    torch.cuda.max_memory_allocated = torch.cuda.reset_peak_memory_stats = lambda *device: 0
    began, folder = time.time(), os.environ["SEEN"]
    path = os.path.join(folder, str(os.getpid()))
    def leave():
        with open(path, "w") as stream:
            stream.write(f"{began} {time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    leave()
    atexit.register(leave)
    while len(os.listdir(folder)) < 2 and time.time() < began + 120:
        time.sleep(0.1)
"""
"""A `sitecustomize` by which torch finds a GPU, and each job leaves when it ran and which GPU it was given.

The first job waits for the second one, which must get the other GPU: otherwise short jobs would take turns.
"""


def test_one_job_on_each_gpu(slurm, start, scale, results, tmp_path) -> None:
    """The machine that calls has no GPU: the profile says what nodes have, and Slurm gives each job one of its own."""
    scale.write_text(
        scale.read_text().replace("device: cpu", "device: auto").replace("job_minutes: 60", "job_minutes: 0.001")
    )
    seen, site = tmp_path / "seen", tmp_path / "site"
    for folder in (seen, site):
        folder.mkdir()
    (site / "sitecustomize.py").write_text(PRETENDS)
    path = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    call = start(slurm.profile(tmp_path / "profile"), SEEN=str(seen), PYTHONPATH=path, WALK_SECONDS="0.1")
    assert call.wait() == 0, call.text() + slurm.log()
    jobs = [file.read_text().split() for file in seen.iterdir()]
    assert {gpu for *_, gpu in jobs} == {"0", "1"}
    for gpu in ("0", "1"):
        spans = sorted((float(began), float(ended)) for began, ended, given in jobs if given == gpu)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), "two jobs on one GPU"
    assert {record.read(path).provenance["device"] for path in (results / "toy" / "runs").glob("*.json")} == {"cuda"}


def test_a_partition_that_does_not_exist(slurm, start, results, tmp_path) -> None:
    call = start(slurm.profile(tmp_path / "profile", retries=0, default_resources={"slurm_partition": "nowhere"}))
    assert call.wait() == 1
    assert "invalid partition specified: nowhere" in call.text(), call.text()
    assert "The same command tries again" in call.text().splitlines()[-1]


def test_an_unreachable_controller(slurm, start, results, tmp_path) -> None:
    conf = tmp_path / "slurm.conf"
    lines = (slurm.folder / "slurm.conf").read_text().splitlines()
    changed = [line for line in lines if not line.startswith("SlurmctldPort")]
    conf.write_text("\n".join([*changed, "SlurmctldPort=1", "MessageTimeout=2", ""]))
    call = start(slurm.profile(tmp_path / "profile", retries=0), SLURM_CONF=str(conf))
    assert call.wait() == 1
    assert "Unable to contact slurm controller" in call.text()
    assert "The same command tries again" in call.text().splitlines()[-1]
