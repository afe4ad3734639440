"""Table 4: a warm start with noise and without shrinking.

Table 1's two phases on CIFAR-10 with a ResNet-18 and SGD; between them iid Gaussian noise of one size is added to all
parameters. The table's header calls the size a standard deviation, the authors' code takes its square root, so that it is a
variance: both readings are run, and the printed numbers are compared with the second.

Expected (printed): 54.4, 53.5, 52.9, 49.9 % for noise 1e-2 to 1e-5, 50.8 % without, 55.2 % for random initialisation.
Cost: eight second phases a seed beyond those of Table 1, 2 to 10 M samples each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report.table import compare
from bench.stats import Values
from bench.warmstart.design import RI, WS, Setup, WarmstartSettings, arm
from bench.warmstart.exhibits._rows import accuracy_row, chance_of, combinations, where
from bench.warmstart.exhibits._tables import printed, table
from bench.warmstart.runs import noise_start, random_init, second_phase

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Validation accuracy and cost of the second phase by size of the Gaussian noise, which is read as a variance and "
    "as a standard deviation; mean and standard deviation over seeds, printed values in brackets. The printed minutes "
    "are of one P100 and are context."
)
MARGINS = {"val_acc": 2.0}
ONE_SEED = {"ci": "one seed has no interval"}
NOISY = "warm_start_noise"
METRICS = {"val_acc": ("accuracy (%)", 1), "samples_to_stop": ("samples", 0), "train_time": ("minutes", 1)}
"""Metric -> name of its row, digits."""
PRINTED = ("val_acc", "train_time")
"""The rows of the paper's table."""
Reading = Literal["variance", "std"]
READINGS: dict[Reading, str] = {"variance": "variance", "std": "standard deviation"}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"noise"}

    noise: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-2, 1e-3, 1e-4, 1e-5), description="sizes of the noise [P]"
    )
    readings: tuple[Reading, ...] = Field(
        ("variance", "std"), description="what a size is: the first is compared with the printed numbers [C, P]"
    )

    def panels(self) -> dict[Reading, str]:
        """Reading -> panel of its numbers: that of the printed numbers, which name none, for the first."""
        return {reading: "" if reading == self.readings[0] else reading for reading in self.readings}


def arms(settings: Settings) -> Iterator[Arm]:
    setup, at = Setup(), {"optimizer": None, "x_name": "noise"}  # the printed numbers name no optimiser
    yield arm(random_init, settings, setup, {"optimizer": None, "method": RI})
    yield arm(second_phase, settings, setup, {**at, "method": WS, "x": 0.0})
    for reading, panel in settings.panels().items():
        for size in settings.noise:
            labels = {**at, "panel": panel, "method": NOISY, "x": size}
            yield arm(second_phase, settings, setup, labels, start=noise_start(size, reading))


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    yield accuracy_row(run, record)
    yield row(run, "samples_to_stop", record.costs["samples"])
    if record.alone:
        yield row(run, "train_time", record.costs["seconds"] / 60)


chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> dict[str, pd.DataFrame]:
    def lines(reading: Reading, metrics: Iterable[str]) -> Iterator[dict[Any, str]]:
        panel, paper = settings.panels()[reading], printed(published)
        noisy = paper.assign(
            panel=panel
        )  # the printed values name no reading: they stand beside both, judged by the first
        if panel:
            noisy = noisy.drop(columns="margin", errors="ignore")
        for metric in metrics:
            name, digits = METRICS[metric]
            cells: dict[Any, str] = {"noise is a": READINGS[reading], "": name}
            for size in settings.noise:
                labels: dict[str, Any] = {"panel": panel, "method": NOISY, "x": size}
                cells["noise", f"{size:g}"] = compare(frame, noisy, metric=metric, digits=digits, **labels)
            for column, method in ((("noise", "0"), WS), (("RI", ""), RI)):
                cells[column] = compare(frame, paper, metric=metric, digits=digits, method=method)
            yield cells

    first, *others = settings.readings
    more = [*lines(first, ["samples_to_stop"]), *(line for reading in others for line in lines(reading, METRICS))]
    heads = ("noise is a", "")
    return {
        "": table(lines(first, PRINTED), *heads),
        "Cost in samples, and the other reading of the size": table(more, *heads),
    }


def noisy_arms(frame: Any) -> list[tuple[str, float]]:
    """Panel and size of the arms with noise."""
    return [(panel, x) for panel, x in combinations(where(frame, method=NOISY), "panel", "x")]


def most_and_none(frame: Any, metric: str) -> tuple[Values, Values]:
    """The largest noise of the first reading, and no noise."""
    most = max(x for panel, x in noisy_arms(frame) if panel == "")
    return by_seed(frame, metric, panel="", method=NOISY, x=most), by_seed(frame, metric, method=WS)


@claim("T4a", "More noise gives a higher accuracy than none.", "Table 4", not_expected_at=ONE_SEED)
def noise_helps(frame: Any) -> stats.Finding:
    return stats.greater(*most_and_none(frame, "val_acc"))


@claim("T4b", "More noise takes longer to train than none.", "Table 4", not_expected_at=ONE_SEED)
def noise_costs(frame: Any) -> stats.Finding:
    return stats.greater(*most_and_none(frame, "samples_to_stop"))


@claim(
    "T4c",
    "No size of noise is both more accurate and cheaper than random initialisation.",
    "Table 4, section 4",
    not_expected_at=ONE_SEED,
)
def nothing_beats_fresh(frame: Any) -> Iterator[stats.Finding]:
    fresh, cost = (by_seed(frame, metric, method=RI) for metric in ("val_acc", "samples_to_stop"))
    for panel, x in noisy_arms(frame):
        labels = {"panel": panel, "method": NOISY, "x": x}
        accuracy, samples = (by_seed(frame, metric, **labels) for metric in ("val_acc", "samples_to_stop"))
        name = f"noise {x:g}{f' ({panel})' if panel else ''}"
        less_accurate = stats.greater(fresh, accuracy, name=f"RI's accuracy over {name}'s")
        yield stats.any_of([less_accurate, stats.greater(samples, cost, name=f"samples of {name} over RI's")])
