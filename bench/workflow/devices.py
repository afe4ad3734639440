"""Which GPUs this machine has, told from device files and driver, and why torch finds none of them. Without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/version")
LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA's major release -> the first driver that runs it (NVIDIA, CUDA compatibility, table of minor versions)."""


def files() -> list[str]:
    """Names of the GPUs' device files, such as ``nvidia0``."""
    names = [path.name for path in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return sorted(names, key=lambda name: int(name.removeprefix("nvidia")))


def visible(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of the GPUs that jobs of this machine may use, as ``CUDA_VISIBLE_DEVICES`` takes them.

    They are ``$BENCH_GPUS``, else what ``$CUDA_VISIBLE_DEVICES`` leaves, else all that the driver has a device file of.
    CUDA counts what it sees from 0: in a container with ``/dev/nvidia2`` alone the name is 0.
    """
    for name in ("BENCH_GPUS", "CUDA_VISIBLE_DEVICES"):
        if name in environment:
            return [part.strip() for part in environment[name].split(",") if part.strip() not in ("", "-1")]
    return [str(number) for number in range(len(files()))]


def driver() -> str | None:
    """Version of NVIDIA's driver that the kernel has loaded, such as 580.65.06; ``None`` where there is none."""
    try:
        text = DRIVER.read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)", text)
    return version[1] if version else None


def cuda_of_torch() -> str | None:
    """CUDA for which the installed torch was built, such as 13.0; ``None`` for a build without CUDA."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    release = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return release[1] if release else None


def mps_runs(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether NVIDIA's Multi-Process Service is there; without it processes take turns on a GPU."""
    return (Path(environment.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control").exists()


class Needed(NamedTuple):
    """What torch needs of a machine to compute on its GPUs."""

    cuda: str | None
    driver: int | None


def needed() -> Needed:
    cuda = cuda_of_torch()
    return Needed(cuda, None if cuda is None else LEAST_DRIVER.get(int(cuda.partition(".")[0])))


def state(environment: Mapping[str, str] = os.environ) -> str:
    """Device files, driver, and the CUDA that torch needs, on one line."""
    cuda, least = needed()
    torch_needs = "torch is a build without CUDA"
    if cuda is not None:
        torch_needs = f"torch needs CUDA {cuda}" + ("" if least is None else f" (driver {least} or newer)")
    parts = [
        f"device files: {', '.join(f'{DEVICES}/{name}' for name in files()) or 'none'}",
        f"driver: {driver() or 'none'}",
        torch_needs,
    ]
    if "CUDA_VISIBLE_DEVICES" in environment:
        parts.append(f"CUDA_VISIBLE_DEVICES='{environment['CUDA_VISIBLE_DEVICES']}'")
    return "; ".join(parts)


def cause(environment: Mapping[str, str] = os.environ) -> str:
    """Why torch finds no GPU, as far as the files say it, and what to do; "" where they say nothing."""
    names, version, (cuda, least) = files(), driver(), needed()
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    missing = [] if chosen is None else [part.strip() for part in chosen.split(",") if _is_missing(part.strip(), names)]
    if not names:
        return "no GPU is visible here: on a cluster ask for one, in a container pass it (docker run --gpus all)"
    if chosen is not None and not visible({"CUDA_VISIBLE_DEVICES": chosen}):
        return "CUDA_VISIBLE_DEVICES is empty and hides all GPUs: unset it"
    if missing:
        return f"CUDA_VISIBLE_DEVICES names GPU {missing[0]}, this machine has 0 to {len(names) - 1}"
    if version is None:
        return "the kernel has no NVIDIA driver loaded: install one"
    if cuda is None:
        return "install a torch that is built for CUDA: make env"
    if least is not None and int(version.partition(".")[0]) < least:
        return f"the driver is too old: install {least} or newer, or a torch that is built for an older CUDA"
    return ""


def _is_missing(name: str, names: list[str]) -> bool:
    return name.isdigit() and int(name) >= len(names)


def explanation(environment: Mapping[str, str] = os.environ) -> str:
    """Everything that is known about a GPU that torch does not find, on one line."""
    why = cause(environment)
    return state(environment) + (f" -> {why}" if why else "")
