"""Convolutions of 3 x 3 taps on a CPU with a quarter of the products, in float32: Winograd's algorithm.

On a CPU torch's convolutions run near the processor's peak already, so that only fewer products make a step faster. The
kernel is `winograd.cpp`, compiled once for each kind of processor, in about a second, where g++ is found. Its rounding
errors are about twice those of a sum over taps.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOURCE = Path(__file__).with_suffix(".cpp")

FLAGS = {
    "AVX2": ("-mavx2", "-mfma", "-Wno-psabi"),
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"),
}
"""By what torch says of the processor; others use torch's convolutions."""

LANES = 8
"""Both numbers of channels are multiples of it."""

LEAST_PRODUCTS = 250_000
"""Products of one image, as a sum over taps, from which a layer is worth it: smaller networks gained 8 %."""

LEAST_TILES = 128
"""Tiles of a batch from which a layer is worth it: with 64, transforming the weights takes what the products spare."""


def applies(layer: nn.Conv2d) -> bool:
    """Whether the kernel knows a convolution: 3 x 3, stride 1, padding 1, channels in eights."""
    return (
        layer.kernel_size == (3, 3)
        and layer.stride == (1, 1)
        and layer.padding == (1, 1)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.in_channels % LANES == 0
        and layer.out_channels % LANES == 0
    )


def use(model: nn.Module) -> None:
    """Lets the convolutions of a model on a CPU that the kernel knows run through it, wherever `pays` says so.

    Parameters, names and results (but for rounding) stay. Copies of the model keep it.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and applies(layer) and layer.weight.device.type == "cpu" and kernel():
            _operators()
            # What Conv2d.forward calls; torch.fx and torch.compile go on seeing a Conv2d.
            layer._conv_forward = conv2d  # type: ignore[assignment]


def leave(model: nn.Module) -> None:
    """Torch's convolutions again, as `torch.func.vmap` needs them."""
    for layer in model.modules():
        vars(layer).pop("_conv_forward", None)


def pays(images: Tensor, weight: Tensor) -> bool:
    """Whether a convolution of images [B, C, H, W] is in float32, fills its tiles of 4 x 4 by half, and is large.

    Sums in other arithmetic, autocast's too, are torch's; and so is the error where shapes do not fit.
    """
    if images.dim() != 4 or images.shape[1] != weight.shape[1] or len(images) == 0:
        return False
    count, _, height, width = images.shape
    tiles = _tiles(height, width)
    return (
        images.dtype == weight.dtype == torch.float32
        and images.device.type == weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and 2 * height * width >= 16 * tiles
        and count * tiles >= LEAST_TILES
        and weight.numel() * height * width >= LEAST_PRODUCTS
    )


def _tiles(height: int, width: int) -> int:
    """Tiles of 4 x 4 that cover an image."""
    return (height + 3) // 4 * ((width + 3) // 4)


