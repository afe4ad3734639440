"""Trains planned runs in one process, one after the other: locking, resuming, recording results and failures."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import checkpoint, machine, paths, record
from bench.errors import FailedRun, OutOfTime, ParentFailed, UserError
from bench.run import Result
from bench.training import distributed
from bench.workflow import devices, process
from bench.workflow.plan import DONE, MISSING, Plan, Planned

if TYPE_CHECKING:
    import torch

    from bench.training.context import Context


@dataclass
class Tally:
    """The runs of one call by what became of them.

    Attributes:
        trained, present, left: keys of the runs that were trained, had a record already, are left for the next call.
        failed: key -> why.
        blocked: keys of those that failed only because their parent did.
    """

    trained: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)


def device_of(wanted: str, *, planned: str = "cpu") -> torch.device:
    """The device a configuration asks for.

    Args:
        wanted: auto, cpu or cuda.
        planned: "gpu" where estimates and jobs count on one.

    Raises:
        UserError: a GPU is asked for or counted on, and torch finds none; says why.
    """
    import torch

    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "cuda" or planned == "gpu":
        asked = "device: cuda is asked for" if wanted == "cuda" else "a GPU is planned for"
        raise UserError(f"{asked} and torch finds no GPU ({devices.explanation()}); `device: cpu` trains without")
    return torch.device("cpu")


@contextlib.contextmanager
def _locked(folder: Any, run: Planned, deadline: float | None) -> Iterator[bool]:
    """The run's own lock, so that an orphaned job and a new one never write the same run.

    Waits while another process trains it; False when the deadline comes first.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{run.key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{run.spec.label()}: is being trained by another process; waiting", file=sys.stderr, flush=True)
        try:
            lock.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic()), poll_interval=0.5)
        except Timeout:
            yield False
            return
    try:
        yield True
    finally:
        lock.release()


def _context(plan: Plan, run: Planned, device: torch.device, deadline: float | None) -> Context:
    from bench.training.context import Context

    parent = run.spec.parent_spec
    parent_key, digests = None, {}
    if parent is not None:
        parent_key = plan.runs[plan.key(parent)].used
        digests = record.read(plan.layout.record(parent_key)).artefacts
    return Context(
        key=run.key,
        label=run.spec.label(),
        layout=plan.layout,
        device=device,
        threads=plan.suite.threads,
        compile=plan.suite.compile,
        data_root=paths.data_root(),
        parent_key=parent_key,
        parent_sha256=digests,
        checkpoint_seconds=checkpoint_seconds(),
        deadline=deadline,
    )


def checkpoint_seconds() -> float:
    """``$BENCH_CHECKPOINT_SECONDS``, or 60: time between two saved states.

    Raises:
        UserError: it is not a number from 0 on.
    """
    text = os.environ.get("BENCH_CHECKPOINT_SECONDS") or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # nan is not either
        raise UserError(f"BENCH_CHECKPOINT_SECONDS={text}: expected seconds, a number from 0 on")
    return seconds


def _used_tf32(run: Planned, device: torch.device) -> bool:
    """Whether the run computed in TF32: where its specification allows it, on a GPU that has it."""
    import torch

    def allows(value: Any) -> bool:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return (isinstance(value, dict) and value.get("tf32") is True) or any(map(allows, parts))

    allowed = allows(run.spec.model_dump(exclude={"parent"}))
    return allowed and device.type == "cuda" and torch.cuda.is_tf32_supported()


def _provenance(run: Planned, context: Context, started: float, before: machine.Usage) -> dict[str, Any]:
    from bench import __version__

    return {
        **machine.commit(),
        "suite": __version__,
        "code": run.key.split("-")[1],
        "packages": machine.versions(),
        "machine": machine.machine(),
        "device": str(context.device),
        "processes": distributed.world(),
        "threads": context.threads,
        "precision": getattr(run.spec, "precision", getattr(run.spec, "dtype", "float32")),
        "tf32": _used_tf32(run, context.device),
        "data": context.data_checksums,
        "resumed": context.resumed,
        # Seconds are shown only from runs that were alone on the machine from beginning to end.
        "alone": not context.resumed and machine.alone_since(before),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_mb": _peak_memory_mb(context.device),
    }


def _reset_peak_memory(device: torch.device) -> None:
    """A process trains many runs: the peak is that of the run, not of those before it."""
    machine.reset_peak_memory()
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory_mb(device: torch.device) -> int:
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    return int(machine.peak_memory_mb())


def _finish(
    plan: Plan,
    run: Planned,
    context: Context,
    result: Result,
    started: float,
    before: machine.Usage,
    tally: Tally,
) -> None:
    """Writes the record; only then the resume state goes. A result with a value that is not finite is a failure."""
    try:
        provenance = _provenance(run, context, started, before)
        record.write(
            plan.layout.record(run.key), record.of_run(run.spec, run.key, result, dict(context.kept), provenance)
        )
    except (FailedRun, UserError) as error:
        _fail(plan, run, error, tally)
        return
    plan.layout.failure(run.key).unlink(missing_ok=True)
    shutil.rmtree(context.scratch, ignore_errors=True)
    tally.trained.append(run.key)


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({str(error).partition(chr(10))[0] or 'no detail'}); smaller jobs or `device: cpu`"
    first = str(error).splitlines()[0] if str(error) else ""
    return first if isinstance(error, FailedRun | UserError) else f"{type(error).__name__}: {first}"


