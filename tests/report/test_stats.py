"""Intervals and verdicts against scipy's, and the rules that no result may bend."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats as reference

from bench import stats
from bench.looks import FIXED, Looks
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
    assert stats.estimate({}).verdict == "not run"
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


def test_an_estimate_is_never_judged_and_no_claim_is_tested_by_it() -> None:
    found = stats.estimate([1.0, 1.1, 1.2])
    assert found.verdict == "estimate" and found.low is not None and found.verdict not in stats.VERDICTS
    assert stats.expected_wrong([found]) == 0


def test_the_statement_on_chance_counts_what_was_tested_and_not_what_was_decided() -> None:
    assert stats.expected_wrong([YES, NO, OPEN, ABSENT]) == pytest.approx(3 * 0.025)
    early = stats.judged(OPEN, Looks((5, 10)))
    assert stats.expected_wrong([early, stats.undecided(YES, "runs are missing")]) == 0


def shifted(rng: np.random.Generator, mean: float) -> Finding:
    return stats.above(list(rng.normal(mean, 1, 8)), 0.0)


FAR = 9.0
EPSILON = 1e-9
CLAIMS_AT_THRESHOLDS: dict[str, tuple[str, Callable[[np.random.Generator], Finding]]] = {
    "false": ("reproduced", lambda rng: shifted(rng, 0.0)),
    "true": ("not reproduced", lambda rng: shifted(rng, EPSILON)),
    "one of six false": ("reproduced", lambda rng: stats.all_of([shifted(rng, m) for m in (0, *[FAR] * 5)])),
    "six just true": ("not reproduced", lambda rng: stats.all_of([shifted(rng, EPSILON) for _ in range(6)])),
    "six just false, one needed": ("reproduced", lambda rng: stats.any_of([shifted(rng, 0.0) for _ in range(6)])),
    "one of six true, one needed": (
        "not reproduced",
        lambda rng: stats.any_of([shifted(rng, m) for m in (EPSILON, *[-FAR] * 5)]),
    ),
    "choices just true": (
        "not reproduced",
        lambda rng: stats.all_of([stats.any_of([shifted(rng, m) for m in (EPSILON, -FAR)]) for _ in range(4)]),
    ),
    "one choice just false": (
        "reproduced",
        lambda rng: stats.all_of([stats.any_of([shifted(rng, 0.0) for _ in range(4)]), shifted(rng, FAR)]),
    ),
    "a choice of sets": (
        "reproduced",
        lambda rng: stats.any_of([stats.all_of([shifted(rng, m) for m in (0.0, FAR)]) for _ in range(4)]),
    ),
    "a mean, settings just true": (
        "not reproduced",
        lambda rng: stats.on_average([list(rng.normal(EPSILON, 1, 8)) for _ in range(4)]),
    ),
}


@pytest.mark.parametrize("looks", [FIXED, Looks((5, 8))], ids=["one look", "two looks"])
def test_chance_gets_no_more_wrong_than_is_stated(looks: Looks) -> None:
    """2,000 claims at their thresholds: those in which one wrong part loses or wins everything among them."""
    rng = np.random.default_rng(5)
    wrong, found = Counter[str](), []
    for name, (mistake, draw) in CLAIMS_AT_THRESHOLDS.items():
        findings = [stats.judged(draw(rng), looks) for _ in range(200)]
        wrong[name] = sum(finding.verdict == mistake for finding in findings)
        found += findings
    stated = stats.expected_wrong(found)
    assert stated == pytest.approx(50)
    assert wrong.total() <= stated + 3 * math.sqrt(stated), wrong
    assert max(wrong.values()) <= 5 + 4 * math.sqrt(5), wrong


def part(mean: float, half: float, *, low: float = 0.0, high: float = math.inf) -> Finding:
    """A test whose interval at one look is `mean` ± `half`."""
    scale = half / (4.302652729911275 / math.sqrt(3))
    values = {seed: mean + scale * number for seed, number in enumerate((-1.0, 0.0, 1.0))}
    return stats.judged(Finding("undecided", hypothesis=stats.Hypothesis(f"at {mean:g}", values, low, high, size=99)))


def test_the_weakest_part_is_the_least_distant_in_half_intervals() -> None:
    # The lower end of the wide one is the lowest, and it is the nearest to passing.
    wide, narrow = part(9.0, 13.0), part(-0.7, 1.0)
    assert stats.all_of([wide, narrow]).estimate == pytest.approx(-0.7)
    assert "weakest: at -0.7" in stats.all_of([wide, narrow, part(5.0, 1.0)]).detail
    assert stats.any_of([wide, narrow]).estimate == pytest.approx(9.0)
    # Tests in other directions, and of regions with two ends, are compared by the same measure.
    below, within = part(-2.0, 1.0, low=-math.inf, high=0.0), part(0.5, 1.0, low=-1.0, high=1.0)
    assert below.distance == pytest.approx(2.0) and within.distance == pytest.approx(0.5)
    assert stats.all_of([below, within]).estimate == pytest.approx(0.5)


def test_a_conjunction_fails_at_its_level_divided_by_the_parts() -> None:
    """At n = 3 a single test fails from 4.3 standard errors on, one of twelve from 15.4."""
    failing, passing = part(-2.0, 1.0), part(9.0, 1.0)
    assert failing.verdict == "not reproduced"
    assert stats.all_of([failing, passing]).verdict == "not reproduced"
    assert stats.all_of([failing, *[passing] * 11]).verdict == "undecided"
    assert stats.all_of([part(-4.0, 1.0), *[passing] * 11]).verdict == "not reproduced"
    assert stats.any_of([part(2.0, 1.0), *[failing] * 11]).verdict == "undecided"
    assert stats.any_of([part(4.0, 1.0), *[failing] * 11]).verdict == "reproduced"


def test_on_average_needs_the_mean_and_no_setting_the_other_way() -> None:
    good, open_, bad = ([mean - 0.1, mean, mean + 0.1] for mean in (3.0, 0.05, -2.0))
    assert stats.on_average([good, open_]).verdict == "reproduced"
    assert stats.all_of([stats.above(good, 0.0), stats.above(open_, 0.0)]).verdict == "undecided"
    assert stats.on_average([good, good, bad]).verdict == "not reproduced"
    assert stats.on_average([bad, bad]).verdict == "not reproduced"
    assert stats.on_average([]).verdict == "not run"


def test_settings_that_cannot_be_judged_leave_an_average_open() -> None:
    early = stats.judged(stats.on_average([[3.0, 3.1, 2.9, 3.2, 3.05], [3.0, 3.1, 2.9]]), Looks((5,), 0))
    assert early.verdict == "undecided"


def test_a_claim_on_every_setting_that_is_judged_on_some_says_so_and_does_not_pass() -> None:
    looks = Looks((5, 10), 0)
    enough, few = stats.above([1.0, 1.1, 1.2, 1.0, 1.1], 0.0), stats.above([1.0, 1.1], 0.0)
    found = stats.judged(stats.all_of([enough, few, few]), looks)
    assert found.verdict == "undecided" and "1 of 3 could be judged" in found.detail
    lost = stats.judged(stats.all_of([stats.above([-1.0, -1.01, -1.02, -1.0, -1.01], 0.0), few]), looks)
    assert lost.verdict == "not reproduced" and "1 of 2 could be judged" in lost.detail
    assert stats.all_of([YES, stats.not_run("no run of it")]).verdict == "not run"


def test_not_worse_is_one_sided() -> None:
    """A warm start that is better does not suffer, however much better it is."""
    warm, fresh = {0: 95.0, 1: 95.2, 2: 94.9}, {0: 90.0, 1: 90.1, 2: 90.0}
    assert stats.not_worse(warm, fresh, margin=0.9).verdict == "reproduced"
    assert stats.equivalent(warm, fresh, margin=0.9).verdict == "not reproduced"
    assert stats.not_worse(fresh, warm, margin=0.9).verdict == "not reproduced"
    assert stats.not_worse(fresh, warm, margin=0.9, lower_is_better=True).verdict == "reproduced"
    assert stats.not_worse(warm, fresh, margin=0.9, lower_is_better=True).verdict == "not reproduced"


def test_not_worse_errs_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(-0.9, 1, size=(4000, 5))
    wrong = sum(stats.not_worse(list(row), [0.0] * 5, margin=0.9).verdict == "reproduced" for row in draws)
    assert wrong / len(draws) == pytest.approx(0.025, abs=0.0075)


EQUAL = {0: 90.0, 1: 90.0, 2: 90.0}


@pytest.mark.parametrize(
    "found",
    [
        stats.greater(EQUAL, EQUAL),
        stats.equivalent(EQUAL, EQUAL, margin=1.0),
        stats.not_worse(EQUAL, EQUAL, margin=1.0),
        stats.greater({0: 80.1, 1: 70.3, 2: 60.7}, {0: 80.1, 1: 70.3, 2: 60.7}),
        stats.greater({0: 0.1 + 0.2, 1: 0.7, 2: 0.3}, {0: 0.3, 1: 0.7, 2: 0.3}),
        stats.above(stats.Values(EQUAL) - EQUAL, 0.0),
        stats.below(stats.Values(EQUAL) / EQUAL, 2.0, on=stats.LOG),
    ],
)
def test_arms_that_are_equal_in_every_seed_decide_nothing(found: Finding) -> None:
    assert found.verdict == "undecided" and not found.tested and "no difference in any seed" in found.detail


def test_a_difference_that_is_the_same_in_every_seed_is_one() -> None:
    assert stats.greater({0: 95.0, 1: 95.0}, {0: 90.0, 1: 90.0}).verdict == "reproduced"
    assert stats.above([100.0, 100.0, 100.0], 99.5).verdict == "reproduced"


def test_a_claim_of_exactness_is_decided_by_equal_values() -> None:
    assert stats.below([0.0, 0.0, 0.0], 0.1, exact=True).verdict == "reproduced"
    assert stats.below([0.2, 0.2, 0.2], 0.1, exact=True).verdict == "not reproduced"
    assert stats.equivalent(EQUAL, EQUAL, margin=1.0, exact=True).verdict == "reproduced"


@pytest.mark.parametrize(
    "found",
    [
        stats.above([0.9, 1.2, 0.9], 0.5, on=stats.R_SQUARED),
        stats.above([0.9, -0.2, 0.9], 0.5, on=stats.R_SQUARED),
        stats.below([-1.5, 0.2, 0.1], 0.5, on=stats.correlation()),
        stats.below([-1.0, -0.9, -0.8], 0.0, on=stats.correlation()),
        stats.above([2.0, 0.0, 2.0], 1.0, on=stats.LOG),
        stats.above([2.0, float("nan"), 2.0], 1.0),
        stats.above([2.0, float("inf"), 2.0], 1.0, on=stats.LOG),
    ],
)
def test_values_outside_of_their_range_decide_nothing(found: Finding) -> None:
    assert found.verdict == "undecided" and not found.tested and "outside of its range" in found.detail


def test_a_rank_correlation_of_few_points_may_be_perfect() -> None:
    """Of four points the next value to 1 is 0.8."""
    found = stats.below([-1.0, -1.0, -0.8, -1.0, -0.8], 0.0, on=stats.correlation(points=4))
    assert found.verdict == "reproduced" and found.low is not None and found.low > -1


def correlations(rng: np.random.Generator, true: float, points: int, shape: tuple[int, int]) -> np.ndarray:
    x, noise = rng.normal(size=(2, *shape, points))
    y = true * x + math.sqrt(1 - true**2) * noise
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


@pytest.mark.parametrize("true", [0.0, 0.6, 0.97])
def test_intervals_of_correlations_cover_and_stay_in_their_range(true: float) -> None:
    found = correlations(np.random.default_rng(3), true, 30, (1500, 5))
    for values, on, target, least in (
        (found, stats.correlation(), true, -1.0),
        (found**2, stats.R_SQUARED, true**2, 0.0),
    ):
        if on is stats.R_SQUARED and true == 0:
            continue  # the root of a square is no symmetric estimate of 0
        findings = [stats.estimate(list(row), on=on) for row in values]
        ends = [
            (finding.low, finding.high) for finding in findings if finding.low is not None and finding.high is not None
        ]
        assert all(least <= low <= high <= 1 for low, high in ends)
        assert np.mean([low <= target <= high for low, high in ends]) == pytest.approx(0.95, abs=0.02)


def test_ratios_are_judged_on_the_log_scale() -> None:
    """Twice as much in one seed and half as much in another is no difference."""
    found = stats.estimate([2.0, 0.5, 2.0, 0.5], on=stats.LOG)
    assert found.estimate == pytest.approx(1.0) and found.low == pytest.approx(1 / (found.high or 0))
    rng = np.random.default_rng(4)
    ratios = np.exp(rng.normal(math.log(3), 0.8, size=(3000, 5)))
    for side, test in ((stats.above, "above"), (stats.below, "below")):
        wrong = np.mean([side(list(row), 3.0, on=stats.LOG).verdict == "reproduced" for row in ratios])
        assert wrong == pytest.approx(0.025, abs=0.009), test
    plain = np.mean([stats.below(list(row), 3.0).verdict == "reproduced" for row in ratios])
    assert plain == 0 or np.mean([stats.above(list(row), 3.0).verdict == "reproduced" for row in ratios]) < 0.02


def test_what_is_left_open_stays_open_at_other_looks() -> None:
    found = stats.undecided(stats.above([1.0, 1.1, 1.2, 1.0, 1.1], 0.0), "one seed did not end")
    assert stats.judged(found, Looks((5,))).verdict == "undecided" and "did not end" in found.detail
    both = stats.judged(stats.all_of([found, YES]), FIXED)
    assert both.verdict == "undecided"


@pytest.mark.parametrize(("mean", "verdict"), [(-1.0, "undecided"), (1.0, "reproduced")])
def test_a_failure_alone_may_be_left_open(mean: float, verdict: str) -> None:
    found = stats.above([mean, mean + 0.1, mean - 0.1], 0.0)
    assert stats.undecided(found, "the best one lies there", may_pass=True).verdict == verdict


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
