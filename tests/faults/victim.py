"""A process that forks children, which train a plan and die at a moment that the test chooses.

One line of JSON a task on standard input, the child's exit code (negative for a signal) a line on standard output.
Forking saves the seconds that importing takes, also of what torch imports at its first step; nothing is computed before.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import checkpoint, config
from bench.training import context
from bench.workflow import execute
from bench.workflow import plan as planning

torch.set_num_threads(1)
for name in (
    "torch._dynamo",
    "safetensors.torch",
    "filelock",
    "tqdm",
    "bench.warmstart.train",
    "bench.rewarm.train",
    "bench.certified.train",
    "bench.certified.verify",
    "bench.data.images",
):
    importlib.import_module(name)


MOMENTS = ("at a step", "in the middle of a file", "before a file has its name", "after a file has its name")


def arm(moment: str, at: int) -> Callable[[], int]:
    """Makes this process die at the `at`-th occasion of a kind, never with 0; returns how to ask how many there were."""
    seen = 0

    def now() -> bool:
        nonlocal seen
        seen += 1
        return seen == at

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
    return lambda: seen


def train(task: dict[str, Any]) -> int:
    os.environ |= {"BENCH_EXTRA": task["extra"], "BENCH_RESULTS": task["results"], "BENCH_CHECKPOINT_SECONDS": "0"}
    seen = {moment: arm(moment, task["at"] if moment == task["moment"] else 0) for moment in MOMENTS}
    plan = planning.make(config.load(task["scale"]))
    tally = execute.run_all(plan, plan.to_train(), tell=lambda text: None)
    if task["moment"] is None:
        counts = {moment: occasions() for moment, occasions in seen.items()}
        (Path(task["results"]) / "occasions.json").write_text(json.dumps(counts))
    return 1 if tally.failed else 0


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = train(json.loads(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
