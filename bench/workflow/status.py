"""Finished, running, failed and waiting runs of a scale, from the files alone; and the progress line of `reproduce`."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.errors import UserError
from bench.training.context import progress_text
from bench.words import duration
from bench.workflow import plan as planning
from bench.workflow import planfile
from bench.workflow.plan import Plan, Planned

RECENT = 10
"""Waiting runs that are listed."""
NAMED = 3
"""Running runs that a line names."""
TELL_SECONDS, REWRITE_SECONDS = 30.0, 2.0
"""Time between two lines of a call of the workflow, in a log and on a terminal."""
FIRST_ESTIMATE_SECONDS = 20.0
"""Time before the first estimate of the time left."""


@dataclass(frozen=True)
class Standing:
    """The runs of a plan by their state.

    Attributes:
        finished: number of runs with a record, or not needed.
        running: a process holds the run's lock.
        failed: the last attempt ended with an error.
        waiting: everything else.
    """

    finished: int
    running: list[Planned]
    failed: list[Planned]
    waiting: list[Planned]


def _progress(plan: Plan, run: Planned) -> dict[str, Any] | None:
    """The last progress that the run wrote, or ``None``."""
    try:
        return json.loads((plan.layout.scratch / run.key / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_running(plan: Plan, run: Planned) -> bool:
    path = plan.layout.scratch / f"{run.key}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def standing(plan: Plan) -> Standing:
    todo = {run.key: run for run in plan.to_train()}
    running = {key: run for key, run in todo.items() if _is_running(plan, run)}
    failed = {key: run for key, run in todo.items() if key not in running and plan.layout.failure(run.key).exists()}
    waiting = [run for key, run in todo.items() if key not in running and key not in failed]
    return Standing(len(plan.runs) - len(todo), list(running.values()), list(failed.values()), waiting)


def _running_line(plan: Plan, run: Planned) -> str:
    seen = _progress(plan, run)
    if seen is None:
        return f"  running  {run.spec.label()}: started"
    ago = duration(max(0.0, time.time() - float(seen["time"])))
    return f"  running  {run.spec.label()}: {progress_text(seen)} ({ago} ago)"


def log_of(plan: Plan, key: str) -> Path | None:
    """Log of the job that has the run in the frozen plan."""
    try:
        jobs = planfile.frozen(plan.layout.plan)["jobs"]
    except UserError:
        return None
    name = next((job["name"] for job in jobs if key in job["keys"]), None)
    path = plan.layout.logs / "run" / f"{name}.log"
    return path if name is not None and path.exists() else None


def last_line(path: Path, label: str) -> str:
    """The last line of a log that speaks of a run, or else the last line."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if label in line), lines[-1] if lines else "")


def _failed_lines(plan: Plan, run: Planned) -> list[str]:
    try:
        why = json.loads(plan.layout.failure(run.key).read_text(encoding="utf-8"))["why"]
    except (OSError, ValueError, KeyError):
        why = "for an unknown reason"
    lines = [f"  FAILED   {run.spec.label()}: {why}"]
    log = log_of(plan, run.key)
    if log is not None and (last := last_line(log, run.spec.label())):
        lines.append(f"           {log}: {last}")
    return lines


def _waiting_line(plan: Plan, run: Planned) -> str:
    seen = _progress(plan, run)
    stopped = (
        "" if seen is None else f", stopped at {float(seen['done']):,.0f} of {float(seen['total']):,.0f} {seen['unit']}"
    )
    return f"  waiting  {run.spec.label()}{stopped}"


def as_text(plan: Plan) -> str:
    """Counts, then the running and failed runs by name, then some of the waiting ones."""
    now = standing(plan)
    lines = [
        f"scale {plan.suite.scale}: {now.finished} finished, {len(now.running)} running, "
        f"{len(now.failed)} failed, {len(now.waiting)} waiting"
    ]
    lines += [_running_line(plan, run) for run in now.running]
    for run in now.failed:
        lines += _failed_lines(plan, run)
    lines += [_waiting_line(plan, run) for run in now.waiting[:RECENT]]
    if len(now.waiting) > RECENT:
        lines.append(f"  and {len(now.waiting) - RECENT} more")
    return "\n".join(lines)


