"""A CUDA device on a machine without one: fake tensors that say they are on it, watched operation by operation.

    with fake_cuda.device() as seen:
        train(spec, context)        # on torch.device("cuda"); shapes, strides and devices are real, values are not
    seen.waits                      # where the host waited for the device, and how often

Fails on what the real device refuses and a CPU does not: tensors of two devices in one operation, operations without a rule
under a transformation. It cannot see values, kernels, streams, workspaces, or what is compiled for the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import linecache
import os
import re
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a real device would be started

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
SOURCES = (str(ROOT / "bench"), str(ROOT / "tests"))

_kept_alive: list[Any] = []


def make_differentiable() -> None:
    """Lets autograd differentiate fake CUDA tensors in a CUDA build of torch that finds no driver.

    Autograd asks the CUDA hooks whether device 0 has a context, and there the question alone is an error. Here it is
    answered with no: the hooks object gets a copy of its table of virtual functions in which that one is replaced. Where
    it stands in the table is read from the headers that this torch comes with.
    """
    folder = Path(torch.__file__).parent
    pattern = r"virtual [^;{]*?(~?\w+)\("
    interfaces = [
        re.findall(pattern, (folder / "include/ATen/detail" / name).read_text())
        for name in ("AcceleratorHooksInterface.h", "CUDAHooksInterface.h")
    ]
    if interfaces[0][0] != "~AcceleratorHooksInterface":
        raise RuntimeError("this torch declares its CUDA hooks in another way")
    above, destructors = 2, 2  # entries before the first function; a destructor has two
    place = above + destructors - 1 + interfaces[0].index("hasPrimaryContext")
    hooks_of = ctypes.CDLL(str(folder / "lib/libtorch_cpu.so"))._ZN2at6detail12getCUDAHooksEv
    hooks_of.restype = ctypes.c_void_p
    pointer = ctypes.cast(hooks_of(), ctypes.POINTER(ctypes.c_void_p))
    entries = ctypes.c_void_p * (above + destructors + sum(map(len, interfaces)))
    table = entries(*entries.from_address(pointer[0] - above * ctypes.sizeof(ctypes.c_void_p)))
    answer = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(lambda hooks, index: False)
    table[place] = ctypes.cast(answer, ctypes.c_void_p).value
    pointer[0] = ctypes.addressof(table) + above * ctypes.sizeof(ctypes.c_void_p)
    _kept_alive.extend((table, answer))


@dataclass
class Seen:
    """What the watched code did.

    Attributes:
        waits: (kind, place) -> how often the host waited for the device, or copied in a way that makes it wait.
        operations: operator -> how often it ran on the device.
        read, written: bytes that these operations read and wrote, each tensor counted once an operation.
        live, peak: bytes of tensors on the device now, and at most.
    """

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    read: int = 0
    written: int = 0
    live: int = 0
    peak: int = 0

    def clear(self) -> None:
        """Begins to count anew; what lives goes on living."""
        self.waits.clear()
        self.operations.clear()
        self.read = self.written = 0
        self.peak = self.live

    @property
    def launches(self) -> int:
        return sum(self.operations.values())


def place() -> str:
    """The innermost line of this repository that is being executed: ``bench/data/augment.py crop_and_flip: rows = ...``."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(SOURCES) and name != __file__:
            line = linecache.getline(name, frame.f_lineno).strip()
            return f"{Path(name).relative_to(ROOT)} {frame.f_code.co_name}: {line[:80]}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def plausible(tensor: Tensor) -> bool | int | float:
    """The value that a fake tensor is read as: everything is finite, nothing is wrong."""
    if tensor.dtype == torch.bool:
        return getattr(tensor, "made_by", "") in ("all", "isfinite", "logical_and", "bitwise_and")
    if tensor.dtype.is_floating_point:
        return 0.0 if getattr(tensor, "made_by", "") == "maximum" else 0.5
    return 1


