"""Intervals and verdicts against scipy's, and the rules that no result may bend."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats as reference

from bench import stats
from bench.stats import Finding

values = some.lists(some.floats(-1e3, 1e3), min_size=2, max_size=12).filter(
    lambda found: max(found) - min(found) > 1e-3
)


@given(values)
def test_the_interval_is_students(found: list[float]) -> None:
    mean, low, high = stats.interval(found)
    expected = reference.t.interval(0.95, len(found) - 1, loc=sum(found) / len(found), scale=reference.sem(found))
    assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9) and low <= mean <= high


@given(values, some.floats(-50, 50))
def test_a_paired_test_agrees_with_scipys(found: list[float], shift: float) -> None:
    first = {seed: value + shift for seed, value in enumerate(found)}
    second = {seed: 0.5 * value for seed, value in enumerate(found)}
    outcome = stats.greater(first, second)
    p = reference.ttest_rel(list(first.values()), list(second.values()), alternative="greater").pvalue
    if min(abs(p - 0.025), abs(p - 0.975)) > 1e-9:
        expected = "reproduced" if p < 0.025 else "not reproduced" if p > 0.975 else "undecided"
        assert outcome.verdict == expected and outcome.n == len(found)


@given(values, some.floats(0.01, 100))
def test_equivalence_is_two_one_sided_tests(found: list[float], margin: float) -> None:
    by_seed = dict(enumerate(found))
    outcome = stats.equivalent(by_seed, dict.fromkeys(by_seed, 0.0), margin=margin)
    below = reference.ttest_1samp(found, margin, alternative="less").pvalue
    above = reference.ttest_1samp(found, -margin, alternative="greater").pvalue
    if abs(max(below, above) - 0.025) > 1e-9:
        assert (outcome.verdict == "reproduced") == (max(below, above) < 0.025)


def test_a_wide_interval_never_passes() -> None:
    assert stats.equivalent_to({0: 40.0, 1: 60.0, 2: 50.0}, 50.0, margin=2.0).verdict == "undecided"
    assert stats.equivalent_to({0: 49.9, 1: 50.1, 2: 50.0}, 50.0, margin=2.0).verdict == "reproduced"
    assert stats.equivalent_to({0: 59.9, 1: 60.1, 2: 60.0}, 50.0, margin=2.0).verdict == "not reproduced"


@pytest.mark.parametrize(
    "outcome",
    [
        stats.above({0: 5.0}, 0.0),
        stats.below({0: -5.0}, 0.0),
        stats.greater({0: 5.0}, {0: 1.0}),
        stats.equivalent({0: 5.0}, {0: 5.0}, margin=1.0),
        stats.equivalent_to({0: 5.0}, 5.0, margin=1.0),
    ],
)
def test_one_seed_decides_nothing(outcome: Finding) -> None:
    assert outcome.verdict == "undecided" and outcome.low is None and "one seed" in outcome.detail


def test_a_seed_that_one_side_lacks_leaves_the_test_undecided_and_is_named() -> None:
    outcome = stats.greater({0: 5.0, 1: 5.1, 2: 5.2}, {0: 1.0, 1: 1.1})
    assert outcome.verdict == "undecided" and "seeds missing: 2" in outcome.detail
    assert stats.equivalent_to({0: 5.0, 1: 5.1}, 5.0, margin=1.0, expected=range(3)).verdict == "undecided"


def test_no_values_are_not_run() -> None:
    assert stats.above({}, 0.0).verdict == "not run"
    assert stats.report({}).verdict == "not run"
    with pytest.raises(ValueError, match="no values"):
        stats.interval({})


YES, NO = stats.above([1.0, 1.1, 1.2], 0.0), stats.above([-1.0, -1.1, -1.2], 0.0)
OPEN, ABSENT = stats.above([1.0, -1.1, 0.2], 0.0), stats.not_run("no record")


@pytest.mark.parametrize(
    ("parts", "every", "one"),
    [
        ((YES, YES), "reproduced", "reproduced"),
        ((YES, NO), "not reproduced", "reproduced"),
        ((YES, OPEN), "undecided", "reproduced"),
        ((NO, OPEN), "not reproduced", "undecided"),
        ((NO, NO), "not reproduced", "not reproduced"),
        ((YES, ABSENT), "not run", "reproduced"),
        ((), "not run", "not run"),
    ],
)
def test_claims_of_several_parts(parts: tuple[Finding, ...], every: str, one: str) -> None:
    assert stats.all_of(parts).verdict == every
    assert stats.any_of(parts).verdict == one


def test_a_reported_number_is_never_decided() -> None:
    assert stats.report([1.0, 1.1, 1.2]).verdict == "undecided"


def test_false_alarms_count_every_test_that_could_have_caused_the_verdict() -> None:
    assert stats.false_alarms([YES, NO, OPEN, ABSENT]) == pytest.approx(2 * 0.025)
    # Each of four failures alone would have lost the claim; all four had to pass for it to hold.
    assert stats.false_alarms([stats.all_of([NO, YES, YES, YES])]) == pytest.approx(4 * 0.025)
    assert stats.false_alarms([stats.all_of([YES, YES, YES, YES])]) == pytest.approx(0.025)
    assert stats.false_alarms([stats.any_of([YES, NO, NO])]) == pytest.approx(3 * 0.025)


def test_decisions_err_as_rarely_as_stated() -> None:
    import numpy as np

    draws = np.random.default_rng(0).normal(size=(4000, 3))
    wrong = sum(stats.above(list(row), 0.0).verdict == "reproduced" for row in draws) / len(draws)
    assert wrong == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / len(draws)))


@pytest.mark.parametrize(
    ("mean", "low", "high", "text"),
    [
        (7.333, 1.365, 13.31, "7.3 [1.4, 13.3]"),
        (1.2e-15, -4.836, 4.836, "0.0 [-4.8, 4.8]"),
        (-0.0004, -0.2, 0.2, "0.00 [-0.20, 0.20]"),
        (125_833.0, 56_020.0, 199_180.0, "126000 [56000, 199000]"),
        (1e-15, -1e-15, 3e-15, "1e-15 [-1e-15, 3e-15]"),
        (0.0, 0.0, 0.0, "0 [0, 0]"),
        (125_833.0, None, None, "125800"),
        (21.4, None, None, "21.4"),
        (float("nan"), None, None, "nan"),
    ],
)
def test_intervals_are_written_for_people(mean: float, low: float | None, high: float | None, text: str) -> None:
    assert stats.shown(mean, low, high) == text


@given(values)
def test_a_written_interval_is_near_the_computed_one(found: list[float]) -> None:
    mean, low, high = stats.interval(found)
    assert low is not None and high is not None
    written = [float(number) for number in re.findall(r"-?[\d.]+", stats.shown(mean, low, high))]
    assert written == pytest.approx([mean, low, high], abs=0.051 * (high - low) / 2)
