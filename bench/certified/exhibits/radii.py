"""Other radii (Appendix B): MNIST at eps 0.1 and 0.3, CIFAR-10 at 2/255 and 16/255, CNN-7, and MNIST 0.4 networks at 0.3.

The appendix is known through later work that cites its best values; the grid of rows is ours: three methods, Table 1's
schedules, three seeds. The cited standard error at MNIST 0.3 equals Table 1's at 0.4, so those networks are verified at 0.3
too. At 16/255 there is no number to hold ours against.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/radii``
Expected (100 minus cited accuracies, best of ours), standard / verified error: MNIST 0.1 1.16 / 2.05, MNIST 0.3 2.33 /
6.90, CIFAR-10 2/255 33.16 / 47.15 %.
Cost: 36 trainings of CNN-7, half of them of 160 epochs on CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.certified.cells import DIGITS, error_cells, values_of
from bench.certified.design import (
    BLOCKS,
    DATASETS,
    METHODS,
    NAMES,
    OURS,
    CertifiedSettings,
    Course,
    Role,
    departure,
    labels_of,
    radius_text,
)
from bench.certified.spec import Certified, Verification
from bench.exhibit import ArmRun, Exhibit, Row, row
from bench.record import Record
from bench.run import StrictModel

if TYPE_CHECKING:
    import pandas as pd

COURSES: dict[Role, Course] = {"mnist": "mnist_70", "cifar10": "cifar_160"}
AT_TARGET = "trained at eps 0.4"
"""Panel of Table 1's MNIST networks that are verified at another radius."""


class Radius(StrictModel):
    """A radius of the paper on one of its data sets."""

    role: Role = Field(description="data set")
    eps: float = Field(gt=0, lt=1, description="published radius, pixels from 0 to 1")


PUBLISHED = (
    Radius(role="mnist", eps=0.1),
    Radius(role="mnist", eps=0.3),
    Radius(role="cifar10", eps=2 / 255),
    Radius(role="cifar10", eps=16 / 255),
)
SMALLER = 0.3
"""Radius at which the networks trained at 0.4 are verified as well."""


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"radii", "target_networks"}

    seeds: int = Field(3, ge=1, le=1000, description="repetitions [U]")
    radii: tuple[Radius, ...] = Field(PUBLISHED, description="data sets and radii [U]")
    target_networks: bool = Field(True, description="verify Table 1's MNIST networks at 0.3 too")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for radius in settings.radii:
        course = COURSES[radius.role]
        for method in METHODS:
            labels = labels_of(course, "cnn7", method, eps=radius.eps)
            for seed in settings.seed_range():
                trained = settings.training(course, "cnn7", method, seed, radius=radius.eps)
                made += [ArmRun(labels, trained), ArmRun(labels, settings.verification(trained))]
    if settings.target_networks:
        for method in METHODS:
            labels = {**labels_of("mnist_70", "cnn7", method, eps=SMALLER), "panel": AT_TARGET}
            for seed in settings.seed_range():
                trained = settings.training("mnist_70", "cnn7", method, seed)
                eps = settings.radius("mnist", SMALLER)
                made.append(ArmRun(labels, settings.verification(trained, eps=eps)))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    if isinstance(member.spec, Certified):
        for name in ("best_standard_error", "best_verified_error"):
            yield row(member, name, record.metrics[name])
        return
    assert isinstance(member.spec, Verification)
    for name in ("standard_error", "pgd_error"):
        yield row(member, name, record.metrics[name])
    yield row(member, "verified_error", record.metrics["verified_error_ibp"])
    yield row(member, "verified_error_crown_ibp", record.metrics["verified_error_crown_ibp"])
    yield row(member, "test_images", record.metrics["samples"])


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, str]] = []
    for radius in settings.radii:
        course = COURSES[radius.role]
        for method in METHODS:
            rows.append(_row(frame, published, settings, course, method, radius.eps, BLOCKS[course].panel))
    if settings.target_networks:
        rows += [_row(frame, published, settings, "mnist_70", method, SMALLER, AT_TARGET) for method in METHODS]
    return pd.DataFrame(rows)


def _row(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    settings: Settings,
    course: Course,
    method: str,
    eps: float,
    panel: str,
) -> dict[str, str]:
    role = BLOCKS[course].role
    own = settings.radius(role, eps)
    shown = radius_text(eps) if abs(own - eps) < 1e-6 else f"{radius_text(eps)} → {radius_text(own)}"
    cell: dict[str, Any] = {"panel": panel, "dataset": role, "method": method, "x": round(eps, 9)}
    cells = {
        "data set": DATASETS[role],
        "eps": f"{shown} ({AT_TARGET})" if panel == AT_TARGET else shown,
        "schedule": departure(settings, course),
        "method": NAMES[method],
        **error_cells(frame, published.iloc[:0], **cell),
    }
    cited = published.assign(seed=0)
    best = [
        values_of(cited, f"{kind}_error", dataset=role, x=round(eps, 9)) if method == OURS else {}
        for kind in ("standard", "verified")
    ]
    cells["best of ours, cited"] = " / ".join(f"{v[0]:.{DIGITS}f}" for v in best) if all(best) else "–"
    return cells


EXHIBIT = Exhibit(
    name="certified/radii",
    title="Other radii (Appendix B)",
    caption=(
        "CNN-7: errors in percent, mean and standard deviation over seeds; verified errors of the last epoch, on the whole "
        "test set, through auto_LiRPA. The last column has what later work cites as the paper's best values; rows without "
        "one have no number to be held against."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
)
