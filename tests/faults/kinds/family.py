"""What the exhibits in this folder share: each declares a few tiny runs of one trainer, to be killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import Field

from bench.exhibit import ArmRun, Exhibit, ExhibitSettings, row


class Settings(ExhibitSettings):
    seeds: int = Field(1, ge=1, description="repetitions")


def rows(member, record):
    for metric, value in record.metrics.items():
        yield row(member, metric, value)


def draw(frame, published, settings):
    return frame[["metric", "value"]]


def exhibit_of(name: str, members: Callable[[Settings], Sequence[ArmRun]]) -> Exhibit:
    return Exhibit(
        name=f"kinds/{name}",
        title=name,
        caption=name,
        kind="table",
        settings=Settings,
        runs=members,
        module=__name__,
        rows=rows,
        draw=draw,
    )
