"""Beyond the paper: does the warm-start gap depend on the network? Thin and wide ResNet-18, BatchNorm and GroupNorm.

The authors' code trains a thin ResNet-18 (widths 16 to 128), both replications wide ones (64 to 512). The two-phase
protocol of Table 1 on CIFAR-10, otherwise unchanged.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/architecture``
Expected: a gap in each; the wide net of the ReScience replication had 60.3 / 57.8 with SGD (batch statistics at test time).
Cost: thin is Table 1's own; GroupNorm the same again, wide 16 times the arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit
from bench.warmstart.appendix import compared, distinct, gaps, pair, two_phase_rows, with_network
from bench.warmstart.design import WarmstartSettings
from bench.warmstart.spec import Network

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["thin", "wide", "group_norm"]
TITLES = {"thin": "thin ResNet-18", "wide": "wide ResNet-18", "group_norm": "thin ResNet-18, GroupNorm"}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"networks", "optimizers"}

    networks: tuple[Kind, ...] = Field(("thin", "wide", "group_norm"), min_length=1, description="networks")
    wide_width: int = Field(64, ge=8, description="first width of the wide ResNet; the common one has 64")
    optimizers: tuple[Literal["sgd", "adam"], ...] = Field(("sgd", "adam"), min_length=1, description="optimisers")

    def chosen(self, kind: Kind) -> Network:
        if kind == "wide":
            return Network(name="resnet18", width=None if self.wide_width == 64 else self.wide_width)
        thin = self.network("thin_resnet18")
        return thin if kind == "thin" else thin.model_copy(update={"norm": "group"})


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for kind in settings.networks:
        network = settings.chosen(kind)
        for optimizer in settings.optimizers:
            for seed in settings.seed_range():
                for method, run in pair(settings, "cifar10", network.name, optimizer, seed):
                    labels = {"dataset": "cifar10", "model": kind, "method": method, "optimizer": optimizer}
                    made.append(ArmRun(labels, with_network(run, network)))
    return made


def _cells(frame: Any) -> list[dict[str, str]]:
    return [
        {"model": model, "optimizer": optimizer}
        for model in distinct(frame, "model")
        for optimizer in distinct(frame[frame["model"] == model], "optimizer")
    ]


def every_network_suffers(frame: Any) -> stats.Finding:
    """AR1: a gap in each cell."""
    return stats.all_of(
        [stats.above(gaps(frame, **cell), 0.0, name=f"gap, {TITLES[cell['model']]}") for cell in _cells(frame)]
    )


def width(frame: Any) -> stats.Finding:
    """AR2: the wide net's gap minus the thin one's, SGD where it is there: reported."""
    optimizer = distinct(frame, "optimizer")[0]
    thin, wide = (gaps(frame, model=model, optimizer=optimizer) for model in ("thin", "wide"))
    return stats.report(
        {seed: wide[seed] - thin[seed] for seed in wide if seed in thin}, f"gap of the wide net minus thin, {optimizer}"
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for kind in settings.networks:
        for optimizer in settings.optimizers:
            cells = compared(frame, model=kind, optimizer=optimizer)
            rows.append({"network": TITLES[kind], "optimiser": "SGD" if optimizer == "sgd" else "Adam", **cells})
    return pd.DataFrame(rows)


EXHIBIT = Exhibit(
    name="warmstart/architecture",
    title="Beyond the paper: the gap by network",
    caption=(
        "Validation accuracy in percent on CIFAR-10, mean and standard deviation over seeds, of networks fitted to half of "
        "the data first (warm start) and from random weights, and the paired gap. Replications differ from the authors in "
        "the width of the ResNet-18."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=two_phase_rows,
    draw=draw,
    claims=(
        Claim(
            "AR1",
            "Warm starting hurts thin and wide ResNets, with BatchNorm and with GroupNorm.",
            "beyond the paper; section 3",
            every_network_suffers,
        ),
        Claim("AR2", "How much the width changes the gap.", "beyond the paper", width),
    ),
)
