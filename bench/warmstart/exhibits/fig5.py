"""Figure 5: gradient norms of old and new samples in the second phase, for a warm start and for shrink perturb.

A ResNet-18 is trained on half of CIFAR-10 and then on all of it, 350 epochs each, SGD with a small learning rate, batch 128.
At each minibatch of the second phase the mean-loss gradients over its old and over its new samples are taken in eval mode;
ten batches make one value. The start is a warm start, or lambda times the old weights plus 0.01 times a new network.

Where a scale has few steps, BatchNorm takes the batch's statistics instead (`bn_statistics`): for dozens of steps after
shrinking the running ones are those of other weights, and the gradient vanishes behind them.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/fig5``
Expected (digitised): a warm start begins with 9 (old) against 150 (new); with lambda = .3 both are equal.
Cost: one first phase and five second phases of 350 epochs with two more passes a step, 97 M samples a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import (
    NAMES,
    SP,
    WS,
    WarmstartSettings,
    first_phase,
    second_phase,
    shrink_start,
    substitution,
)
from bench.warmstart.spec import Probe

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER_EPOCHS = 350
BEGINNING = 1000 / 13_650
"""Share of the second phase that the claim looks at: the first thousand of 13,650 lines."""
POSITIONS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 13.5)
"""Thousands of log lines at which the paper's curves were read."""
NEARBY = 0.05
"""Thousands of log lines on either side that are averaged at a position."""


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"shrinks"}

    epochs: int = Field(PAPER_EPOCHS, ge=1, description="epochs of each phase [D]")
    lr: float = Field(1e-4, gt=0, le=1, description="learning rate of SGD: small, below 1e-3; the value is unknown [O]")
    shrinks: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.9, 0.7, 0.5, 0.3), description="lambda [P]")
    perturb: float = Field(0.01, ge=0, description="noise scale s; unknown [O]")
    every: int = Field(10, ge=1, description="batches averaged into one log line [C]")


def panel(shrink: float) -> str:
    return f"lambda={shrink:.1f}"


def members(settings: Settings) -> list[ArmRun]:
    optimizer = settings.optimizer("sgd", lr=settings.lr)
    fields: dict[str, Any] = {
        "report": "official_test",  # with a third held out the authors' script loses old and new samples
        "stop": settings.stop("thin_resnet18", epochs=settings.epochs),
    }
    old = settings.fit_samples("cifar10", "official_test") // 2
    probe = Probe(kind="gradients", old_samples=old, every=settings.every)
    arms = [({"panel": "all", "method": WS}, shrink_start(1, 0))]
    arms += [
        ({"panel": panel(shrink), "method": SP}, shrink_start(shrink, settings.perturb)) for shrink in settings.shrinks
    ]
    made = []
    for seed in settings.seed_range():
        first = first_phase(settings, "cifar10", "thin_resnet18", optimizer, seed, **fields)
        for labels, start in arms:
            run = second_phase(
                settings,
                "cifar10",
                "thin_resnet18",
                optimizer,
                seed,
                start=start,
                parent=first,
                probe=probe,
                **fields,
            )
            made.append(ArmRun({"dataset": "cifar10", "model": "thin_resnet18", "optimizer": "sgd"} | labels, run))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    lines = record.series["gradients"]
    last = max(lines["line"], default=0)
    for name in ("old", "new"):
        for line, value in zip(lines["line"], lines[name], strict=True):
            yield row(member, f"grad_l2_{name}", value, x_name="log_line", x=line)
        for position in POSITIONS:
            near = [
                value
                for line, value in zip(lines["line"], lines[name], strict=True)
                if (abs(line / 1000 - position) <= NEARBY if position else line == 0)
            ]
            if near:
                average = sum(near) / len(near)
                yield row(member, f"grad_l2_{name}", average, x_name="log_line_thousands", x=position)
    first = [place for place, line in enumerate(lines["line"]) if line <= BEGINNING * (last + 1)]
    if first:
        old, new = (sum(lines[name][place] for place in first) for name in ("old", "new"))
        yield row(member, "new_over_old", new / old)


