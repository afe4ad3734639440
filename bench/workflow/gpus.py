"""GPUs of one machine, shared by lock files: one job on each, or several small ones where the scale says so."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.workflow.devices import visible

POLL_SECONDS = 0.5

ASSIGNED_BY = ("SLURM_JOB_ID", "LOCAL_RANK")
"""Set where a cluster, or torchrun, has assigned this process its GPUs: then this module assigns none."""


def folder_of_locks() -> Path:
    """One folder for each user of the machine; results may lie on a disk that several machines share."""
    return Path(tempfile.gettempdir()) / f"warmbench-gpus-{os.getuid()}"


def _take(
    folder: Path, devices: Sequence[str], count: int, jobs_per_gpu: int, locks: contextlib.ExitStack
) -> list[str]:
    """Locks a free slot on each of `count` GPUs, the emptiest first; an empty list when there are too few."""
    from filelock import FileLock, Timeout

    taken: list[str] = []
    for slot in range(jobs_per_gpu):
        for device in devices:
            if len(taken) == count:
                return taken
            if device in taken:
                continue
            lock = FileLock(folder / f"gpu-{device.replace('/', '_')}-{slot}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            locks.callback(lock.release)
            taken.append(device)
    if len(taken) == count:
        return taken
    locks.close()
    return []


@contextlib.contextmanager
def claim(
    count: int,
    *,
    devices: Sequence[str],
    jobs_per_gpu: int = 1,
    folder: Path | None = None,
    tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Iterator[tuple[str, ...]]:
    """Holds a slot on each of `count` GPUs, and waits until that number is free; the locks go with the process.

    Args:
        count: number of GPUs; 0 claims none.
        devices: their names, from `visible`.
        jobs_per_gpu: slots on each.
        folder: of the lock files.
        tell: gets one line when there is nothing free.

    Raises:
        ValueError: there are fewer devices than are asked for.
    """
    if count > len(devices):
        raise ValueError(f"{count} GPUs are asked for, this machine offers {len(devices)}")
    from filelock import FileLock

    folder = folder or folder_of_locks()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as locks:
        waiting = False
        while True:
            # One process at a time looks for slots, so that two jobs of several GPUs cannot block each other.
            with FileLock(folder / "all.lock"):
                taken = _take(folder, devices, count, jobs_per_gpu, locks) if count else []
            if len(taken) == count:
                break
            if not waiting:
                tell(f"waiting for {count} of the GPUs {', '.join(devices)}: other jobs have them")
                waiting = True
            time.sleep(POLL_SECONDS)
        yield tuple(taken)


@contextlib.contextmanager
def assigned(count: int, *, jobs_per_gpu: int = 1) -> Iterator[None]:
    """Restricts this process, before CUDA starts, to `count` GPUs that it claims; keeps what a cluster has assigned."""
    devices = visible()
    if count == 0 or not devices or any(name in os.environ for name in ASSIGNED_BY):
        yield
        return
    with claim(min(count, len(devices)), devices=devices, jobs_per_gpu=jobs_per_gpu) as taken:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def torchrun(processes: int, arguments: Sequence[str]) -> list[str]:
    """The call that runs ``python -m bench ARGUMENTS`` in a number of processes, one for each GPU of this machine."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "bench",
        *arguments,
    ]


def run_on(processes: int, arguments: Sequence[str]) -> int:
    """Starts `torchrun` and waits; returns its exit code."""
    return subprocess.run(torchrun(processes, arguments)).returncode
