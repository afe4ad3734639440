"""Where the weights of a run come from: drawn by name, or left by another run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench import models, seeds
from bench.errors import FailedRun
from bench.warmstart.shrink import last_layer
from bench.warmstart.spec import Training


def draw_network(spec: Training, *names: object) -> nn.Module:
    """A newly drawn network on the CPU; equal names give equal weights in all methods of a comparison."""
    return models.build_seeded(
        spec.network.name,
        seeds.seed("warmstart", "init", spec.seed, *names),
        num_classes=spec.classes(),
        in_shape=spec.shape(),
        **spec.network.options(),
    )


def load_matching(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Loads the parent's weights; a classifier for other classes stays newly drawn (transfer, Figure 9).

    Raises:
        FailedRun: anything else does not fit.
    """
    present = model.state_dict()
    head = {name for name, module in model.named_modules() if module is last_layer(model)}
    wrong = [name for name in present if name not in tensors or present[name].shape != tensors[name].shape]
    if foreign := [name for name in wrong if name.rpartition(".")[0] not in head]:
        raise FailedRun("parent weights", None, f"{foreign[0]} does not fit the network")
    model.load_state_dict({name: present[name] if name in wrong else tensors[name] for name in present})


def reset_buffers(model: nn.Module) -> None:
    """BatchNorm's running statistics start again at 0 and 1, as in the authors' online code."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()


def copies(model: nn.Module) -> dict[str, Tensor]:
    """The learnable tensors by name, detached from what training changes."""
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def to_channels_last(model: nn.Module) -> None:
    """Filters lie in the memory layout that convolutions prefer."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
