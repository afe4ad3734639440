"""Paths: the walks that the table's second halves start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench_extra.invented.walk import Walk
from pydantic import Field

from bench.exhibit import Arm, ExhibitSettings, row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPTION = "Position by step."


class Settings(ExhibitSettings):
    steps: int = Field(20, ge=1, description="steps of the walk")


def arms(settings: Settings):
    yield Arm({"method": "walk"}, lambda seed: Walk(seed=seed, steps=settings.steps))


def rows(run, record):
    path = record.series["path"]
    for step, position in zip(path["step"], path["position"], strict=True):
        yield row(run, "position", position, x_name="step", x=step)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    for _, path in frame.groupby("seed"):
        axes.plot(path["x"], path["value"])
    return figure
