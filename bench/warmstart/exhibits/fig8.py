"""Figure 8: shrink perturb over shrink factors and noise scales.

Figure 2's protocol (CIFAR-10, ResNet-18, Adam) for a grid of lambda and s. The bottom left of the paper's maps is random
initialisation, the top right a warm start; where weights are too small to learn from they are blank. The grid is unknown.

Expected: noise costs no accuracy and no time where weights shrink, and some of the grid is better than both corners.
Cost: about 40 arms of 34 rounds, 300 to 400 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import ONLINE, RI, SP, WS, Perturb, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import title
from bench.warmstart.exhibits._rows import chance_of, combinations, shrink_of, total_rows, where
from bench.warmstart.runs import can_learn, online_shrink

CAPTION = (
    "Accuracy after the last round and mean over rounds, samples and seconds of all rounds, mean over seeds. Cells "
    "whose weights are too small to learn from are blank. The paper's grid and numbers are not available."
)
ONE_SEED = {"ci": "one seed has no interval"}
MAPS = {
    "val_acc": "final validation accuracy (%)",
    "val_acc_mean": "accuracy, mean over rounds (%)",
    "samples_total": "training samples in all",
    "train_time_total": "training time in all (s)",
}


class Settings(WarmstartSettings):
    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    shrinks: tuple[Shrink, ...] = Field((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), description="lambda; the grid is unknown [O]")
    perturbs: tuple[Perturb, ...] = Field(
        (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), description="noise scale s; the grid is unknown [O]"
    )
    blank_below: float = Field(
        0.1, ge=0, description="cells with lambda = 0 and a smaller s are blank: too small to learn from [O]"
    )
    first_round: bool = Field(True, description="whether the first network is shrunk and perturbed too [C]")

    def grid(self) -> list[tuple[float, float]]:
        """(lambda, s) of the grid with its two corners, without those that are left blank."""
        grid = [(shrink, noise) for shrink in self.shrinks for noise in self.perturbs]
        corners = [corner for corner in ((0.0, 1.0), (1.0, 0.0)) if corner not in grid]
        return [point for point in (*corners, *grid) if can_learn(*point, self.blank_below)]


def method_of(shrink: float, noise: float) -> str:
    return {(0.0, 1.0): RI, (1.0, 0.0): WS}.get((shrink, noise), SP)


def arms(settings: Settings) -> Iterator[Arm]:
    options: dict[str, Any] = {"increment": settings.increment, "first_round": settings.first_round}
    for shrink, noise in settings.grid():
        labels = {
            "panel": f"lambda={shrink:g}",
            "method": method_of(shrink, noise),
            "x_name": "noise_scale",
            "x": noise,
        }
        yield arm(online_shrink, settings, ONLINE, labels, shrink=shrink, perturb=noise, **options)


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    yield from total_rows(run, record)
    if record.alone:
        yield row(run, "train_time_total", record.costs["seconds"])


chance = chance_of


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    fig, axes = figure.panels(2, 2)
    timed, trained = (len(where(frame, metric=metric)) for metric in ("train_time_total", "samples_total"))
    for ax, (metric, name) in zip(axes, MAPS.items(), strict=True):
        if metric == "train_time_total" and not 0 < timed == trained:
            ax.set_axis_off()
            text = "no seconds: not every run\nhad the machine to itself"
            ax.text(0.5, 0.5, text, ha="center", va="center", color="0.4")
        else:
            heat_map(ax, where(frame, metric=metric), settings)
            ax.set_title(name)
    fig.suptitle(f"{title(settings)}; (0, 1) is random init, (1, 0) warm start")
    return fig


def heat_map(ax: figure.Axes, frame: Any, settings: Settings) -> None:
    """Means over seeds of one metric by lambda and s."""
    import numpy as np

    shrinks, noises = sorted({*settings.shrinks, 0.0, 1.0}), sorted({*settings.perturbs, 0.0, 1.0})
    grid = np.full((len(shrinks), len(noises)), np.nan)
    for (panel, noise), group in frame.groupby(["panel", "x"]):
        grid[shrinks.index(shrink_of(panel)), noises.index(noise)] = group["value"].mean()
    image = ax.imshow(grid, aspect="auto", origin="lower")
    middle = np.nanmean(grid) if np.isfinite(grid).any() else 0.0
    for line, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
        value = grid[line, column]
        text = f"{value:.1f}" if abs(value) < 1000 else f"{value / 1000:.0f}k"
        ax.text(column, line, text, ha="center", va="center", fontsize=5.5, color="w" if value < middle else "k")
    ax.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
    ax.set_yticks(range(len(shrinks)), [f"{shrink:g}" for shrink in shrinks])
    ax.grid(visible=False)
    ax.set(xlabel="noise scale s", ylabel="shrink factor λ")
    ax.figure.colorbar(image, ax=ax, shrink=0.85)


def grid_of(frame: Any) -> list[tuple[float, float]]:
    """(lambda, s) that were run."""
    return [(shrink_of(panel), float(noise)) for panel, noise in combinations(frame, "panel", "x")]


def at(frame: Any, metric: str, shrink: float, noise: float) -> Values:
    return by_seed(frame, metric, panel=f"lambda={shrink:g}", x=noise)


@claim(
    "F8a", "Where weights shrink, some noise costs neither accuracy nor training.", "Figure 8", not_expected_at=ONE_SEED
)
def noise_is_harmless(frame: Any) -> Iterator[stats.Finding]:
    """At each 0 < lambda < 1 some s > 0 is at most 1 point less accurate and 10 % more costly than s = 0."""
    grid = grid_of(frame)
    shrinks = sorted({shrink for shrink, noise in grid if 0 < shrink < 1 and noise == 0})
    if not shrinks:
        raise KeyError("no arm without noise")
    for shrink in shrinks:
        accuracy, cost = (at(frame, metric, shrink, 0.0) for metric in ("val_acc", "samples_total"))
        choices = []
        for noise in sorted(noise for other, noise in grid if other == shrink and noise > 0):
            name = f"lambda {shrink:g}, s {noise:g} against s 0"
            noisy, share = at(frame, "val_acc", shrink, noise), at(frame, "samples_total", shrink, noise) / cost
            as_accurate = stats.greater(noisy, accuracy, by=-1.0, name=f"{name}: accuracy")
            choices.append(
                stats.all_of([as_accurate, stats.below(share, 1.1, name=f"{name}: share of the samples", on=stats.LOG)])
            )
        yield stats.any_of(choices)


@claim(
    "F8b",
    "Some shrink factors and noise scales are more accurate than both ends and cheaper than random initialisation.",
    "Figure 8",
    not_expected_at=ONE_SEED,
)
def something_beats_both(frame: Any) -> stats.Finding:
    corners = {method: by_seed(frame, "val_acc", method=method) for method in (RI, WS)}
    cost = by_seed(frame, "samples_total", method=RI)
    choices = []
    for shrink, noise in grid_of(frame):
        if method_of(shrink, noise) == SP:
            name = f"lambda {shrink:g}, s {noise:g}"
            accuracy, samples = (at(frame, metric, shrink, noise) for metric in ("val_acc", "samples_total"))
            parts = [stats.greater(accuracy, corners[method], name=f"{name} over {method}") for method in (RI, WS)]
            choices.append(stats.all_of([*parts, stats.greater(cost, samples, name=f"samples of RI over {name}")]))
    return stats.any_of(choices)
