"""Where a result comes from: the commit, the packages, the processor; and what a process has used of the machine."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench import paths
from bench.errors import UserError

PACKAGES = ("torch", "torchvision", "numpy", "transformers", "auto-LiRPA")


def git(*arguments: str, folder: Path = paths.PROJECT, sure: bool = False) -> str | None:
    """What git says of a folder, the project's by default; ``None`` where it cannot say anything.

    Raises:
        UserError: it did not answer in time, where that must not be taken for "unknown" (`sure`).
    """
    # In a hook, or in a program that calls this one, these name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # The folder may belong to somebody else, as in a container: the project's code runs here anyway.
    call = ["git", "-C", str(folder), "-c", "safe.directory=*", *arguments]
    try:
        answer = subprocess.run(
            call, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        if sure and isinstance(error, subprocess.TimeoutExpired):
            raise UserError(f"{folder}: git does not answer (git {' '.join(arguments)}); call again") from error
        return None
    return answer.stdout.strip()


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """The suite's git commit, and whether tracked files were as committed.

    Both are ``None`` where there is no repository of the suite: a copy that was unpacked inside another repository is not
    at that one's commit.
    """
    if git("ls-files", "--full-name", "--error-unmatch", "bench/machine.py") != "bench/machine.py":
        return {"commit": None, "clean": None}
    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "clean": None if status is None else status == ""}


def private_folder(name: str) -> Path:
    """A folder of this user below the system's temporary one, which is made."""
    folder = Path(tempfile.gettempdir()) / f"warmbench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # somebody else was there first
        folder = Path(tempfile.mkdtemp(prefix="warmbench-"))
    (folder / name).mkdir(exist_ok=True)
    return folder / name


def provide_user() -> list[str]:
    """Gives this process and those that it starts a user name and a home folder where there are none.

    A container may run under a user id without an account: libraries that ask for its name raise `KeyError`, and those
    that keep caches at home fail. Names in the environment go before the account's.

    Returns:
        What was missing, for people.
    """
    missing = []
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        os.environ["USER"] = f"uid-{os.getuid()}"
        missing.append(f"user id {os.getuid()} has no account")
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute() or not writable(home):
        instead = private_folder("home")
        missing.append(f"home folder {home} cannot be written; caches are kept in {instead}")
        if not home.is_absolute() or not os.path.isdir(home):
            os.environ["HOME"] = str(instead)
        os.environ.setdefault("XDG_CACHE_HOME", str(instead / ".cache"))
        os.environ.setdefault("MPLCONFIGDIR", str(instead / "matplotlib"))
    return missing


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it does not exist yet."""
    nearest = paths.existing(folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@lru_cache(maxsize=1)
def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Features of the processor under Linux's names (``flags`` on x86-64, ``Features`` on aarch64); empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
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
        fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split(maxsplit=9)[1:9]]
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
    text = status.read_text(encoding="utf-8") if status.exists() else ""
    size = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(size[1]) / 2**10 if size else None


def resident_mb() -> float:
    """MiB that this process holds now; 0 where it cannot be known."""
    return _status_mb("VmRSS") or 0.0


def reset_peak_memory() -> None:
    """Lets `peak_memory_mb` count from now on, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory_mb() -> float:
    """MiB that this process took at most, since `reset_peak_memory` on Linux; 0 where it cannot be known.

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

    Rented processors bear one name whatever they can do; the width of their vectors decides the order of sums, and so
    their rounding.
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
