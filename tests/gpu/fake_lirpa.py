"""auto_LiRPA on the pretended device: its module is traced on the CPU with real tensors, and its tensors are moved then.

It asks tensors for their exact type, which fake ones and their perturbations do not have; the stand-ins here answer yes.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.certified import lirpa


def _real_copy(model: nn.Module) -> nn.Module:
    """The network on the CPU with some numbers: the trace needs tensors that have values."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                shape = tuple(tensor.shape)
                real = (
                    torch.rand(shape) * 0.1
                    if tensor.dtype.is_floating_point
                    else torch.zeros(shape, dtype=tensor.dtype)
                )
                is_parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(real, requires_grad=tensor.requires_grad) if is_parameter else real
    return copy.deepcopy(model, memo)


CONSTANTS = ("BoundParams", "BoundBuffers", "BoundInput", "BoundConstant", "BoundConstantOfShape")


def _moved(bounded: Any, model: nn.Module, device: str) -> Any:
    """The bounded module with the network's own tensors where it shares them, and fake ones for the rest."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())

    def on_device(tensor: Tensor) -> Tensor:
        return torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device=device)

    for node in [bounded, *bounded.modules()]:
        if hasattr(node, "device"):
            node.device = device
        name = getattr(node, "ori_name", None)
        for key, parameter in node._parameters.items():
            if parameter is not None:
                shared = own.get(name)
                node._parameters[key] = shared if shared is not None else nn.Parameter(on_device(parameter))
        for key, buffer in node._buffers.items():
            if buffer is not None:
                node._buffers[key] = on_device(buffer)
        for key, value in vars(node).items():
            kept = type(node).__name__ in CONSTANTS or key in ("forward_value", "lower", "upper")
            if kept and isinstance(value, Tensor) and not isinstance(value, FakeTensor):
                node.__dict__[key] = on_device(value)
    return bounded


class _Perturbed(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, Tensor) and getattr(value, "ptb", None) is not None

    def __call__(cls, tensor: Tensor, perturbation: Any) -> Tensor:
        tensor = tensor.detach().clone()
        tensor.ptb = perturbation  # type: ignore[attr-defined]
        return tensor


class BoundedTensor(metaclass=_Perturbed):
    """In place of the subclass of tensors that carries a perturbation."""


class _Any(type):
    def __eq__(cls, other: object) -> bool:
        return other in (FakeTensor, Tensor) or other is cls

    def __hash__(cls) -> int:
        return hash("Tensor")

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, Tensor)


class AnyTensor(metaclass=_Any):
    """In place of `torch.Tensor` where the package compares types."""


@contextlib.contextmanager
def on_device() -> Iterator[None]:
    """Inside, `bench.certified.lirpa.Bounded` works with fake tensors."""
    package = lirpa.load()
    build = package.BoundedModule

    def traced(model: nn.Module, example: Tensor, *, device: str, **options: Any) -> Any:
        with _disable_current_modes():
            real = _real_copy(model).eval()
            bounded = build(real, torch.zeros(tuple(example.shape), dtype=torch.float32), device="cpu", **options)
        return _moved(bounded, model, device)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(package, "BoundedModule", traced))
        for name, module in list(sys.modules.items()):
            if name.startswith("auto_LiRPA"):
                if hasattr(module, "BoundedTensor"):
                    stack.enter_context(mock.patch.object(module, "BoundedTensor", BoundedTensor))
                if getattr(module, "Tensor", None) is Tensor:
                    stack.enter_context(mock.patch.object(module, "Tensor", AnyTensor))
        yield
