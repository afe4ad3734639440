"""The smoothed eps schedule, by batch (protocol, section a)."""

from __future__ import annotations

from bench.certified.spec import Schedule


def factor(step: int, schedule: Schedule, steps_per_epoch: int) -> float:
    """eps at a batch as a share of its target.

    With L batches in an epoch, eps is 0 up to the step init = zero * L, rises with the power `beta` to the step
    mid = init + int(`mid` * (final - init)), then linearly with the slope reached, and is 1 from the first batch after
    the ramp on, final = (zero + ramp) * L.

    Args:
        step: batches before this one, from 0.
        schedule: epochs of the phases.
        steps_per_epoch: L.
    """
    init = schedule.zero * steps_per_epoch
    final = (schedule.zero + schedule.ramp) * steps_per_epoch
    if step <= init:
        return 0.0 if step < final else 1.0
    if step >= final:
        return 1.0
    mid, beta = init + int(schedule.mid * (final - init)), schedule.beta
    if mid == init:  # a ramp of so few batches has no first part
        return (step - init) / (final - init)
    power = float(mid - init) ** (beta - 1)
    slope = 1.0 / ((final - mid) * beta * power + (mid - init) * power)
    if step < mid:
        return slope * float(step - init) ** beta
    return slope * power * ((mid - init) + beta * (step - mid))


def regularizer_weight(share: float, lambda_0: float, epoch: int, schedule: Schedule) -> float:
    """lambda = lambda_0 (1 - eps / eps_target) in the epochs at eps = 0 and of the ramp, 0 afterwards (Equation 10).

    Args:
        share: eps at the batch over its target.
        lambda_0: weight at the start.
        epoch: from 0.
        schedule: epochs of the phases.
    """
    return lambda_0 * (1.0 - share) if epoch < schedule.warmup else 0.0
