"""Table 1: standard and verified error on MNIST (eps 0.4) and CIFAR-10 (eps 8/255) of three networks and three methods.

Vanilla IBP (full BatchNorm, no IBP initialisation, no regulariser), CROWN-IBP (the same with the warm-up bound mixed with
CROWN-IBP) and ours (IBP initialisation, L_tightness, L_relu). MNIST 70 epochs, CIFAR-10 70 and 160. CNN-7 five times,
Wide-ResNet and ResNeXt three times; Adam, 5e-4, eps schedule by batch. Every network is verified with auto_LiRPA.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/table1``
Expected (printed), verified error of CNN-7, vanilla / CROWN-IBP / ours: MNIST 12.03 / 12.04 / 11.03, CIFAR-10 with 70
epochs 69.88 / 71.29 / 68.81, with 160 epochs 67.01 / 69.67 / 65.58 %.
Cost: 99 trainings and as many verifications, 2.5e18 FLOP; about 4 minutes a CIFAR-10 CNN-7 of 160 epochs on an H200.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.certified.cells import DIGITS, error_cells, heading, literature_rows
from bench.certified.design import (
    BLOCKS,
    CROWN_IBP,
    METHODS,
    MODELS,
    NAMES,
    OURS,
    VANILLA,
    CertifiedSettings,
    Course,
    Model,
    absolute,
    among,
    cells_of,
    error_rows,
    lower,
    trained_and_verified,
)
from bench.exhibit import LABELS, ArmRun, Claim, Exhibit, Row, by_seed

if TYPE_CHECKING:
    import pandas as pd

CELL = ("panel", "dataset", "model")
CIFAR_160 = BLOCKS["cifar_160"].panel
RESIDUAL = ("wide_resnet", "resnext")


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"residual_seeds", "courses", "residual_courses"}

    seeds: int = Field(5, ge=1, le=1000, description="repetitions of CNN-7 [P]")
    residual_seeds: int = Field(3, ge=1, le=1000, description="repetitions of Wide-ResNet and ResNeXt [P]")
    courses: tuple[Course, ...] = Field(("mnist_70", "cifar_70", "cifar_160"), description="blocks of rows [P]")
    residual_courses: tuple[Course, ...] | None = Field(
        None, description="blocks in which Wide-ResNet and ResNeXt are run; None is all"
    )

    def seeds_of(self, labels: Mapping[str, Any]) -> range:
        repetitions = self.residual_seeds if labels["model"] in RESIDUAL else self.seeds
        return range(self.first_seed, self.first_seed + repetitions)

    def models_of(self, course: Course) -> list[Model]:
        """Networks that are run in a block of rows."""
        whole = self.residual_courses is None or course in self.residual_courses
        return [model for model in MODELS if whole or model not in RESIDUAL]


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for course in settings.courses:
        for model in settings.models_of(course):
            seeds = settings.seeds_of({"model": model})
            for method in METHODS:
                made += trained_and_verified(settings, course, model, method, seeds)
    return made


def best_runs(frame: pd.DataFrame) -> Iterable[Row]:
    """Both errors of the repetition of ours with the least verified error, for each setting and network."""
    own = frame[frame["method"] == OURS]
    for _, rows in own[own["metric"] == "verified_error"].groupby(list(CELL), sort=False):
        best = rows.loc[rows["value"].idxmin()]
        labels = {label: best[label] for label in LABELS}
        same = own[(own[list(CELL)] == best[list(CELL)]).all(axis=1) & (own["seed"] == best["seed"])]
        for metric in ("standard_error", "verified_error"):
            value = float(same[same["metric"] == metric]["value"].iloc[0])
            yield {**labels, "seed": int(best["seed"]), "metric": f"{metric}_best_run", "value": value}


def _ours_lowest(frame: Any, models: tuple[str, ...]) -> stats.Finding:
    return stats.all_of(
        [
            lower(frame, metric, OURS, than, **cell)
            for cell in cells_of(frame, *CELL, model=models)
            for metric in ("verified_error", "standard_error")
            for than in (VANILLA, CROWN_IBP)
        ]
    )


def ours_lowest_cnn7(frame: Any) -> stats.Finding:
    """T1a: both errors, every block of rows."""
    return _ours_lowest(frame, ("cnn7",))


def ours_lowest_residual(frame: Any) -> stats.Finding:
    """T1b: the same for Wide-ResNet and ResNeXt."""
    return _ours_lowest(frame, RESIDUAL)


def _gaps(frame: Any, models: tuple[str, ...]) -> stats.Finding:
    cells = cells_of(frame, *CELL, model=models)
    return stats.all_of([lower(frame, "verified_error", OURS, VANILLA, by=0.4, **cell) for cell in cells])


def gaps_cnn7(frame: Any) -> stats.Finding:
    """T1c: printed gaps of CNN-7 are 1.0, 1.1 and 1.4 points."""
    return _gaps(frame, ("cnn7",))


def gaps_residual(frame: Any) -> stats.Finding:
    """T1d: printed gaps 1.2, 1.1, 1.5 (Wide-ResNet) and 1.9, 0.6, 1.4 (ResNeXt)."""
    return _gaps(frame, RESIDUAL)


def crown_worse_on_cifar(frame: Any) -> stats.Finding:
    """T1e: every block and network on CIFAR-10."""
    cells = cells_of(frame, *CELL, dataset="cifar10")
    return stats.all_of([lower(frame, "verified_error", VANILLA, CROWN_IBP, **cell) for cell in cells])


def crown_alike_on_mnist(frame: Any) -> stats.Finding:
    """T1f: printed differences are 0.01 and 0.17. ResNeXt's printed spread (0.94) is wider than any useful margin."""
    parts = []
    for cell in cells_of(frame, *CELL, dataset="mnist", model=("cnn7", "wide_resnet")):
        crown, vanilla = (by_seed(frame, "verified_error", method=name, **cell) for name in (CROWN_IBP, VANILLA))
        parts.append(stats.equivalent(crown, vanilla, margin=0.5))
    return stats.all_of(parts)


