"""A whole training step as a CUDA graph: captured once, compared with an eager step, then replayed.

A step of a small network is hundreds of short kernels, and launching them takes the host longer than they run. A CUDA graph
launches all of them at once. It repeats addresses and numbers as they were when it was captured, so a step that is to be
captured keeps to these rules:

- what changes from step to step comes in tensors: the batch, eps, weights of penalties as inputs, and the learning rate as
  a tensor of the optimiser (`set_rate`);
- what outlives a step (weights, running statistics, moments, sums) is changed in place;
- it reads no value of the device and draws no random number.

Where a step cannot be captured, or a replayed step differs from an eager one, training goes on eagerly and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Tensors = tuple[Tensor, ...]
Step = Callable[..., Tensors]
"""Takes tensors, and its kind before them where there are several; changes its state in place; returns tensors."""

State = Mapping[str, Sequence[Tensor]]
"""Everything that a step changes, by kind: parameters, buffers, moments, sums."""

WARM_UP = 3
"""Steps before the capture: libraries choose kernels and allocate workspaces in the first ones."""

TOLERANCE = 0.1
"""Largest difference between a replayed and an eager step, as a share of what the step changed.

Kernels that add in varying order differ by far less, and so do the few weights that only rounding moves (biases before a
normalisation, under Adam). A stale input or a reused address differs by about the whole change.
"""


class Graph(Protocol):
    """What has been captured."""

    def replay(self) -> None: ...


class Backend(Protocol):
    """What captures: CUDA, or a stand-in for tests."""

    def aside(self, step: Callable[[], Tensors]) -> Tensors:
        """Runs a step where captures are made."""

    def capture(self, step: Callable[[], Tensors]) -> tuple[Graph, Tensors]:
        """The step as a graph, and the tensors into which a replay writes its results."""


class CudaGraphs:
    """CUDA graphs of one device; all of them share a memory pool, since one runs at a time."""

    def __init__(self, device: torch.device):
        self.stream: Any = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def aside(self, step: Callable[[], Tensors]) -> Tensors:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = step()
        current.wait_stream(self.stream)
        for result in results:
            result.record_stream(current)
        return results

    def capture(self, step: Callable[[], Tensors]) -> tuple[Graph, Tensors]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            results = step()
        return graph, results


def backend_of(device: torch.device) -> Backend | None:
    """CUDA graphs on a GPU; ``None`` elsewhere, where steps run eagerly."""
    return CudaGraphs(device) if device.type == "cuda" else None


@dataclass
class _Captured:
    """A graph of one kind of step with the tensors that it reads and writes."""

    seen: int = 0
    graph: Graph | None = None
    inputs: Tensors = ()
    results: Tensors = ()
    compared: bool = False


class GraphedStep:
    """``step(*tensors)``, eager at first and from a graph later; the same numbers either way, but for rounding.

    Args:
        step: see the rules above.
        state: gives everything that the step changes, when it is asked.
        rows: samples of a full batch, the first size of the first tensor; other batches run eagerly.
        backend: from `backend_of`.
        tell: gets one line where steps go on eagerly.

    Attributes:
        mode: "eager", "captured", or "eager: " and why, for the record.
    """

    def __init__(
        self,
        step: Step,
        state: Callable[[], State],
        *,
        rows: int,
        backend: Backend | None,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ):
        self.step, self.state, self.rows, self.tell = step, state, rows, tell
        self.mode = "eager"
        self._backend = backend
        self._captured: dict[Hashable, _Captured] = {}

    def __call__(self, *tensors: Tensor, kind: Hashable = None) -> Tensors:
        """One step.

        Args:
            tensors: inputs; their shapes are the same in all full batches of a kind.
            kind: what the step does beyond its inputs, where that may differ; each kind has a graph of its own.
        """
        step = self.step if kind is None else partial(self.step, kind)
        if self._backend is None or len(tensors[0]) != self.rows:
            return step(*tensors)
        entry = self._captured.setdefault(kind, _Captured())
        entry.seen += 1
        if entry.seen <= WARM_UP:
            return self._backend.aside(lambda: step(*tensors))
        if entry.graph is None:
            self._capture(self._backend, step, entry, tensors)
            return step(*tensors)
        if not entry.compared:
            return self._compare(step, entry, entry.graph, tensors)
        _copy(entry.inputs, tensors)
        entry.graph.replay()
        return tuple(result.clone() for result in entry.results)

    def _capture(self, backend: Backend, step: Step, entry: _Captured, tensors: Tensors) -> None:
        entry.inputs = tuple(tensor.detach().clone() for tensor in tensors)
        try:
            entry.graph, entry.results = backend.capture(lambda: step(*entry.inputs))
        except RuntimeError as error:
            self._give_up(f"it cannot be captured ({str(error).partition(chr(10))[0]})")

    def _compare(self, step: Step, entry: _Captured, graph: Graph, tensors: Tensors) -> Tensors:
        """A step from the graph, taken back, and the same step eagerly: its inputs are others than at the capture."""
        before = _clones(self.state())
        _copy(entry.inputs, tensors)
        graph.replay()
        replayed = {**_clones(self.state()), "results": [result.clone() for result in entry.results]}
        _restore(self.state(), before)
        results = step(*tensors)
        eager = {**self.state(), "results": results}
        if name := different(replayed, eager, before):
            self._give_up(f"a replayed step differs from an eager one in its {name}")
        else:
            entry.compared, self.mode = True, "captured"
        return results

    def _give_up(self, why: str) -> None:
        self.mode = f"eager: {why}"
        self._backend = None
        self._captured.clear()
        self.tell(f"training steps run one operation at a time: {why}")


def _copy(targets: Tensors, sources: Tensors) -> None:
    torch._foreach_copy_(list(targets), list(sources))


@torch.no_grad()
def _clones(state: State) -> dict[str, list[Tensor]]:
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in state.items()}


@torch.no_grad()
def _restore(state: State, saved: State) -> None:
    for name, tensors in state.items():
        for tensor, before in zip(tensors, saved[name], strict=True):
            tensor.copy_(before)


@torch.no_grad()
def different(replayed: State, eager: State, before: State) -> str:
    """The kind of state in which a replayed step differs from an eager one; "" where there is none.

    Args:
        replayed: state and results after a replayed step.
        eager: after the same step, eagerly.
        before: state before both; what is missing here (results) was 0.
    """
    for name, tensors in eager.items():
        starts = before.get(name, [torch.zeros_like(tensor) for tensor in tensors])
        apart = [_distance(new, tensor) for new, tensor in zip(replayed[name], tensors, strict=True)]
        change = [_distance(tensor, start) for tensor, start in zip(tensors, starts, strict=True)]
        if not tensors:
            continue
        difference, allowed = torch.stack(apart).norm(), TOLERANCE * torch.stack(change).norm()
        if not bool(difference <= allowed):  # NaN is different
            return name
    return ""


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm((a.double() - b.double()).flatten())


def state_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, **further: Sequence[Tensor]
) -> dict[str, list[Tensor]]:
    """What a step of `model` and `optimizer` changes, and what else is given by name."""
    moments = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return {
        "parameters": list(model.parameters()),
        "buffers": list(model.buffers()),
        "moments": moments,
        **{name: list(tensors) for name, tensors in further.items()},
    }


def prepare(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Makes an optimiser's step one that can be captured; on a CPU makes its learning rate a plain number again.

    To be called after the optimiser was made, and after its state was loaded.
    """
    on_gpu = device.type == "cuda"
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        group["lr"] = torch.tensor(rate, device=device) if on_gpu else rate
        if "capturable" in group:
            group["capturable"] = on_gpu
    # It would warn at the steps before the capture.
    optimizer._warned_capturable_if_run_uncaptured = True


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate; where it is a tensor, in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
