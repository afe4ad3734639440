"""The smoothed schedule against its formula, written a second time, at every step."""

from __future__ import annotations

from fractions import Fraction

import pytest

from bench.certified.design import SETUPS, SetupName
from bench.certified.eps_schedule import Schedule, eps_share, regularizer_weight


def formula(step: int, start: int, length: int, per_epoch: int) -> Fraction:
    """bench/certified/protocol.md, section a, in exact arithmetic: start and length in epochs, mid 0.25, beta 4."""
    init, final = (start - 1) * per_epoch, (start + length - 1) * per_epoch
    mid = init + int(0.25 * (final - init))
    t = Fraction((mid - init) ** 3)
    alpha = 1 / ((final - mid) * 4 * t + (mid - init) * t)
    if step <= init:
        return Fraction(0)
    if step < mid:
        return alpha * (step - init) ** 4
    if step < final:
        return alpha * (mid - init) ** 4 + alpha * 4 * t * (step - mid)
    return Fraction(1)


@pytest.mark.parametrize(
    ("name", "start", "length", "per_epoch"),
    [
        ("mnist_70", 1, 20, 235),
        ("cifar_70", 2, 20, 391),
        ("cifar_160", 2, 80, 391),
        ("tin_10", 2, 10, 782),
        ("tin_20", 2, 20, 782),
    ],
)
def test_every_step_equals_the_formula(name: SetupName, start: int, length: int, per_epoch: int) -> None:
    schedule = SETUPS[name].schedule
    for step in range(0, (start + length + 1) * per_epoch, 7):
        assert eps_share(step, schedule, per_epoch) == pytest.approx(
            float(formula(step, start, length, per_epoch)), rel=1e-12
        )


def test_fixed_points_of_the_ramp() -> None:
    """eps is 1/13, 5/13, 9/13 and all of its target after each quarter."""
    schedule = Schedule(zero=2, ramp=8, final=3, milestones=())
    shares = [eps_share(200 + 200 * quarter, schedule, 100) for quarter in range(5)]
    assert shares == pytest.approx([0, 1 / 13, 5 / 13, 9 / 13, 1])
    assert eps_share(200, schedule, 100) == 0 and eps_share(201, schedule, 100) > 0
    assert eps_share(999, schedule, 100) < 1 and eps_share(1000, schedule, 100) == 1


@pytest.mark.parametrize("per_epoch", [1, 2, 3, 5])
def test_short_ramps_rise_from_zero_to_one(per_epoch: int) -> None:
    schedule = Schedule(zero=1, ramp=1, final=1, milestones=())
    values = [eps_share(step, schedule, per_epoch) for step in range(3 * per_epoch)]
    assert values == sorted(values)
    assert values[: per_epoch + 1] == [0.0] * per_epoch + [0.0 if per_epoch else 1.0]
    assert set(values[2 * per_epoch :]) == {1.0}


def test_regularisers_fade_with_eps_and_end_with_the_ramp() -> None:
    schedule = Schedule(zero=1, ramp=2, final=1, milestones=())
    assert regularizer_weight(0.0, 0.5, 0, schedule) == 0.5
    assert regularizer_weight(0.25, 0.5, 2, schedule) == 0.375
    assert regularizer_weight(1.0, 0.5, 3, schedule) == 0.0
