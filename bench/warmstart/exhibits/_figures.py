"""Panels that several figures share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from bench.report import figure
from bench.warmstart.design import NAMES, PaperDataset, WarmstartSettings
from bench.warmstart.exhibits._rows import where

PAPER_SAMPLES = 33_333
"""Samples of the fit split of CIFAR-10 in the paper."""


class Series(NamedTuple):
    """One curve of a figure.

    Attributes:
        name: decides colour, marker and line style.
        legend: its name for readers.
        labels: of its numbers.
    """

    name: str
    legend: str
    labels: dict[str, Any]


def method_series(*methods: str) -> list[Series]:
    """One curve for each method."""
    return [Series(method, NAMES.get(method, method.replace("_", " ")), {"method": method}) for method in methods]


def title(settings: WarmstartSettings, dataset: PaperDataset = "cifar10") -> str:
    """The data set's name, and whether generated images stand in for it."""
    return NAMES[dataset] + ("" if settings.actual(dataset) == dataset else " (generated images)")


def digitised(published: Any, stretch: float = 1.0) -> Any:
    """The numbers that were read off the paper's curves, with their x stretched to a reduced scale."""
    rows = where(published, provenance="digitised")
    return rows.assign(x=rows["x"] * stretch)


def curve(ax: figure.Axes, frame: Any, series: Series, published: Any = None, **labels: Any) -> None:
    """Mean and interval of a series by x, with the published points beside it.

    Args:
        ax: panel.
        frame: long frame of the exhibit.
        series: the curve.
        published: numbers of the paper, where there are any.
        labels: further labels of the numbers, such as ``metric``.
    """
    figure.band(ax, where(frame, **labels, **series.labels), series=series.name, label=series.legend)
    if published is not None:
        figure.published_points(ax, where(published, **labels, **series.labels), series=series.name)


def round_cost(frame: Any) -> tuple[str, str]:
    """Metric and axis label of a round's cost: seconds where every run was alone on the machine, samples otherwise."""
    timed, all_runs = (set(where(frame, metric=metric)["key"]) for metric in ("train_time_round", "samples_round"))
    if timed and timed == all_runs:
        return "train_time_round", "training time of a round (s)"
    return "samples_round", "samples visited in a round"


def accuracy_and_cost(
    frame: Any,
    settings: WarmstartSettings,
    series: Iterable[Series],
    *,
    cost: tuple[str, str],
    x: str = "samples",
    published: Any = None,
    legend_in: int = 0,
    **legend: Any,
) -> figure.Figure:
    """Accuracy (left) and cost (right) on CIFAR-10.

    Args:
        frame: long frame of the exhibit.
        settings: of the exhibit.
        series: the curves.
        cost: metric and axis label of the right panel.
        x: label of both x axes.
        published: numbers of the paper by number of samples, stretched to those of this scale; ``None`` if there are none.
        legend_in: panel that has the legend.
        legend: options of the legend.
    """
    fig, axes = figure.panels(1, 2)
    stretch = settings.fit_samples("cifar10") / PAPER_SAMPLES
    paper = None if published is None else digitised(published, stretch)
    for ax, (metric, label) in zip(axes, (("val_acc", "validation accuracy (%)"), cost), strict=True):
        for arm in series:
            curve(ax, frame, arm, paper, metric=metric)
        ax.set(xlabel=x, ylabel=label)
    axes[1].set_ylim(bottom=0)
    has_published = paper is not None and bool(len(paper))
    figure.legend(axes[legend_in], published=has_published, rescaled=stretch != 1, **legend)
    fig.suptitle(title(settings))
    return fig
