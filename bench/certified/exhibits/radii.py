"""Other radii (Appendix B).

CNN-7 on MNIST at eps 0.1 and 0.3 and on CIFAR-10 at 2/255 and 16/255, and MNIST 0.4 networks at 0.3. The appendix is known
through later work that cites its best values; the grid of rows is ours: three methods, Table 1's schedules, three seeds. The
cited standard error at MNIST 0.3 equals Table 1's at 0.4, so those networks are verified at 0.3 too. At 16/255 there is no
number to compare ours with.

Expected (100 minus cited accuracies, best of ours), standard / verified error: MNIST 0.1 1.16 / 2.05, MNIST 0.3 2.33 /
6.90, CIFAR-10 2/255 33.16 / 47.15 %.
Cost: 36 trainings of CNN-7, half of them of 160 epochs on CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from bench.certified.design import (
    METHODS,
    NAMES,
    OURS,
    PAPER_DATASETS,
    SETUPS,
    CertifiedSettings,
    PaperDataset,
    SetupName,
    labels_of,
    published_radius,
    scaled_radius_text,
    schedule_text,
    trained_and_verified,
)
from bench.certified.exhibits._rows import chance_of_error, error_rows
from bench.certified.exhibits._tables import DIGITS, KINDS, Line, error_tables
from bench.certified.spec import Verification
from bench.exhibit import Arm, ArmRun, Row
from bench.record import Record
from bench.run import StrictModel

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "CNN-7: errors in percent, mean and standard deviation over seeds; verified errors of the last epoch, on the whole "
    "test set, through auto_LiRPA. The last column has what later work cites as the paper's best values; rows without "
    "one have no published number."
)

SCHEDULES: dict[PaperDataset, SetupName] = {"mnist": "mnist_70", "cifar10": "cifar_160"}
AT_TARGET = "trained at eps 0.4"
"""Panel of Table 1's MNIST networks that are verified at another radius."""
SMALLER = 0.3
"""That radius."""


class Radius(StrictModel):
    """A radius of the paper on one of its data sets."""

    role: PaperDataset = Field(description="data set")
    eps: float = Field(gt=0, lt=1, description="published radius, pixels from 0 to 1")


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"radii", "target_networks"}

    seeds: int = Field(3, ge=1, le=1000, description="repetitions [U]")
    radii: tuple[Radius, ...] = Field(
        (
            Radius(role="mnist", eps=0.1),
            Radius(role="mnist", eps=0.3),
            Radius(role="cifar10", eps=2 / 255),
            Radius(role="cifar10", eps=16 / 255),
        ),
        description="data sets and radii [U]",
    )
    target_networks: bool = Field(True, description="verify Table 1's MNIST networks at 0.3 too")


def _at_smaller_radius(settings: Settings, method: str, seed: int) -> Verification:
    training = settings.training("mnist_70", "cnn7", method, seed)
    return settings.verification("mnist", training, eps=settings.radius("mnist", SMALLER))


def arms(settings: Settings) -> Iterator[Arm]:
    for radius in settings.radii:
        setup = SCHEDULES[radius.role]
        for method in METHODS:
            labels = labels_of(setup, "cnn7", method, eps=radius.eps)
            yield from trained_and_verified(settings, setup, "cnn7", method, labels=labels, radius=radius.eps)
    if settings.target_networks:
        for method in METHODS:
            labels = {**labels_of("mnist_70", "cnn7", method, eps=SMALLER), "panel": AT_TARGET}
            yield Arm(labels, partial(_at_smaller_radius, settings, method))


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    return (number for number in error_rows(run, record) if number["metric"] != "at_protocol")


chance = chance_of_error


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> dict[str, pd.DataFrame]:
    blocks = [(SCHEDULES[radius.role], radius.eps, SETUPS[SCHEDULES[radius.role]].panel) for radius in settings.radii]
    if settings.target_networks:
        blocks.append(("mnist_70", SMALLER, AT_TARGET))
    lines, cited = [], []
    for setup, eps, panel in blocks:
        role = SETUPS[setup].role
        radius, trained = (scaled_radius_text(settings, role, value) for value in (eps, published_radius(role)))
        text = f"{radius} (trained at eps {trained})" if panel == AT_TARGET else radius
        head = (PAPER_DATASETS[role], text, schedule_text(settings, setup))
        for method in METHODS:
            labels = {"panel": panel, "dataset": role, "method": method, "x": round(eps, 9)}
            lines.append(Line((*head, NAMES[method]), labels))
            cited.append(_cited(published, role, eps) if method == OURS else "–")
    names = ("data set", "eps", "epochs", "method")
    tables = error_tables(frame, published.iloc[:0], names, lines, {"CNN-7": {}}, of="network", within=names)
    tables[""]["CNN-7", "best of ours, cited"] = cited
    return tables


def _cited(published: pd.DataFrame, role: PaperDataset, eps: float) -> str:
    """Standard and verified error that later work cites."""
    numbers = published[(published["x"] == round(eps, 9)) & (published["dataset"] == role)].set_index("metric")["value"]
    errors = [numbers.get(f"{kind}_error") for kind in KINDS]
    return "–" if None in errors else " / ".join(f"{error:.{DIGITS}f}" for error in errors)