def conv2d(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of a layer that `applies` knows.

    Args:
        images: [B, C, H, W].
        weight: [K, C, 3, 3].
        bias: [K].

    Returns:
        [B, K, H, W] in channels-last order; differentiable once.
    """
    if not pays(images, weight):
        return F.conv2d(images, weight, bias, padding=1)
    result: Tensor = _Convolution.apply(images, weight, bias)
    return result


@torch.no_grad()
def saved(model: nn.Module, shape: tuple[int, int, int, int]) -> int:
    """Products of one image's forward pass, of those that sums over taps take, which a model in float32 is spared.

    Args:
        model: what `use` was given.
        shape: of a batch, [B, C, H, W].
    """
    found = 0

    def count(layer: nn.Conv2d, given: tuple[Tensor], made: Tensor) -> None:
        nonlocal found
        images = given[0]
        if layer.__dict__.get("_conv_forward") is conv2d and pays(images, layer.weight):
            height, width = images.shape[2:]
            found += images.shape[1] * made.shape[1] * (9 * height * width - 36 * _tiles(height, width))

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    was, device = model.training, next(model.parameters()).device
    model.eval()(torch.zeros(shape, device=device))
    model.train(was)
    for hook in hooks:
        hook.remove()
    return found


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(images, weight)
        return torch.ops.bench.winograd(images, weight, bias, False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        over_images = over_weight = over_bias = None
        if ctx.needs_input_grad[0]:
            over_images = torch.ops.bench.winograd(gradient, weight, None, True)
        if ctx.needs_input_grad[1]:
            over_weight = torch.ops.bench.winograd_weight(images, gradient, weight)
        if ctx.needs_input_grad[2]:
            over_bias = gradient.sum((0, 2, 3))
        return over_images, over_weight, over_bias


# Operators, so that torch.compile takes the kernel as it is ----------------------------------------------------------


@lru_cache(maxsize=1)
def _operators() -> torch.library.Library:
    """Declares `bench::winograd` and `bench::winograd_weight`, which live as long as the result does."""
    library = torch.library.Library("bench", "DEF")
    for schema, shape, compute in (
        ("winograd(Tensor images, Tensor weight, Tensor? bias, bool turned) -> Tensor", _empty, _winograd),
        ("winograd_weight(Tensor images, Tensor gradient, Tensor weight) -> Tensor", _empty_weight, _winograd_weight),
    ):
        library.define(schema)
        name = schema.partition("(")[0]
        library.impl(name, compute, "CPU")
        torch.library.register_fake(f"bench::{name}", shape, lib=library)
    return library


def _empty(images: Tensor, weight: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    size = (images.shape[0], weight.shape[1 if turned else 0], *images.shape[2:])
    return torch.empty(size, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)


def _empty_weight(images: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(weight)


def _winograd(images: Tensor, weight: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    """The convolution; with `turned` the gradient of its input from that of its output, which `images` then is."""
    result = _empty(images, weight, bias, turned)
    (count, inputs, height, width), outputs = images.shape, result.shape[1]
    shift = None if bias is None else bias.contiguous()
    steps = list(weight.stride())
    if turned:
        steps[:2] = steps[1], steps[0]
    with _space(inputs, outputs) as space:
        _library().winograd_forward(
            _at(images), _at(weight), _steps(steps), turned, None if shift is None else _at(shift), _at(result),
            _at(space), count, height, width, inputs, outputs, torch.get_num_threads(),
        )  # fmt: skip
    return result


def _winograd_weight(images: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    result = _empty_weight(images, gradient, weight)
    (count, inputs, height, width), outputs = images.shape, gradient.shape[1]
    with _space(inputs, outputs) as space:
        _library().winograd_weight_gradient(
            _at(images), _at(gradient), _steps(result.stride()), _at(result), _at(space),
            count, height, width, inputs, outputs, torch.get_num_threads(),
        )  # fmt: skip
    return result


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _steps(steps: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * 4)(*steps)


_spare: list[Tensor] = []
"""Work spaces that no call holds. With wide layers, fresh pages of memory took half of the kernel's time."""


@contextlib.contextmanager
def _space(inputs: int, outputs: int) -> Iterator[Tensor]:
    """What the kernel works in; kept for the next call."""
    size = _library().winograd_space(inputs, outputs, torch.get_num_threads())
    space = _spare.pop() if _spare else torch.empty(0)
    if len(space) < size:
        space = torch.empty(size)
    yield space
    _spare.append(space)


# The compiled kernel -------------------------------------------------------------------------------------------------


def _library() -> ctypes.CDLL:
    found = kernel()
    assert found is not None, "conv2d is used where `use` found the kernel"
    return found


@lru_cache(maxsize=1)
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel; ``None`` where there is no compiler, or no processor that it is written for."""
    flags = FLAGS.get(torch.backends.cpu.get_cpu_capability())
    compiler = shutil.which("g++")
    if flags is None or compiler is None or not sys.platform.startswith("linux"):
        return None
    path = _compiled(compiler, ("-std=c++17", "-O3", "-fopenmp", "-fPIC", "-shared", *flags))
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.winograd_space.argtypes = [size, size, number]
    library.winograd_space.restype = size
    shape = [size] * 5 + [number]
    library.winograd_forward.argtypes = [pointer, pointer, pointer, number, *[pointer] * 3, *shape]
    library.winograd_weight_gradient.argtypes = [*[pointer] * 5, *shape]
    return library


def _compiled(compiler: str, flags: Sequence[str]) -> Path | None:
    """The library's path, compiled if it is not there; ``None`` where the compiler fails or nothing can be written."""
    name = hashlib.sha256(SOURCE.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    for folder in (SOURCE.parent / "__pycache__", cache / "warmbench"):  # an installed suite may be somebody else's
        path = folder / f"winograd-{name}.so"
        if path.exists():
            return path
        part = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run([compiler, *flags, str(SOURCE), "-o", str(part)], capture_output=True, check=True)
            part.replace(path)
            return path
    return None
