"""Table 2: retraining the last layer of a warm start.

After a first phase on half of the data, the second phase trains the final linear layer alone (LL), or that and then all
layers for at least 350 epochs and until 99 % train accuracy (LL+WS); beside them random initialisation (RI) and the plain
warm start (WS). ResNet-18 on CIFAR-10, SVHN and CIFAR-100, SGD with learning rate 1e-3, batch 128, a third of the training
set held out. The table's content is inferred from the text and the authors' code; its numbers are not available.

Expected: neither way of training the last layer closes the gap.
Cost: RI, first phase and WS are Table 1's own; LL and LL+WS add two runs a data set and seed, 12 to 20 M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, claim
from bench.report.table import compare
from bench.warmstart.design import NAMES, RI, WS, PaperDataset, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._rows import both, chance_of, distinct, final_rows, gaps
from bench.warmstart.exhibits._tables import table
from bench.warmstart.runs import both_arms, first_phase
from bench.warmstart.spec import Round, Training

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Validation accuracy in percent, mean and standard deviation over seeds, when the second phase trains only the "
    "last layer, or the last layer and then all. The paper's numbers are not available."
)
LL, LL_WS = "last_layer", "last_layer_then_all"
STARTS = {RI: "RI", WS: "WS", LL: "last layer", LL_WS: "last layer, then all"}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"datasets"}

    datasets: tuple[PaperDataset, ...] = Field(("cifar10", "svhn", "cifar100"), description="data sets [O]")
    all_epochs: int | None = Field(
        350, ge=1, description="least epochs of all layers after the last, before the run's stopping rule [C]"
    )


def last_layer(settings: Settings, setup: Setup, seed: int) -> Training:
    """LL: the last layer alone is trained, from the first phase of Table 1."""
    rounds = (Round(samples=settings.fit_samples(setup.dataset), trains="last"),)
    return settings.training(setup, seed, rounds=rounds, parent=first_phase(settings, setup, seed), leaves=True)


def then_all(settings: Settings, setup: Setup, seed: int) -> Training:
    """LL+WS: all layers are trained, from LL; the rule cannot end it in its first epochs."""
    rounds = (Round(samples=settings.fit_samples(setup.dataset), least_epochs=settings.all_epochs),)
    return settings.training(setup, seed, rounds=rounds, parent=last_layer(settings, setup, seed))


def arms(settings: Settings) -> Iterator[Arm]:
    for setup in map(Setup, settings.datasets):
        yield from both_arms(settings, setup)
        yield arm(last_layer, settings, setup, {"method": LL})
        yield arm(then_all, settings, setup, {"method": LL_WS})


rows = final_rows
chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> pd.DataFrame:
    lines = (
        {"start": start}
        | {
            NAMES[dataset]: compare(frame, published, metric="val_acc", dataset=dataset, method=method)
            for dataset in settings.datasets
        }
        for method, start in STARTS.items()
    )
    return table(lines, "start")


@claim(
    "T2",
    "Training the last layer alone, or first, does not close the gap to random initialisation.",
    "Section 3.2, Table 2 (content inferred)",
    not_expected_at={"ci": "one seed has no interval"},
)
def gap_remains(frame: Any) -> Iterator[stats.Finding]:
    for dataset, method in product(distinct(frame, "dataset"), (LL, LL_WS)):
        name = f"{NAMES[dataset]}: RI over {STARTS[method]}"
        yield stats.greater(*both(frame, second=method, dataset=dataset), name=name)


@claim(
    "T2-mean",
    "On average over data sets and both ways the gap to random initialisation remains.",
    "Section 3.2, Table 2 (our summary)",
    not_expected_at={"ci": "one seed has no interval"},
)
def gap_remains_on_average(frame: Any) -> stats.Finding:
    settings = product(distinct(frame, "dataset"), (LL, LL_WS))
    return stats.on_average([gaps(frame, second=method, dataset=dataset) for dataset, method in settings], name="gap")
