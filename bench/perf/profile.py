"""Where the time of a step goes: why an eager step is not faster than it is."""

from __future__ import annotations

from collections.abc import Callable

STEPS = 3
KINDS = {
    "products": ("convolution", "mm", "linear", "attention", "conv"),
    "normalisation": ("norm",),
    "optimiser": ("_fused_", "optimizer.", "_foreach_"),
}
"""Kind of work -> what the names of its operations contain; the first that fits counts. The rest is elementwise work,
copies, and what Python and the dispatcher take."""


def kind_of(operation: str) -> str:
    name = operation.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "rest")


def shares(step: Callable[[], object]) -> dict[str, float]:
    """Kind of work -> its share of the time of some steps, from torch's profiler; on a GPU of the time of its kernels."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    step()
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU], acc_events=True) as found:
        for _ in range(STEPS):
            step()
        if on_gpu:
            torch.cuda.synchronize()
    spent = dict.fromkeys((*KINDS, "rest"), 0.0)
    for event in found.key_averages():
        spent[kind_of(event.key)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: value / total for kind, value in spent.items()} if total else {}


def remark(step: Callable[[], object]) -> str:
    """``time: 80 % products, 12 % rest, …``, the largest first."""
    found = sorted(shares(step).items(), key=lambda item: -item[1])
    return "time: " + ", ".join(f"{100 * share:.0f} % {kind}" for kind, share in found)
