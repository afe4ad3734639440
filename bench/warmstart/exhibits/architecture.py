"""Beyond the paper: the gap by network.

The authors' code trains a thin ResNet-18 (widths 16 to 128), both replications wide ones (64 to 512). The two-phase
protocol of Table 1 on CIFAR-10 with thin and wide ResNet-18, BatchNorm and GroupNorm, otherwise unchanged.

Expected: a gap in each; the wide net of the ReScience replication had 60.3 / 57.8 with SGD (batch statistics at test time).
Cost: thin is Table 1's own; GroupNorm the same again, wide 16 times the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, claim
from bench.warmstart.design import NAMES, OptimizerName, Setup, WarmstartSettings
from bench.warmstart.exhibits._rows import chance_of, combinations, distinct, gaps, untimed_rows
from bench.warmstart.exhibits._tables import compare_starts, table
from bench.warmstart.runs import both_arms
from bench.warmstart.spec import Network

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Validation accuracy in percent on CIFAR-10, mean and standard deviation over seeds, of networks fitted to half of "
    "the data first (warm start) and from random weights, and the paired gap. Replications differ from the authors in "
    "the width of the ResNet-18."
)
NetworkName = Literal["thin", "wide", "group_norm"]
TITLES = {"thin": "thin ResNet-18", "wide": "wide ResNet-18", "group_norm": "thin ResNet-18, GroupNorm"}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"networks", "optimizers"}

    networks: tuple[NetworkName, ...] = Field(("thin", "wide", "group_norm"), min_length=1, description="networks")
    wide_width: int = Field(64, ge=8, description="first width of the wide ResNet; the common one has 64")
    optimizers: tuple[OptimizerName, ...] = Field(("sgd", "adam"), min_length=1, description="optimisers")

    def named(self, name: NetworkName) -> Network:
        if name == "wide":
            return Network(name="resnet18", width=None if self.wide_width == 64 else self.wide_width)
        thin = self.network("thin_resnet18")
        return thin if name == "thin" else thin.model_copy(update={"norm": "group"})


def arms(settings: Settings) -> Iterator[Arm]:
    for name, optimizer in product(settings.networks, settings.optimizers):
        setup = Setup(model=settings.named(name), optimizer=optimizer)
        yield from both_arms(settings, setup, {"model": name})


rows = untimed_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> pd.DataFrame:
    lines = (
        {"network": TITLES[name], "optimiser": NAMES[optimizer]}
        | compare_starts(frame, model=name, optimizer=optimizer)
        for name, optimizer in product(settings.networks, settings.optimizers)
    )
    return table(lines, "network", "optimiser")


@claim(
    "AR1",
    "Warm starting hurts thin and wide ResNets, with BatchNorm and with GroupNorm.",
    "beyond the paper; section 3",
)
def every_network_suffers(frame: Any) -> Iterator[stats.Finding]:
    for model, optimizer in combinations(frame, "model", "optimizer"):
        yield stats.above(gaps(frame, model=model, optimizer=optimizer), 0.0, name=f"gap, {TITLES[model]}")


@claim("AR1-mean", "On average over these networks warm starting hurts.", "beyond the paper; section 3 (our summary)")
def networks_suffer_on_average(frame: Any) -> stats.Finding:
    cells = combinations(frame, "model", "optimizer")
    return stats.on_average([gaps(frame, model=model, optimizer=name) for model, name in cells], name="gap")


@claim("AR2", "How much the width changes the gap.", "beyond the paper", kind="estimate")
def width(frame: Any) -> stats.Finding:
    """The wide net's gap minus the thin one's, with the first optimiser."""
    optimizer = distinct(frame, "optimizer")[0]
    thin, wide = (gaps(frame, model=model, optimizer=optimizer) for model in ("thin", "wide"))
    return stats.estimate(wide - thin, f"gap of the wide net minus thin, {optimizer}")
