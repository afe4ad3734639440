"""Executes runs: one lock and one process for many, resume, failures by name, records at the end."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import checkpoint, paths, provenance, record
from bench.errors import FailedRun, OutOfTime, ParentFailed, UserError
from bench.plan import DONE, MISSING, Plan, Planned
from bench.provenance import cpu_flags
from bench.run import Outcome
from bench.training import peers

if TYPE_CHECKING:
    import torch

    from bench.training.context import Context


@dataclass
class Tally:
    """What happened to the runs of one call.

    Attributes:
        trained, present, left: keys.
        failed: key -> why.
        blocked: keys of those that failed only since what they start from did.
    """

    trained: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)


def device_of(wanted: str) -> torch.device:
    """The device a configuration asks for.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for and torch finds no GPU; set `device: auto` or see `bench doctor`")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


ONLY_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""What torch and the libraries of its products read when they are loaded."""


def limit_vectors(units: str) -> None:
    """Lets this process and what it starts compute with `units` alone, ``all`` or ``AVX2``.

    Vectors of another width sum in another order, and training makes tenths of a percent of that rounding. Nothing
    changes on a processor without AVX2, nor where torch is loaded already: a record says what was used.
    """
    if units == "AVX2" and "torch" not in sys.modules and "avx2" in cpu_flags():
        for name, value in ONLY_AVX2.items():
            os.environ.setdefault(name, value)


def prepare_torch(threads: int) -> None:
    """Process-wide settings that make equal runs equal: threads, determinism, no TF32 unless a run asks for it."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


VECTOR_BITS = {"AVX2": 256, "AVX512": 512}
"""By what torch says of the processor, as it may use it."""


def compile_for(threads: int) -> None:
    """Lets `torch.compile` make code for so many threads, and find only code for these and for this process's vectors.

    It keeps loops without saying for how many threads (pytorch#160812, up to torch 2.12): what a job of one thread had
    compiled, one of two threads ran on one core as well, in bf16 with half as much time again for a step. Nor does it say
    how wide their vectors are: loops made for AVX-512 and built anew for AVX2 crash a process that `limit_vectors` limits.
    """
    import torch
    import torch._inductor.config as inductor

    inductor.cpp.threads = threads
    inductor.cpp.simdlen = VECTOR_BITS.get(torch.backends.cpu.get_cpu_capability())


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's `mallopt`."""
LARGEST_KEPT, MOST_KEPT = 2**26, 2**30
"""Bytes of a block, and of all on top of the heap: peaks rise by 6 to 19 % (CNN-7, Wide-ResNet on TinyImageNet)."""


def keep_freed() -> None:
    """Lets the C library keep blocks that a step has freed: the next step wants the same blocks again.

    By default it returns the largest to the system at once, which then clears each page anew: a quarter of the time of
    CNN-7's step at batch 128. `give_back` returns them once a large run has ended.
    """
    _allocate(LARGEST_KEPT, MOST_KEPT)


def return_freed() -> None:
    """The C library's default again, in the state to which it adapts itself when blocks are large."""
    _allocate(2**25, 2**26)


def _allocate(largest: int, most: int) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, largest)
        library.mallopt(TRIM_THRESHOLD, most)


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
        print(f"{run.spec.label()}: another process trains it; waiting for it", file=sys.stderr, flush=True)
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
        checkpoint_seconds=float(os.environ.get("BENCH_CHECKPOINT_SECONDS", "60")),
        deadline=deadline,
    )


def _provenance(run: Planned, context: Context, started: float, before: provenance.Usage) -> dict[str, Any]:
    from bench import __version__

    return {
        **provenance.commit(),
        "suite": __version__,
        "code": run.key.split("-")[1],
        "packages": provenance.versions(),
        "machine": provenance.machine(),
        "device": str(context.device),
        "threads": context.threads,
        "precision": getattr(run.spec, "precision", "float32"),
        "tf32": False,
        "data": context.data_checksums,
        "company": list(context.company),
        "resumed": context.resumed,
        # Seconds are shown from runs alone that had the machine to themselves from beginning to end.
        "alone": not context.company and not context.resumed and provenance.alone_since(before),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_mb": _peak_memory_mb(context),
    }


def _peak_memory_mb(context: Context) -> int:
    if context.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated() / 2**20)
    return int(provenance.peak_memory_mb())


def _finish(
    plan: Plan, run: Planned, context: Context, outcome: Outcome, started: float, before: provenance.Usage
) -> None:
    """Writes the record; only then is what it resumed from removed."""
    made = record.of_run(run.spec, run.key, outcome, dict(context.kept), _provenance(run, context, started, before))
    record.write(plan.layout.record(run.key), made)
    plan.layout.failure(run.key).unlink(missing_ok=True)
    shutil.rmtree(context.scratch, ignore_errors=True)


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({str(error).partition(chr(10))[0] or 'no detail'}); smaller batches or `device: cpu`"
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
    return UserError(f"its parent {parent.label()} is not there")


