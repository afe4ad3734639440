"""Losses: cross-entropy, the penalties of Table 3, and the penalty of a method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.step import Loss
from bench.warmstart.spec import Penalty

Regulariser = Callable[[nn.Module], Tensor]
"""model -> a scalar that is added to the loss."""


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats and logits [B, C], in float32 whatever the network computed in."""
    logits = model(images).float()
    return F.cross_entropy(logits, labels), logits


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions in nats, [B, C] -> scalar (confidence penalty, Pereyra et al. 2017)."""
    logs = F.log_softmax(logits, dim=1)
    return -(logs.exp() * logs).sum(1).mean()


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, size: float) -> Tensor:
    """Images moved by `size` along the sign of the loss gradient (fast gradient sign method), detached."""
    inputs = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(inputs).float(), labels), inputs)
    return (images + size * gradient.sign()).detach()


def make_loss(penalty: Penalty, regulariser: Regulariser | None = None) -> Loss:
    """(model, images, labels) -> loss and logits, with the penalty of the run and that of a method.

    Args:
        penalty: none, weight * cross-entropy at an FGSM example, or -weight * entropy.
        regulariser: a method's own penalty.
    """
    if penalty.kind == "none" and regulariser is None:
        return cross_entropy

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = cross_entropy(model, images, labels)
        if penalty.kind == "confidence":
            value = value - penalty.weight * entropy(logits)
        elif penalty.kind == "adversarial":
            size = penalty.weight if penalty.fgsm_eps is None else penalty.fgsm_eps
            value = value + penalty.weight * cross_entropy(model, fgsm(model, images, labels, size), labels)[0]
        if regulariser is not None:
            value = value + regulariser(model)
        return value, logits

    return loss
