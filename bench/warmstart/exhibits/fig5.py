"""Figure 5: gradient norms of old and new samples.

A ResNet-18 is trained on half of CIFAR-10 and then on all of it, 350 epochs each, SGD with a small learning rate, batch 128.
At each minibatch of the second phase the mean-loss gradients over its old and over its new samples are taken in eval mode;
ten batches of an epoch make one log line, 39 lines an epoch. The start is a warm start, or lambda times the old weights plus
0.01 times a new network.

Where a scale has few steps, BatchNorm takes the batch's statistics instead (`bn_statistics`): for dozens of steps after
shrinking the running ones are those of other weights, and the gradient vanishes behind them.

Expected (digitised): a warm start begins with 9 (old) against 150 (new); with lambda = .3 both are equal.
Cost: one first phase and five second phases of 350 epochs with two more passes a step, 97 M samples a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import Field

from bench import stats
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.report import figure
from bench.stats import Values
from bench.warmstart.design import NAMES, SP, WS, Setup, Shrink, WarmstartSettings, arm
from bench.warmstart.exhibits._figures import PUBLISHED, Series, curves, legend, title
from bench.warmstart.exhibits._rows import lambda_panel, shrinks_of, where
from bench.warmstart.runs import first_phase, second_phase, shrink_start
from bench.warmstart.spec import KEPT, Probe, Restart, Training

CAPTION = (
    "L2 norm of the mean-loss gradient over the old and over the new samples of a batch in the second phase, averaged "
    "over ten batches, for a warm start and after shrinking by λ. "
) + PUBLISHED
MARGINS = {"grad_l2_old": 6.0, "grad_l2_new": 10.0}
CHAOTIC = True
PAPER_EPOCHS = 350
PAPER_LINES = 13_650
"""350 epochs of 39 lines."""
BEGINNING = 1000 / PAPER_LINES
"""Share of the second phase that the claim looks at: the first thousand lines."""
POSITIONS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 13.5)
"""Thousands of log lines at which the paper's curves were read."""
NEARBY = 0.05
"""Thousands of log lines on either side that are averaged at a position."""


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"shrinks"}

    epochs: int = Field(PAPER_EPOCHS, ge=1, description="epochs of each phase [D]")
    lr: float = Field(1e-4, gt=0, le=1, description="learning rate of SGD: small, below 1e-3; the value is unknown [O]")
    shrinks: tuple[Shrink, ...] = Field((0.9, 0.7, 0.5, 0.3), description="lambda [P]")
    perturb: float = Field(0.01, ge=0, description="noise scale s; unknown [O]")
    every: int = Field(10, ge=1, description="batches averaged into one log line [C]")

    def lines(self) -> int:
        """Log lines of a second phase; an epoch of few batches has one."""
        batches = math.ceil(self.fit_samples("cifar10", "official_test") / self.batch_size)
        return self.epochs * max(1, batches // self.every)


def measured(settings: Settings, setup: Setup, seed: int, *, start: Restart) -> Training:
    """A second phase whose gradients are measured."""
    fields: dict[str, Any] = {
        "report": "official_test",  # with a third held out the authors' script loses old and new samples
        "stop": settings.stop(epochs=settings.epochs),
    }
    old = settings.fit_samples(setup.dataset, fields["report"]) // 2
    probe = Probe(kind="gradients", old_samples=old, every=settings.every)
    parent = first_phase(settings, setup, seed, **fields)
    return second_phase(settings, setup, seed, start=start, parent=parent, probe=probe, **fields)


def arms(settings: Settings) -> Iterator[Arm]:
    setup = Setup(optimizer=settings.optimizer("sgd", lr=settings.lr))
    yield arm(measured, settings, setup, {"panel": "all", "method": WS}, start=KEPT)
    for shrink in settings.shrinks:
        labels = {"panel": lambda_panel(shrink), "method": SP}
        yield arm(measured, settings, setup, labels, start=shrink_start(shrink, settings.perturb))


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    columns = record.series["gradients"]
    lines = columns["line"]
    for name in ("old", "new"):
        for line, norm in zip(lines, columns[name], strict=True):
            yield row(run, f"grad_l2_{name}", norm, x_name="log_line", x=line)
        for position in POSITIONS:
            near = [
                norm
                for line, norm in zip(lines, columns[name], strict=True)
                if (abs(line / 1000 - position) <= NEARBY if position else line == 0)
            ]
            if near:
                average = sum(near) / len(near)
                yield row(run, f"grad_l2_{name}", average, x_name="log_line_thousands", x=position)
    end = BEGINNING * (max(lines, default=0) + 1)
    first = [index for index, line in enumerate(lines) if line <= end]
    if first:
        old, new = (sum(columns[name][index] for index in first) for name in ("old", "new"))
        yield row(run, "new_over_old", new / old)


def draw(frame: Any, published: Any, settings: Settings) -> figure.Figure:
    count = len(settings.shrinks)
    columns = 2 if count > 1 else 1
    fig, axes = figure.panels((count + 1) // columns, columns, sharex=True)
    paper = published.assign(x=1000 * published["x"])
    lines = where(frame, x_name="log_line")
    for ax, shrink in zip(axes, settings.shrinks, strict=False):
        series = [
            Series(f"{method} {age}", f"{NAMES[method]}, {age} samples", {"panel": panel, "metric": f"grad_l2_{age}"})
            for method, panel in ((WS, "all"), (SP, lambda_panel(shrink)))
            for age in ("old", "new")
        ]
        curves(ax, lines, series, settings=settings, published=paper)
        ax.set(title=f"λ = {shrink:g}", ylabel="gradient norm", ylim=(0, None))
    for ax in axes[count:]:
        ax.set_axis_off()
    for ax in axes[-columns:]:
        ax.set_xlabel(f"log line ({settings.every} batches)")
    legend(axes[0], settings, below=3)
    fig.suptitle(title(settings))
    return fig


def ratio(frame: Any, shrink: float | None) -> Values:
    """Seed -> gradient norm of new over old samples at the beginning; ``None`` is the warm start."""
    return by_seed(frame, "new_over_old", panel="all" if shrink is None else lambda_panel(shrink))


@claim("F5a", "After a warm start the gradients of new samples are far larger than those of old ones.", "Figure 5")
def warm_starts_are_unbalanced(frame: Any) -> stats.Finding:
    """At the beginning, more than twice as large."""
    return stats.above(ratio(frame, None), 2.0, name="new over old", on=stats.LOG)


@claim("F5b", "The more the weights shrink, the more alike both are.", "Figure 5")
def shrinking_balances(frame: Any) -> Iterator[stats.Finding]:
    """The ratio falls with lambda, from the warm start down."""
    for more, less in pairwise([None, *reversed(shrinks_of(frame))]):
        name = f"log of new over old, {more or 1:g} over {less:g}"
        yield stats.greater(ratio(frame, more), ratio(frame, less), name=name, on=stats.LOG)


@claim("F5c", "After strong shrinking both are about equal.", "Figure 5")
def ends_near_one(frame: Any) -> stats.Finding:
    """At the smallest lambda the ratio is 1 within a half."""
    return stats.equivalent_to(ratio(frame, min(shrinks_of(frame))), 1.0, margin=0.5, on=stats.LOG)
