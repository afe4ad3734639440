"""Figure 8: online shrink perturb over shrink factors and noise scales: accuracy and cost.

Figure 2's protocol (CIFAR-10, ResNet-18, Adam) for a grid of lambda and s. The bottom left of the paper's maps is random
initialisation, the top right a warm start; cells whose weights are too small to learn from are blank. The grid is unknown.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig8``
Expected: noise costs no accuracy and no time where weights shrink, and some cells are better than both corners.
Cost: about 40 cells of 34 rounds, 300 to 400 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import RI, SP, WS, WarmstartSettings, online_shrink, substitution

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ONE_SEED = {"ci": "one seed has no interval"}


class Settings(WarmstartSettings):
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    shrinks: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), description="lambda; the grid is unknown [O]"
    )
    perturbs: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), description="noise scale s; the grid is unknown [O]"
    )
    blank_below: float = Field(
        0.1, ge=0, description="cells with lambda = 0 and a smaller s are blank: too small to learn from [O]"
    )
    first_round: bool = Field(True, description="whether the first network is shrunk and perturbed too [C]")

    def cells(self) -> list[tuple[float, float]]:
        """(lambda, s) of the grid with its two corners, without those that are left blank."""
        grid = [(shrink, noise) for shrink in self.shrinks for noise in self.perturbs]
        corners = [corner for corner in ((0.0, 1.0), (1.0, 0.0)) if corner not in grid]
        return [cell for cell in (*corners, *grid) if cell[0] > 0 or cell[1] >= self.blank_below]


def method_of(shrink: float, noise: float) -> str:
    return {(0.0, 1.0): RI, (1.0, 0.0): WS}.get((shrink, noise), SP)


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for shrink, noise in settings.cells():
        labels = {
            "panel": f"lambda={shrink:g}",
            "dataset": "cifar10",
            "model": "thin_resnet18",
            "method": method_of(shrink, noise),
            "optimizer": "adam",
            "x_name": "noise_scale",
            "x": noise,
        }
        made += [
            ArmRun(
                labels,
                online_shrink(
                    settings,
                    "cifar10",
                    "thin_resnet18",
                    "adam",
                    seed,
                    increment=settings.increment,
                    shrink=shrink,
                    perturb=noise,
                    first_round=settings.first_round,
                ),
            )
            for seed in settings.seed_range()
        ]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    accuracies = record.series["rounds"]["report_acc"]
    yield row(member, "val_acc", accuracies[-1])
    yield row(member, "val_acc_mean", sum(accuracies) / len(accuracies))
    yield row(member, "samples_total", record.costs["samples"])
    if record.alone:
        yield row(member, "train_time_total", record.costs["seconds"])


def cell(frame: Any, metric: str, shrink: float, noise: float) -> dict[int, float]:
    return by_seed(frame, metric, panel=f"lambda={shrink:g}", x=noise)


def _cells(frame: Any) -> list[tuple[float, float]]:
    found = frame[["panel", "x"]].drop_duplicates().itertuples(index=False, name=None)
    return [(float(panel.removeprefix("lambda=")), float(noise)) for panel, noise in found]


def noise_is_harmless(frame: Any) -> stats.Finding:
    """F8a: at each 0 < lambda < 1 some s > 0 is at most 1 point less accurate and 10 % more costly than s = 0."""
    cells = _cells(frame)
    parts = []
    for shrink in sorted({shrink for shrink, noise in cells if 0 < shrink < 1 and noise == 0}):
        accuracy, cost = (cell(frame, metric, shrink, 0.0) for metric in ("val_acc", "samples_total"))
        choices = []
        for noise in sorted(noise for other, noise in cells if other == shrink and noise > 0):
            theirs = cell(frame, "samples_total", shrink, noise)
            share = {seed: theirs[seed] / cost[seed] for seed in theirs if seed in cost}
            name = f"lambda {shrink:g}, s {noise:g} against s 0"
            choices.append(
                stats.all_of(
                    [
                        stats.greater(
                            cell(frame, "val_acc", shrink, noise), accuracy, by=-1.0, name=f"{name}: accuracy"
                        ),
                        stats.below(share, 1.1, name=f"{name}: share of the samples"),
                    ]
                )
            )
        parts.append(stats.any_of(choices))
    if not parts:
        raise KeyError("no cell without noise")
    return stats.all_of(parts)


def something_beats_both(frame: Any) -> stats.Finding:
    """F8b: some cell is more accurate than random initialisation and warm start, and cheaper than the former."""
    corners = {method: by_seed(frame, "val_acc", method=method) for method in (RI, WS)}
    cost = by_seed(frame, "samples_total", method=RI)
    parts = []
    for shrink, noise in _cells(frame):
        if method_of(shrink, noise) != SP:
            continue
        name = f"lambda {shrink:g}, s {noise:g}"
        accuracy = cell(frame, "val_acc", shrink, noise)
        parts.append(
            stats.all_of(
                [
                    *(
                        stats.greater(accuracy, other, name=f"{name} over {method}")
                        for method, other in corners.items()
                    ),
                    stats.greater(cost, cell(frame, "samples_total", shrink, noise), name=f"samples of RI over {name}"),
                ]
            )
        )
    return stats.any_of(parts)


def _heat(place: Axes, frame: pd.DataFrame, metric: str, title: str, settings: Settings) -> None:
    import numpy as np

    shrinks, noises = sorted({*settings.shrinks, 0.0, 1.0}), sorted({*settings.perturbs, 0.0, 1.0})
    grid = np.full((len(shrinks), len(noises)), np.nan)
    own = frame[frame["metric"] == metric]
    for (name, noise), group in own.groupby(["panel", "x"]):
        grid[shrinks.index(float(name.removeprefix("lambda="))), noises.index(noise)] = group["value"].mean()
    shown = place.imshow(grid, aspect="auto", origin="lower")
    middle = np.nanmean(grid) if np.isfinite(grid).any() else 0.0
    for line, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
        value = grid[line, column]
        text = f"{value:.1f}" if abs(value) < 1000 else f"{value / 1000:.0f}k"
        place.text(column, line, text, ha="center", va="center", fontsize=5.5, color="w" if value < middle else "k")
    place.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
    place.set_yticks(range(len(shrinks)), [f"{shrink:g}" for shrink in shrinks])
    place.grid(visible=False)
    place.set(xlabel="noise scale s", ylabel="shrink factor λ", title=title)
    place.figure.colorbar(shown, ax=place, shrink=0.85)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(2, 2)
    timed, trained = ((frame["metric"] == metric).sum() for metric in ("train_time_total", "samples_total"))
    for place, (metric, title) in zip(
        axes,
        (
            ("val_acc", "final validation accuracy (%)"),
            ("val_acc_mean", "accuracy, mean over rounds (%)"),
            ("samples_total", "training samples in all"),
            ("train_time_total", "training time in all (s)"),
        ),
        strict=True,
    ):
        if metric == "train_time_total" and not 0 < timed == trained:
            place.set_axis_off()
            text = "no seconds: not every run\nhad the machine to itself"
            place.text(0.5, 0.5, text, ha="center", va="center", color="0.4")
            continue
        _heat(place, frame, metric, title, settings)
    drawn.suptitle(f"{substitution(settings, 'cifar10')}; (0, 1) is random init, (1, 0) warm start")
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig8",
    title="Figure 8: shrink perturb over shrink factors and noise scales",
    caption=(
        "Accuracy after the last round and mean over rounds, samples and seconds of all rounds, mean over seeds. Cells "
        "whose weights are too small to learn from are blank. The paper's grid and numbers are not available."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F8a",
            "Where weights shrink, some noise costs neither accuracy nor training.",
            "Figure 8",
            noise_is_harmless,
            not_expected_at=ONE_SEED,
        ),
        Claim(
            "F8b",
            "Some shrink factors and noise scales are more accurate than both ends and cheaper than random initialisation.",
            "Figure 8",
            something_beats_both,
            not_expected_at=ONE_SEED,
        ),
    ),
)
