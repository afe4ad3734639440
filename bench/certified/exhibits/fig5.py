"""Figure 5: verified error on training images of a ResNeXt on TinyImageNet, with and without the IBP initialisation.

Both have BatchNorm and both regularisers. The paper does not say which schedule: here 80 epochs with a ramp of 20, whose
run with the initialisation is Table 2's. The curve may rise in the warm-up, because eps grows.

Command: ``make reproduce SCALE=paper EXHIBITS=certified/fig5``
Expected: a lower curve with the IBP initialisation, early in training above all. No number of the figure is known.
Cost: one training of 8 M images beside Table 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench import stats
from bench.certified.design import OURS, CertifiedSettings, Course, labels_of, substitution
from bench.certified.spec import Certified
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NO_INIT = "r7_reg_no_init"
LINES = {OURS: "with IBP init (ours)", NO_INIT: "without IBP init"}


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"course"}

    seeds: int = Field(1, ge=1, le=1000, description="repetitions [U]")
    course: Course = Field("tin_20", description="schedule [U]")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for method in LINES:
        labels = labels_of(settings.course, "resnext", method)
        for seed in settings.seed_range():
            trained = settings.training(settings.course, "resnext", method, seed)
            made += [ArmRun(labels, trained), ArmRun(labels, settings.verification(trained))]
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    """``train_verified_error`` by epoch and its mean over the ramp before its last epoch (2 to 20 in the paper)."""
    if not isinstance(member.spec, Certified):
        yield row(member, "verified_error", record.metrics["verified_error_ibp"])
        yield row(member, "test_images", record.metrics["samples"])
        return
    schedule, epochs = member.spec.schedule, record.series["epochs"]
    values = {int(epoch): value for epoch, value in zip(epochs["epoch"], epochs["train_verified_error"], strict=True)}
    for epoch, value in values.items():
        yield row(member, "train_verified_error", value, x_name="epoch", x=epoch)
    early = [values[epoch] for epoch in range(schedule.zero + 1, max(schedule.zero + 2, schedule.warmup))]
    yield row(member, "train_verified_error_early", sum(early) / len(early), x_name="", x=None)


def init_helps_early(frame: Any) -> stats.Finding:
    """F5: mean over the ramp, the run without the initialisation minus the one with it."""
    without, with_it = (by_seed(frame, "train_verified_error_early", method=method) for method in (NO_INIT, OURS))
    return stats.greater(without, with_it, name="without - with IBP init")


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    drawn, (axes,) = figure.panels(1, 1, width="single", height=2.7)
    for method, label in LINES.items():
        chosen = frame[(frame["metric"] == "train_verified_error") & (frame["method"] == method)]
        figure.band(axes, chosen, series="ours" if method == OURS else "regularisers", label=label)
    axes.axvline(settings.schedule(settings.course).warmup, linestyle="--", color="0.5", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="verified error on training images (%)")
    figure.legend(axes, published=False)
    drawn.suptitle(f"ResNeXt, {substitution(settings, settings.course, parts=2)}")
    return drawn


EXHIBIT = Exhibit(
    name="certified/fig5",
    title="Figure 5: verified training error of a ResNeXt with and without the IBP initialisation",
    caption=(
        "Verified error on the training images of each epoch, at the eps of training, of a ResNeXt on TinyImageNet with "
        "BatchNorm and both regularisers. The dashed line is the end of the warm-up."
    ),
    kind="figure",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(
        Claim(
            "F5a",
            "The IBP initialisation lowers the verified training error during the warm-up.",
            "Figure 5",
            init_helps_early,
            not_expected_at={
                "paper": "the figure has one run a line, and one run has no interval; set `seeds` to judge it"
            },
        ),
    ),
)
