"""Table 1: standard and verified error on MNIST and CIFAR-10.

Three networks and three methods at eps 0.4 (MNIST) and 8/255 (CIFAR-10): vanilla IBP (full BatchNorm, no IBP
initialisation, no regulariser), CROWN-IBP (the same with the warm-up bound mixed with CROWN-IBP) and ours (IBP
initialisation, L_tightness, L_relu). MNIST 70 epochs, CIFAR-10 70 and 160. CNN-7 five times, Wide-ResNet and ResNeXt three
times; Adam, 5e-4, eps schedule by batch. Every network is verified with auto_LiRPA.

Expected (printed), verified error of CNN-7, vanilla / CROWN-IBP / ours: MNIST 12.03 / 12.04 / 11.03, CIFAR-10 with 70
epochs 69.88 / 71.29 / 68.81, with 160 epochs 67.01 / 69.67 / 65.58 %.
Cost: 99 trainings and as many verifications, 2.5e18 FLOP; about 4 minutes a CIFAR-10 CNN-7 of 160 epochs on an H200.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.certified.design import (
    CROWN_IBP,
    METHODS,
    MODELS,
    NAMES,
    OURS,
    SETUPS,
    VANILLA,
    CertifiedSettings,
    Model,
    SetupName,
    trained_and_verified,
)
from bench.certified.exhibits._rows import absolute, chance_of_error, distinct, error_rows, lower
from bench.certified.exhibits._tables import Line, error_tables, heading, literature_table
from bench.exhibit import LABELS, Arm, Row, by_seed, claim
from bench.stats import Finding, below, describe, equivalent, greater

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Errors in percent, mean and standard deviation over seeds, with the published value in brackets and the lowest in "
    "bold. Verified errors are of the last epoch, on the whole test set, through auto_LiRPA by interval bounds. Further "
    "errors are of CROWN-IBP's bounds, under a PGD attack, which bounds verified errors from below, and of the best "
    "epoch, which is chosen on the test set and therefore optimistic."
)
MARGINS = {"standard_error": 1.0, "verified_error": 1.0}

CELL = ("panel", "dataset", "model")
SHORT, LONG = SETUPS["cifar_70"].panel, SETUPS["cifar_160"].panel
RESIDUAL = ("wide_resnet", "resnext")
OTHER_LEVEL = {
    "ci": "generated images have error levels of their own",
    "small": "a fraction of the images and epochs cannot reach the level of the whole training",
}


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"residual_seeds", "courses", "residual_courses"}

    seeds: int = Field(5, ge=1, le=1000, description="repetitions of CNN-7 [P]")
    residual_seeds: int = Field(3, ge=1, le=1000, description="repetitions of Wide-ResNet and ResNeXt [P]")
    courses: tuple[SetupName, ...] = Field(("mnist_70", "cifar_70", "cifar_160"), description="blocks of rows [P]")
    residual_courses: tuple[SetupName, ...] | None = Field(
        None, description="blocks in which Wide-ResNet and ResNeXt are run; None is all"
    )

    def models_of(self, setup: SetupName) -> list[Model]:
        """Networks that are run in a block of rows."""
        whole = self.residual_courses is None or setup in self.residual_courses
        return [model for model in MODELS if whole or model not in RESIDUAL]


def arms(settings: Settings) -> Iterator[Arm]:
    for setup in settings.courses:
        for model in settings.models_of(setup):
            seeds = settings.residual_seeds if model in RESIDUAL else settings.seeds
            for method in METHODS:
                yield from trained_and_verified(settings, setup, model, method, seeds=seeds)


rows, chance = error_rows, chance_of_error


def derive(frame: pd.DataFrame) -> Iterable[Row]:
    """Both errors of the repetition of ours with the least verified error, for each setup and network."""
    ours = frame[frame["method"] == OURS]
    for _, errors in ours[ours["metric"] == "verified_error"].groupby(list(CELL), sort=False):
        best = errors.loc[errors["value"].idxmin()]
        labels = {label: best[label] for label in LABELS}
        same = ours[(ours[list(CELL)] == best[list(CELL)]).all(axis=1) & (ours["seed"] == best["seed"])]
        for metric in ("standard_error", "verified_error"):
            value = float(same[same["metric"] == metric]["value"].iloc[0])
            yield {**labels, "seed": int(best["seed"]), "metric": f"{metric}_best_run", "value": value}


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> dict[str, pd.DataFrame]:
    """As in the paper; the row "ours (best run)" is the repetition of ours with the least verified error."""
    lines = []
    for setup in settings.courses:
        head, labels = heading(settings, setup), {"panel": SETUPS[setup].panel, "dataset": SETUPS[setup].role}
        lines += [Line((*head, NAMES[method]), {**labels, "method": method}) for method in METHODS]
        lines.append(Line((*head, "ours (best run)"), labels, "_best_run"))
    groups = {name: {"model": model} for model, name in MODELS.items()}
    names = ("data set", "epochs", "method")
    tables = error_tables(frame, published, names, lines, groups, of="network", within=names[:2])
    return tables | literature_table(published)


def _ours_lowest(frame: Any, models: tuple[str, ...]) -> Iterator[Finding]:
    for labels in distinct(frame, *CELL, model=models):
        for metric in ("verified_error", "standard_error"):
            for than in (VANILLA, CROWN_IBP):
                yield lower(frame, metric, OURS, than, **labels)


@claim(
    "T1a",
    "With CNN-7, ours has lower verified and standard errors than vanilla IBP and CROWN-IBP, in every setting.",
    "Table 1",
)
def ours_lowest_cnn7(frame: Any) -> Iterator[Finding]:
    return _ours_lowest(frame, ("cnn7",))


@claim("T1b", "The same holds for Wide-ResNet and ResNeXt.", "Table 1")
def ours_lowest_residual(frame: Any) -> Iterator[Finding]:
    return _ours_lowest(frame, RESIDUAL)


def _gaps(frame: Any, models: tuple[str, ...]) -> Iterator[Finding]:
    for labels in distinct(frame, *CELL, model=models):
        yield lower(frame, "verified_error", OURS, VANILLA, by=0.4, **labels)


@claim(
    "T1c",
    "Ours lowers CNN-7's verified error by more than 0.4 points against vanilla IBP, in every setting.",
    "Table 1",
)
def gaps_cnn7(frame: Any) -> Iterator[Finding]:
    """Printed gaps are 1.0, 1.1 and 1.4 points."""
    return _gaps(frame, ("cnn7",))


@claim(
    "T1d",
    "Ours lowers the verified error of Wide-ResNet and ResNeXt by more than 0.4 points against vanilla IBP.",
    "Table 1",
)
def gaps_residual(frame: Any) -> Iterator[Finding]:
    """Printed gaps are 1.2, 1.1, 1.5 (Wide-ResNet) and 1.9, 0.6, 1.4 (ResNeXt)."""
    return _gaps(frame, RESIDUAL)


@claim("T1e", "On CIFAR-10 CROWN-IBP has a higher verified error than vanilla IBP on these short schedules.", "Table 1")
def crown_worse_on_cifar(frame: Any) -> Iterator[Finding]:
    for labels in distinct(frame, *CELL, dataset="cifar10"):
        yield lower(frame, "verified_error", VANILLA, CROWN_IBP, **labels)


@claim("T1f", "On MNIST CROWN-IBP and vanilla IBP have the same verified error (within 0.5 points).", "Table 1")
def crown_alike_on_mnist(frame: Any) -> Iterator[Finding]:
    """Printed differences are 0.01 and 0.17. ResNeXt's printed spread (0.94) is wider than any useful margin."""
    for labels in distinct(frame, *CELL, dataset="mnist", model=("cnn7", "wide_resnet")):
        crown, vanilla = (by_seed(frame, "verified_error", method=name, **labels) for name in (CROWN_IBP, VANILLA))
        yield equivalent(crown, vanilla, margin=0.5)