# No kernel runs: another view of the same memory, or memory without content.
FREE = frozenset(
    (
        *(
            "_local_scalar_dense",
            "_reshape_alias",
            "_to_copy",
            "_unsafe_view",
            "alias",
            "as_strided",
            "detach",
            "device",
        ),
        *(
            "diagonal",
            "empty",
            "empty_like",
            "empty_strided",
            "expand",
            "is_same_size",
            "lift_fresh",
            "movedim",
            "narrow",
        ),
        *(
            "new_empty",
            "new_empty_strided",
            "permute",
            "real",
            "reshape",
            "resize_",
            "select",
            "set_",
            "slice",
            "split",
        ),
        *("split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "view_as_real"),
    )
)


class Watch(TorchDispatchMode):
    """Counts operations, waits and memory of the device, and answers what has no value."""

    def __init__(self, seen: Seen, value_of: Callable[[Tensor], bool | int | float]):
        super().__init__()
        self.seen, self.value_of = seen, value_of
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in inputs}
        if name in ("_local_scalar_dense", "item"):
            return self._value(func, args, kwargs)
        if name == "equal":
            self._wait("equal", inputs)
            return True
        if name == "nonzero":
            self._wait("nonzero", inputs)
            return torch.empty(inputs[0].numel(), inputs[0].dim(), dtype=torch.int64, device=inputs[0].device)
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            args = (args[0], self._indices(args[1]), *args[2:])
        if name in ("_to_copy", "copy_"):
            self._copy(name, args, kwargs)
        elif len(devices) > 1:
            self._mixed(name, inputs)
        # Fused optimisers have no rule for fake tensors, and change all in place.
        result = None if name.startswith(("_fused_sgd", "_fused_adam")) else func(*args, **kwargs)
        self._count(name, inputs, [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])
        return result

    def _wait(self, kind: str, tensors: list[Tensor]) -> None:
        if any(tensor.device.type == "cuda" for tensor in tensors):
            self.seen.waits[kind, place()] += 1

    def _value(self, func: Any, args: Any, kwargs: Any) -> Any:
        self._wait("item", [args[0]])
        return self.value_of(args[0]) if isinstance(args[0], FakeTensor) else func(*args, **kwargs)

    def _indices(self, indices: list[Tensor | None]) -> list[Tensor | None]:
        """As many elements as there are stand for those that a mask would choose, which only the device knows."""
        result: list[Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                self._wait("mask", [index])
                shape = (index.numel(),)
                result += [torch.empty(shape, dtype=torch.int64, device=index.device) for _ in range(index.dim())]
            else:
                result.append(index)
        return result

    def _copy(self, name: str, args: Any, kwargs: Any) -> None:
        source = args[1] if name == "copy_" else args[0]
        target = args[0].device if name == "copy_" else kwargs.get("device") or source.device
        if source.device.type == target.type:
            return
        soft = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        # To the host even a copy that does not block is waited for before its values can be read.
        if not soft or target.type == "cpu":
            self.seen.waits[f"{source.device.type} to {target.type}", place()] += 1
        elif not getattr(source, "in_pinned_memory", False):
            self.seen.waits["pageable copy", place()] += 1

    def _mixed(self, name: str, inputs: list[Tensor]) -> None:
        """A CPU scalar is handed over with the call, an index is copied; anything else is refused."""
        on_cpu = [tensor for tensor in inputs if tensor.device.type == "cpu"]
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            self.seen.waits["index from the CPU", place()] += 1
        elif name.startswith(("_fused", "_foreach")) or any(tensor.dim() for tensor in on_cpu):
            shapes = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in inputs[:6])
            raise RuntimeError(f"{name}: tensors of two devices ({shapes}) at {place()}")

    def _count(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        for tensor in outputs:
            if isinstance(tensor, FakeTensor):
                tensor.made_by = name.removesuffix("_")  # type: ignore[attr-defined]
            self._track(tensor)
        changed = outputs or inputs[:1]
        if name in FREE or not any(tensor.device.type == "cuda" for tensor in changed):
            return
        self.seen.operations[name] += 1
        self.seen.read += sum({id(tensor): tensor.nbytes for tensor in inputs}.values())
        self.seen.written += sum({id(tensor): tensor.nbytes for tensor in changed}.values())

    def _track(self, tensor: Tensor) -> None:
        if tensor.device.type != "cuda":
            return
        storage = tensor.untyped_storage()
        if (key := storage._cdata) in self._storages:
            return
        size = storage.nbytes()
        self._storages.add(key)
        self.seen.live += size
        self.seen.peak = max(self.seen.peak, self.seen.live)
        weakref.finalize(storage, self._released, key, size)

    def _released(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.seen.live -= size


def _tolist(seen: Seen, value_of: Callable[[Tensor], bool | int | float]) -> Callable[[Tensor], Any]:
    """`Tensor.tolist`, which waits once however many values there are."""

    def values(tensor: Tensor) -> Any:
        if tensor.device.type == "cuda":
            seen.waits["tolist", place()] += 1
        nested: Any = value_of(tensor)
        for size in reversed(tensor.shape):
            nested = [nested] * size
        return nested

    return values


def _pinned(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.in_pinned_memory = True  # type: ignore[attr-defined]
    return tensor


def _deep_copy(tensor: FakeTensor, memo: dict[int, Any]) -> Tensor:
    copied = tensor.detach().clone(memory_format=torch.preserve_format)
    if isinstance(tensor, nn.Parameter):
        copied = nn.Parameter(copied, tensor.requires_grad)
    return memo.setdefault(id(tensor), copied)


def _moved(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` with new parameters: the data of a parameter cannot be exchanged for those of another device."""
    for child in module.children() if recurse else ():
        child._apply(change)
    with torch.no_grad():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(change(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = change(buffer)
    return module


def _of_cuda(waits: Counter[tuple[str, str]]) -> dict[str, Any]:
    properties = SimpleNamespace(
        name="pretended", total_memory=80 * 2**30, major=9, minor=0, multi_processor_count=132, warp_size=32
    )
    return {
        "synchronize": lambda *device: waits.update([("synchronize", place())]),
        "is_bf16_supported": lambda including_emulation=True: True,
        "max_memory_allocated": lambda *device: 0,
        "reset_peak_memory_stats": lambda *device: None,
        "memory_reserved": lambda *device: 0,
        "memory_allocated": lambda *device: 0,
        "mem_get_info": lambda *device: (70 * 2**30, 80 * 2**30),
        "empty_cache": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda *device: properties,
        "get_device_name": lambda *device: "pretended",
        "get_device_capability": lambda *device: (9, 0),
        "is_current_stream_capturing": lambda: False,
    }


@contextlib.contextmanager
def device(value_of: Callable[[Tensor], bool | int | float] = plausible) -> Iterator[Seen]:
    """Inside, tensors of device "cuda" can be made and computed with; so are those of the CPU, without values.

    Args:
        value_of: what a fake tensor is read as, where the code asks for its value.
    """
    seen = Seen()
    with contextlib.ExitStack() as stack:
        for name, answer in _of_cuda(seen.waits).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(mock.patch.object(FakeTensor, "__deepcopy__", _deep_copy, create=True))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _moved))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", _pinned))
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", _tolist(seen, value_of)))
        # There are no streams and no graphs here: steps run eagerly.
        stack.enter_context(mock.patch("bench.training.graphs.backend_of", lambda device: None))
        # The backward pass in this thread, where the watch is.
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False))
        stack.enter_context(Watch(seen, value_of))
        yield seen


def check() -> None:
    """Differentiates a small network on the pretended device.

    Raises:
        RuntimeError: it cannot be done with this torch.
    """
    make_differentiable()
    with device() as seen:
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).to("cuda")
        net(torch.randn(2, 1, 5, 5, device="cuda")).sum().backward()
        if net[0].weight.grad is None or net[0].weight.grad.device.type != "cuda" or not seen.launches:
            raise RuntimeError("fake CUDA tensors have no gradients on their device")
