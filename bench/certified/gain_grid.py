"""What Figure 1 and Table 5 share: initialisations, untrained networks, their gains by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from bench.certified.design import DATASETS, DataSettings, radius_text
from bench.certified.spec import Initialisation, Network
from bench.exhibit import ArmRun

TORCH_DEFAULT, IBP_INIT = "torch_default", "ibp"
INITS: dict[str, str] = {
    "torch_default": "PyTorch default",
    "xavier_uniform": "Xavier uniform",
    "xavier_normal": "Xavier normal",
    "kaiming_uniform": "Kaiming uniform",
    "kaiming_normal": "Kaiming normal",
    "orthogonal": "orthogonal",
    "ibp": "IBP init",
}
"""Initialisations that have a formula, under their names for legends."""


class GainSettings(DataSettings):
    selects = DataSettings.selects | {"images"}

    images: int = Field(128, ge=2, le=1024, description="images of the batch that is bounded")
    random_images: bool = Field(False, description="random pixels of the data set's shape instead of its images")

    def untrained(self, init: str, seed: int, **fields: Any) -> Initialisation:
        """CNN-7 of the paper's size; without BatchNorm unless `fields` say otherwise."""
        chosen: dict[str, Any] = {
            "seed": seed,
            "dataset": self.dataset("cifar10"),
            "network": Network(name="cnn7", norm="none"),
            "init": init,
            "batch": self.images,
            "eps": self.eps.get("cifar10"),
            "generated": self.images if self.random_images else None,
        }
        return Initialisation(**{**chosen, **fields})

    def about(self) -> str:
        """Images and radius, for titles."""
        images = "random images of its shape" if self.random_images else f"{self.images} images"
        return f"{DATASETS['cifar10']} ({images}), eps {radius_text(self.target('cifar10'))}"


def gain_members(settings: GainSettings, inits: Iterable[str]) -> list[ArmRun]:
    """Untrained networks of every seed, without BatchNorm."""
    return [
        ArmRun(
            {"dataset": "cifar10", "model": "cnn7", "method": init, "panel": "no BN"}, settings.untrained(init, seed)
        )
        for init in inits
        for seed in settings.seed_range()
    ]


def layer_values(frame: Any, metric: str, method: str, **labels: Any) -> dict[int, dict[int, float]]:
    """Seed -> layer -> value.

    Raises:
        KeyError: there are none.
    """
    chosen = frame[(frame["metric"] == metric) & (frame["method"] == method)]
    for name, value in labels.items():
        chosen = chosen[chosen[name] == value]
    if chosen.empty:
        raise KeyError(f"{metric} of {method}")
    found: dict[int, dict[int, float]] = {}
    for seed, layer, value in zip(chosen["seed"], chosen["x"], chosen["value"], strict=True):
        found.setdefault(int(seed), {})[int(layer)] = float(value)
    return found
