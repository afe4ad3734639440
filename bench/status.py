"""Finished, running, failed and waiting runs of a scale, from the files alone."""

from __future__ import annotations

import json
import time

from filelock import FileLock, Timeout

from bench.plan import Plan, Planned

RECENT = 10
"""Rows of each kind that are listed."""


def _progress(plan: Plan, run: Planned) -> dict[str, float | str] | None:
    try:
        return json.loads((plan.layout.scratch / run.key / "progress.json").read_text())
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


def _running_line(plan: Plan, run: Planned) -> str:
    seen = _progress(plan, run)
    if seen is None:
        return f"  {run.spec.label()}: started"
    done, total = float(seen["done"]), float(seen["total"])
    values = ", ".join(
        f"{name} {value:.4g}"
        for name, value in seen.items()
        if isinstance(value, int | float) and name not in ("done", "total", "time")
    )
    age = time.time() - float(seen["time"])
    return f"  {run.spec.label()}: {done:.0f} of {total:.0f} {seen['unit']}, {values} ({age:.0f} s ago)"


def as_text(plan: Plan) -> str:
    """Counts, then the running and failed runs by name, then what waits."""
    todo = {run.key: run for run in plan.to_train()}
    running = [run for run in todo.values() if _is_running(plan, run)]
    failed = [run for run in todo.values() if plan.layout.failure(run.key).exists() and run not in running]
    waiting = [run for run in todo.values() if run not in running and run not in failed]
    lines = [
        f"scale {plan.suite.scale}: {len(plan.runs) - len(todo)} finished, {len(running)} running, "
        f"{len(failed)} failed, {len(waiting)} waiting"
    ]
    lines += [_running_line(plan, run) for run in running]
    for run in failed:
        why = json.loads(plan.layout.failure(run.key).read_text())["why"]
        lines.append(f"  FAILED {run.spec.label()}: {why}")
    lines += [f"  waiting: {run.spec.label()}" for run in waiting[:RECENT]]
    if len(waiting) > RECENT:
        lines.append(f"  and {len(waiting) - RECENT} more")
    return "\n".join(lines)
