"""What the appendix's exhibits and those beyond the paper share: pairs of runs, gaps between methods, rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field

from bench.exhibit import ArmRun, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import RI, WS, Role, WarmstartSettings, accuracy_row, first_phase, random_init, second_phase
from bench.warmstart.spec import FRESH, Network, Optimizer, Round, Training

Shrink = Annotated[float, Field(ge=0, le=1)]
"""lambda of shrink-perturb."""
Perturb = Annotated[float, Field(ge=0)]
"""s of shrink-perturb."""


def pair(
    settings: WarmstartSettings, role: Role, network: str, optimizer: str | Optimizer, seed: int, **fields: Any
) -> Iterator[tuple[str, Training]]:
    """Random initialisation and warm start under one protocol; `fields` hold for the first phase too."""
    yield RI, random_init(settings, role, network, optimizer, seed, **fields)
    yield WS, second_phase(settings, role, network, optimizer, seed, **fields)


def second_from(
    settings: WarmstartSettings, role: Role, network: str, optimizer: str, seed: int, *, first: int
) -> Training:
    """A warm start from a first phase on `first` samples instead of half."""
    parent = first_phase(settings, role, network, optimizer, seed)
    parent = parent.model_copy(update={"rounds": (Round(samples=first, start=FRESH),)})
    return second_phase(settings, role, network, optimizer, seed, parent=parent)


def with_network(run: Training, network: Network) -> Training:
    """The run and its parents with another network."""
    parent = None if run.parent is None else with_network(run.parent, network)
    return run.model_copy(update={"network": network, "parent": parent})


def two_phase_rows(member: ArmRun, record: Record) -> Iterable[Row]:
    """Accuracy, samples and train accuracy of a two-phase or fresh run."""
    yield accuracy_row(member, record)
    yield row(member, "samples_to_stop", record.costs["samples"])
    yield row(member, "train_acc_final", record.metrics["train_acc"])


def gaps(frame: Any, *, metric: str = "val_acc", first: str = RI, second: str = WS, **labels: Any) -> dict[int, float]:
    """Seed -> how far `first` lies above `second` under the same labels, for the seeds that both have.

    Raises:
        KeyError: one of them is not there.
    """
    above, below = (by_seed(frame, metric, method=method, **labels) for method in (first, second))
    return {seed: above[seed] - below[seed] for seed in above if seed in below}


def distinct(frame: Any, column: str) -> list[Any]:
    """Values of a label column in order of appearance, without empty ones."""
    return [value for value in frame[column].drop_duplicates().tolist() if value == value and value != ""]


def compared(frame: Any, **labels: Any) -> dict[str, str]:
    """Cells of a table row: accuracy of RI and WS, the gap with its interval, and the cost of RI over that of WS."""
    from bench import stats
    from bench.report.table import NOTHING, number

    def values(metric: str, method: str) -> dict[int, float]:
        try:
            return by_seed(frame, metric, method=method, **labels)
        except KeyError:
            return {}

    fresh, warm = values("val_acc", RI), values("val_acc", WS)
    differences = {seed: fresh[seed] - warm[seed] for seed in fresh if seed in warm}
    gap = NOTHING
    if differences:
        mean, low, high = stats.interval(differences)
        gap = f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    long, short = values("samples_to_stop", RI), values("samples_to_stop", WS)
    ratio = {seed: long[seed] / short[seed] for seed in long if seed in short}
    return {
        "random init": number(fresh),
        "warm start": number(warm),
        "gap [95 % interval]": gap,
        "samples RI / WS": number(ratio),
    }
