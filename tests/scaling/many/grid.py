"""A table of as many runs as the scale says: a family of one beginning and nine continuations for each ten runs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bench.exhibit import ArmRun, Claim, Exhibit, ExhibitSettings, row
from bench.run import Cost, Result, RunSpec


class Short(RunSpec):
    """A run that computes nothing."""

    trainer: ClassVar[str] = "bench_extra.grid"

    cell: int = Field(0, ge=0, description="which cell of the grid")
    parent: Short | None = None

    def cost(self) -> Cost:
        return Cost(amount=1, flops=1e9)

    def label(self) -> str:
        return f"cell {self.cell} seed {self.seed}"


def train(spec: Short, context) -> Result:
    return Result({"value": spec.cell + 0.1 * spec.seed}, {"steps": {"step": [1, 2], "value": [0.0, 1.0]}})


class Settings(ExhibitSettings):
    seeds: int = Field(5, ge=1, description="repetitions")
    cells: int = Field(20, ge=1, description="cells of the grid")


def members(settings: Settings) -> list[ArmRun]:
    made = []
    for seed in settings.seed_range():
        first: Short | None = None
        for cell in range(settings.cells):
            if cell % 10 == 0:
                first = None
            spec = Short(seed=seed, cell=cell, parent=first)
            first = first or spec
            made.append(ArmRun({"method": f"m{cell % 10}", "x_name": "cell", "x": cell}, spec))
    return made


def rows(member, record):
    yield row(member, "value", record.metrics["value"])


def draw(frame, published, settings):
    return frame.groupby("method")["value"].mean().reset_index()


def later(frame):
    from bench import stats

    at = {x: dict(zip(part["seed"], part["value"], strict=True)) for x, part in frame.groupby("x")}
    return stats.greater(at[1.0], at[0.0])


EXHIBIT = Exhibit(
    name="many/grid",
    title="Many",
    caption="Many.",
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    claims=(Claim("M1", "Later cells are larger.", "nowhere", later),),
)
