"""Figure 7: online learning with shrink perturb, for several shrink factors.

Figure 2's protocol (1,000 new CIFAR-10 samples a round, ResNet-18, Adam, 99 % train accuracy), where the weights of every
round, the first included, are lambda times those at hand plus 0.01 times a newly drawn network. The caption calls lambda = 0
random initialisation, but its first rounds are not those of Figure 2; noise of 0.1 fits them, so lambda = 0 is run with it,
and Figure 2's random initialisation beside it.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig7``
Expected (digitised): at the end 80.2, 78.0, 76.6, 73.9, 65.0 % for lambda .2, .4, .6, .8, 1; the smaller, the slower.
Cost: six arms of 34 rounds beside Figure 2's random initialisation, about 45 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed
from bench.record import Record
from bench.warmstart.design import (
    NAMES,
    RI,
    SP,
    WarmstartSettings,
    last_round,
    online_shrink,
    round_cost,
    round_rows,
    substitution,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER_SAMPLES = 33_333
"""Samples of the fit split in the paper."""


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"shrinks"}

    increment: int = Field(1000, ge=1, description="samples added in a round [P]")
    shrinks: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (1.0, 0.8, 0.6, 0.4, 0.2, 0.0), description="lambda [P]"
    )
    perturb: float = Field(0.01, ge=0, description="noise scale s where lambda > 0 [P]")
    perturb_at_zero: float = Field(0.1, gt=0, description="noise scale s where lambda = 0 [D]")
    first_round: bool = Field(True, description="whether the first network is shrunk and perturbed too [C]")


def panel(shrink: float) -> str:
    return f"lambda={shrink:.1f}"


def members(settings: Settings) -> list[ArmRun]:
    where = {"dataset": "cifar10", "model": "thin_resnet18", "optimizer": "adam"}
    arms: list[tuple[dict[str, str], float, float]] = [({"method": RI}, 0.0, 1.0)]
    for shrink in settings.shrinks:
        noise = settings.perturb if shrink else settings.perturb_at_zero
        arms.append(({"method": SP, "panel": panel(shrink)}, shrink, noise))
    return [
        ArmRun(
            where | labels,
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
        for labels, shrink, noise in arms
        for seed in settings.seed_range()
    ]


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    return round_rows(member, record)


def at_end(frame: Any, shrink: float | None) -> dict[int, float]:
    """Seed -> accuracy after the last round; ``None`` is random initialisation."""
    labels = {"method": RI} if shrink is None else {"method": SP, "panel": panel(shrink)}
    return by_seed(frame, "val_acc", x=last_round(frame), **labels)


def cost(frame: Any, shrink: float | None) -> dict[int, float]:
    """Seed -> samples of all rounds."""
    labels = {"method": RI} if shrink is None else {"method": SP, "panel": panel(shrink)}
    return by_seed(frame, "samples_total", **labels)


def shrinks_of(frame: Any) -> list[float]:
    """The shrink factors above 0 that were run, from the smallest."""
    found = {float(name.removeprefix("lambda=")) for name in frame["panel"].unique() if name.startswith("lambda=")}
    positive = sorted(found - {0.0})
    if len(positive) < 2:
        raise KeyError("fewer than two shrink factors above 0")
    return positive


def as_good_for_less(frame: Any) -> stats.Finding:
    """F7a: lambda = .6 ends at most 1 point behind random initialisation, for less than 60 % of its samples."""
    fresh, mine = cost(frame, None), cost(frame, 0.6)
    share = {seed: mine[seed] / fresh[seed] for seed in mine if seed in fresh}
    return stats.all_of(
        [
            stats.greater(at_end(frame, 0.6), at_end(frame, None), by=-1.0, name="accuracy over RI's"),
            stats.below(share, 0.6, name="samples as a share of RI's"),
        ]
    )


def better_than_fresh(frame: Any) -> stats.Finding:
    """F7b: lambda = .2 ends more than 2 points above random initialisation."""
    return stats.greater(at_end(frame, 0.2), at_end(frame, None), by=2.0)


def less_shrinking_is_cheaper(frame: Any) -> stats.Finding:
    """F7c: the smaller lambda, the more samples."""
    return stats.all_of(
        [
            stats.greater(cost(frame, small), cost(frame, large), name=f"samples, lambda {small:g} over {large:g}")
            for small, large in pairwise(shrinks_of(frame))
        ]
    )


def more_shrinking_is_better(frame: Any) -> stats.Finding:
    """F7d: at the end .2 > .4 > .6 > .8 > 1 in accuracy."""
    return stats.all_of(
        [
            stats.greater(at_end(frame, small), at_end(frame, large), name=f"accuracy, lambda {small:g} over {large:g}")
            for small, large in pairwise(shrinks_of(frame))
        ]
    )


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    drawn, axes = figure.panels(1, 2)
    stretch = settings.fit_samples("cifar10") / PAPER_SAMPLES
    paper = published[published["provenance"] == "digitised"]
    # Every third published round, so that the curves stay visible.
    every = paper["x"].mod(3000).eq(0) & paper["x"].lt(33_000) | paper["x"].eq(PAPER_SAMPLES)
    paper = paper[every].assign(x=lambda rows: rows["x"] * stretch)
    series = [(RI, NAMES[RI], {"method": RI})]
    for shrink in settings.shrinks:
        noise = settings.perturb if shrink else settings.perturb_at_zero
        series.append((panel(shrink), f"λ = {shrink:g}, s = {noise:g}", {"method": SP, "panel": panel(shrink)}))
    cost, title = round_cost(frame)
    for name, label, labels in series:
        for metric, place in (("val_acc", axes[0]), (cost, axes[1])):
            own, theirs = frame[frame["metric"] == metric], paper[paper["metric"] == metric]
            for column, value in labels.items():
                own, theirs = own[own[column] == value], theirs[theirs[column] == value]
            figure.band(place, own, series=name, label=label)
            figure.published_points(place, theirs, series=name)
    axes[0].set(xlabel="samples", ylabel="validation accuracy (%)")
    axes[1].set(xlabel="samples", ylabel=title)
    axes[1].set_ylim(bottom=0)
    figure.legend(axes[1], published=bool(len(paper)), rescaled=stretch != 1, loc="upper left")
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig7",
    title="Figure 7: online learning with shrink perturb",
    caption=(
        "Validation accuracy (left) and cost of training (right) by round when each starts from λ times the last round's "
        "weights plus s times a new network. Bands are 95 % intervals over seeds, hollow markers every third published "
        "round. The cost is in seconds, beside the published ones of a P100 as context, where all runs had the machine to "
        "themselves, and in samples elsewhere."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    margins={"val_acc": 3.0},
    claims=(
        Claim(
            "F7a",
            "λ = 0.6 ends at most 1 point behind random initialisation and costs less than 60 % of its samples.",
            "Figure 7, section 4.1",
            as_good_for_less,
            not_expected_at={
                "ci": "in four rounds of 10 to 30 epochs the first, which nothing warms, costs as much as the others"
            },
        ),
        Claim("F7b", "λ = 0.2 ends more than 2 points above random initialisation.", "Figure 7", better_than_fresh),
        Claim("F7c", "The more the weights shrink, the more training costs.", "Figure 7", less_shrinking_is_cheaper),
        Claim("F7d", "The more the weights shrink, the better the end.", "Figure 7", more_shrinking_is_better),
    ),
)
