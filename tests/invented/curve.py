"""Figure of the invented paper: the path of the walks that the table's second halves start from."""

from __future__ import annotations

from bench_extra.walk import Walk
from pydantic import Field

from bench.exhibit import Exhibit, ExhibitSettings, Member, row


class Settings(ExhibitSettings):
    steps: int = Field(20, ge=1, description="steps of the walk")


def members(settings: Settings) -> list[Member]:
    return [Member({"method": "walk"}, Walk(seed=seed, steps=settings.steps)) for seed in settings.seed_range()]


def rows(member, record):
    path = record.series["path"]
    for step, position in zip(path["step"], path["position"], strict=True):
        yield row(member, "position", position, x_name="step", x=step)


def draw(frame, published, settings):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    for _, path in frame.groupby("seed"):
        axes.plot(path["x"], path["value"])
    return figure


EXHIBIT = Exhibit(
    name="invented/curve",
    title="Paths",
    caption="Position by step.",
    kind="figure",
    settings=Settings,
    members=members,
    rows=rows,
    draw=draw,
)