def longer_is_better(frame: Any) -> stats.Finding:
    """T1g: every method and network that both CIFAR-10 schedules have."""
    short, long = (
        {(cell["model"], cell["method"]) for cell in cells_of(frame, "model", "method", panel=BLOCKS[course].panel)}
        for course in ("cifar_70", "cifar_160")
    )
    parts = []
    for model, method in sorted(short & long):
        early, late = (
            by_seed(frame, "verified_error", model=model, method=method, panel=BLOCKS[course].panel)
            for course in ("cifar_70", "cifar_160")
        )
        parts.append(stats.greater(early, late, name=f"70 - 160 epochs, {NAMES[method]}, {model}"))
    return stats.all_of(parts)


def resnext_worst(frame: Any) -> stats.Finding:
    """T1h: in every block and method; CNN-7 and ResNeXt are paired in the seeds that both have."""
    parts = []
    for cell in cells_of(frame, "panel", "dataset", "method", model="resnext"):
        worst = by_seed(frame, "verified_error", model="resnext", **cell)
        for model in ("cnn7", "wide_resnet"):
            other = among(by_seed(frame, "verified_error", model=model, **cell), worst)
            parts.append(stats.greater(worst, other, name=f"ResNeXt - {MODELS[model]}, {NAMES[cell['method']]}"))
    return stats.all_of(parts)


def _best_below(frame: Any, threshold: float, **cell: Any) -> stats.Finding:
    """Whether our best repetition lies below a number of other work.

    A minimum has no interval of its own: when the mean lies below with certainty, so does the best. Where the mean does
    not, the observed best keeps the test from failing.
    """
    values = by_seed(frame, "verified_error", method=OURS, **cell)
    outcome = stats.below(values, threshold, name="mean of ours")
    if outcome.verdict == "not reproduced" and min(values.values()) < threshold:
        outcome = stats.describe(values, verdict="undecided", detail=f"best {min(values.values()):.2f}")
    return absolute(frame, outcome, method=OURS, **cell)


def beats_long_training(frame: Any) -> stats.Finding:
    """T1i: 66.62 % is CROWN-IBP with loss fusion after 2,000 epochs (Xu et al.)."""
    return _best_below(frame, 66.62, panel=CIFAR_160, model="cnn7")


