"""Peak memory of a training step and of its peer's, each in a process of its own.

On a CPU it is what the process takes at most beyond what it took before the network was built; on a GPU what torch
allocated at most. ``python -m bench.perf.memory KIND`` prints one number.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from bench import machine
from bench.workflow.execute import keep_freed

MIB = 2**20


def _certified(way: str, device: Any) -> Callable[[], object]:
    from bench.perf import certified

    size = certified.BATCH if device.type == "cuda" else 32
    spec = certified.specification("cnn7", size)
    made = certified.Ours(spec, device, "never") if way == "ours" else certified.OnLirpa(spec, device)
    images, labels = next(certified.batches(spec, size, device))
    return lambda: made.step(images, labels)


def _rewarm(way: str, device: Any) -> Callable[[], object]:
    import torch

    from bench.models import pythia
    from bench.perf import rewarm

    large = device.type == "cuda"
    name, size = ("410m", rewarm.ON_GPU["410m"]) if large else (rewarm.TINY, rewarm.BATCH)
    shape = pythia.shape(name)
    if way == "peer":
        made: rewarm.Trained = rewarm.Plain(shape, device, half=large)
    elif large:
        made = rewarm.Large(name, size, device, "bf16")
    else:
        made = rewarm.Small(shape, device, "float32")
    windows = torch.randint(0, shape.vocabulary, (size, shape.context + 1)).numpy()
    return lambda: made.step(windows)


def _warmstart(way: str, device: Any) -> Callable[[], object]:
    from bench.perf import warmstart

    on = warmstart.Samples.drawn(device)
    if way == "ours":
        made = warmstart.Ours(on, "float32", "never")
        return lambda: made.some(1)
    steps = warmstart.Peer(on).losses()
    return lambda: next(steps)


KINDS = {"warmstart": _warmstart, "certified": _certified, "rewarm": _rewarm}


def peak(kind: str, way: str) -> float:
    """MiB at the peak of three steps, measured in this process."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if way == "ours":
        keep_freed()  # as a trainer's process does

    def most() -> float:
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated() / MIB
        return machine.peak_memory_mb()

    before = most()
    step = KINDS[kind](way, device)
    for _ in range(3):
        step()
    return most() - before


def measured(kind: str, way: str) -> float:
    """`peak` in a new process."""
    call = [sys.executable, "-m", "bench.perf.memory", kind, way]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def rows(*, device: object = None, tell: Callable[[str], None] = lambda text: None) -> Iterator[dict[str, Any]]:
    """One row for each paper; the ratio is the peer's peak over ours, so that more than 1 is in our favour."""
    del device  # each process takes the machine's own
    for kind in KINDS:
        tell(f"memory of {kind}")
        ours, peer = (measured(kind, way) for way in ("ours", "peer"))
        yield {
            "path": f"{kind}/memory",
            "variant": "float32" if kind != "rewarm" else "as trained",
            "unit": "MiB",
            "ours": ours,
            "peer": peer,
            "ratio": peer / ours,
            "spread": None,
            "note": "peak beyond the start, ours with freed blocks that it keeps; ratio is peer over ours",
        }


if __name__ == "__main__":
    print(peak(*sys.argv[1:3]))
