"""Seconds that a run takes beside its training: as one of many in a job, against a process for each run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch

from bench import config
from bench.paths import Layout
from bench.perf.measure import Row
from bench.run import Cost, Result, RunSpec
from bench.workflow import execute, plan

RUNS, PROCESSES = 400, 3
"""Runs in one process, and runs with a process each."""


class Nothing(RunSpec):
    """A run that trains nothing."""

    kind: ClassVar[str] = "perf/nothing"
    trainer: ClassVar[str] = "bench.perf.workflow"

    def cost(self) -> Cost:
        return Cost(amount=1, flops=1e6)

    def label(self) -> str:
        return f"nothing, seed {self.seed}"


def train(spec: Nothing, context: object) -> Result:
    return Result({"value": float(spec.seed)})


def run_job(folder: Path, seeds: range) -> float:
    """Executes a run for each seed as a job of scale ci does; returns the seconds that it took, planning left out."""
    planned = plan.make(config.load("ci"), layout=Layout("perf", folder))
    runs = [plan.Planned(f"{seed:08d}-perf", Nothing(seed=seed)) for seed in seeds]
    identities = {run.spec.identity: run.key for run in runs}
    job = replace(planned, runs={run.key: run for run in runs}, exhibits={}, key_by_identity=identities)
    started = time.perf_counter()
    tally = execute.run_all(job, runs, tell=lambda text: None)
    assert len(tally.trained) == len(runs), tally
    return time.perf_counter() - started


def rows(device: torch.device, tell: Callable[[str], None]) -> Iterator[Row]:
    """The row of the workflow; `tell` gets a line when something long begins."""
    tell(f"{RUNS} runs in a job, and {PROCESSES} in processes of their own")
    with tempfile.TemporaryDirectory() as name:
        run_job(Path(name), range(1))  # imports
        ours = run_job(Path(name), range(1, 1 + RUNS)) / RUNS
        started = time.perf_counter()
        for seed in range(1 + RUNS, 1 + RUNS + PROCESSES):
            subprocess.run([sys.executable, "-m", __name__, name, str(seed)], check=True)
        peer = (time.perf_counter() - started) / PROCESSES
    yield {
        "path": "workflow/run",
        "variant": "in a job, against a process for each run",
        "unit": "s/run",
        "ours": ours,
        "peer": peer,
        "ratio": None,  # of milliseconds: too unsteady to be compared with a later one
        "spread": None,
        "note": f"{RUNS} runs in one job, {PROCESSES} in processes of their own",
    }


if __name__ == "__main__":
    run_job(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[2]) + 1))