class Watch:
    """The progress line of one call of the workflow: runs done, time left, running runs.

    The time left is the time so far, scaled by the estimated work that is left. Runs count by their estimate, running ones
    by the part that they report as done.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._work = {run.key: planning.hours(run.spec.cost(), plan.machine) for run in plan.to_train()}
        self._total = sum(self._work.values())
        self._runs = {key: plan.runs[key] for key in self._work}
        self._began = time.monotonic()
        self._done_before = self._share(*self._open())

    def _open(self) -> tuple[list[Planned], dict[str, dict[str, Any] | None]]:
        """Runs without a record, and their last progress."""
        runs = [run for key, run in self._runs.items() if not self._plan.layout.record(key).exists()]
        return runs, {run.key: _progress(self._plan, run) for run in runs}

    def _share(self, runs: list[Planned], seen: dict[str, dict[str, Any] | None]) -> float:
        """The part of the work that is done, 0 to 1."""
        left = sum(self._work[run.key] * (1 - _fraction(seen[run.key])) for run in runs)
        return 1 - left / self._total if self._total else 1.0

    def bar(self) -> str:
        """``[#####...............]``, the part of the work that is done."""
        full = round(BAR * self._share(*self._open()))
        return f"[{'#' * full}{'.' * (BAR - full)}]"

    def line(self) -> str:
        """``12 of 72 runs done, about 4 min left; now: …``"""
        runs, seen = self._open()
        parts = [f"{len(self._runs) - len(runs)} of {len(self._runs)} runs done"]
        share, elapsed = self._share(runs, seen), time.monotonic() - self._began
        if runs and elapsed > FIRST_ESTIMATE_SECONDS and share > self._done_before:
            parts.append(f"about {duration(elapsed * (1 - share) / (share - self._done_before))} left")
        running = sorted((run for run in runs if _is_running(self._plan, run)), key=lambda run: seen[run.key] is None)
        now = [
            f"{run.spec.label()}{'' if (progress := seen[run.key]) is None else f': {progress_text(progress)}'}"
            for run in running[:NAMED]
        ]
        if len(running) > NAMED:
            now.append(f"and {len(running) - NAMED} more")
        return ", ".join(parts) + (f"; now: {'; '.join(now)}" if now else "")


def _fraction(progress: dict[str, Any] | None) -> float:
    if progress is None or float(progress["total"]) <= 0:
        return 0.0
    return min(1.0, float(progress["done"]) / float(progress["total"]))


def on_terminal() -> bool:
    """Whether a person looks on, so that one line can be rewritten."""
    return sys.stderr.isatty()


BAR = 20
"""Characters of the bar."""


@contextlib.contextmanager
def watched(plan: Plan, *, seconds: float | None = None) -> Iterator[None]:
    """Says how far the runs are while the block runs; silent when nothing is to be trained.

    On a terminal it is one line with a bar that is rewritten every 2 s; in a log, a `Watch` line every 30 s.
    """
    terminal = on_terminal()
    watch, ended = Watch(plan), threading.Event()
    if seconds is None:
        seconds = REWRITE_SECONDS if terminal else TELL_SECONDS

    def rewrite(end: str = "") -> None:
        width = shutil.get_terminal_size().columns - 1
        line = f"{watch.bar()} {watch.line()}"
        print(f"\r{line:{width}.{width}}", end=end, file=sys.stderr, flush=True)

    def tell() -> None:
        last = ""
        # A folder that vanishes under a running call is Snakemake's to report.
        while not ended.wait(seconds):
            with contextlib.suppress(OSError):
                if terminal:
                    rewrite()
                elif (line := watch.line()) != last:
                    print(f"runs: {line}", file=sys.stderr, flush=True)
                    last = line
        if terminal:
            with contextlib.suppress(OSError):
                rewrite(end="\n")

    thread = threading.Thread(target=tell, daemon=True)
    if plan.to_train():
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join(timeout=5)
