"""What is there, what is missing and what to do: versions, devices, threads, user, folders, data."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench import machine, paths

Level = Literal["ok", "note", "missing"]

TRAINS_WITH = ("torch", "numpy", "pydantic", "click", "filelock", "PyYAML")
"""Packages without which nothing trains; others are needed by one part of the suite."""

PARTS = {
    "torchvision": "image data",
    "safetensors": "weights that runs hand on",
    "scipy": "intervals",
    "pandas": "tables",
    "pyarrow": "collected tables",
    "matplotlib": "figures",
    "snakemake": "make reproduce (python -m bench run works without)",
    "typst": "the report as PDF",
    "transformers": "rewarm: Pythia models",
    "tiktoken": "rewarm: text, four times as fast as with tokenizers alone",
    "tokenizers": "rewarm: text",
    "auto-LiRPA": "certified: verification",
    "pooch": "fetching data",
}

TORCH = ((2, 11), (2, 14))
"""Releases of torch that work: from the first, below the second."""

LITTLE_GB = 2
"""Free space below which a line says so."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        level: "missing" where nothing trains without it, "note" where something is worth knowing.
        subject: what was looked at.
        state: how it is.
        advice: what to do where it is not well.
    """

    level: Level
    subject: str
    state: str
    advice: str = ""

    def line(self) -> str:
        return f"{self.level:8} {self.subject:22} {self.state}{f' -> {self.advice}' if self.advice else ''}"


def locked(path: Path = paths.PROJECT / "requirements.lock") -> dict[str, str]:
    """Package -> pinned version, from the lock file; empty where there is none."""
    if not path.exists():
        return {}
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {_plain(name): version for name, version in pins}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def packages() -> Iterator[Check]:
    """Versions against the lock file."""
    pins = locked()
    for name in (*TRAINS_WITH, *PARTS):
        version, pin = _version(name), pins.get(_plain(name))
        if version is None:
            level: Level = "missing" if name in TRAINS_WITH else "note"
            yield Check(level, name, f"not installed ({PARTS.get(name, 'every run needs it')})", "make env")
        elif pin is not None and version.split("+")[0] != pin.split("+")[0]:
            advice = "make env, if results should be comparable"
            yield Check("note", name, f"{version}, the lock file has {pin}", advice)
        else:
            yield Check("ok", name, version)


def torch_release() -> Iterator[Check]:
    version = _version("torch")
    if version is not None:
        release = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
        if not TORCH[0] <= release < TORCH[1]:
            yield Check("missing", "torch release", version, "2.11 to 2.13 are supported: make env")


def bounds() -> Iterator[Check]:
    """Whether auto_LiRPA imports, with the patches that its release on the package index needs."""
    if _version("auto-LiRPA") is None:
        return
    try:
        from bench.certified import lirpa

        yield Check("ok", "auto_LiRPA", lirpa.state())
    except Exception as error:
        reason = str(error).partition("\n")[0]
        yield Check("missing", "auto_LiRPA", f"cannot be used: {type(error).__name__}: {reason}", "make env")


def devices() -> Iterator[Check]:
    """GPU, precisions and threads, as torch sees them."""
    try:
        import torch
    except ImportError:
        return
    from bench.workflow import devices as gpu_state

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
            yield Check("ok", f"GPU {index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}")
        yield Check("ok", "driver", gpu_state.state())
        if not gpu_state.mps_runs():
            advice = "nvidia-cuda-mps-control -d, if `jobs_per_gpu` is above 1"
            yield Check("note", "processes on a GPU", "take turns without NVIDIA's MPS", advice)
    else:
        # Device files without a GPU that works: the plan counts on it.
        level: Level = "missing" if gpu_state.files() else "note"
        advice = gpu_state.cause() if gpu_state.files() else "scale paper needs one"
        yield Check(level, "GPU", f"torch finds none ({gpu_state.state()})", advice)
    from bench.training import precision

    fast = "bf16 and float32" if precision.has_bf16(torch.device("cpu")) else "float32 (no bf16 arithmetic)"
    yield Check("ok", "CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads, {fast}")
    from bench.training import step

    if step.can_compile():
        yield Check("ok", "C++ compiler", "found; long runs use torch.compile")
    else:
        yield Check("note", "C++ compiler", "g++ not found; everything trains eagerly", "install g++ for more speed")


def folders() -> Iterator[Check]:
    """Whether results and data can be written, and how much space is left; Snakemake writes into the current folder."""
    for name, folder in (("results", paths.results_root()), ("data", paths.data_root())):
        nearest = paths.existing(folder)
        free = shutil.disk_usage(nearest).free / 1e9
        subject, state = f"folder for {name}", f"{free:,.0f} GB free at {folder}"
        if not machine.writable(folder):
            level: Level = "missing" if name == "results" else "note"
            yield Check(level, subject, f"{folder} cannot be written", f"set BENCH_{name.upper()} to a writable folder")
        elif free < LITTLE_GB:
            yield Check("note", subject, state, f"free some, or set BENCH_{name.upper()}")
        else:
            yield Check("ok", subject, state)
    if not machine.writable(Path.cwd()):
        advice = "call it from a folder of your own; `python -m bench run` needs no Snakemake"
        yield Check(
            "note", "current folder", f"{Path.cwd()} cannot be written, and Snakemake keeps its state there", advice
        )


def data() -> Iterator[Check]:
    """Which data sets are below the data folder; scale ci needs none of them."""
    from bench.data import fetch, sources

    root = paths.data_root()
    for name, wanted in sources.catalogue().items():
        if not wanted.files:  # streamed from the hub
            continue
        absent = fetch.missing(wanted, root)
        if absent:
            size = sum(download.bytes for download in wanted.downloads) / 1e6
            advice = f"fetched when a run needs it ({size:,.0f} MB), or set BENCH_DATA to a folder that has it"
            yield Check("note", name, f"{absent[0]} is not in {root}", advice)
        else:
            yield Check("ok", name, f"in {root}")


def checks(user: Sequence[str] = ()) -> list[Check]:
    """Everything, in the order of the report.

    Args:
        user: what `machine.provide_user` had to provide.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    supported = sys.version_info >= (3, 11)
    lines = [Check("ok" if supported else "missing", "Python", python, "" if supported else "3.11 or newer is needed")]
    lines += (Check("note", "user", text) for text in user)
    for part in (packages, torch_release, bounds, devices, folders, data):
        lines += part()
    return lines


def main(user: Sequence[str] = ()) -> int:
    """Prints the report; 1 when something is missing without which nothing works."""
    lines = checks(user)
    for check in lines:
        print(check.line())
    missing = [check.subject for check in lines if check.level == "missing"]
    print(f"\nmissing: {', '.join(missing)}" if missing else "\neverything that training needs is there")
    return 1 if missing else 0