def _together(runs: Sequence[Planned], device: str) -> Iterator[list[Planned]]:
    """Runs that may train at once on a kind of device; a run and its parent never do, and parents come first."""
    here = {run.spec.identity for run in runs}
    shelves: dict[Hashable, list[Planned]] = {}
    keys: dict[str, tuple[int, Hashable]] = {}
    for run in runs:
        company = run.spec.company_on(device)
        generation = sum(ancestor.identity in here for ancestor in run.spec.chain())
        keys[run.key] = (generation, run.key if company is None else (run.spec.trainer, generation, company))
    if any(isinstance(key, tuple) for _, key in keys.values()):
        runs = sorted(runs, key=lambda run: keys[run.key][0])
    for run in runs:
        shelves.setdefault(keys[run.key][1], []).append(run)
    yield from shelves.values()


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
        What was trained, present, left for the next call, and failed. A failed run never stops the others. Under
        `torchrun` all processes work at one run after the other, and the first counts.
    """
    limit_vectors(plan.suite.vector_units)
    prepare_torch(plan.suite.threads)
    if plan.suite.compile != "never":
        compile_for(plan.suite.threads)
    keep_freed()
    device = device_of(plan.suite.device)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    tally = Tally()
    waiting = []
    for run in runs:
        if plan.layout.record(run.key).exists() and run.state != MISSING:
            tally.present.append(run.key)
        else:
            waiting.append(run)
    done = 0
    with peers.joined(device) as own:
        for members in _together(waiting, device.type):
            if peers.agreed(deadline is not None and time.monotonic() >= deadline):
                tally.left += [run.key for run in members]
                continue
            done += len(members)
            began = _run_members(plan, members, own, deadline, tally, partial(_numbered, tell, done, len(waiting)))
            if began and provenance.resident_mb() > LARGE_MB:
                give_back()
    return tally


LARGE_MB = 2000
"""A process that holds more gives back after a run what it no longer needs; for less it is not worth its time."""


def give_back() -> None:
    """Returns to the system what ended runs have left: memory that cycles hold, and that the C library keeps.

    A run is planned with the memory that it takes by itself. After CROWN-IBP training 6 GB stayed with the process.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _numbered(tell: Callable[[str], None], number: int, of: int, text: str) -> None:
    tell(f"[{number}/{of}] {text}")


def _run_members(
    plan: Plan,
    members: list[Planned],
    device: torch.device,
    deadline: float | None,
    tally: Tally,
    tell: Callable[[str], None],
) -> bool:
    """Trains those that can start, in company; returns whether there were any."""
    with contextlib.ExitStack() as stack:
        ready = _ready(plan, members, deadline, tally, stack) if peers.leads() else []
        keys = set(peers.agreed([run.key for run in ready]))
        ready = [run for run in members if run.key in keys]
        if not ready:
            return False
        started, before = time.monotonic(), provenance.usage()
        contexts = []
        for run in ready:
            contexts.append(_context(plan, run, device, deadline))
        results = _train(ready, contexts)
        for run, context, result in zip(ready, contexts, results, strict=True):
            context.close()
            if not peers.leads():
                continue
            if isinstance(result, OutOfTime):
                tally.left.append(run.key)
            elif isinstance(result, BaseException):
                _fail(plan, run, result, tally)
            else:
                try:
                    _finish(plan, run, context, result, started, before)
                except (FailedRun, UserError) as error:
                    _fail(plan, run, error, tally)
                    continue
                tally.trained.append(run.key)
                tell(f"{run.spec.label()}: {time.monotonic() - started:.1f} s")
        return True


def _ready(
    plan: Plan, members: list[Planned], deadline: float | None, tally: Tally, stack: contextlib.ExitStack
) -> list[Planned]:
    """Those that can start now, locked until the stack ends."""
    # All processes lock in the same order, so that no two wait for each other.
    mine = {
        run.key: stack.enter_context(_locked(plan.layout.scratch, run, deadline))
        for run in sorted(members, key=lambda run: run.key)
    }
    ready = []
    for run in members:
        if not mine[run.key]:
            tally.left.append(run.key)
        elif why := _blocked(plan, run, tally):
            _fail(plan, run, why, tally)
        elif _recorded(plan, run):
            tally.present.append(run.key)
        elif peers.world() > 1 and not getattr(importlib.import_module(run.spec.trainer), "DISTRIBUTED", False):
            _fail(plan, run, UserError("it trains in one process; call `python -m bench run` without torchrun"), tally)
        else:
            ready.append(run)
    return ready


def _recorded(plan: Plan, run: Planned) -> bool:
    """Whether another process has finished the run since the plan was made, with the artefacts that it leaves."""
    path = plan.layout.record(run.key)
    return path.exists() and all(plan.layout.artefact(run.key, name).exists() for name in run.spec.keeps())


def _train(runs: list[Planned], contexts: list[Context]) -> list[Outcome | BaseException]:
    spec = runs[0].spec
    trainer = importlib.import_module(spec.trainer)
    if len(runs) > 1:
        many = importlib.import_module(spec.company_trainer or spec.trainer).train_many
        for context in contexts:
            context.company = tuple(run.spec.label() for run in runs if run.spec.label() != context.label)
        try:
            return list(many([run.spec for run in runs], contexts))
        except Exception as error:
            return [error] * len(runs)
    results: list[Outcome | BaseException] = []
    for run, context in zip(runs, contexts, strict=True):
        try:
            results.append(trainer.train(run.spec, context))
        except (Exception, OutOfTime) as error:
            results.append(error)
    return results


def prune(plan: Plan) -> None:
    """Applies the suite's policy on artefacts to runs whose dependants are all done."""
    if plan.suite.keep == "everything" or not peers.leads():
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
