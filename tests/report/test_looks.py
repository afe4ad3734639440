"""Declared looks: the error that they have together, and the power that they leave."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bench import config, stats
from bench.errors import UserError
from bench.looks import ALPHA, Looks, tails

CI, SMALL = (5, 10, 20), (5, 8, 12)


def first_decisions(at: tuple[int, ...], effect: float, count: int, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Sign of the first look that decides for each of `count` claims (0: none does), and the seeds that it took."""
    looks = Looks(at)
    values = np.random.default_rng(0).normal(effect, 1, (count, at[-1]))
    sign, seeds = np.zeros(count), np.full(count, at[-1])
    for n in reversed(at):
        t = math.sqrt(n) * values[:, :n].mean(1) / values[:, :n].std(1, ddof=1)
        beyond = np.abs(t) > looks.multiplier(n, parts)
        sign, seeds = np.where(beyond, np.sign(t), sign), np.where(beyond, n, seeds)
    return sign, seeds


@pytest.mark.parametrize("at", [CI, SMALL, (5,), (5, 8, 12, 20, 30), (6, 7, 8)])
def test_looks_err_in_no_more_than_they_may(at: tuple[int, ...]) -> None:
    sign, _ = first_decisions(at, 0.0, 20_000)
    for side in (-1, 1):
        assert 0.022 <= (sign == side).mean() <= 0.028


@pytest.mark.parametrize("parts", [3, 12])
@pytest.mark.parametrize("at", [CI, SMALL])
def test_the_error_is_divided_among_parts(at: tuple[int, ...], parts: int) -> None:
    sign, _ = first_decisions(at, 0.0, 100_000, parts)
    expected = ALPHA / parts
    assert (np.abs(sign).mean() / 2) == pytest.approx(expected, abs=3 * math.sqrt(expected / 200_000) + 0.05 * expected)


@pytest.mark.parametrize(
    ("at", "effect", "power", "seeds"),
    [
        (CI, 0.5, 0.47, 18.0),
        (CI, 0.8, 0.87, 15.2),
        (CI, 1.2, 1.00, 10.6),
        (CI, 2.0, 1.00, 6.5),
        (SMALL, 0.5, 0.26, 11.1),
        (SMALL, 0.8, 0.58, 10.1),
        (SMALL, 1.2, 0.91, 8.2),
        (SMALL, 2.0, 1.00, 5.7),
    ],
)
def test_effects_are_found_as_often_as_declared(at: tuple[int, ...], effect: float, power: float, seeds: float) -> None:
    sign, taken = first_decisions(at, effect, 20_000)
    assert (sign == 1).mean() == pytest.approx(power, abs=0.03)
    assert taken.mean() == pytest.approx(seeds, abs=0.3)


def test_multipliers_are_those_of_simulated_t_paths() -> None:
    assert [Looks(CI).multiplier(n) for n in CI] == pytest.approx([3.88, 2.95, 2.45], abs=0.02)
    assert [Looks(SMALL).multiplier(n) for n in SMALL] == pytest.approx([3.40, 3.09, 2.75], abs=0.02)
    assert tails((5,)) == (ALPHA,)


def test_the_suite_decides_as_the_simulation_does() -> None:
    sign, _ = first_decisions(CI, 0.5, 300)
    values = np.random.default_rng(0).normal(0.5, 1, (300, CI[-1]))
    verdicts = [stats.judged(stats.above(list(row), 0.0), Looks(CI)).verdict for row in values]
    expected = {1: "reproduced", -1: "not reproduced", 0: "undecided"}
    assert verdicts == [expected[int(side)] for side in sign]


FAR = [1.0, 1.01, 0.99, 1.02, 0.98]
"""Decided at the first look."""


@pytest.mark.parametrize(
    ("there", "last", "verdict", "says"),
    [
        (4, 4, "undecided", "4 seeds, next look at 5"),
        (5, 5, "undecided", "next look at 10"),
        (9, 5, "undecided", "9 seeds, next look at 10"),
        (10, 10, "reproduced", "look at 10"),
        (19, 10, "reproduced", "look at 10"),
    ],
)
def test_between_looks_and_below_the_first_nothing_is_decided(there: int, last: int, verdict: str, says: str) -> None:
    # Three standard errors: enough at ten seeds and not at five.
    values = [3 / math.sqrt(last) + number for number in standard(last)] + [9.0] * (there - last)
    found = stats.judged(stats.above(values, 0.0), Looks(CI))
    assert (found.verdict, found.n) == (verdict, last) and says in found.detail


def standard(n: int) -> list[float]:
    """n numbers of mean 0 and standard deviation 1."""
    numbers = np.random.default_rng(n).normal(size=n)
    return list((numbers - numbers.mean()) / numbers.std(ddof=1))


def test_what_is_decided_stays_decided() -> None:
    values = [*FAR, -50.0, 60.0, -70.0, 80.0, -90.0]
    found = stats.judged(stats.above(values, 0.0), Looks(CI))
    assert found.verdict == "reproduced" and found.n == 5
    several = stats.judged(stats.all_of([stats.above(values, 0.0), stats.above(FAR * 2, 0.0)]), Looks(CI))
    assert several.verdict == "reproduced"


def test_an_interval_is_that_of_its_own_look() -> None:
    found = stats.judged(stats.above(standard(5), -1.0), Looks(CI, 0))
    assert found.high == pytest.approx(3.878 / math.sqrt(5), abs=0.005)
    assert found.level == pytest.approx(0.982, abs=0.001)


@pytest.mark.parametrize("gone", [2000, 2002, 2004])
def test_a_look_needs_the_first_seeds_of_the_block_without_a_gap(gone: int) -> None:
    values = {2000 + seed: value for seed, value in enumerate(FAR + FAR)}
    assert stats.judged(stats.above(values, 0.0), Looks(CI, 2000)).verdict == "reproduced"
    del values[gone]
    found = stats.judged(stats.above(values, 0.0), Looks(CI, 2000))
    assert found.verdict == "undecided" and f"seeds missing: {gone}" in found.detail


def test_pairs_count_as_far_as_both_sides_go() -> None:
    first, second = dict(enumerate(FAR + FAR)), dict.fromkeys(range(5), 0.0)
    assert stats.greater(first, second).verdict == "undecided"  # fixed beforehand: seeds are missing
    found = stats.judged(stats.greater(first, second), Looks(CI, 0))
    assert found.verdict == "reproduced" and found.n == 5


@pytest.mark.parametrize("looks", ["[3, 5]", "[10, 5]", "[5, 5]", "[5, 200]", "[5, many]", "5", "[5.5]"])
def test_looks_that_are_none_are_one_line(tmp_path: Path, looks: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"scale: mine\nlooks: {looks}\n")
    with pytest.raises(UserError, match=r"mine\.yaml: looks") as refused:
        config.load(str(path))
    assert len(str(refused.value).splitlines()) == 1
