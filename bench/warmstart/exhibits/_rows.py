"""Rows that several exhibits take from a run, and how their claims find them again in a long frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bench.exhibit import ArmRun, Chance, Row, by_seed, row
from bench.record import Record
from bench.stats import Values
from bench.warmstart.design import RI, WS, WarmstartSettings

ACCURACIES = ("val_acc", "test_acc", "test_acc_final", "target_acc")
"""Metrics that claims compare, of networks that may have learnt nothing."""


def accuracy_row(run: ArmRun, record: Record) -> Row:
    """Accuracy of the final model, in percent, on the samples that the run reports on."""
    return row(run, "val_acc", record.metrics["report_acc"])


def final_rows(run: ArmRun, record: Record, *, timed: bool = True) -> Iterator[Row]:
    """Accuracy and cost of a two-phase or fresh run: percent, samples to the stop, seconds.

    Args:
        run: names the numbers.
        record: of the run; seconds are given when it was alone on the machine.
        timed: whether seconds are among its numbers.
    """
    yield accuracy_row(run, record)
    yield row(run, "samples_to_stop", record.costs["samples"])
    if timed and record.alone:
        yield row(run, "train_time_s", record.costs["seconds"])
    yield row(run, "train_acc_final", record.metrics["train_acc"])


untimed_rows = partial(final_rows, timed=False)


def round_rows(run: ArmRun, record: Record, *, accuracy: str | None = None, cost: str | None = None) -> Iterator[Row]:
    """Accuracy, samples and seconds by round of an online run, at the sample counts of the paper's x axis.

    Args:
        run: names the numbers.
        record: of the run; seconds are given when it was alone on the machine.
        accuracy: panel of the accuracies, where the figure names its panels.
        cost: panel of the costs.
    """
    of_accuracy = {} if accuracy is None else {"panel": accuracy}
    of_cost = {} if cost is None else {"panel": cost}
    rounds = record.series["rounds"]
    for samples, percent, visited, seconds in zip(
        rounds["n_samples"], rounds["report_acc"], rounds["samples"], rounds["seconds"], strict=True
    ):
        at = {"x_name": "n_samples", "x": samples}
        yield row(run, "val_acc", percent, **at, **of_accuracy)
        yield row(run, "samples_round", visited, **at, **of_cost)
        if record.alone:
            yield row(run, "train_time_round", seconds, **at, **of_cost)
    yield row(run, "samples_total", record.costs["samples"])
    if record.alone:
        yield row(run, "train_time_total", record.costs["seconds"], **of_cost)


def total_rows(run: ArmRun, record: Record) -> Iterator[Row]:
    """Accuracy after the last round and mean over rounds, and the samples of all rounds of an online run."""
    accuracies = record.series["rounds"]["report_acc"]
    yield accuracy_row(run, record)
    yield row(run, "val_acc_mean", sum(accuracies) / len(accuracies))
    yield row(run, "samples_total", record.costs["samples"])


def chance_of(settings: WarmstartSettings, row: Mapping[str, Any], *, report: str = "val_third") -> Chance | None:
    """What predicting without looking gets, of an accuracy on the samples of a report."""
    if row["metric"] not in ACCURACIES:
        return None
    dataset = row["dataset"]
    return Chance(100 / settings.classes(dataset), settings.reported_samples(dataset, report))


def where(frame: Any, **labels: Any) -> Any:
    """The rows of a frame that have these labels."""
    for name, value in labels.items():
        frame = frame[frame[name] == value]
    return frame


def distinct(frame: Any, column: str) -> list[Any]:
    """Values of a label column in order of appearance, without empty ones."""
    return [value for value in frame[column].drop_duplicates().tolist() if value == value and value != ""]


def combinations(frame: Any, *columns: str) -> list[tuple[Any, ...]]:
    """Combinations of labels that the frame has, in order of appearance.

    Raises:
        KeyError: there are none.
    """
    rows = frame[list(columns)].drop_duplicates()
    if rows.empty:
        raise KeyError("no arm of this kind")
    return list(rows.itertuples(index=False, name=None))


def wide(frame: Any, *metrics: str) -> Any:
    """Panel, seed and one column for each metric: a row for each run that has them all.

    Raises:
        KeyError: no run has any of them, or none a certain one.
    """
    rows = frame[frame["metric"].isin(metrics)]
    table = rows.pivot_table(index=["panel", "seed"], columns="metric", values="value", aggfunc="first")
    if lacking := [metric for metric in metrics if metric not in table]:
        raise KeyError(f"no {lacking[0]}")
    return table.reset_index().dropna()


def values_of(frame: Any, metric: str, **labels: Any) -> Values:
    """Seed -> number, empty where it was not run."""
    try:
        return by_seed(frame, metric, **labels)
    except KeyError:
        return Values()


def both(frame: Any, *, metric: str = "val_acc", first: str = RI, second: str = WS, **labels: Any) -> list[Values]:
    """Seed -> number of the method `first`, and of the method `second`, under the same labels.

    Raises:
        KeyError: one of them was not run.
    """
    return [by_seed(frame, metric, method=method, **labels) for method in (first, second)]


def gaps(frame: Any, **labels: Any) -> Values:
    """Seed -> how far the first method lies above the second; arguments as those of `both`."""
    upper, lower = both(frame, **labels)
    return upper - lower


def last_round(frame: Any) -> float:
    """The largest number of samples of an online run."""
    return float(where(frame, x_name="n_samples")["x"].max())


def lambda_panel(shrink: float) -> str:
    """Label of the numbers of a shrink factor."""
    return f"lambda={shrink:.1f}"


def shrink_of(panel: str) -> float:
    return float(panel.removeprefix("lambda="))


def shrinks_of(frame: Any) -> list[float]:
    """The shrink factors that were run, in rising order.

    Raises:
        KeyError: there are none.
    """
    shrinks = sorted(shrink_of(panel) for panel in distinct(frame, "panel") if panel.startswith("lambda="))
    if not shrinks:
        raise KeyError("no shrink factor")
    return shrinks
