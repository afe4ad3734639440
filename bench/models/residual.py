"""Parts of the residual networks of certified training: optional BatchNorm, shortcut, residual sum, head."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def batch_norm(channels: int, present: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if present else nn.Identity()


def shortcut(channels_in: int, channels: int, stride: int, present: bool) -> nn.Module:
    """A 1 x 1 convolution where the shape changes, else nothing."""
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride), batch_norm(channels, present))


class Residual(nn.Module):
    """ReLU of the sum of a body and a shortcut."""

    def __init__(self, body: nn.Module, short: nn.Module):
        super().__init__()
        self.body, self.short = body, short

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


def head(features: int, units: int, num_classes: int, present: bool) -> list[nn.Module]:
    """Flatten, a hidden layer with BatchNorm, the classifier."""
    norm = [nn.BatchNorm1d(units)] if present else []
    return [nn.Flatten(), nn.Linear(features, units), *norm, nn.ReLU(), nn.Linear(units, num_classes)]