def beats_crown_ibp_on_mnist(frame: Any) -> stats.Finding:
    """T1j: 12.06 % is CROWN-IBP after 200 epochs (Zhang et al.)."""
    return _best_below(frame, 12.06, dataset="mnist", model="cnn7")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, str]] = []
    for course in settings.courses:
        for model in settings.models_of(course):
            for method in METHODS:
                cell = {"panel": BLOCKS[course].panel, "dataset": BLOCKS[course].role, "model": model, "method": method}
                head = {**heading(settings, course, model), "method": NAMES[method]}
                rows.append({**head, **error_cells(frame, published, **cell)})
            rows.append({**heading(settings, course, model), **_best_run(frame, published, course, model)})
    return pd.DataFrame([*rows, *literature_rows(published)]).fillna("")


def _best_run(frame: pd.DataFrame, published: pd.DataFrame, course: Course, model: Model) -> dict[str, str]:
    """The repetition of ours with the least verified error, as the paper's row "Ours (best)"."""
    from bench.report.table import compare

    cell: dict[str, Any] = {"panel": BLOCKS[course].panel, "dataset": BLOCKS[course].role, "model": model}
    errors = {
        f"{kind} error": compare(frame, published, metric=f"{kind}_error_best_run", digits=DIGITS, **cell)
        for kind in ("standard", "verified")
    }
    return {"method": "ours (best run)", **errors}


EXHIBIT = Exhibit(
    name="certified/table1",
    title="Table 1: standard and verified error on MNIST and CIFAR-10",
    caption=(
        "Errors in percent, mean and standard deviation over seeds, with the published value in brackets. Verified "
        "errors are of the last epoch, on the whole test set, through auto_LiRPA by interval bounds (IBP) and by "
        "CROWN-IBP; the error under a PGD attack bounds them from below. The best epoch is chosen on the test set and "
        "therefore optimistic. Rows of other work are as printed."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=error_rows,
    draw=draw,
    derive=best_runs,
    margins={"standard_error": 1.0, "verified_error": 1.0},
    claims=(
        Claim(
            "T1a",
            "With CNN-7, ours has lower verified and standard errors than vanilla IBP and CROWN-IBP, in every setting.",
            "Table 1",
            ours_lowest_cnn7,
        ),
        Claim(
            "T1b",
            "The same holds for Wide-ResNet and ResNeXt.",
            "Table 1",
            ours_lowest_residual,
        ),
        Claim(
            "T1c",
            "Ours lowers CNN-7's verified error by more than 0.4 points against vanilla IBP, in every setting.",
            "Table 1",
            gaps_cnn7,
        ),
        Claim(
            "T1d",
            "Ours lowers the verified error of Wide-ResNet and ResNeXt by more than 0.4 points against vanilla IBP.",
            "Table 1",
            gaps_residual,
        ),
        Claim(
            "T1e",
            "On CIFAR-10 CROWN-IBP has a higher verified error than vanilla IBP on these short schedules.",
            "Table 1",
            crown_worse_on_cifar,
        ),
        Claim(
            "T1f",
            "On MNIST CROWN-IBP and vanilla IBP have the same verified error (within 0.5 points).",
            "Table 1",
            crown_alike_on_mnist,
        ),
        Claim(
            "T1g",
            "On CIFAR-10 every method has a lower verified error after 160 epochs than after 70.",
            "Table 1",
            longer_is_better,
        ),
        Claim(
            "T1h",
            "ResNeXt has the highest verified error of the three networks, whatever the method.",
            "Table 1",
            resnext_worst,
        ),
        Claim(
            "T1i",
            "Ours with CNN-7 and 160 epochs beats 66.62 % verified error, which took 2,000 epochs before.",
            "Table 1, section 4",
            beats_long_training,
            not_expected_at={
                "ci": "generated images have error levels of their own",
                "small": "a fraction of the images and epochs cannot reach the level of the whole training",
            },
        ),
        Claim(
            "T1j",
            "Ours on MNIST beats 12.06 % verified error, which took 200 epochs before.",
            "Table 1, section 4",
            beats_crown_ibp_on_mnist,
            not_expected_at={
                "ci": "generated images have error levels of their own",
                "small": "a fraction of the images and epochs cannot reach the level of the whole training",
            },
        ),
    ),
)
