"""Graphs that a CPU can replay: the operations of a step with their addresses and numbers, as a CUDA graph keeps them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.training.graphs import Tensors

CREATES = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
STATISTICS = ("native_batch_norm", "cudnn_batch_norm")
"""They change running statistics, which their schemas do not say."""


def tensors_in(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class Recorder(TorchDispatchMode):
    """Notes every operation, and what was in the memory that it changes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self._here: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        if name in ("_local_scalar_dense", "nonzero"):
            raise RuntimeError("operation not permitted when stream is capturing")
        changed = [
            tensor
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tensors_in(value)
        ]
        if name in STATISTICS:
            changed += tensors_in(args[3:5])
        for tensor in changed:
            key = tensor.untyped_storage().data_ptr()
            if key not in self._here and key not in self.before:
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self.before[key] = (whole, whole.clone())
        result = func(*args, **kwargs)
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs))}
        new = [tensor for tensor in tensors_in(result) if tensor.untyped_storage().data_ptr() not in known]
        self._here |= {tensor.untyped_storage().data_ptr() for tensor in new}
        if name not in CREATES and (new or changed):
            self.calls.append((func, args, kwargs, result if new else None))
        return result


class Recorded:
    """Replays what was recorded into the same memory."""

    def __init__(self, calls: list[tuple[Any, Any, Any, Any]]):
        self.calls = calls
        self.replays = 0

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.calls:
            again = func(*args, **kwargs)
            if results is not None:
                for target, source in zip(tensors_in(results), tensors_in(again), strict=True):
                    if target.data_ptr() != source.data_ptr():
                        target.copy_(source)


class RecordedGraphs:
    """The backend of `bench.training.graphs` on a CPU."""

    def __init__(self) -> None:
        self.graphs: list[Recorded] = []

    def aside(self, step: Any) -> Tensors:
        return step()

    def capture(self, step: Any) -> tuple[Recorded, Tensors]:
        recorder = Recorder()
        try:
            with recorder:
                results = step()
        finally:
            with torch.no_grad():
                for tensor, before in recorder.before.values():
                    tensor.copy_(before)
        self.graphs.append(Recorded(recorder.calls))
        return self.graphs[-1], results
