"""Where a result comes from: the commit, the packages, the processor; and what a process has used of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench import paths

PACKAGES = ("torch", "torchvision", "numpy", "transformers", "auto-LiRPA")


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(paths.PROJECT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """The git commit and whether tracked files were as committed; ``None`` where there is no git."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "clean": None if status is None else status == ""}


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Features of the processor under Linux's names (``flags`` on x86-64, ``Features`` on aarch64); empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return set(value.split())
    except OSError:
        pass
    return set()


class Usage(NamedTuple):
    """Seconds on the clock, of CPU time of the whole machine (``None`` where it does not say), and of this process."""

    wall: float
    machine: float | None
    own: float


def usage() -> Usage:
    """What has been used so far; the machine's part is Linux's sum over all cores without idle time."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
        idle = fields[3] + fields[4]
        busy = (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return Usage(time.monotonic(), None, own)
    return Usage(time.monotonic(), busy, own)


OTHERS = 0.1
"""Cores that other processes may use before a run no longer has the machine to itself."""


def alone_since(before: Usage) -> bool:
    """Whether other processes have used next to nothing of this machine's cores since then; False if unknown."""
    now = usage()
    if before.machine is None or now.machine is None:
        return False
    others = (now.machine - before.machine) - (now.own - before.own)
    return others < OTHERS * (now.wall - before.wall) + 0.1  # ticks are hundredths of a second on each core


def _status_mb(field: str) -> float | None:
    """A size from what Linux says of this process, MiB."""
    status = Path("/proc/self/status")
    found = re.search(rf"^{field}:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) / 2**10 if found else None


def resident_mb() -> float:
    """MiB that this process holds now; 0 where it cannot be known."""
    return _status_mb("VmRSS") or 0.0


def peak_memory_mb() -> float:
    """MiB that this process took at most; 0 where it cannot be known.

    What getrusage says begins, on Linux, at what the process that started this one had taken.
    """
    if (peak := _status_mb("VmHWM")) is not None:
        return peak
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> dict[str, Any]:
    """The machine without its name: processor, cores; when torch was imported already GPUs and vector units.

    Rented processors bear one name whatever they can do. With other vector units sums are rounded in another order.
    """
    gpus, units = [], None
    torch = sys.modules.get("torch")
    if torch is not None:
        units = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "vector_units": units,
        "cores": os.cpu_count(),
        "gpus": gpus,
        "python": platform.python_version(),
        "system": platform.system(),
    }
