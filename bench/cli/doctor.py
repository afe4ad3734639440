"""What is there, what is missing and what to do: versions, devices, threads, disk, data."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench import paths

Level = Literal["ok", "note", "missing"]

TRAINS_WITH = ("torch", "numpy", "pydantic", "PyYAML")
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


@dataclass(frozen=True)
class Finding:
    """One line of the report: how it stands, what was looked at, what was found, and what to do where it is not well."""

    level: Level
    subject: str
    found: str
    advice: str = ""

    def line(self) -> str:
        return f"{self.level:8} {self.subject:22} {self.found}{f' -> {self.advice}' if self.advice else ''}"


def locked(path: Path = paths.PROJECT / "requirements.lock") -> dict[str, str]:
    """Package -> pinned version, from the lock file; empty where there is none."""
    if not path.exists():
        return {}
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {_plain(name): version for name, version in pins}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def packages() -> Iterator[Finding]:
    """Versions against the lock file."""
    pins = locked()
    for name in (*TRAINS_WITH, *PARTS):
        found, pin = _version(name), pins.get(_plain(name))
        if found is None:
            level: Level = "missing" if name in TRAINS_WITH else "note"
            yield Finding(level, name, f"not installed ({PARTS.get(name, 'every run needs it')})", "make env")
        elif pin is not None and found.split("+")[0] != pin.split("+")[0]:
            yield Finding(
                "note", name, f"{found}, the lock file has {pin}", "make env, if results should be comparable"
            )
        else:
            yield Finding("ok", name, found)


def torch_release() -> Iterator[Finding]:
    found = _version("torch")
    if found is not None:
        release = tuple(int(part) for part in found.split("+")[0].split(".")[:2])
        if not TORCH[0] <= release < TORCH[1]:
            yield Finding("missing", "torch release", found, "2.11 to 2.13 are supported: make env")


def bounds() -> Iterator[Finding]:
    """Whether auto_LiRPA imports, with the patches that its release on the package index needs."""
    if _version("auto-LiRPA") is None:
        return
    try:
        from bench.certified import lirpa

        yield Finding("ok", "auto_LiRPA", lirpa.state())
    except Exception as error:
        reason = str(error).partition("\n")[0]
        yield Finding("missing", "auto_LiRPA", f"cannot be used: {type(error).__name__}: {reason}", "make env")


def devices() -> Iterator[Finding]:
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
            yield Finding("ok", f"GPU {index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}")
        yield Finding("ok", "driver", gpu_state.state())
        if not gpu_state.mps_runs():
            advice = "nvidia-cuda-mps-control -d, if `jobs_per_gpu` is above 1"
            yield Finding("note", "processes on a GPU", "take turns without NVIDIA's MPS", advice)
    else:
        # Device files without a GPU that works: the plan counts on it.
        level: Level = "missing" if gpu_state.files() else "note"
        advice = gpu_state.cause() if gpu_state.files() else "scale paper needs one"
        yield Finding(level, "GPU", f"torch finds none ({gpu_state.state()})", advice)
    from bench.training import precision

    fast = "bf16 and float32" if precision.has_bf16(torch.device("cpu")) else "float32 (no bf16 arithmetic)"
    yield Finding("ok", "CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads, {fast}")
    from bench.training import step

    if step.can_compile():
        yield Finding("ok", "C++ compiler", "found; long runs use torch.compile")
    else:
        yield Finding("note", "C++ compiler", "g++ not found; everything trains eagerly", "install g++ for more speed")


def disk() -> Iterator[Finding]:
    for name, folder in (("results", paths.results_root()), ("data", paths.data_root())):
        where = folder.absolute()
        while not where.exists():
            where = where.parent
        free = shutil.disk_usage(where).free / 1e9
        level: Level = "ok" if free > 2 else "note"
        advice = "" if free > 2 else f"free some, or set BENCH_{name.upper()}"
        yield Finding(level, f"disk for {name}", f"{free:,.0f} GB free at {folder}", advice)


def data() -> Iterator[Finding]:
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
            yield Finding("note", name, f"{absent[0]} is not in {root}", advice)
        else:
            yield Finding("ok", name, f"in {root}")


def findings() -> list[Finding]:
    """Everything, in the order of the report."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    supported = sys.version_info >= (3, 11)
    found = [
        Finding("ok" if supported else "missing", "Python", python, "" if supported else "3.11 or newer is needed")
    ]
    for part in (packages, torch_release, bounds, devices, disk, data):
        found += part()
    return found


def main() -> int:
    """Prints the report; 1 when something is missing without which nothing works."""
    found = findings()
    for finding in found:
        print(finding.line())
    missing = [finding.subject for finding in found if finding.level == "missing"]
    print(f"\nmissing: {', '.join(missing)}" if missing else "\neverything that training needs is there")
    return 1 if missing else 0
