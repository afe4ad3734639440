"""Networks by name; `build` draws their initial weights on the CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.errors import UserError, closest

if TYPE_CHECKING:
    from torch import nn

BUILDERS = {
    "thin_resnet18": "bench.models.resnet:thin_resnet18",
    "resnet18": "bench.models.resnet:resnet18",
    "mlp": "bench.models.mlp:mlp",
    "logistic": "bench.models.mlp:logistic",
    "cnn7": "bench.models.cnn7:cnn7",
    "wide_resnet8": "bench.models.wide_resnet:wide_resnet8",
    "resnext": "bench.models.resnext:resnext",
}


def module_of(name: str) -> str:
    """The module that defines a network.

    Raises:
        UserError: there is no network of that name; names the closest.
    """
    if name not in BUILDERS:
        raise UserError(f"model '{name}' does not exist{closest(name, BUILDERS)}")
    return BUILDERS[name].partition(":")[0]


def build(name: str, *, num_classes: int, in_shape: tuple[int, int, int], **options: Any) -> nn.Module:
    """A network with weights drawn from torch's global CPU generator.

    Args:
        name: key of `BUILDERS`.
        num_classes: outputs.
        in_shape: channels, height, width of an image.
        options: what the builder knows beside these, such as ``width``.

    Raises:
        UserError: unknown name, or an option that the network does not have.
    """
    module = importlib.import_module(module_of(name))
    builder = getattr(module, BUILDERS[name].partition(":")[2])
    try:
        return builder(num_classes=num_classes, in_shape=in_shape, **options)
    except TypeError as error:
        raise UserError(f"model '{name}': {error}") from error


def build_seeded(
    name: str, seed: int, *, num_classes: int, in_shape: tuple[int, int, int], **options: Any
) -> nn.Module:
    """`build` with its own seed; the global generator is left as it was, so equal seeds give equal weights anywhere."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(name, num_classes=num_classes, in_shape=in_shape, **options)
