"""Table of the invented paper: how far walks get; each is a parent, its child and a verification."""

from __future__ import annotations

from bench_extra.measure import Measure
from bench_extra.walk import Walk
from pydantic import Field

from bench.exhibit import Claim, Exhibit, ExhibitSettings, Member, row


class Settings(ExhibitSettings):
    drifts: tuple[float, ...] = Field((0.1, 0.2), description="drift of the second half")
    failing_drift: float | None = Field(None, description="drift whose walks fail")


def members(settings: Settings) -> list[Member]:
    made = []
    for drift in settings.drifts:
        for seed in settings.seed_range():
            first = Walk(seed=seed)
            second = Walk(seed=seed, drift=drift, fails=drift == settings.failing_drift, parent=first)
            made.append(Member({"method": "walk", "x_name": "drift", "x": drift}, Measure(seed=seed, parent=second)))
    return made


def rows(member, record):
    yield row(member, "distance", record.metrics["distance"])


def draw(frame, published, settings):
    return frame.groupby("x")["value"].mean().rename("distance").reset_index()


def further(frame):
    from bench import stats

    at = {x: dict(zip(rows["seed"], rows["value"], strict=True)) for x, rows in frame.groupby("x")}
    return stats.greater(at[0.2], at[0.1])


EXHIBIT = Exhibit(
    name="invented/distance",
    title="Distance by drift",
    caption="Mean distance from the start.",
    kind="table",
    settings=Settings,
    members=members,
    rows=rows,
    draw=draw,
    claims=(Claim("D1", "More drift, more distance.", "Section 1", further),),
)
