"""Numbers of a record as rows, and rows as numbers for claims."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bench.certified.design import NAMES, SETUPS, CertifiedSettings
from bench.certified.eps_schedule import PHASES
from bench.certified.spec import Certified, Verification, seconds_metric
from bench.exhibit import ArmRun, Chance, Row, by_seed, row
from bench.record import Record
from bench.stats import Finding, Values, greater

STATES = ("active", "unstable", "inactive")

END = "at_warmup_end"
EARLY = 19 / 80
"""Epochs 2 to 20 of the paper's warm-up (1 + 80) as a share of its ramp."""


# From records ---------------------------------------------------------------------------------------------------------


def error_rows(run: ArmRun, record: Record) -> Iterable[Row]:
    """Errors in percent: verified through auto_LiRPA, and those of the best epoch from the training.

    ``standard_error``, ``verified_error`` (IBP), ``verified_error_<bound>``, ``pgd_error``, ``test_images``; from the
    training ``best_standard_error``, ``best_verified_error`` (optimistic: chosen on the test set), ``at_protocol`` (1
    where nothing departs from the paper).
    """
    if isinstance(run.spec, Verification):
        yield row(run, "standard_error", record.metrics["standard_error"])
        yield row(run, "pgd_error", record.metrics["pgd_error"])
        for bound in run.spec.methods:
            name = "verified_error" if bound == "ibp" else f"verified_error_{bound}"
            yield row(run, name, record.metrics[f"verified_error_{bound}"])
        yield row(run, "test_images", record.metrics["samples"])
    elif isinstance(run.spec, Certified):
        for name in ("best_standard_error", "best_verified_error"):
            yield row(run, name, record.metrics[name])
        yield row(run, "at_protocol", float(_at_protocol(run)))


def _at_protocol(run: ArmRun) -> bool:
    """Whether a training has the paper's data, network, radius and schedule: only then do absolute errors compare."""
    spec = run.spec
    assert isinstance(spec, Certified)
    paper = next(setup for setup in SETUPS.values() if setup.panel == run.labels["panel"])
    return (
        spec.dataset == paper.dataset
        and spec.schedule == paper.schedule
        and abs(spec.target - run.labels["x"]) < 1e-4
        and (spec.network.width, spec.network.units) == (None, 512)
        and spec.first_classes is spec.population is spec.report_samples is None
    )


def share_rows(run: ArmRun, record: Record) -> Iterable[Row]:
    """Shares in percent, mean over layers: ``active``, ``inactive``, ``alive`` (active or unstable) by epoch, and
    ``inactive_at_warmup_end``, ``alive_at_warmup_end``."""
    assert isinstance(run.spec, Certified)
    layers = record.series["layers"]
    by_epoch: dict[int, dict[str, list[float]]] = {}
    for epoch, *shares in zip(layers["epoch"], *(layers[state] for state in STATES), strict=True):
        by_state = by_epoch.setdefault(int(epoch), {state: [] for state in STATES})
        for state, share in zip(STATES, shares, strict=True):
            by_state[state].append(share)
    end = run.spec.schedule.warmup
    for epoch, by_state in by_epoch.items():
        mean = {state: 100 * sum(values) / len(values) for state, values in by_state.items()}
        mean["alive"] = mean["active"] + mean["unstable"]
        for name in ("active", "inactive", "alive"):
            yield row(run, name, mean[name], x_name="epoch", x=epoch)
            if epoch == end and name != "active":
                yield row(run, f"{name}_{END}", mean[name], x_name="", x=None)


def term_rows(run: ArmRun, record: Record, term: str) -> Iterable[Row]:
    """A regulariser's value in the warm-up by epoch, its mean over the first quarter of the ramp (``<term>_early``), and
    its last value there (``<term>_at_warmup_end``); as in the authors' code they are taken on the test set."""
    assert isinstance(run.spec, Certified)
    schedule, epochs = run.spec.schedule, record.series["epochs"]
    values = {int(epoch): value for epoch, value in zip(epochs["epoch"], epochs[term], strict=True)}
    for epoch in range(1, schedule.warmup + 1):
        yield row(run, term, values[epoch], x_name="epoch", x=epoch)
    early = range(schedule.zero + 1, schedule.zero + 1 + max(1, round(EARLY * schedule.ramp)))
    yield row(run, f"{term}_early", sum(values[epoch] for epoch in early) / len(early), x_name="", x=None)
    yield row(run, f"{term}_{END}", values[schedule.warmup], x_name="", x=None)


