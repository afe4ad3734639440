"""The whole way interrupted: Snakemake killed, the group killed, Ctrl-C, two calls at once. The next call goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench import record
from bench.cli.main import main

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def scale(invented: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(invented, tmp_path / "toy.yaml"))


def results_of(results: Path) -> dict[str, tuple]:
    records = {path.stem: record.read(path) for path in (results / "toy" / "runs").glob("*.json")}
    return {key: (one.results(), one.artefacts) for key, one in records.items()}


@pytest.fixture
def expected(scale: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """Of an uninterrupted call."""
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path / "whole"))
    assert main(["run", "--scale", str(scale)]) == 0
    monkeypatch.setenv("BENCH_RESULTS", str(results))
    return results_of(tmp_path / "whole")


@pytest.fixture
def start(scale: Path, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """``start()``: a slow ``reproduce`` in a group of its own; its output is in ``output.txt``."""
    calls: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        with (tmp_path / f"output{len(calls)}.txt").open("wb") as output:
            calls.append(
                subprocess.Popen(
                    [sys.executable, "-m", "bench", "reproduce", "--scale", str(scale)],
                    cwd=ROOT,
                    env={**os.environ, "WALK_SECONDS": "0.2", "BENCH_CHECKPOINT_SECONDS": "0"},
                    start_new_session=True,
                    # What a shell starts in the background ignores Ctrl-C, and hands that down.
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                    stdout=output,
                    stderr=output,
                )
            )
        return calls[-1]

    yield begin
    for call in calls:
        if call.poll() is None:
            os.killpg(call.pid, signal.SIGKILL)
            call.wait()


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def training(results: Path) -> bool:
    return bool(list((results / "toy" / "scratch").glob("*/state.pt")))


def goes_on(bench, scale: Path, results: Path, expected: dict[str, tuple]) -> None:
    """The same call again ends with the records of an uninterrupted one."""
    answer = bench("reproduce", "--scale", str(scale))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert results_of(results) == expected
    assert not list(results.rglob("*.failed"))


def test_snakemake_is_killed(start, bench, scale, results, expected, tmp_path) -> None:
    """Its job lives on as an orphan; the next call waits for the runs that it trains."""
    call = start()
    wait_for(lambda: training(results))
    (snakemake,) = psutil.Process(call.pid).children()
    snakemake.kill()
    assert call.wait(timeout=60) == 1
    assert "Snakemake was killed (signal 9)" in (tmp_path / "output0.txt").read_text()
    goes_on(bench, scale, results, expected)


def test_the_call_is_killed_and_snakemake_lives_on(start, bench, scale, results, expected) -> None:
    """As long as the orphaned Snakemake is at work the folder is its own."""
    call = start()
    wait_for(lambda: training(results))
    snakemake, *_ = psutil.Process(call.pid).children()
    call.kill()
    call.wait()
    answer = bench("reproduce", "--scale", str(scale))
    assert answer.returncode == 2 and "another `reproduce`" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    for member in (*snakemake.children(recursive=True), snakemake):
        member.kill()
    wait_for(lambda: not snakemake.is_running() or snakemake.status() == psutil.STATUS_ZOMBIE)
    goes_on(bench, scale, results, expected)


def test_the_whole_group_is_killed(start, bench, scale, results, expected) -> None:
    for killed in range(2):
        call = start()
        wait_for(lambda records=killed: training(results) and len(results_of(results)) >= records)
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
    goes_on(bench, scale, results, expected)


def test_a_job_is_killed(start, bench, scale, results, expected, tmp_path) -> None:
    """As for want of memory. What is there is drawn with gaps, and the next call fills them."""
    call = start()
    wait_for(lambda: training(results))
    jobs = [job for job in psutil.Process(call.pid).children(recursive=True) if "--job" in job.cmdline()]
    for job in jobs:
        job.kill()
    assert call.wait(timeout=300) == 1
    assert "drawn with gaps" in (tmp_path / "output0.txt").read_text()
    assert "runs missing" in (results / "toy" / "exhibits" / "invented" / "distance.md").read_text()
    goes_on(bench, scale, results, expected)
    assert "missing" not in (results / "toy" / "exhibits" / "invented" / "distance.md").read_text()


@pytest.mark.parametrize("whom", ["group", "call"])
def test_ctrl_c(whom: str, start, bench, scale, results, expected, tmp_path) -> None:
    """A terminal interrupts the group, other programs the call alone: either way everything ends, with one last line."""
    call = start()
    wait_for(lambda: training(results))
    family = psutil.Process(call.pid).children(recursive=True)
    (os.killpg if whom == "group" else os.kill)(call.pid, signal.SIGINT)
    assert call.wait(timeout=60) == 130
    assert (tmp_path / "output0.txt").read_text().splitlines()[-1].startswith("interrupted")
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [], "no job is left behind"
    goes_on(bench, scale, results, expected)


def test_two_calls_at_once(start, bench, scale, results, expected, tmp_path) -> None:
    first, second = start(), start()
    codes = [first.wait(timeout=600), second.wait(timeout=600)]
    assert sorted(codes) == [0, 2]
    refused = (tmp_path / f"output{codes.index(2)}.txt").read_text()
    assert "another `reproduce`" in refused and len(refused.splitlines()) == 1
    assert results_of(results) == expected
