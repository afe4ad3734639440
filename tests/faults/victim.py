"""Trains a plan in a child process that kills itself at a chosen moment."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import checkpoint, config
from bench.training import context
from bench.workflow import execute
from bench.workflow import plan as planning

IMPORTED_ONCE = [
    "torch._dynamo",
    "safetensors.torch",
    "bench.warmstart.train",
    "bench.rewarm.train",
    "bench.certified.train",
    "bench.certified.verify",
]
"""What children find imported: importing takes longer than their training."""
MOMENTS = ("at a step", "in the middle of a file", "before a file has its name", "after a file has its name")


def arm(moment: str, at: int) -> Callable[[], int]:
    """Makes this process die at the `at`-th occasion of a kind, never with 0; returns how to ask how many there were."""
    occasions = 0

    def now() -> bool:
        nonlocal occasions
        occasions += 1
        return occasions == at

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "at a step":
        original = context.Context.checkpoint

        def step(self: Any, *arguments: Any, **named: Any) -> None:
            if now():
                die()
            original(self, *arguments, **named)

        context.Context.checkpoint = step
    elif moment == "in the middle of a file":
        fsync = os.fsync

        def sync(descriptor: int) -> None:
            half = now()
            if half:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            fsync(descriptor)
            if half:
                die()

        checkpoint.os.fsync = sync
    else:
        replace = Path.replace

        def rename(self: Path, target: Any) -> Path:
            if moment.startswith("before") and now():
                die()
            result = replace(self, target)
            if moment.startswith("after") and now():
                die()
            return result

        Path.replace = rename
    return lambda: occasions


def train(scale: Path, extra: Path, results: Path, moment: str | None, at: int) -> None:
    """Exits with 1 where a run fails. Without a moment it leaves the number of occasions of each."""
    os.environ |= {"BENCH_EXTRA": str(extra), "BENCH_RESULTS": str(results), "BENCH_CHECKPOINT_SECONDS": "0"}
    occasions = {name: arm(name, at if name == moment else 0) for name in MOMENTS}
    plan = planning.make(config.load(str(scale)))
    tally = execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    if moment is None:
        (results / "occasions.json").write_text(json.dumps({name: count() for name, count in occasions.items()}))
    sys.exit(1 if tally.failed else 0)
