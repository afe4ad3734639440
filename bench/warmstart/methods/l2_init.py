"""L2-init (Kumar et al., 2023, arXiv 2308.11958): the weights are kept and pulled towards where they began.

The baseline of this name in the repository of DASH is another penalty: the squared sum of the distances of all weight
tensors, biases left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.warmstart.methods import Point

if TYPE_CHECKING:
    from torch import Tensor, nn


def restart(at: Point) -> None:
    """Nothing changes at the beginning of a round: the penalty acts in training."""


def penalty(model: nn.Module, initial: dict[str, Tensor], strength: float | None) -> Tensor:
    """strength * squared distance of all parameters from the run's initial network; without a strength there is none."""
    terms = [(tensor - initial[name]).square().sum() for name, tensor in model.named_parameters()]
    return (strength or 0.0) * sum(terms[1:], terms[0])
