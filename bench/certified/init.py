"""Initial weights, and the difference gain that each is expected to have (Definition 1; Appendix A)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.certified.graph import graph_of
from bench.certified.spec import Init


def fans(weight: Tensor) -> tuple[int, int]:
    """Fan-in n (k^2 times input channels of a group) and fan-out of an initialiser (k^2 times output channels)."""
    kernel = weight[0, 0].numel() if weight.dim() > 2 else 1
    return weight.shape[1] * kernel, weight.shape[0] * kernel


def gain(init: Init, weight: Tensor) -> float:
    """Expected difference gain (n / 2) E|W| of a layer without BatchNorm, from the initialiser's distribution."""
    n, r = fans(weight)
    uniform, normal = 0.5, math.sqrt(2 / math.pi)  # E|W| over the bound, over the standard deviation
    mean_abs = {
        "default": uniform / math.sqrt(n),
        "torch_default": uniform / math.sqrt(n),
        "ibp": 2 / n,
        "kaiming_uniform": uniform * math.sqrt(6 / n),
        "kaiming_normal": normal * math.sqrt(2 / n),
        "kaiming_fan_out": normal * math.sqrt(2 / r),
        "xavier_uniform": uniform * math.sqrt(6 / (n + r)),
        "xavier_normal": normal * math.sqrt(2 / (n + r)),
        # Orthonormal rows of length n (columns of length outputs where they are shorter) have entries of that size.
        "orthogonal": normal / math.sqrt(max(n, weight.shape[0])),
    }
    return n / 2 * mean_abs[init]


def _ibp(weight: Tensor) -> None:
    nn.init.normal_(weight, 0.0, math.sqrt(2 * math.pi) / fans(weight)[0])


def _torch_default(weight: Tensor) -> None:
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))


DRAW: dict[str, Callable[[Tensor], object]] = {
    "torch_default": _torch_default,
    "ibp": _ibp,
    "kaiming_uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "kaiming_fan_out": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
}


@torch.no_grad()
def initialise(model: nn.Module, init: Init, seed: int, *, halve_after_add: bool = True) -> None:
    """Draws the weights of all convolutions and linear layers but the classifier, on the CPU, with their own seed.

    Biases, BatchNorm's parameters and the classifier stay as they are (authors' code).

    Args:
        model: on the CPU.
        init: distribution; ``default`` leaves the network's own.
        seed: of this draw; the global generator is left as it was.
        halve_after_add: with ``ibp``, divide by 2 the weights of every layer whose input is ReLU(a + b).
    """
    if init == "default":
        return
    layers = weighted_layers(model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in layers[:-1]:
            DRAW[init](layer.weight)
    if init == "ibp" and halve_after_add:
        for layer in after_addition(model):
            layer.weight.mul_(0.5)


def weighted_layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers in the order of their parameters; the last is the classifier."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def after_addition(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Layers whose direct input is ReLU(a + b); a layer behind a flattening does not count (authors' code)."""
    operations = graph_of(model).operations
    layers: list[nn.Conv2d | nn.Linear] = []
    for operation in operations:
        if not isinstance(operation.module, nn.Conv2d | nn.Linear) or operation.inputs[0] == 0:
            continue
        before = operations[operation.inputs[0] - 1]
        if before.kind == "relu" and before.inputs[0] > 0 and operations[before.inputs[0] - 1].kind == "add":
            layers.append(operation.module)
    return layers