def _fail(plan: Plan, run: Planned, error: BaseException, tally: Tally) -> None:
    why = _reason(error).removeprefix(f"{run.spec.label()}: ")
    tally.failed[run.key] = why
    if not isinstance(error, FailedRun | UserError):
        traceback.print_exception(error)
    blocked = isinstance(error, ParentFailed)
    if blocked:  # a hundred runs may start from one
        tally.blocked.append(run.key)
    else:
        print(f"FAILED {run.spec.label()}: {why}", file=sys.stderr, flush=True)
    content = {"label": run.spec.label(), "spec": run.spec.description(), "why": why, "blocked": blocked}
    try:
        checkpoint.write_text(plan.layout.failure(run.key), json.dumps(content) + "\n")
    except (OSError, UserError) as trouble:  # a full disk, most likely: the line above is all that is lost
        print(f"{plan.layout.failure(run.key)}: {trouble}", file=sys.stderr, flush=True)


def _blocked(plan: Plan, run: Planned, tally: Tally) -> UserError | None:
    """Why a run cannot start now: its parent has failed or is not done."""
    parent = run.spec.parent_spec
    if parent is None:
        return None
    above = plan.runs[plan.key(parent)]
    if above.key in tally.failed:
        return ParentFailed(f"its parent {parent.label()} failed")
    if plan.layout.record(above.used).exists():
        return None
    return UserError(f"its parent {parent.label()} has not been trained")


def run_all(
    plan: Plan, runs: Sequence[Planned], *, minutes: float | None = None, tell: Callable[[str], None] = print
) -> Tally:
    """Trains `runs`, parents first; what is there already is left alone.

    Args:
        plan: the plan that they belong to.
        runs: in the order to take them.
        minutes: stop at a checkpoint before this much time is over.
        tell: gets a line for each finished run.

    Returns:
        The tally. A failed run never stops the others. Under `torchrun` all processes train one run together, and the
        first one writes.

    Raises:
        UserError: the device, or an environment variable, cannot be used.
    """
    checkpoint_seconds()
    process.prepare(plan.suite)
    machine.commit()  # of the code that is loaded now; the checkout may change while runs train
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    tally = Tally()
    waiting = []
    for run in runs:
        if plan.layout.record(run.key).exists() and run.state != MISSING:
            tally.present.append(run.key)
        else:
            waiting.append(run)
    with distributed.joined(device_of(plan.suite.device, planned=plan.machine)) as device:
        for number, run in enumerate(waiting, start=1):
            if distributed.agreed(deadline is not None and time.monotonic() >= deadline):
                tally.left.append(run.key)
                continue
            started = time.monotonic()
            if not _run(plan, run, device, deadline, tally):
                continue
            if run.key in tally.trained:
                tell(f"[{number}/{len(waiting)}] {run.spec.label()}: {time.monotonic() - started:.1f} s")
            process.give_back_memory()
    return tally


def _run(plan: Plan, run: Planned, device: torch.device, deadline: float | None, tally: Tally) -> bool:
    """Trains a run that can start now, and writes its record; returns whether it began."""
    with contextlib.ExitStack() as stack:
        if not distributed.agreed(distributed.leads() and _ready(plan, run, deadline, tally, stack)):
            return False
        started, before = time.monotonic(), machine.usage()
        _reset_peak_memory(device)
        context = _context(plan, run, device, deadline)
        try:
            result = importlib.import_module(run.spec.trainer).train(run.spec, context)
        except OutOfTime:
            tally.left.append(run.key)
        except Exception as error:
            if distributed.leads():
                _fail(plan, run, error, tally)
        else:
            if distributed.leads():
                _finish(plan, run, context, result, started, before, tally)
        finally:
            context.close()
        return True


def _ready(plan: Plan, run: Planned, deadline: float | None, tally: Tally, stack: contextlib.ExitStack) -> bool:
    """Whether the run can start now; it is locked until the stack ends."""
    if not stack.enter_context(_locked(plan.layout.scratch, run, deadline)):
        tally.left.append(run.key)
    elif why := _blocked(plan, run, tally):
        _fail(plan, run, why, tally)
    elif _recorded(plan, run):
        tally.present.append(run.key)
    elif distributed.world() > 1 and not getattr(importlib.import_module(run.spec.trainer), "DISTRIBUTED", False):
        _fail(plan, run, UserError("it trains in one process; call `python -m bench run` without torchrun"), tally)
    else:
        return True
    return False


def _recorded(plan: Plan, run: Planned) -> bool:
    """Whether another process has finished the run since the plan was made, with the artefacts that it leaves."""
    path = plan.layout.record(run.key)
    return path.exists() and all(plan.layout.artefact(run.key, name).exists() for name in run.spec.keeps())


def prune(plan: Plan) -> None:
    """Applies the suite's policy on artefacts to runs whose dependants are all done."""
    if plan.suite.keep == "everything" or not distributed.leads():
        return
    needed: dict[str, set[str]] = {}
    for run in plan.runs.values():
        parent = run.spec.parent_spec
        if parent is not None and run.state == MISSING and not plan.layout.record(run.key).exists():
            needed.setdefault(plan.runs[plan.key(parent)].used, set()).update(run.spec.needs())
    for run in plan.runs.values():
        if run.state not in (DONE, MISSING) or not plan.layout.record(run.key).exists():
            continue
        final = {"weights"} if plan.suite.keep == "weights" else set()
        for name in set(run.spec.keeps()) - needed.get(run.key, set()) - final:
            plan.layout.artefact(run.key, name).unlink(missing_ok=True)
