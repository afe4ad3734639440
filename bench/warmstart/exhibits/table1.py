"""Table 1: validation accuracy of fresh and warm-started models on CIFAR-10, SVHN and CIFAR-100.

Models are fitted to half of the data until 99 % train accuracy and then to all of it (warm start, WS), or to all of it
from random weights (RI). ResNet-18, a two-hidden-layer MLP and logistic regression (LR), with SGD and with Adam, learning
rate 1e-3, batches of 128, a third of the training set held out; five seeds that share split, order and initial weights.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/table1``
Expected (printed): CIFAR-10 ResNet SGD 56.2 / 51.7, Adam 78.0 / 74.4; SVHN ResNet Adam shows no gap (93.6 / 93.5).
Cost: 36 cells of 5 seeds and 18 first phases; about 10 M samples for a ResNet cell with SGD, 2 to 3 M with Adam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, by_seed
from bench.warmstart.design import (
    DATASETS,
    MODELS,
    RI,
    WS,
    Role,
    WarmstartSettings,
    final_rows,
    random_init,
    second_phase,
)

if TYPE_CHECKING:
    import pandas as pd

ModelName = Literal["thin_resnet18", "mlp", "logistic"]


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"datasets", "models", "optimizers"}

    datasets: tuple[Role, ...] = Field(("cifar10", "svhn", "cifar100"), description="data sets [P]")
    models: tuple[ModelName, ...] = Field(("thin_resnet18", "mlp", "logistic"), description="models [P]")
    optimizers: tuple[Literal["sgd", "adam"], ...] = Field(("sgd", "adam"), description="optimisers [P]")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for role in settings.datasets:
        for model in settings.models:
            for optimizer in settings.optimizers:
                for method, run in ((RI, random_init), (WS, second_phase)):
                    labels = {"dataset": role, "model": model, "method": method, "optimizer": optimizer}
                    made += [
                        ArmRun(labels, run(settings, role, model, optimizer, seed)) for seed in settings.seed_range()
                    ]
    return made


def gap(frame: Any, role: str, model: str, optimizer: str) -> tuple[dict[int, float], dict[int, float]]:
    """Seed -> accuracy of RI and of WS in one cell."""
    labels = {"dataset": role, "model": model, "optimizer": optimizer}
    return by_seed(frame, "val_acc", method=RI, **labels), by_seed(frame, "val_acc", method=WS, **labels)


def _cells(frame: Any) -> list[tuple[str, str, str]]:
    return list(frame[["dataset", "model", "optimizer"]].drop_duplicates().itertuples(index=False, name=None))


def _fresh_is_better(frame: Any, model: str, *exceptions: tuple[str, str, str]) -> stats.Finding:
    cells = [cell for cell in _cells(frame) if cell[1] == model and cell not in exceptions]
    if not cells:
        raise KeyError(f"no {model} cell")
    return stats.all_of([stats.greater(*gap(frame, *cell), name=" ".join(cell)) for cell in cells])


def warm_started_resnets_generalise_worse(frame: Any) -> stats.Finding:
    """T1a, ResNets. The printed exception, SVHN with Adam (gap 0.1), is left out."""
    return _fresh_is_better(frame, "thin_resnet18", ("svhn", "thin_resnet18", "adam"))


def warm_started_mlps_generalise_worse(frame: Any) -> stats.Finding:
    """T1a, MLPs: printed gaps are 0.9 to 7.3 points."""
    return _fresh_is_better(frame, "mlp")


def logistic_regression_does_not(frame: Any) -> stats.Finding:
    """T1b: no cell shows a gap; the margin is the largest printed one, 0.9 points (CIFAR-10, SGD)."""
    cells = [cell for cell in _cells(frame) if cell[1] == "logistic"]
    if not cells:
        raise KeyError("no logistic cell")
    return stats.all_of([stats.equivalent(*gap(frame, *cell), margin=0.9) for cell in cells])


def svhn_suffers_less(frame: Any) -> stats.Finding:
    """T1c: the ResNet's gap on CIFAR-10 exceeds that on SVHN."""

    def gaps(role: str, optimizer: str) -> dict[int, float]:
        fresh, warm = gap(frame, role, "thin_resnet18", optimizer)
        return {seed: fresh[seed] - warm[seed] for seed in fresh if seed in warm}

    optimizers = sorted({cell[2] for cell in _cells(frame) if cell[:2] == ("svhn", "thin_resnet18")})
    if not optimizers:
        raise KeyError("no SVHN cell")
    return stats.all_of([stats.greater(gaps("cifar10", name), gaps("svhn", name)) for name in optimizers])


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    from bench.report.table import compare

    own = published[published["provenance"] == "printed"]
    rows = []
    for role in settings.datasets:
        for method in (RI, WS):
            cells: dict[str, Any] = {"data set": DATASETS[role], "start": "RI" if method == RI else "WS"}
            for model in settings.models:
                for optimizer in settings.optimizers:
                    where: dict[str, Any] = {"dataset": role, "model": model, "method": method, "optimizer": optimizer}
                    column = f"{MODELS[model]} {'SGD' if optimizer == 'sgd' else 'Adam'}"
                    cells[column] = compare(frame, own, metric="val_acc", **where)
            rows.append(cells)
    return pd.DataFrame(rows)


EXHIBIT = Exhibit(
    name="warmstart/table1",
    title="Table 1: validation accuracy, random initialisation against warm start",
    caption=(
        "Validation accuracy in percent, mean and standard deviation over seeds, with the published value in brackets. "
        "Warm-started models (WS) were fitted to half of the data first; both are fitted to all of it to 99 % train "
        "accuracy or a plateau."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=final_rows,
    draw=draw,
    margins={"val_acc": 2.0},
    claims=(
        Claim(
            "T1a",
            "Warm-started ResNets generalise worse than freshly initialised ones.",
            "Table 1, section 3",
            warm_started_resnets_generalise_worse,
        ),
        Claim(
            "T1a-mlp",
            "Warm-started MLPs generalise worse than freshly initialised ones.",
            "Table 1, section 3",
            warm_started_mlps_generalise_worse,
            not_expected_at={
                "ci": "on shifted colour fields an MLP fits all that it sees and its gaps are below a point"
            },
        ),
        Claim(
            "T1b",
            "Logistic regression does not suffer from a warm start.",
            "Table 1, section 3",
            logistic_regression_does_not,
        ),
        Claim(
            "T1c",
            "The damage to the ResNet is larger on CIFAR-10 than on SVHN.",
            "Table 1",
            svhn_suffers_less,
            not_expected_at={"ci": "both stand-ins are generated alike and equally hard"},
        ),
    ),
)
