"""Stopping rules, and the authors' train accuracy against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.warmstart.spec import Stop
from bench.warmstart.stopping import authors_accuracy, fired, running_accuracy


def weights_of(batches: int) -> list[int]:
    """How often a batch's counts enter the authors' sum: once for each batch from it to the end of its window.

    Windows end after batches 10, 20, 30, ... counted from 0, so the first holds eleven batches.
    """
    ends = [next((end for end in range(10, batches, 10) if end >= index), batches - 1) for index in range(batches)]
    return [end - index + 1 for index, end in enumerate(ends)]


@given(st.lists(st.tuples(st.integers(1, 128), st.floats(0, 1)), min_size=1, max_size=45))
def test_authors_accuracy_is_a_weighted_mean(batches: list[tuple[int, float]]) -> None:
    seen = [size for size, _ in batches]
    correct = [round(size * share) for size, share in batches]
    weights = weights_of(len(batches))
    expected = 100 * sum(w * c for w, c in zip(weights, correct, strict=True))
    expected /= sum(w * n for w, n in zip(weights, seen, strict=True))
    assert authors_accuracy(correct, seen) == pytest.approx(expected)


def test_authors_accuracy_of_two_windows_by_hand() -> None:
    # Batches 0 to 10 are all wrong, 11 and 12 all right: (2 + 1) right of 66 + 3 counted batches.
    assert authors_accuracy([0] * 11 + [4, 4], [4] * 13) == pytest.approx(100 * 3 / 69)
    assert running_accuracy([0] * 11 + [4, 4], [4] * 13) == pytest.approx(100 * 2 / 13)


def test_the_threshold_is_exceeded_in_two_phase_runs_and_reached_online() -> None:
    assert fired(Stop(strict=True), [50.0, 99.0]) is None
    assert fired(Stop(strict=True), [50.0, 99.01]) == "threshold"
    assert fired(Stop(strict=False), [50.0, 99.0]) == "threshold"


def test_a_plateau_needs_its_epochs_without_a_gain() -> None:
    rule = Stop(plateau_epochs=3, plateau_gain=0.1)
    assert fired(rule, [40.0, 40.05, 40.0]) is None
    assert fired(rule, [40.0, 40.05, 40.0, 40.09]) == "plateau"
    assert fired(rule, [40.0, 40.05, 40.0, 40.2]) is None
    assert fired(rule, [40.0, 40.2, 39.0, 39.0, 39.0]) == "plateau"


def test_fixed_epochs_go_before_everything_and_the_cap_always_ends() -> None:
    assert fired(Stop(epochs=3), [99.9, 99.9]) is None
    assert fired(Stop(epochs=3), [99.9] * 3) == "epochs"
    assert fired(Stop(), [99.9], epochs=2) is None
    assert fired(Stop(cap=2), [1.0]) is None
    assert fired(Stop(cap=2), [1.0, 2.0]) == "cap"
    assert fired(Stop(threshold=None, cap=2), [100.0]) is None


def test_nothing_ends_a_round_before_its_least_epochs() -> None:
    assert fired(Stop(), [99.9] * 349, least_epochs=350) is None
    assert fired(Stop(), [99.9] * 350, least_epochs=350) == "threshold"
    assert fired(Stop(), [50.0] * 350, least_epochs=350) == "plateau"
    assert fired(Stop(cap=2), [1.0, 2.0], least_epochs=3) is None
    assert fired(Stop(cap=2), [1.0, 2.0, 3.0], least_epochs=3) == "cap"
