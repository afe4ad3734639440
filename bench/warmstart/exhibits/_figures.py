"""Panels that several figures share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from bench.report import figure
from bench.warmstart.design import NAMES, PaperDataset, WarmstartSettings
from bench.warmstart.exhibits._rows import where

PUBLISHED = (
    "Bands are 95 % intervals over seeds; published points are hollow markers, or a small panel where ours cannot be "
    "compared with them."
)
"""Ends the caption of a figure whose numbers were read off the paper's."""


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


def curves(
    ax: figure.Axes,
    frame: Any,
    series: Iterable[Series],
    *,
    settings: WarmstartSettings | None = None,
    published: Any = None,
    **labels: Any,
) -> None:
    """Mean and interval of each series by x; beside them the paper's curves, where there are any.

    Published points are hollow markers where ours can be compared with them, and thin curves in a small panel elsewhere.

    Args:
        ax: panel.
        frame: long frame of the exhibit.
        series: the curves.
        settings: of the exhibit, where there are published numbers.
        published: numbers of the paper.
        labels: further labels of the numbers, such as ``metric``.
    """
    arms = list(series)
    for arm in arms:
        figure.band(ax, where(frame, **labels, **arm.labels), series=arm.name, label=arm.legend)
    if settings is None or published is None:
        return
    paper = where(published, provenance="digitised", **labels)
    points = {arm.name: where(paper, **arm.labels).dropna(subset=["x", "value"]) for arm in arms}
    if settings.at_protocol():
        for name, rows in points.items():
            figure.published_points(ax, rows, series=name)
    elif any(map(len, points.values())) and (inset := figure.published_inset(ax)) is not None:
        for name, rows in points.items():
            look = figure.look(ax, name)
            inset.plot(rows["x"], rows["value"], color=look["color"], linestyle=look["linestyle"], linewidth=0.8)


def legend(ax: figure.Axes, settings: WarmstartSettings, *, published: bool = True, **options: Any) -> None:
    """The legend of a figure whose paper has numbers; it names their markers where ours can be compared with them."""
    figure.legend(ax, published=published and settings.at_protocol(), **options)


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
    **options: Any,
) -> figure.Figure:
    """Accuracy (left) and cost (right) on CIFAR-10.

    Args:
        frame: long frame of the exhibit.
        settings: of the exhibit.
        series: the curves.
        cost: metric and axis label of the right panel.
        x: label of both x axes.
        published: numbers of the paper, ``None`` if there are none.
        legend_in: panel that has the legend.
        options: of the legend.
    """
    fig, axes = figure.panels(1, 2)
    arms = list(series)
    for ax, (metric, label) in zip(axes, (("val_acc", "validation accuracy (%)"), cost), strict=True):
        curves(ax, frame, arms, settings=settings, published=published, metric=metric)
        ax.set(xlabel=x, ylabel=label)
    axes[1].set_ylim(bottom=0)
    legend(axes[legend_in], settings, published=published is not None, **options)
    fig.suptitle(title(settings))
    return fig
