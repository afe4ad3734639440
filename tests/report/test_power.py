"""Chances of being decided, giving up, and the seeds that the papers' own means and spreads need."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as reference

from bench import exhibit, power, stats
from bench.looks import Looks
from bench.report import needs
from bench.stats import Finding

CI = Looks((5, 10, 20), 0)


def values(t: float, n: int, seed: int = 0) -> list[float]:
    """n values whose t statistic is exactly `t` and whose standard deviation is 1."""
    numbers = np.random.default_rng(seed).normal(size=n)
    return list((numbers - numbers.mean()) / numbers.std(ddof=1) + t / math.sqrt(n))


def single(t: float, n: int, looks: Looks = CI) -> Finding:
    return stats.judged(stats.above(values(t, n), 0.0), looks)


def test_chances_grow_with_the_effect_and_with_the_looks() -> None:
    weak, strong = power.chances(single(0.5, 5), CI), power.chances(single(2.5, 5), CI)
    assert list(weak) == [10, 20]
    assert weak[10] < weak[20] < strong[20] and strong[10] < strong[20]


@pytest.mark.parametrize("effect", [0.0, 0.5, 1.0])
def test_chances_come_true(effect: float) -> None:
    """Of true effects that are drawn as the chances assume, as many claims are decided as were expected."""
    rng = np.random.default_rng(1)
    expected, decided = [], []
    for _ in range(120):
        truth = rng.normal(effect, 3.0)  # far wider than the spread of five seeds' mean: as good as a flat prior
        drawn = list(rng.normal(truth, 1.0, 20))
        found = stats.judged(stats.above(drawn[:5], 0.0), CI)
        if found.verdict == "undecided":
            expected.append(power.chances(found, CI)[20])
            decided.append(stats.judged(stats.above(drawn, 0.0), CI).verdict != "undecided")
    assert np.mean(decided) == pytest.approx(np.mean(expected), abs=0.13)


def test_a_conjunction_waits_for_its_last_part_and_fails_with_its_first() -> None:
    good, open_ = single(9.0, 5), single(2.0, 5)
    both = stats.judged(stats.all_of([good, open_]), CI)
    assert power.chances(both, CI)[20] == pytest.approx(power.chances(open_, CI)[20], abs=0.05)
    three = stats.judged(
        stats.all_of([open_, stats.above(values(2.0, 5, 7), 0.0), stats.above(values(2.0, 5, 8), 0.0)]), CI
    )
    assert power.chances(three, CI)[20] < power.chances(both, CI)[20]
    either = stats.judged(stats.any_of([open_, stats.above(values(-9.0, 5), 0.0)]), CI)
    assert power.chances(either, CI)[20] > 0.3


@pytest.mark.parametrize(
    "found",
    [stats.judged(stats.above([1.0], 0.0), CI), stats.judged(stats.above([0.0] * 5, 0.0), CI), stats.not_run("no run")],
)
def test_what_says_nothing_promises_nothing(found: Finding) -> None:
    assert set(power.chances(found, CI).values()) <= {0.0}
    assert not power.given_up(found, CI)


@pytest.mark.parametrize(("t", "n", "gives_up"), [(0.3, 5, True), (1.5, 5, False), (1.0, 10, True), (2.0, 10, False)])
def test_a_claim_near_its_threshold_is_given_up(t: float, n: int, gives_up: bool) -> None:
    assert power.given_up(single(t, n), CI) is gives_up


def test_a_claim_that_is_open_at_the_last_look_is_given_up() -> None:
    assert power.given_up(single(1.0, 20), CI)
    assert not power.given_up(single(9.0, 20), CI)  # it is decided
    assert not power.given_up(single(0.3, 4), CI)  # it has not been looked at
    assert not power.given_up(stats.above(values(0.3, 5), 0.0), Looks())  # there is no further look


@pytest.mark.parametrize(
    ("effect", "share", "seeds"), [(0.0, 0.021, 9.0), (0.5, 0.37, 11.8), (0.8, 0.76, 12.5), (1.2, 0.97, 10.2)]
)
def test_giving_up_saves_seeds_at_the_stated_price(effect: float, share: float, seeds: float) -> None:
    bounds = {
        n: next(t for t in np.arange(0.0, 4.0, 0.05) if not power.given_up(single(float(t), n), CI)) for n in (5, 10)
    }
    drawn = np.random.default_rng(2).normal(effect, 1, (20_000, 20))
    sign, taken, still = np.zeros(len(drawn)), np.full(len(drawn), 20), np.ones(len(drawn), dtype=bool)
    for n in CI.at:
        t = math.sqrt(n) * drawn[:, :n].mean(1) / drawn[:, :n].std(1, ddof=1)
        ended = still & ((np.abs(t) > CI.multiplier(n)) | (np.abs(t) < bounds.get(n, 0.0)))
        sign = np.where(ended & (np.abs(t) > CI.multiplier(n)), np.sign(t), sign)
        taken = np.where(ended, n, taken)
        still &= ~ended
    assert (sign == 1).mean() == pytest.approx(share, abs=0.03 if effect else 0.004)
    assert taken.mean() == pytest.approx(seeds, abs=0.5)


@pytest.mark.parametrize(("effect", "n"), [(0.5, 12), (1.0, 6), (2.0, 4)])
def test_power_is_that_of_the_noncentral_t(effect: float, n: int) -> None:
    finding = stats.above(values(effect * math.sqrt(50), 50), 0.0)
    expected = reference.nct.sf(reference.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n))
    assert power.chance_to_pass(finding, n) == pytest.approx(expected, abs=1e-6)


def test_seeds_that_are_needed() -> None:
    finding = stats.above(values(1.0 * math.sqrt(50), 50), 0.0)
    found = power.need(finding, 5)
    assert found.seeds == 10 and found.chance == pytest.approx(0.40, abs=0.01)
    assert power.need(stats.below(values(5.0, 50), 0.0), 5).seeds is None
    same = stats.equivalent_to(values(0.0, 50), 0.0, margin=0.5)
    assert 40 < (power.need(same, 5).seeds or 0) < 50
    both = stats.all_of([finding, finding])
    assert (power.need(both, 5).seeds or 0) > 10 and power.need(stats.any_of([finding, finding]), 5).seeds == 9


@pytest.mark.parametrize(
    ("name", "rarely"),
    [("certified/table1", {"T1b", "T1d", "T1h"}), ("certified/table4", {"T4b", "T4d", "T4e"})],
)
def test_claims_that_the_papers_number_rarely_decides_are_named(name: str, rarely: set[str]) -> None:
    """By the printed means and spreads, n = 5 or 3."""
    found = needs.of_exhibit(name)
    assert rarely <= {claim for claim, need in found.items() if need.chance < needs.RARELY}
    assert all("rarely suffice" in needs.note(name, claim) for claim in rarely)
    assert found["T1a" if name.endswith("1") else "T4a"].chance > needs.RARELY


def test_the_published_frame_has_the_published_means_and_spreads() -> None:
    chosen = exhibit.registry()["certified/table1"]
    frame, size = needs.published_frame(chosen)
    cell = frame[
        (frame["panel"] == "70 (1+20+49)") & (frame["model"] == "cnn7") & (frame["metric"] == "verified_error")
    ].groupby("method")["value"]
    assert cell.mean()["vanilla_ibp"] == pytest.approx(69.88) and cell.count()["vanilla_ibp"] == 5 * size
    assert cell.std()["vanilla_ibp"] == pytest.approx(0.10, rel=0.02)


def test_exhibits_without_published_spreads_say_nothing() -> None:
    assert needs.of_exhibit("rewarm/fig2") == {} and needs.note("rewarm/fig2", "C3") == ""