def timing_rows(run: ArmRun, record: Record) -> Iterable[Row]:
    """Seconds of an epoch by phase (0, 1, 2 as published) and of the schedule, where the run was alone on its machine."""
    if not record.alone:
        return
    method = run.labels["method"]
    for number, phase in enumerate(PHASES):
        if (name := seconds_metric(phase, method)) in record.metrics:
            yield row(run, "seconds_per_epoch", record.metrics[name], x_name="phase", x=number)
    yield row(run, "total_seconds", record.metrics[seconds_metric("total", method)])


def chance_of_error(settings: CertifiedSettings, labels: Mapping[str, Any]) -> Chance | None:
    """The error, standard, attacked or verified, of a network that answers alike to everything, or ``None``.

    A training that collapses under its bounds ends there: all three errors are (K - 1) / K then.
    """
    metric = str(labels["metric"])
    if not metric.removeprefix("best_").startswith(("standard_error", "verified_error", "pgd_error")):
        return None
    final = metric in ("standard_error", "verified_error")
    return Chance(100 - 100 / settings.number_of_classes(labels["dataset"]), settings.tested(labels["dataset"], final))


# For claims -----------------------------------------------------------------------------------------------------------


def distinct(frame: Any, *columns: str, metric: str = "verified_error", **labels: Any) -> list[dict[str, Any]]:
    """The distinct values of some label columns among the rows of one number.

    Raises:
        KeyError: there are none.
    """
    rows = frame[frame["metric"] == metric]
    for name, value in labels.items():
        rows = rows[rows[name].isin(value if isinstance(value, list | tuple) else [value])]
    if rows.empty:
        raise KeyError(f"{metric} {labels}")
    return rows[list(columns)].drop_duplicates().to_dict("records")


def lower(frame: Any, metric: str, method: str, than: str, *, by: float = 0.0, **labels: Any) -> Finding:
    """Whether a method's number lies below another's by more than `by`, paired by seed."""
    values, other = (by_seed(frame, metric, method=name, **labels) for name in (method, than))
    where = ", ".join(str(value) for value in labels.values())
    return greater(other, values, by=by, name=f"{NAMES[than]} - {NAMES[method]}, {metric}, {where}")


def absolute(frame: Any, finding: Finding, **labels: Any) -> Finding:
    """A test against a number of other work: it is decided only at the paper's protocol."""
    if all(by_seed(frame, "at_protocol", **labels).values()):
        return finding
    detail = f"{finding.detail}; an absolute error, at another protocol than the paper's"
    return replace(finding, verdict="not comparable", detail=detail)


def panels(frame: Any, metric: str = f"alive_{END}") -> Iterator[str]:
    """Schedules that were run."""
    return (labels["panel"] for labels in distinct(frame, "panel", metric=metric))


def seconds(frame: Any, metric: str = "seconds_per_epoch", **labels: Any) -> Values:
    """Seconds by seed.

    Raises:
        KeyError: there are none, since no run was alone on its machine.
    """
    if not (frame["metric"] == "seconds_per_epoch").any():
        raise KeyError("seconds: no measurement was alone on its machine; RERUN=1 repeats them")
    return by_seed(frame, metric, **labels)


def layer_values(frame: Any, metric: str, method: str, **labels: Any) -> dict[int, Values]:
    """Layer -> seed -> value.

    Raises:
        KeyError: there are none.
    """
    layers = sorted(labels["x"] for labels in distinct(frame, "x", metric=metric, method=method, **labels))
    return {int(layer): by_seed(frame, metric, method=method, x=layer, **labels) for layer in layers}
