"""Loss on the fixed validation slices: by source, and blended by the sources' weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bench.rewarm.engine import Engine
from bench.rewarm.spec import Side
from bench.rewarm.streams import Validation

SHORT: dict[Side, str] = {"upstream": "up", "downstream": "dn"}


def losses(engine: Engine, validation: Mapping[Side, Validation]) -> dict[str, float]:
    """Mean token loss in nats: ``loss_up`` and ``loss_dn`` (blended), and ``loss_up.SOURCE`` of a corpus with several."""
    measured: dict[str, float] = {}
    for side, corpus in validation.items():
        name = f"loss_{SHORT[side]}"
        blended = 0.0
        for source, windows in corpus.slices.items():
            tokens = windows.shape[0] * (windows.shape[1] - 1)
            mean = engine.summed_loss(torch.from_numpy(windows).to(engine.device)) / tokens
            blended += corpus.weights[source] * mean
            if len(corpus.slices) > 1:
                measured[f"{name}.{source}"] = mean
        measured[name] = blended
    return measured
