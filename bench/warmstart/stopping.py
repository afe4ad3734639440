"""Stopping rules and the train accuracy that they look at; pure functions on plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

from bench.warmstart.spec import Stop

WINDOW = 10
"""Batches after which the authors' cumulative counts start again."""


def running_accuracy(correct: Sequence[int], seen: Sequence[int]) -> float:
    """Plain train accuracy of an epoch in percent: correct over seen, in train mode while the weights move."""
    return 100 * sum(correct) / sum(seen)


def authors_accuracy(correct: Sequence[int], seen: Sequence[int]) -> float:
    """The authors' train accuracy in percent: cumulative counts of a window are summed at every batch.

    The window starts again after batches 10, 20, ... (counted from 0), so early batches of a window weigh more.

    Args:
        correct: right answers by batch.
        seen: samples by batch.
    """
    right = total = window_right = window_seen = 0
    for index, (hits, size) in enumerate(zip(correct, seen, strict=True)):
        window_right += hits
        window_seen += size
        right += window_right
        total += window_seen
        if index > 0 and index % WINDOW == 0:
            window_right = window_seen = 0
    return 100 * right / total


def fired(
    rule: Stop, accuracies: Sequence[float], epochs: int | None = None, least_epochs: int | None = None
) -> str | None:
    """Which rule ends the round after the epochs whose train accuracies are given, or ``None``.

    Args:
        rule: the run's stopping rule.
        accuracies: train accuracy in percent by epoch of this round, at least one.
        epochs: a fixed number of epochs of this round, which takes precedence.
        least_epochs: epochs before which the rule does not end this round.
    """
    done = len(accuracies)
    fixed = epochs if epochs is not None else rule.epochs
    if fixed is not None:
        return "epochs" if done >= fixed else None
    if least_epochs is not None and done < least_epochs:
        return None
    last = accuracies[-1]
    if rule.threshold is not None and (last > rule.threshold if rule.strict else last >= rule.threshold):
        return "threshold"
    if done > rule.plateau_epochs:
        before = max(accuracies[: -rule.plateau_epochs])
        if max(accuracies[-rule.plateau_epochs :]) < before + rule.plateau_gain:
            return "plateau"
    return "cap" if done >= rule.cap else None
