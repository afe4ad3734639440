"""Sweeps of section 7.2: lambda and noise on another data set, with an MLP, with weight decay, and after pre-training.

The online protocol of Figure 8 over a coarse grid of shrink-perturb; for pre-training a ResNet-18 that was fitted to
CIFAR-100 goes on with a part of CIFAR-10, as in Figure 9. The paper's grids are not known; ours has four lambdas and three
noise scales. Adam, learning rate 1e-3, batch 128.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/sweeps``
Expected: the trend of Figure 8 in each: a region of lambda below 1 and s above 0 that is more accurate than warm starting
and cheaper than random initialisation. No numbers are available.
Cost: 13 online runs a seed for each of three kinds, about 400 M samples, and 14 short ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.appendix import Perturb, Shrink, distinct, gaps
from bench.warmstart.design import FRESH, KEPT, NAMES, RI, WS, Role, WarmstartSettings, online, shrink_start, transfer
from bench.warmstart.spec import Restart, Training

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Kind = Literal["dataset", "mlp", "weight_decay", "transfer"]
TITLES = {
    "dataset": "another data set: SVHN",
    "mlp": "MLP on CIFAR-10",
    "weight_decay": "weight decay",
    "transfer": "pre-training: CIFAR-100 to CIFAR-10",
}
WHERE: dict[str, tuple[Role, str]] = {
    "dataset": ("svhn", "thin_resnet18"),
    "mlp": ("cifar10", "mlp"),
    "weight_decay": ("cifar10", "thin_resnet18"),
    "transfer": ("cifar10", "thin_resnet18"),
}


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"kinds"}

    kinds: tuple[Kind, ...] = Field(
        ("dataset", "mlp", "weight_decay", "transfer"), min_length=1, description="what is swept [U]"
    )
    shrinks: tuple[Shrink, ...] = Field((0.0, 0.3, 0.6, 1.0), min_length=1, description="lambda [O]")
    perturbs: tuple[Perturb, ...] = Field((1e-4, 1e-2, 1.0), min_length=1, description="s [O]")
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    weight_decay: float = Field(1e-3, ge=0, le=1, description="weight decay of its sweep [O]")
    fraction: float = Field(0.3, gt=0, le=1, description="part of the target's training data after pre-training [O]")


def arms(settings: Settings) -> Iterable[tuple[dict[str, Any], Restart]]:
    """Labels and restart of each arm; (0, 1) is random initialisation and (1, 0) a warm start, so neither is a cell."""
    yield {"method": RI}, FRESH
    yield {"method": WS}, KEPT
    for perturb in settings.perturbs:
        for shrink in settings.shrinks:
            if (shrink, perturb) not in ((0.0, 1.0), (1.0, 0.0)):
                yield (
                    {"method": f"s={perturb:g}", "x_name": "shrink", "x": shrink},
                    shrink_start(shrink, perturb),
                )


def run_of(settings: Settings, kind: Kind, start: Restart, seed: int) -> Training:
    role, network = WHERE[kind]
    if kind == "transfer":
        return transfer(settings, "cifar100", role, settings.fraction, seed, start=start)
    decay = settings.weight_decay if kind == "weight_decay" else 0.0
    optimizer = settings.optimizer("adam", weight_decay=decay)
    return online(settings, role, network, optimizer, seed, increment=settings.increment, start=start)


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for kind in settings.kinds:
        role, network = WHERE[kind]
        for labels, start in arms(settings):
            cell = {"panel": kind, "dataset": role, "model": network, "optimizer": "adam", **labels}
            made += [ArmRun(cell, run_of(settings, kind, start, seed)) for seed in settings.seed_range()]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    rounds = record.series["rounds"]["report_acc"]
    yield row(member, "val_acc", record.metrics["report_acc"])
    yield row(member, "val_acc_mean", sum(rounds) / len(rounds))
    yield row(member, "samples_total", record.costs["samples"])


def dominates(frame: Any) -> stats.Finding:
    """SW1: for each kind some cell with lambda below 1 is more accurate than WS and, online, cheaper than RI."""
    kinds = []
    for kind in distinct(frame, "panel"):
        own = frame[(frame["panel"] == kind)]
        cells = own[own["x_name"] == "shrink"][["method", "x"]].drop_duplicates().itertuples(index=False, name=None)
        choices = []
        for method, shrink in cells:
            if shrink < 1:
                at = own[((own["method"] == method) & (own["x"] == shrink)) | own["method"].isin([RI, WS])]
                better = stats.above(gaps(at, first=method), 0.0, name=f"{method} over warm start, {kind}")
                if kind == "transfer":  # the samples of the source are spent already
                    choices.append(better)
                    continue
                cheaper = stats.above(
                    gaps(at, metric="samples_total", second=method), 0.0, name=f"samples saved, {kind}"
                )
                choices.append(stats.all_of([better, cheaper]))
        kinds.append(stats.any_of(choices))
    return stats.all_of(kinds)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    columns = len(settings.kinds)
    drawn, axes = figure.panels(2, columns, height=4.2)
    for column, kind in enumerate(settings.kinds):
        own = frame[frame["panel"] == kind]
        for metric, place in (("val_acc", axes[column]), ("samples_total", axes[columns + column])):
            _panel(place, own[own["metric"] == metric], settings)
        axes[column].set_title(TITLES[kind])
        axes[columns + column].set_xlabel("shrink λ")
    axes[0].set_ylabel("validation accuracy (%)")
    axes[columns].set_ylabel("training samples")
    figure.legend(axes[0], published=False)
    if settings.stand_in:
        drawn.suptitle("generated images stand in" if "synthetic" in settings.stand_in.values() else "stand-ins")
    return drawn


def _panel(place: Any, own: pd.DataFrame, settings: Settings) -> None:
    from bench.report import figure

    for method in (RI, WS):
        try:
            values = list(by_seed(own.assign(metric="value"), "value", method=method).values())
        except KeyError:
            continue
        chosen = figure.look(place, method)
        mean = sum(values) / len(values)
        place.axhline(mean, color=chosen["color"], linestyle=chosen["linestyle"], label=NAMES[method])
    for perturb in settings.perturbs:
        method = f"s={perturb:g}"
        figure.band(place, own[own["method"] == method], series=method, label=method)
    place.set_xlim(-0.05, 1.05)


EXHIBIT = Exhibit(
    name="warmstart/sweeps",
    title="Shrink-perturb elsewhere: another data set, an MLP, weight decay, pre-training",
    caption=(
        "Accuracy (above) and training samples in all (below) by shrink factor and noise scale; horizontal lines are random "
        "initialisation and warm starting. Bands are 95 % intervals over seeds; the paper's numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "SW1",
            "On other data, networks and after pre-training, some shrink-perturb beats a warm start; online it costs less "
            "than fresh training.",
            "Section 7.2",
            dominates,
        ),
    ),
)
