"""Two training steps and one evaluation of every distinct kind of run, in its true shape, on generated samples."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.paths import Layout
from bench.run import RunSpec
from bench.workflow import execute
from bench.workflow.keys import key_of
from bench.workflow.plan import Plan, Planned

LIMIT_MB = 16_000
"""Kinds that need more memory than this are left out on the CPU, by name."""


def kinds(plan: Plan) -> list[RunSpec]:
    """One cut-down specification for each distinct kind: model, data shape, method, optimiser, stopping rule."""
    distinct: dict[str, RunSpec] = {}
    for run in plan.runs.values():
        cut = run.spec.smoke()
        distinct.setdefault(cut.group, cut)
    return list(distinct.values())


def left_out(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Kinds too large for a common machine."""
    return [spec for spec in specs if any(part.cost().memory_mb > LIMIT_MB for part in spec.chain())]


def _plan_of(plan: Plan, specs: Sequence[RunSpec], root: Path) -> Plan:
    suite = plan.suite.model_copy(update={"compile": "never", "keep": "everything"})
    cut = replace(plan, suite=suite, layout=Layout(suite.scale, root), runs={}, exhibits={}, key_by_identity={})
    for spec in specs:
        for part in reversed(list(spec.chain())):
            if part.identity not in cut.key_by_identity:
                key = cut.key_by_identity[part.identity] = key_of(part)
                cut.runs[key] = Planned(key, part, used=key)
    return cut


def smoke(plan: Plan) -> int:
    """Runs all kinds in a temporary folder; returns 1 when one fails."""
    specs = kinds(plan)
    large = left_out(specs)
    specs = [spec for spec in specs if spec not in large]
    for spec in large:
        print(f"left out, needs more than {LIMIT_MB // 1000} GB: {spec.label()}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cut = _plan_of(plan, specs, Path(folder))
        quiet = os.environ.get("BENCH_SMOKE_QUIET") == "1"
        tally = execute.run_all(cut, list(cut.runs.values()), tell=(lambda text: None) if quiet else print)
    print(
        f"scale {plan.suite.scale}: {len(tally.trained)} kinds of runs work, {len(tally.failed)} fail, "
        f"{len(large)} left out, {time.monotonic() - started:.0f} s"
    )
    for key, why in tally.failed.items():
        print(f"FAILED {cut.runs[key].spec.label()}: {why}", file=sys.stderr)
    return 1 if tally.failed else 0
