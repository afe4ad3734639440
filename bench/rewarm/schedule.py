"""Learning rates by step, as one family; ``clipped_cosine`` is what the paper ran."""

from __future__ import annotations

import math
from typing import Literal, get_args

from bench.errors import UserError, closest

Curve = Literal["clipped_cosine", "constant", "cosine", "linear", "wsd", "infinite"]
CURVES: tuple[str, ...] = get_args(Curve)

WSD_DECAY_FROM = 0.8
"""Warm-up, stable, decay: the share of the schedule at which the linear decay begins."""
INFINITE_COOLED_AT, INFINITE_ANNEAL_FROM = 0.6, 0.85
"""Infinite schedule: shares of the schedule at which the constant rate begins and ends."""
INFINITE_CONSTANT = 0.55
"""Its constant rate as a share of the peak: 1.65e-4 of 3e-4 at 405M (Ibrahim et al. 2024)."""


def learning_rate(
    step: float, *, max_lr: float, min_lr: float, total_steps: float, warmup_steps: float, shape: str
) -> float:
    """The rate of the update that follows `step` updates.

    All shapes but ``constant`` rise linearly from 0 over `warmup_steps`. With T = `total_steps` and w = `warmup_steps`:

    - ``clipped_cosine``: ``max(min_lr, max_lr/2 (1 + cos(pi (t - w) / T)))``, which is GPT-NeoX before August 2023 and
      the paper's. The divisor is T, not T - w: the curve heads for 0 and is cut at `min_lr` after about 0.8 T.
    - ``constant``: `max_lr` throughout, without warm-up unless one is asked for.
    - ``cosine``: the textbook's, from `max_lr` at w to `min_lr` at T.
    - ``linear``: a straight line from `max_lr` at w to `min_lr` at T.
    - ``wsd``: `max_lr` until 0.8 T, then a straight line to `min_lr` at T.
    - ``infinite``: a cosine to 0.55 `max_lr` at 0.6 T, constant until 0.85 T, then exponentially to `min_lr` at T; the
      constant part may be prolonged at will.

    Args:
        step: updates made so far, from 0.
        max_lr: peak.
        min_lr: floor.
        total_steps: length of the schedule, which need not be the length of the run.
        warmup_steps: length of the warm-up, not rounded, as in the paper (0.5 % of 131,296 is 656.48).
        shape: one of the above.

    Raises:
        UserError: unknown shape, a step below 0, a schedule without steps, a warm-up that is longer than the schedule, or a
            floor above the peak.
    """
    if shape not in CURVES:
        raise UserError(f"learning-rate shape '{shape}' does not exist{closest(shape, CURVES)}")
    if not step >= 0:
        raise UserError(f"learning rate: step {step:g} must be 0, before the first update, or more")
    if shape != "constant" and not total_steps > 0:
        raise UserError(f"learning rate: a schedule of {total_steps:g} steps; raise total_steps above 0")
    if not 0 <= warmup_steps <= total_steps:
        raise UserError(
            f"learning rate: the warm-up of {warmup_steps:g} steps must lie between 0 and the schedule's "
            f"{total_steps:g} steps; lower warmup or raise total_steps"
        )
    if not 0 <= min_lr <= max_lr:
        raise UserError(f"learning rate: the floor {min_lr:g} must lie between 0 and the peak {max_lr:g}")
    if warmup_steps > 0 and step <= warmup_steps:
        return max_lr * step / warmup_steps
    if shape == "constant":
        return max_lr
    if shape == "clipped_cosine":
        since = min(step, total_steps - warmup_steps) - warmup_steps
        return max(min_lr, max_lr / 2 * (1 + math.cos(math.pi * since / total_steps)))
    here = min(step, total_steps)
    if shape == "cosine":
        return _cosine(here, warmup_steps, total_steps, max_lr, min_lr)
    if shape == "linear":
        return _line(here, warmup_steps, total_steps, max_lr, min_lr)
    if shape == "wsd":
        return _line(here, max(warmup_steps, WSD_DECAY_FROM * total_steps), total_steps, max_lr, min_lr)
    return _infinite(here, warmup_steps, total_steps, max_lr, min_lr)


def _share(step: float, start: float, end: float) -> float:
    """How far `step` is from `start` to `end`, between 0 and 1."""
    return min(1.0, max(0.0, (step - start) / (end - start))) if end > start else float(step >= end)


def _cosine(step: float, start: float, end: float, high: float, low: float) -> float:
    return low + (high - low) / 2 * (1 + math.cos(math.pi * _share(step, start, end)))


def _line(step: float, start: float, end: float, high: float, low: float) -> float:
    share = _share(step, start, end)
    return high * (1 - share) + low * share


def _infinite(step: float, warmup_steps: float, total_steps: float, max_lr: float, min_lr: float) -> float:
    constant = max(min_lr, INFINITE_CONSTANT * max_lr)
    anneal = INFINITE_ANNEAL_FROM * total_steps
    if step <= anneal:
        return _cosine(step, warmup_steps, max(warmup_steps, INFINITE_COOLED_AT * total_steps), max_lr, constant)
    share = _share(step, anneal, total_steps)
    if min_lr == 0:  # an exponential never gets to 0
        return constant * (1 - share)
    return constant * (min_lr / constant) ** share
