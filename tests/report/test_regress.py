"""Comparison with the reference: effects that are lost are found, and runs in which nothing has changed rarely fail."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench import stats
from bench.looks import Looks
from bench.report import regress

LOOKS = Looks((5, 10, 20))
T = LOOKS.multiplier(5)
KEY = ("invented/distance", "D1")


def t_of(values: np.ndarray) -> np.ndarray:
    return math.sqrt(values.shape[-1]) * values.mean(-1) / values.std(-1, ddof=1)


def lost(before: np.ndarray, after: np.ndarray, further: np.ndarray, *, paired: bool) -> bool:
    """Whether a run of claims fails. (claims, seeds) each; the further seeds are not in the reference."""
    p = dict(enumerate(regress.shrunk(before, after, paired=paired)))
    alarms = {*regress.holm(p), *np.flatnonzero(t_of(after) < -T)}
    if not alarms:
        return False
    chosen = sorted(alarms)
    again = dict(enumerate(regress.shrunk(before[chosen], further[chosen], paired=False)))
    return bool(regress.holm(again)) or bool((t_of(further[chosen]) < -T).any())


@pytest.mark.parametrize(
    ("correlation", "effects"),
    [(0.0, (0.0, 0.5, 1.0, 2.0, 4.0)), (0.0, (3.0,)), (0.9, (0.0, 0.3, 0.6)), (0.999, (0.0, 0.5, 1.0, 2.0, 4.0))],
)
def test_at_most_one_innocent_run_in_fifty_fails(correlation: float, effects: tuple[float, ...]) -> None:
    """64 claims of which the reference reproduced some by chance, trained again with other rounding."""
    rng, failures, runs = np.random.default_rng(1), 0, 600
    for _ in range(runs):
        truth = rng.choice(effects, 64)[:, None]
        seeds = rng.normal(size=(64, 5))
        before = truth + seeds
        rest = math.sqrt(1 - correlation**2)
        after = truth + correlation * seeds + rest * rng.normal(size=(64, 5))
        further = truth + rng.normal(size=(64, 5))
        kept = t_of(before) > T
        if kept.any():
            failures += lost(before[kept], after[kept], further[kept], paired=correlation > 0)
    assert failures / runs <= 0.02


def test_an_effect_that_is_gone_is_found() -> None:
    rng, found = np.random.default_rng(2), 0
    for _ in range(100):
        before, after, further = (rng.normal(size=(20, 5)) + 8.0 for _ in range(3))
        after[3] -= 8.0
        further[3] -= 8.0
        found += lost(before, after, further, paired=False)
    assert found >= 90


def finding(values: list[float], threshold: float = 0.0) -> stats.Finding:
    return stats.judged(stats.above(values, threshold), Looks((5, 10, 20), 0))


FULL = [10.0, 10.4, 9.7, 10.1, 9.9]


def test_holm_is_step_wise() -> None:
    p = {("a", str(number)): value for number, value in enumerate((0.004, 0.0001, 0.006, 0.5))}
    assert regress.holm(p) == [("a", "1")]
    assert regress.holm({**p, ("a", "0"): 0.003}) == [("a", "1"), ("a", "0")]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (FULL, ""),
        ([9.9, 10.5, 9.6, 10.2, 9.8], ""),  # other rounding
        ([9.5, 9.9, 9.2, 9.6, 9.4], ""),  # five per cent less is no matter
        ([5.0, 5.2, 4.8, 5.1, 4.9], "has shrunk"),
        ([-5.0, -5.2, -4.8, -5.1, -4.9], "is not reproduced"),
        ([12.0, 12.4, 11.7, 12.1, 11.9], ""),
        ([9.0, -3.0, 20.0, 1.0, 4.0], ""),  # undecided now, and not beyond chance
    ],
)
def test_alarms(after: list[float], says: str) -> None:
    found = regress.alarms({KEY: finding(FULL)}, {KEY: finding(after)})
    assert [says in alarm.why for alarm in found] == ([True] if says else [])


def test_arms_that_have_become_equal_are_an_alarm() -> None:
    """As shrink and perturb without shrinking is a warm start."""
    warm = {seed: 50.0 + seed for seed in range(5)}
    before = stats.judged(stats.greater({s: v + FULL[s] for s, v in warm.items()}, warm), Looks((5,), 0))
    after = stats.judged(stats.greater(warm, warm), Looks((5,), 0))
    assert after.verdict == "undecided"
    assert "has shrunk" in regress.alarms({KEY: before}, {KEY: after})[0].why


def test_what_is_not_run_any_more_is_an_alarm_that_needs_no_further_seeds() -> None:
    (alarm,) = regress.alarms({KEY: finding(FULL)}, {KEY: stats.not_run("its runs failed")})
    assert alarm.sure and "its runs failed" in alarm.why
    assert regress.alarms({KEY: finding(FULL)}, {})[0].sure


def test_the_parts_of_a_claim_are_compared_one_by_one() -> None:
    half, whole, reverse = [5.0, 5.2, 4.8, 5.1, 4.9], finding(FULL), finding([-v for v in FULL])
    both = stats.judged(stats.all_of([whole, whole]), Looks((5,), 0))
    less = stats.judged(stats.all_of([whole, finding(half)]), Looks((5,), 0))
    assert regress.shrinkage(both, less, paired=True) < 0.001
    assert regress.shrinkage(both, both, paired=True) == 1.0
    one = stats.judged(stats.any_of([whole, reverse]), Looks((5,), 0))
    other = stats.judged(stats.any_of([finding(half), reverse]), Looks((5,), 0))
    assert regress.shrinkage(one, other, paired=True) < 0.001
    # Of equivalence there is no effect that could shrink.
    same = stats.judged(stats.equivalent_to([1.0, 1.1, 0.9, 1.0, 1.05], 1.0, margin=0.5), Looks((5,), 0))
    assert regress.shrinkage(same, same, paired=False) == 1.0


def test_chaotic_training_is_compared_without_pairs() -> None:
    before, after = [10.0, 14.0, 6.0, 12.0, 8.0], [5.0, 7.0, 3.0, 6.0, 4.0]
    paired = regress.shrinkage(finding(before), finding(after), paired=True)
    apart = regress.shrinkage(finding(before), finding(after[::-1]), paired=False)
    assert paired < 0.005 < apart < 0.05