@claim("T1g", "On CIFAR-10 every method has a lower verified error after 160 epochs than after 70.", "Table 1")
def longer_is_better(frame: Any) -> Iterator[Finding]:
    """Every method and network that both schedules have."""
    run = [{tuple(labels.values()) for labels in distinct(frame, "model", "method", panel=p)} for p in (SHORT, LONG)]
    for model, method in sorted(run[0] & run[1]):
        short, long = (
            by_seed(frame, "verified_error", model=model, method=method, panel=panel) for panel in (SHORT, LONG)
        )
        yield greater(short, long, name=f"70 - 160 epochs, {NAMES[method]}, {model}")


@claim("T1h", "ResNeXt has the highest verified error of the three networks, whatever the method.", "Table 1")
def resnext_worst(frame: Any) -> Iterator[Finding]:
    """In every block and method; CNN-7 and ResNeXt are paired in the seeds that both have."""
    for labels in distinct(frame, "panel", "dataset", "method", model="resnext"):
        worst = by_seed(frame, "verified_error", model="resnext", **labels)
        for model in ("cnn7", "wide_resnet"):
            other = by_seed(frame, "verified_error", model=model, **labels)
            paired = {seed: value for seed, value in other.items() if seed in worst}
            yield greater(worst, paired, name=f"ResNeXt - {MODELS[model]}, {NAMES[labels['method']]}")


def _best_below(frame: Any, threshold: float, **labels: Any) -> Finding:
    """Whether our best repetition lies below a number of other work.

    A minimum has no interval of its own: when the mean lies below with certainty, so does the best. Where the mean does
    not, the observed best keeps the test from failing.
    """
    values = by_seed(frame, "verified_error", method=OURS, **labels)
    finding = below(values, threshold, name="mean of ours")
    if finding.verdict == "not reproduced" and min(values.values()) < threshold:
        finding = describe(values, verdict="undecided", detail=f"best {min(values.values()):.2f}")
    return absolute(frame, finding, method=OURS, **labels)


@claim(
    "T1i",
    "Ours with CNN-7 and 160 epochs beats 66.62 % verified error, which took 2,000 epochs before.",
    "Table 1, section 4",
    not_expected_at=OTHER_LEVEL,
)
def beats_long_training(frame: Any) -> Finding:
    """The number is that of CROWN-IBP with loss fusion (Xu et al.)."""
    return _best_below(frame, 66.62, panel=LONG, model="cnn7")


@claim(
    "T1j",
    "Ours on MNIST beats 12.06 % verified error, which took 200 epochs before.",
    "Table 1, section 4",
    not_expected_at=OTHER_LEVEL,
)
def beats_crown_ibp_on_mnist(frame: Any) -> Finding:
    """The number is that of CROWN-IBP (Zhang et al.)."""
    return _best_below(frame, 12.06, dataset="mnist", model="cnn7")
