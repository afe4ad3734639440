"""What Figures 2, 3, 4 and 6 and the balance of ReLUs share: rows of Table 4 in training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.certified.design import NAMES, CertifiedSettings, Course, cells_of, labels_of, substitution
from bench.certified.spec import Certified
from bench.exhibit import ArmRun, Row, row
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("r1_no_bn", "r3_bn_full", "r4_init", "r7_reg_no_init", "r8_full")
"""Rows of Table 4 that the figures show; two of the paper's five names are inferred."""

LOOKS = {
    "r1_no_bn": "no_bn",
    "r3_bn_full": "vanilla_ibp",
    "r4_init": "init",
    "r7_reg_no_init": "regularisers",
    "r8_full": "ours",
}
"""Series under the names that look the same in every figure."""

END = "at_warmup_end"
STATES = ("active", "unstable", "inactive")
EARLY = 19 / 80
"""Epochs 2 to 20 of the paper's warm-up (1 + 80) as a share of its ramp."""


class CourseSettings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"courses"}

    courses: tuple[Course, ...] = Field(("cifar_70", "cifar_160"), description="schedules")


def course_members(
    settings: CertifiedSettings, courses: Sequence[Course], methods: Iterable[str] = SERIES
) -> list[ArmRun]:
    """Trainings of CNN-7, the same as Table 4's."""
    return [
        ArmRun(labels_of(course, "cnn7", method), settings.training(course, "cnn7", method, seed))
        for course in courses
        for method in methods
        for seed in settings.seed_range()
    ]


def share_rows(member: ArmRun, record: Record) -> Iterable[Row]:
    """Shares in percent, mean over layers: ``active``, ``inactive``, ``alive`` (active or unstable) by epoch, and
    ``inactive_at_warmup_end``, ``alive_at_warmup_end``."""
    assert isinstance(member.spec, Certified)
    layers = record.series["layers"]
    by_epoch: dict[int, dict[str, list[float]]] = {}
    for epoch, *shares in zip(layers["epoch"], *(layers[state] for state in STATES), strict=True):
        found = by_epoch.setdefault(int(epoch), {state: [] for state in STATES})
        for state, share in zip(STATES, shares, strict=True):
            found[state].append(share)
    end = member.spec.schedule.warmup
    for epoch, found in by_epoch.items():
        mean = {state: 100 * sum(values) / len(values) for state, values in found.items()}
        mean["alive"] = mean["active"] + mean["unstable"]
        for name in ("active", "inactive", "alive"):
            yield row(member, name, mean[name], x_name="epoch", x=epoch)
            if epoch == end and name != "active":
                yield row(member, f"{name}_{END}", mean[name], x_name="", x=None)


def term_rows(member: ArmRun, record: Record, term: str) -> Iterable[Row]:
    """A regulariser's value in the warm-up by epoch, its mean over the first quarter of the ramp (``<term>_early``), and
    its last value there (``<term>_at_warmup_end``); as in the authors' code they are taken on the test set."""
    assert isinstance(member.spec, Certified)
    schedule, epochs = member.spec.schedule, record.series["epochs"]
    values = {int(epoch): value for epoch, value in zip(epochs["epoch"], epochs[term], strict=True)}
    for epoch in range(1, schedule.warmup + 1):
        yield row(member, term, values[epoch], x_name="epoch", x=epoch)
    early = range(schedule.zero + 1, schedule.zero + 1 + max(1, round(EARLY * schedule.ramp)))
    yield row(member, f"{term}_early", sum(values[epoch] for epoch in early) / len(early), x_name="", x=None)
    yield row(member, f"{term}_{END}", values[schedule.warmup], x_name="", x=None)


def each_panel(frame: Any, tests: Callable[[str], list[stats.Finding]], metric: str = f"alive_{END}") -> stats.Finding:
    """All tests of every schedule that was run."""
    return stats.all_of([test for cell in cells_of(frame, "panel", metric=metric) for test in tests(cell["panel"])])


def settle_looks(axes: Axes) -> None:
    """Gives the paper's methods their own look before other series take what is free."""
    from bench.report import figure

    for series in ("ours", "vanilla_ibp", "crown_ibp"):
        figure.look(axes, series)


def draw_term(frame: pd.DataFrame, settings: CertifiedSettings, course: Course, term: str, name: str) -> Figure:
    """A regulariser's value during the warm-up, one line for each series."""
    from bench.report import figure

    schedule = settings.schedule(course)
    drawn, (axes,) = figure.panels(1, 1, width="single", height=3.1)
    settle_looks(axes)
    for method in SERIES:
        chosen = frame[(frame["metric"] == term) & (frame["method"] == method)]
        figure.band(axes, chosen, series=LOOKS[method], label=NAMES[method])
    axes.set(xlabel="epoch of the warm-up", ylabel=name)
    axes.set_xlim(0.5, schedule.warmup + 0.5)
    axes.set_ylim(bottom=0)
    figure.legend(axes, published=False, below=2)
    drawn.suptitle(f"CNN-7, {substitution(settings, course, parts=2)}")
    return drawn