def ratio(frame: Any, shrink: float | None) -> dict[int, float]:
    """Seed -> gradient norm of new over old samples at the beginning; ``None`` is the warm start."""
    return by_seed(frame, "new_over_old", panel="all" if shrink is None else panel(shrink))


def _shrinks(frame: Any) -> list[float]:
    found = {float(name.removeprefix("lambda=")) for name in frame["panel"].unique() if name.startswith("lambda=")}
    if not found:
        raise KeyError("no shrink factor")
    return sorted(found, reverse=True)


def warm_starts_are_unbalanced(frame: Any) -> stats.Finding:
    """F5a: at the beginning of a warm start new samples have more than twice the gradient norm of old ones."""
    return stats.above(ratio(frame, None), 2.0, name="new over old")


def shrinking_balances(frame: Any) -> stats.Finding:
    """F5b: the ratio falls with lambda, from the warm start down."""
    order = [None, *_shrinks(frame)]
    return stats.all_of(
        [
            stats.greater(ratio(frame, more), ratio(frame, less), name=f"new over old, {more or 1:g} over {less:g}")
            for more, less in pairwise(order)
        ]
    )


def ends_near_one(frame: Any) -> stats.Finding:
    """F5c: at the smallest lambda the ratio is 1 within a half."""
    return stats.equivalent_to(ratio(frame, min(_shrinks(frame))), 1.0, margin=0.5)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from bench.report import figure

    count = len(settings.shrinks)
    columns = 2 if count > 1 else 1
    drawn, axes = figure.panels((count + 1) // columns, columns, sharex=True)
    stretch = settings.epochs * settings.fit_samples("cifar10", "official_test") / settings.batch_size / settings.every
    stretch /= 13_675
    paper = published[published["provenance"] == "digitised"].assign(x=lambda rows: 1000 * rows["x"] * stretch)
    for place, shrink in zip(axes, settings.shrinks, strict=False):
        for name, label in (("all", NAMES[WS]), (panel(shrink), NAMES[SP])):
            for age in ("old", "new"):
                metric = f"grad_l2_{age}"
                own = frame[(frame["panel"] == name) & (frame["metric"] == metric) & (frame["x_name"] == "log_line")]
                series = f"{'warm' if name == 'all' else 'shrunk'} {age}"
                figure.band(place, own, series=series, label=f"{label}, {age} samples")
                theirs = paper[(paper["panel"] == name) & (paper["metric"] == metric)]
                figure.published_points(place, theirs, series=series)
        figure.legend(place, published=bool(len(paper)), rescaled=abs(stretch - 1) > 0.01)
        place.set(title=f"λ = {shrink:g}", ylabel="gradient norm", ylim=(0, None))
    for place in axes[count:]:
        place.set_axis_off()
    for place in axes[-columns:]:
        place.set_xlabel(f"log line ({settings.every} batches)")
    drawn.suptitle(substitution(settings, "cifar10"))
    return drawn


EXHIBIT = Exhibit(
    name="warmstart/fig5",
    title="Figure 5: gradient norms of old and new samples",
    caption=(
        "L2 norm of the mean-loss gradient over the old and over the new samples of a batch in the second phase, averaged "
        "over ten batches, for a warm start and after shrinking by λ. Bands are 95 % intervals over seeds, hollow markers "
        "the published curves."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    margins={"grad_l2_old": 6.0, "grad_l2_new": 10.0},
    claims=(
        Claim(
            "F5a",
            "After a warm start the gradients of new samples are far larger than those of old ones.",
            "Figure 5",
            warm_starts_are_unbalanced,
        ),
        Claim(
            "F5b",
            "The more the weights shrink, the more alike both are.",
            "Figure 5",
            shrinking_balances,
        ),
        Claim("F5c", "After strong shrinking both are about equal.", "Figure 5", ends_near_one),
    ),
)
