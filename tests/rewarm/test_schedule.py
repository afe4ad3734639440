"""Learning rates against the protocol's tables, which were computed independently."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path

import pytest

import bench.rewarm
from bench.errors import UserError
from bench.rewarm.schedule import CURVES, learning_rate

PUBLISHED = Path(bench.rewarm.__file__).parent / "published.csv"
LONG = {"total_steps": 131_296, "min_lr": 3e-5, "max_lr": 3e-4}


def published(x_name: str, metric: str) -> list[tuple[str, float, float]]:
    with PUBLISHED.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["exhibit"] == "lr_schedule"]
    chosen = [row for row in rows if row["x_name"] == x_name and row["metric"] == metric]
    assert chosen
    return [(row["method"], float(row["x"]), float(row["value"])) for row in chosen]


def rate_of(method: str, step: float, shape: str) -> float:
    """The rate of a row whose method reads like ``MaxLR 3e-4, WU 0.01``."""
    parts = dict(part.strip().replace("=", " ").split() for part in method.split(","))
    total, peak = float(parts.get("T", 131_296)), float(parts["MaxLR"])
    warmup = float(parts["WU"]) * total
    return learning_rate(step, max_lr=peak, min_lr=0.1 * peak, total_steps=total, warmup_steps=warmup, shape=shape)


@pytest.mark.parametrize(("method", "step", "value"), published("step", "learning_rate"))
def test_clipped_cosine_equals_the_published_table(method: str, step: float, value: float) -> None:
    # The table is printed to seven digits.
    assert rate_of(method, step, "clipped_cosine") == pytest.approx(value, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "metric"), [("clipped_cosine", "learning_rate"), ("cosine", "learning_rate_textbook_cosine")]
)
def test_both_cosines_by_tokens(shape: str, metric: str) -> None:
    for method, tokens, value in published("tokens_1e9", metric):
        # Printed to four digits, at rounded tokens.
        assert rate_of(method, tokens * 1e9 / 2_260_992, shape) == pytest.approx(value, rel=1e-3), tokens


def test_floor_is_reached_at_the_step_that_the_paper_remarks_on() -> None:
    def rate(step: int) -> float:
        return learning_rate(step, **LONG, warmup_steps=1312.96, shape="clipped_cosine")

    assert rate(105_715) > 3e-5
    assert rate(105_716) == rate(131_296) == rate(200_000) == 3e-5
    assert pytest.approx(239.02, abs=0.005) == 105_716 * 2_260_992 / 1e9


@pytest.mark.parametrize("shape", CURVES)
@pytest.mark.parametrize("warmup", [0.0, 12.5, 100.0])
def test_every_shape_stays_in_range_and_decays(shape: str, warmup: float) -> None:
    rates = [
        learning_rate(step, max_lr=1.0, min_lr=0.1, total_steps=1000, warmup_steps=warmup, shape=shape)
        for step in range(1200)
    ]
    first = math.ceil(warmup)
    assert all(0.1 <= rate <= 1 for rate in rates[first:])
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rates[first + 1 :]))
    assert rates[:first] == pytest.approx([step / warmup for step in range(first)] if warmup else [])
    assert rates[-1] == pytest.approx(1.0 if shape == "constant" else 0.1)


def test_wsd_and_infinite_hold_their_rate() -> None:
    common = {"max_lr": 1.0, "min_lr": 0.1, "total_steps": 1000, "warmup_steps": 10}
    assert {learning_rate(step, **common, shape="wsd") for step in range(10, 801)} == {1.0}
    assert {learning_rate(step, **common, shape="infinite") for step in range(600, 851)} == {0.55}
    assert learning_rate(925, **common, shape="infinite") == pytest.approx(math.sqrt(0.55 * 0.1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": -1}, "step -1 must be 0, before the first update, or more"),
        ({"step": float("nan")}, "step nan"),
        ({"total_steps": 0, "warmup_steps": 0}, "a schedule of 0 steps"),
        ({"warmup_steps": 1001}, "warm-up of 1001 steps"),
        ({"warmup_steps": -1}, "warm-up of -1 steps"),
        ({"min_lr": 2.0}, "floor 2"),
        ({"shape": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_impossible_schedules_are_named(change: dict, said: str) -> None:
    settings = {"step": 5, "max_lr": 1, "min_lr": 0.1, "total_steps": 1000, "warmup_steps": 10, "shape": "cosine"}
    with pytest.raises(UserError, match=said):
        learning_rate(**(settings | change))
