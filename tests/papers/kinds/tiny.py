"""What the exhibits of this folder share: each declares a few tiny runs of one trainer, to be killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bench.exhibit import ExhibitSettings, row

if TYPE_CHECKING:
    import pandas as pd


class Settings(ExhibitSettings):
    seeds: int = Field(1, ge=1, description="repetitions")


def rows(run, record):
    for metric, value in record.metrics.items():
        yield row(run, metric, value)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return frame[["metric", "value"]]
