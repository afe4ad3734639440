"""Loss on the fixed validation slices: by source, and blended by the sources' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from bench.rewarm.streams import Validation

SHORT = {"upstream": "up", "downstream": "dn"}


class Evaluated(Protocol):
    """What can be evaluated: networks in slots, all on the same windows."""

    device: torch.device

    def summed_losses(self, slots: Sequence[int], windows: torch.Tensor) -> torch.Tensor:
        """Summed token loss, (slots,) float64."""


def losses(engine: Evaluated, slots: Sequence[int], validation: Mapping[Any, Validation]) -> list[dict[str, float]]:
    """Mean token loss in nats of each network.

    Returns:
        by slot: ``loss_up`` and ``loss_dn`` (blended), and ``loss_up.SOURCE`` where a corpus has several sources.
    """
    found: list[dict[str, float]] = [{} for _ in slots]
    for side, corpus in validation.items():
        short = f"loss_{SHORT[side]}"
        blended = torch.zeros(len(slots), dtype=torch.float64)
        for source, windows in corpus.slices.items():
            summed = engine.summed_losses(slots, torch.from_numpy(windows).to(engine.device))
            mean = summed.cpu() / (windows.shape[0] * (windows.shape[1] - 1))
            blended += corpus.weights[source] * mean
            if len(corpus.slices) > 1:
                for place, value in zip(found, mean.tolist(), strict=True):
                    place[f"{short}.{source}"] = value
        for place, value in zip(found, blended.tolist(), strict=True):
            place[short] = value
    return found
