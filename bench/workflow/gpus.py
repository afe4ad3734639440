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
"""Set where a cluster, or torchrun, has given this process its GPUs: then there is nothing left to share out."""


def folder_of_locks() -> Path:
    """One folder for each user of the machine; results may lie on a disk that several machines share."""
    return Path(tempfile.gettempdir()) / f"warmbench-gpus-{os.getuid()}"


def _take(folder: Path, devices: Sequence[str], count: int, jobs_per_gpu: int, held: contextlib.ExitStack) -> list[str]:
    """Locks a free place on each of `count` GPUs, the emptiest first; an empty list when there are too few."""
    from filelock import FileLock, Timeout

    taken: list[str] = []
    for place in range(jobs_per_gpu):
        for device in devices:
            if len(taken) == count:
                return taken
            if device in taken:
                continue
            lock = FileLock(folder / f"gpu-{device.replace('/', '_')}-{place}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            held.callback(lock.release)
            taken.append(device)
    if len(taken) == count:
        return taken
    held.close()
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
    """Holds a place on each of `count` GPUs, and waits until there are so many; the locks go with the process.

    Args:
        count: how many; 0 claims none.
        devices: of which, from `visible`.
        jobs_per_gpu: places on each.
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
    with contextlib.ExitStack() as held:
        told = False
        while True:
            # Places are looked for by one process at a time, so that two jobs of several GPUs cannot block each other.
            with FileLock(folder / "all.lock"):
                taken = _take(folder, devices, count, jobs_per_gpu, held) if count else []
            if len(taken) == count:
                break
            if not told:
                tell(f"waiting for {count} of the GPUs {', '.join(devices)}: other jobs have them")
                told = True
            time.sleep(POLL_SECONDS)
        yield tuple(taken)


@contextlib.contextmanager
def assigned(count: int, *, jobs_per_gpu: int = 1) -> Iterator[None]:
    """Restricts this process, before CUDA starts, to `count` GPUs that it has claimed; leaves a cluster's choice alone."""
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
    """The call that runs ``python -m bench ARGUMENTS`` once for each of so many GPUs of this machine."""
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
