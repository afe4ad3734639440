"""Figure 5: verified training error of a ResNeXt with and without the IBP initialisation.

On TinyImageNet, both with BatchNorm and both regularisers. The paper does not say which schedule: here 80 epochs with a ramp
of 20, whose run with the initialisation is Table 2's. The curve may rise in the warm-up, because eps grows.

Expected: a lower curve with the IBP initialisation, above all early in training. No number of the figure is known.
Cost: one training of 8 M images beside Table 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.certified.design import OURS, CertifiedSettings, SetupName, protocol_text, trained_and_verified
from bench.certified.exhibits._rows import chance_of_error
from bench.certified.spec import Certified
from bench.exhibit import Arm, ArmRun, Row, by_seed, claim, row
from bench.record import Record
from bench.stats import Finding, greater

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = (
    "Verified error on the training images of each epoch, at the eps of training, of a ResNeXt on TinyImageNet with "
    "BatchNorm and both regularisers. The dashed line is the end of the warm-up."
)

NO_INIT = "r7_reg_no_init"
LINES = {OURS: "with IBP init (ours)", NO_INIT: "without IBP init"}


class Settings(CertifiedSettings):
    selects = CertifiedSettings.selects | {"course"}

    seeds: int = Field(1, ge=1, le=1000, description="repetitions [U]")
    course: SetupName = Field("tin_20", description="schedule [U]")


def arms(settings: Settings) -> Iterator[Arm]:
    for method in LINES:
        yield from trained_and_verified(settings, settings.course, "resnext", method)


def rows(run: ArmRun, record: Record) -> Iterable[Row]:
    """``train_verified_error`` by epoch and its mean over the ramp before its last epoch (2 to 20 in the paper)."""
    if not isinstance(run.spec, Certified):
        yield row(run, "verified_error", record.metrics["verified_error_ibp"])
        yield row(run, "test_images", record.metrics["samples"])
        return
    schedule, epochs = run.spec.schedule, record.series["epochs"]
    values = {int(epoch): value for epoch, value in zip(epochs["epoch"], epochs["train_verified_error"], strict=True)}
    for epoch, value in values.items():
        yield row(run, "train_verified_error", value, x_name="epoch", x=epoch)
    early = [values[epoch] for epoch in range(schedule.zero + 1, max(schedule.zero + 2, schedule.warmup))]
    yield row(run, "train_verified_error_early", sum(early) / len(early), x_name="", x=None)


chance = chance_of_error


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from bench.report import figure

    fig, (ax,) = figure.panels(1, 1, width="single", height=2.7)
    for method, label in LINES.items():
        errors = frame[(frame["metric"] == "train_verified_error") & (frame["method"] == method)]
        figure.band(ax, errors, series="ours" if method == OURS else "regularisers", label=label)
    ax.axvline(settings.schedule(settings.course).warmup, linestyle="--", color="0.5", linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel="verified error on training images (%)")
    figure.legend(ax, published=False)
    fig.suptitle(f"ResNeXt, {protocol_text(settings, settings.course, parts=2)}")
    return fig


@claim(
    "F5a",
    "The IBP initialisation lowers the verified training error during the warm-up.",
    "Figure 5",
    not_expected_at={"paper": "the figure has one run a line, and one run has no interval; set `seeds` to judge it"},
)
def init_helps_early(frame: Any) -> Finding:
    """Mean over the ramp."""
    without, with_init = (by_seed(frame, "train_verified_error_early", method=method) for method in (NO_INIT, OURS))
    return greater(without, with_init, name="without - with IBP init")
