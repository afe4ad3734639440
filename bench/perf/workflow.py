"""Seconds of the workflow beside training: per run through Snakemake, and of planning, collecting and judging many runs.

A paper that trains nothing worth mentioning is written to a temporary folder and registered there. The peer of the first
row is the same workflow with a process for each run, which is what one rule per run would be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import config, machine, paths, record
from bench.run import Result
from bench.workflow import plan

BATCHED, APART = 400, 4
"""Further runs that go through Snakemake: in one process together, and in one each, which takes seconds."""
COUNTS = (100, 1_000, 10_000)
STEPS = {
    "plan": ("plan",),
    "dry-run": ("reproduce", "--dry-run"),
    "collect": ("collect",),
    "draw": ("draw",),
    "judge": ("judge",),
}
"""Step -> command."""

PAPER = '''"""An exhibit of many runs that take no time."""

from typing import ClassVar

from pydantic import Field

from bench import stats
from bench.exhibit import Claim, Exhibit, ExhibitSettings, ArmRun, row
from bench.run import Cost, Result, RunSpec


class Nothing(RunSpec):
    trainer: ClassVar[str] = "bench_extra.nothing"

    group_number: int = Field(0, ge=0, description="which configuration")

    def cost(self) -> Cost:
        return Cost(amount=1, flops=1e6)

    def label(self) -> str:
        return f"nothing {self.group_number} seed {self.seed}"


def train(spec, context):
    value = float((spec.group_number * 7919 + spec.seed * 104729) % 1000)
    return Result(metrics={"value": value})


class Settings(ExhibitSettings):
    groups: int = Field(5, ge=1, description="configurations")


def members(settings):
    return [
        ArmRun({"method": f"m{number}"}, Nothing(group_number=number, seed=seed))
        for number in range(settings.groups)
        for seed in settings.seed_range()
    ]


def rows(member, record):
    yield row(member, "value", record.metrics["value"])


def draw(frame, published, settings):
    return frame.groupby("method")["value"].mean().reset_index()


def positive(frame):
    return stats.above(dict(zip(frame["seed"], frame["value"], strict=False)), -1.0)


EXHIBIT = Exhibit(
    name="many/table",
    title="Many runs",
    caption="Mean value by configuration.",
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(Claim("M1", "Values are positive.", "nowhere", positive),),
)
'''

SCALE = """\
scale: many
threads: 1
device: cpu
compile: never
batch_minutes: {minutes}
only: [many/table]
exhibits:
  many/table: {{groups: {groups}, seeds: {seeds}}}
"""


# A process of its own, small: the peak of a child counts what it shared with its parent before it became another program.
MEASURED = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Used(NamedTuple):
    """What a call took: seconds, and the peak of resident memory of its largest process in MiB."""

    seconds: float
    memory: float


def _call(folder: Path, *arguments: str) -> Used:
    """Runs ``python -m``, which knows the paper in `folder`."""
    places = {"BENCH_EXTRA": str(folder / "papers"), "BENCH_RESULTS": str(folder / "results")}
    return used(*arguments, **places, OMP_NUM_THREADS="1")


def used(*arguments: str, **variables: str) -> Used:
    """Runs ``python -m`` with some environment variables, and says what it took.

    Raises:
        RuntimeError: it failed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # rules call `python`
    environment = {**os.environ, "PATH": path, **variables}
    call = [sys.executable, "-c", MEASURED, sys.executable, "-m", *arguments]
    answer = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    code, seconds, peak = answer.stdout.split()
    if code != "0":
        raise RuntimeError(f"{' '.join(arguments)} failed: {answer.stderr.strip()[-500:]}")
    # Linux counts KiB, macOS bytes.
    return Used(float(seconds), float(peak) / (2**20 if sys.platform == "darwin" else 2**10))


def _bench(folder: Path, command: str, *arguments: str) -> Used:
    """Runs a command of the suite."""
    return _call(folder, "bench", command, "--scale", str(folder / "many.yaml"), *arguments)


def write_records(scale: str) -> None:
    """The records that training would leave, made up."""
    made = plan.make(config.load(scale), source=scale)
    proof = {**machine.commit(), "machine": machine.machine(), "device": "cpu", "seconds": 1.0}
    for number, run in enumerate(made.runs.values()):
        outcome = Result({"value": float(number % 1009)})
        record.write(made.layout.record(run.key), record.of_run(run.spec, run.key, outcome, {}, proof))


def _lay_out(folder: Path, *, runs: int, seeds: int = 5, minutes: float = 60) -> None:
    papers = folder / "papers"
    papers.mkdir(parents=True, exist_ok=True)
    (papers / "nothing.py").write_text(PAPER)
    (folder / "many.yaml").write_text(SCALE.format(groups=max(1, runs // seeds), seeds=seeds, minutes=minutes))


def _training(minutes: float, runs: int) -> float:
    """Seconds of the workflow up to the last of so many runs, in jobs of so many minutes; nothing is drawn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _lay_out(folder, runs=runs, seeds=runs, minutes=minutes)
        _bench(folder, "plan", "--freeze")
        plan_file = folder / "results" / "many" / "plan.json"
        places = (
            "--snakefile",
            str(paths.PROJECT / "Snakefile"),
            "--profile",
            str(config.CONFIGS / "profiles" / "local"),
        )
        return _call(folder, "snakemake", *places, "--config", f"plan={plan_file}", "--until", "run").seconds


def per_run() -> dict[str, Any]:
    """Seconds that a run adds to a workflow, beside its training: batched, and with a process for each run."""
    least = min(_training(60, 1) for _ in range(2))  # the first call finds nothing in the disk's cache
    ours = (_training(60, BATCHED + 1) - least) / BATCHED
    peer = (_training(1e-9, APART + 1) - least) / APART
    return {
        "path": "workflow/run",
        "variant": "batched, against a process for each run",
        "unit": "s/run",
        "ours": ours,
        "peer": peer,
        "ratio": None,  # of a few hundredths of a second: too unsteady to be held against
        "spread": None,
        "note": f"{BATCHED} and {APART} further runs through Snakemake; the first takes {least:.1f} s",
    }


def of_many(counts: tuple[int, ...] = COUNTS) -> Iterator[dict[str, Any]]:
    """Seconds of planning a dry run, collecting, drawing and judging, without a peer."""
    for count in counts:
        # In memory where possible: waiting for a disk 10,000 times is not what is measured.
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
            folder = Path(name)
            _lay_out(folder, runs=count, seeds=10)
            _call(folder, "bench.perf.workflow", str(folder / "many.yaml"))
            for step, command in STEPS.items():
                took = _bench(folder, *command)
                yield {
                    "path": f"workflow/{step}",
                    "variant": f"{count:,} runs",
                    "unit": "s",
                    "ours": took.seconds,
                    "peer": None,
                    "ratio": None,
                    "spread": None,
                    "note": f"peak {took.memory:,.0f} MiB",
                }


def rows(*, device: object = None, tell: Callable[[str], None] = lambda text: None) -> Iterator[dict[str, Any]]:
    """Yields the rows of this path: path, variant, unit, ours, peer, ratio, spread, note."""
    del device  # the workflow uses none
    tell("the workflow's share of a run")
    yield per_run()
    tell("many runs")
    yield from of_many()


if __name__ == "__main__":
    write_records(sys.argv[1])
