"""Distance by drift: how far walks get; each is a parent, its child and a verification."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench_extra.invented.measure import Measure
from bench_extra.invented.walk import Walk
from pydantic import Field

from bench.exhibit import Arm, ExhibitSettings, by_seed, claim, row
from bench.stats import greater

if TYPE_CHECKING:
    import pandas as pd

CAPTION = "Mean distance from the start."


class Settings(ExhibitSettings):
    drifts: tuple[float, ...] = Field((0.1, 0.2), description="drift of the second half")
    failing_drift: float | None = Field(None, description="drift whose walks fail")


def measured(settings: Settings, drift: float, seed: int) -> Measure:
    second = Walk(seed=seed, drift=drift, fails=drift == settings.failing_drift, parent=Walk(seed=seed))
    return Measure(seed=seed, parent=second)


def arms(settings: Settings):
    for drift in settings.drifts:
        yield Arm({"method": "walk", "x_name": "drift", "x": drift}, partial(measured, settings, drift))


def rows(run, record):
    yield row(run, "distance", record.metrics["distance"])


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return frame.groupby("x")["value"].mean().rename("distance").reset_index()


@claim("D1", "More drift, more distance.", "Section 1")
def further(frame):
    return greater(by_seed(frame, "distance", x=0.2), by_seed(frame, "distance", x=0.1))
